defmodule Pipeline.DSPy.ErrorHandler do
  @moduledoc """
  Turns whatever went wrong into one `Pipeline.DSPy.PythonError`, and says what to do about it.

  It takes an error that is one already; the node's error maps, with atoms or binaries as keys and types (also the names
  of Python's classes, such as `"DSPyOptimizationError"`); exceptions; exits; the atoms of other libraries, such as
  `:pool_exhausted`; and each of these in `{:error, _}`. No atom is made from what it is given.

      iex> alias Pipeline.DSPy.ErrorHandler
      iex> map = %{"error_type" => "DSPyOptimizationError", "message" => "no demo was good enough"}
      iex> {:fallback, error} = ErrorHandler.handle_python_error(map)
      iex> Exception.message(error)
      "dspy_optimization_error: no demo was good enough"

      iex> {:retry, error} = Pipeline.DSPy.ErrorHandler.handle_python_error(:pool_exhausted)
      iex> {error.error_type, error.context.reason}
      {:overloaded, :pool_exhausted}

      iex> exit = {:timeout, {GenServer, :call, [MyApp.DSPy, :anything, 5_000]}}
      iex> {:retry, error} = Pipeline.DSPy.ErrorHandler.handle_python_error(exit)
      iex> error.error_type
      :timeout_error
  """

  alias Pipeline.DSPy.PythonError

  @type action :: {PythonError.recovery_strategy(), PythonError.t()}

  @types Map.keys(PythonError.strategies())

  # How a type may be written: as the atom is, as the class of erlbridge or of the seed is, and as Python's own classes are.
  @types_by_name @types
                 |> Enum.flat_map(&[{Atom.to_string(&1), &1}, {Macro.camelize("#{&1}"), &1}])
                 |> Map.new()
                 |> Map.merge(%{
                   "DSPyOptimizationError" => :dspy_optimization_error,
                   "OptimizationError" => :dspy_optimization_error,
                   "ModuleNotFoundError" => :import_error,
                   "MissingPackage" => :import_error,
                   "DeadlineExceeded" => :timeout_error,
                   "CancelledError" => :cancelled,
                   "CallbackFailed" => :callback_error,
                   "LMError" => :lm_error,
                   "LMFailed" => :lm_error,
                   "DecodeError" => :serialization_error,
                   "EncodeError" => :serialization_error,
                   "StorageFailed" => :storage_error
                 })

  @strategies_by_name Map.new(~w(retry fallback restart_process fatal)a, &{"#{&1}", &1})

  @fields_by_name Map.new(
                    ~w(error_type message traceback context recovery_strategy retryable retry_after_ms)a,
                    &{"#{&1}", &1}
                  )

  # Atoms that libraries and the runtime give as reasons, and what they come to.
  @reasons %{
    pool_exhausted: {:overloaded, "every connection is busy and the queue is full"},
    max_children: {:overloaded, "the supervisor takes no more processes"},
    system_limit: {:overloaded, "the runtime has reached a limit of its own"},
    timeout: {:timeout_error, "no answer in time"},
    etimedout: {:timeout_error, "no answer in time"},
    noproc: {:process_crashed, "no process has this name"},
    nodedown: {:process_crashed, "the BEAM node is gone, or the connection to it"},
    killed: {:process_crashed, "the process was killed"},
    closed: {:process_crashed, "the connection is closed"},
    epipe: {:process_crashed, "the node's port is closed"},
    normal: {:shutting_down, "the process has ended"},
    shutdown: {:shutting_down, "the process is shut down"},
    enospc: {:storage_error, "the disk is full"}
  }

  @doc """
  What to do about an error, and the error itself: `{:retry | :fallback | :restart_process | :fatal, error}`.

  `Pipeline.DSPy.RecoveryManager.execute_recovery_strategy/3` does it.

      iex> {:retry, error} = Pipeline.DSPy.ErrorHandler.handle_python_error(%{"error_type" => "overloaded", "message" => "full"})
      iex> {error.error_type, error.message}
      {:overloaded, "full"}
  """
  @spec handle_python_error(term) :: action
  def handle_python_error(error_data) do
    error = classify_error(error_data)
    {error.recovery_strategy, error}
  end

  @doc """
  The error alone.

      iex> Pipeline.DSPy.ErrorHandler.classify_error(%RuntimeError{message: "oops"}).context
      %{reason: :exception, exception: RuntimeError}
  """
  @spec classify_error(term) :: PythonError.t()
  def classify_error(%PythonError{} = error), do: error
  def classify_error({:error, reason}), do: classify_error(reason)
  def classify_error(%{__exception__: true} = exception), do: raised(exception)
  def classify_error(%_struct{} = other), do: unknown(other)
  def classify_error(map) when is_map(map), do: map |> fields() |> from_fields()
  def classify_error({:node_down, %PythonError{} = error}), do: error
  def classify_error({:node_down, reason}), do: classify_error(reason)
  def classify_error({:shutdown, {:node_down, _error} = reason}), do: classify_error(reason)
  def classify_error({:shutdown, _why}), do: reason(:shutdown)
  def classify_error({:EXIT, reason}), do: classify_error(reason)
  def classify_error({:EXIT, _pid, reason}), do: classify_error(reason)
  def classify_error({:DOWN, _ref, :process, _pid, reason}), do: classify_error(reason)
  def classify_error({:nodedown, _node}), do: reason(:nodedown)
  def classify_error(:noconnection), do: reason(:nodedown)
  def classify_error({:erpc, reason}), do: classify_error(reason)

  # The exit of a call, and then that of a process that an exception ended: the reason, and where.
  def classify_error({reason, {module, function, arguments}})
      when is_atom(module) and is_atom(function) and is_list(arguments),
      do: classify_error(reason)

  def classify_error({%{__exception__: true} = exception, [{_, _, _, _} | _] = stacktrace}) do
    %{raised(exception) | traceback: Exception.format_stacktrace(stacktrace)}
  end

  def classify_error(reason) when is_map_key(@reasons, reason), do: reason(reason)

  def classify_error(type) when type in @types do
    PythonError.new(type, "an error of this type, about which nothing else is known")
  end

  def classify_error(other), do: unknown(other)

  # -- what the node says

  # A field that is there as an atom and as a binary counts as the atom.
  defp fields(map) do
    named =
      for {name, value} <- map, is_map_key(@fields_by_name, name), into: %{} do
        {@fields_by_name[name], value}
      end

    Map.merge(named, Map.take(map, Map.values(@fields_by_name)))
  end

  defp from_fields(fields) do
    type = Map.get(@types_by_name, name(fields[:error_type]))
    context = if is_map(fields[:context]), do: fields[:context], else: %{}
    strategy = Map.get(@strategies_by_name, name(fields[:recovery_strategy]))

    error =
      PythonError.new(type || :python_runtime_error, message(fields),
        context:
          if(type, do: context, else: Map.put_new(context, :reported_type, shown_type(fields))),
        retry_after_ms: milliseconds(fields[:retry_after_ms]),
        recovery_strategy: strategy
      )

    retryable = if is_boolean(fields[:retryable]), do: fields[:retryable], else: error.retryable
    %{error | traceback: text(fields[:traceback]), retryable: retryable}
  end

  defp name(atom) when is_atom(atom), do: Atom.to_string(atom)
  defp name(other), do: other

  defp message(%{message: message}) when is_binary(message), do: message
  defp message(%{message: message}) when message != nil, do: shown(message)
  defp message(_fields), do: "the node gave no message"

  defp shown_type(%{error_type: type}) when is_binary(type) and byte_size(type) <= 200, do: type
  defp shown_type(fields), do: shown(fields[:error_type])

  defp milliseconds(ms) when is_integer(ms) and ms >= 0, do: ms
  defp milliseconds(_other), do: nil

  defp text(text) when is_binary(text), do: text
  defp text(_other), do: nil

  # -- what this side says

  defp raised(%module{} = exception) do
    context = %{reason: :exception, exception: module}
    PythonError.new(:internal_error, Exception.message(exception), context: context)
  end

  defp reason(reason) do
    {type, message} = Map.fetch!(@reasons, reason)
    PythonError.new(type, message, context: %{reason: reason})
  end

  defp unknown(other) do
    PythonError.new(:internal_error, "an error of no known kind: #{shown(other)}")
  end

  defp shown(term), do: inspect(term, limit: 10, printable_limit: 200)
end
