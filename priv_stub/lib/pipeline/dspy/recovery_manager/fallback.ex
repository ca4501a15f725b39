defmodule Pipeline.DSPy.RecoveryManager.Fallback do
  @moduledoc """
  What is done in the place of work that DSPy could not do, as the application gives it: a function, or a module.

  In this order, what is there: the option `:fallback`; `config :pipeline, :fallback`; `Pipeline.Executor`, if that module
  is there and there is a step. `false` means none.

      iex> alias Pipeline.DSPy.{PythonError, RecoveryManager.Fallback}
      iex> error = PythonError.new(:cancelled, "as asked")
      iex> {:ok, fallback} = Fallback.find(%{fallback: fn error -> {:ok, error.error_type} end})
      iex> Fallback.run(fallback, error)
      {:ok, :cancelled}
      iex> Fallback.find(%{fallback: false})
      :none
  """

  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.RecoveryManager.Outcome

  @typedoc """
  A function of the error; a function of the step and the pipeline's context; or a module with `execute_step/2`, which is
  given these two.
  """
  @type given :: (PythonError.t() -> term) | (term, term -> term) | module | false | nil

  @type t :: (PythonError.t() -> term)

  @doc "The fallback of a context with the keys `:fallback`, `:step` and `:pipeline_context`."
  @spec find(map) :: {:ok, t} | :none
  def find(context) do
    case context[:fallback] do
      nil -> context |> configured() |> prepared(context)
      given -> prepared(given, context)
    end
  end

  @doc """
  Runs it in the calling process, and gives what `Pipeline.DSPy.RecoveryManager.Outcome.of/1` makes of it.
  """
  @spec run(t, PythonError.t()) :: {:ok, term} | {:error, PythonError.t()}
  def run(fallback, error) do
    Outcome.of(fn -> fallback.(error) end)
  end

  defp configured(context) do
    case Application.get_env(:pipeline, :fallback) do
      nil ->
        if context[:step] != nil and executes_steps?(Pipeline.Executor), do: Pipeline.Executor

      given ->
        given
    end
  end

  defp prepared(none, _context) when none in [nil, false], do: :none
  defp prepared(fun, _context) when is_function(fun, 1), do: {:ok, fun}

  defp prepared(fun, context) when is_function(fun, 2) do
    {:ok, fn _error -> fun.(context[:step], context[:pipeline_context]) end}
  end

  defp prepared(module, context) when is_atom(module) do
    if not executes_steps?(module) do
      raise ArgumentError, "the fallback #{inspect(module)} has no function execute_step/2"
    end

    # A late apply: it is the application's module, or of another library.
    {:ok,
     fn _error -> apply(module, :execute_step, [context[:step], context[:pipeline_context]]) end}
  end

  defp prepared(other, _context) do
    raise ArgumentError,
          "expected :fallback to be a function of 1 or 2 arguments, a module or false, got #{inspect(other)}"
  end

  defp executes_steps?(module) do
    Code.ensure_loaded?(module) and function_exported?(module, :execute_step, 2)
  end
end
