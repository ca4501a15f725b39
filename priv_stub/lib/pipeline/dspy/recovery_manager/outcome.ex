defmodule Pipeline.DSPy.RecoveryManager.Outcome do
  @moduledoc """
  What came of a function, as `{:ok, result}` or `{:error, %Pipeline.DSPy.PythonError{}}` whatever it did.

      iex> alias Pipeline.DSPy.RecoveryManager.Outcome
      iex> {Outcome.of(fn -> {:ok, 1} end), Outcome.of(fn -> %{"success" => true} end)}
      {{:ok, 1}, {:ok, %{"success" => true}}}
      iex> {:error, error} = Outcome.of(fn -> exit({:timeout, {GenServer, :call, [:a, :b, 5_000]}}) end)
      iex> error.error_type
      :timeout_error
  """

  alias Pipeline.DSPy.ErrorHandler
  alias Pipeline.DSPy.PythonError

  @type t :: {:ok, term} | {:error, PythonError.t()}

  @doc """
  Runs it in the calling process. What it gives that is neither `{:ok, _}` nor `{:error, _}` is its result; an exception
  or an exit is an error. What is thrown goes through.
  """
  @spec of((() -> term)) :: t
  def of(fun) do
    case fun.() do
      {:ok, result} -> {:ok, result}
      {:error, reason} -> {:error, ErrorHandler.classify_error(reason)}
      result -> {:ok, result}
    end
  rescue
    exception -> {:error, traced(exception, __STACKTRACE__)}
  catch
    :exit, reason -> {:error, traced(reason, __STACKTRACE__)}
  end

  defp traced(reason, stacktrace) do
    error = ErrorHandler.classify_error(reason)
    %{error | traceback: error.traceback || Exception.format_stacktrace(stacktrace)}
  end
end
