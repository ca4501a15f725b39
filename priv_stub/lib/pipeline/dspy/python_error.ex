defmodule Pipeline.DSPy.PythonError do
  @moduledoc """
  What went wrong, as one struct, whether the node said it or the bridge found it out itself.

  It is the error of every `{:error, error}` of `Pipeline.DSPy.PythonBridge`, and an exception, so it can be raised.
  `recovery_strategy` says what to do: `:retry` (also `retryable: true`, after `retry_after_ms` when that is set),
  `:fallback`, `:restart_process` or `:fatal`. `context` holds details, such as `path` of a `:validation_error` or
  `reason` of a `:process_crashed`.

      iex> error = Pipeline.DSPy.PythonError.new(:timeout_error, "no answer within 500 ms")
      iex> {error.recovery_strategy, error.retryable}
      {:retry, true}
      iex> Exception.message(error)
      "timeout_error: no answer within 500 ms"
  """

  @type error_type ::
          :dspy_optimization_error
          | :python_runtime_error
          | :serialization_error
          | :validation_error
          | :timeout_error
          | :process_crashed
          | :import_error
          | :lm_error
          | :overloaded
          | :cancelled
          | :budget_exceeded
          | :callback_error
          | :not_found
          | :duplicate_id
          | :unknown_verb
          | :transfer_error
          | :shutting_down
          | :frame_error
          | :storage_error
          | :internal_error

  @type recovery_strategy :: :retry | :fallback | :restart_process | :fatal

  @type t :: %__MODULE__{
          error_type: error_type,
          message: String.t(),
          traceback: String.t() | nil,
          context: map,
          recovery_strategy: recovery_strategy,
          retryable: boolean,
          retry_after_ms: non_neg_integer | nil
        }

  defexception [
    :error_type,
    :message,
    :traceback,
    :retry_after_ms,
    context: %{},
    recovery_strategy: :fatal,
    retryable: false
  ]

  # The same table as the node's. An lm_error that may pass says so itself.
  @strategies %{
    timeout_error: :retry,
    process_crashed: :retry,
    overloaded: :retry,
    shutting_down: :retry,
    storage_error: :retry,
    dspy_optimization_error: :fallback,
    cancelled: :fallback,
    budget_exceeded: :fallback,
    callback_error: :fallback,
    python_runtime_error: :restart_process,
    serialization_error: :fatal,
    validation_error: :fatal,
    import_error: :fatal,
    lm_error: :fatal,
    not_found: :fatal,
    duplicate_id: :fatal,
    unknown_verb: :fatal,
    transfer_error: :fatal,
    frame_error: :fatal,
    internal_error: :fatal
  }

  @doc "Every type of error, with the strategy that it has where an error names no other."
  @spec strategies() :: %{error_type => recovery_strategy}
  def strategies, do: @strategies

  @doc """
  An error that this side found out itself.

  Options: `:context`, `:retry_after_ms`, and `:recovery_strategy` where the type's own does not fit.
  """
  @spec new(error_type, String.t(), keyword) :: t
  def new(error_type, message, opts \\ []) do
    opts = Keyword.validate!(opts, [:context, :retry_after_ms, :recovery_strategy])
    strategy = opts[:recovery_strategy] || Map.get(@strategies, error_type, :fatal)

    %__MODULE__{
      error_type: error_type,
      message: message,
      context: opts[:context] || %{},
      recovery_strategy: strategy,
      retryable: strategy == :retry,
      retry_after_ms: opts[:retry_after_ms]
    }
  end

  @doc """
  The error that a node's error map says. Anything that is not such a map becomes an `:internal_error`.

      iex> map = %{error_type: :not_found, message: "no such program", recovery_strategy: :fatal, retryable: false}
      iex> Pipeline.DSPy.PythonError.from_node(map).error_type
      :not_found
  """
  @spec from_node(term) :: t
  def from_node(%{error_type: type, message: message} = map)
      when is_atom(type) and is_binary(message) do
    strategy = Map.get(map, :recovery_strategy, :fatal)

    %__MODULE__{
      error_type: type,
      message: message,
      traceback: Map.get(map, :traceback),
      context: Map.get(map, :context) || %{},
      recovery_strategy: strategy,
      retryable: Map.get(map, :retryable, strategy == :retry),
      retry_after_ms: Map.get(map, :retry_after_ms)
    }
  end

  def from_node(other) do
    shown = inspect(other, limit: 10, printable_limit: 200)
    new(:internal_error, "the node sent an error without a type: #{shown}")
  end

  @impl true
  def message(%__MODULE__{error_type: type, message: message}), do: "#{type}: #{message}"
end
