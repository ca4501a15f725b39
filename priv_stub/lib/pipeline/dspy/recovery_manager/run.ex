defmodule Pipeline.DSPy.RecoveryManager.Run do
  @moduledoc """
  One piece of work with what is known of it while it is tried: its options, checked; its budget; and how often it failed.
  """

  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.RecoveryManager.Circuit
  alias Pipeline.DSPy.RecoveryManager.Fallback
  alias Pipeline.DSPy.Verbs

  @breaker [threshold: 5, cooldown_ms: 10_000, max_cooldown_ms: 60_000]

  @defaults [
    verb: nil,
    idempotent: nil,
    idempotency_key: nil,
    timeout: nil,
    attempt_timeout: :infinity,
    max_retries: 3,
    backoff: 100,
    max_backoff: 10_000,
    bridge: nil,
    target: nil,
    breaker: [],
    fallback: nil,
    step: nil,
    pipeline_context: nil,
    retry_count: 0
  ]

  @enforce_keys [:operation, :until]
  defstruct [
    :operation,
    :until,
    :verb,
    :idempotent?,
    :attempt_timeout,
    :max_retries,
    :backoff,
    :max_backoff,
    :bridge,
    :target,
    :breaker,
    :fallback,
    :retry_count,
    attempts: 0,
    restarting?: false
  ]

  @typedoc """
  `until` is the end of the budget by the monotonic clock, in milliseconds. `breaker` is nil where nothing is guarded.
  `attempts` counts those that were made, also before this run. `restarting?` says that the attempt which comes next is
  the trial of a restart.
  """
  @type t :: %__MODULE__{
          operation: (timeout -> term),
          until: integer | :infinity,
          verb: atom,
          idempotent?: boolean,
          attempt_timeout: timeout,
          max_retries: non_neg_integer,
          backoff: non_neg_integer,
          max_backoff: non_neg_integer,
          bridge: PythonBridge.bridge() | nil,
          target: term,
          breaker: Circuit.settings() | nil,
          fallback: {:ok, Fallback.t()} | :none,
          retry_count: non_neg_integer,
          attempts: non_neg_integer,
          restarting?: boolean
        }

  @doc "A run of this function; raises `ArgumentError` for an option that is none, or has no such value."
  @spec new((() -> term) | (timeout -> term), keyword) :: t
  def new(operation, opts) do
    opts = Keyword.validate!(opts, @defaults)
    timeout = checked(:timeout, opts[:timeout] || Verbs.default_timeout(opts[:verb]))
    target = opts[:target] || opts[:bridge]

    %__MODULE__{
      operation: operation(operation),
      until: Deadline.in_ms(timeout),
      verb: opts[:verb],
      idempotent?:
        Verbs.idempotent?(opts[:verb], Keyword.take(opts, [:idempotent, :idempotency_key])),
      attempt_timeout: checked(:attempt_timeout, opts[:attempt_timeout]),
      max_retries: count(opts, :max_retries),
      backoff: count(opts, :backoff),
      max_backoff: count(opts, :max_backoff),
      bridge: opts[:bridge],
      target: target,
      breaker: if(target != nil, do: breaker(opts[:breaker])),
      fallback: Fallback.find(Map.new(opts)),
      retry_count: count(opts, :retry_count),
      attempts: opts[:retry_count]
    }
  end

  @doc "What is left of the budget, in milliseconds."
  @spec left_ms(t) :: timeout
  def left_ms(%__MODULE__{until: until}), do: Deadline.left(until)

  defp operation(fun) when is_function(fun, 1), do: fun
  defp operation(fun) when is_function(fun, 0), do: fn _left_ms -> fun.() end

  defp operation(other) do
    raise ArgumentError, "expected a function of 0 or 1 arguments, got #{inspect(other)}"
  end

  defp breaker(false), do: nil

  defp breaker(settings) do
    settings = Keyword.validate!(settings, @breaker)

    for {name, least} <- [threshold: 1, cooldown_ms: 0, max_cooldown_ms: 0] do
      value = settings[name]

      if not (is_integer(value) and value >= least) do
        raise ArgumentError,
              "expected :#{name} to be an integer from #{least}, got #{inspect(value)}"
      end
    end

    Map.new(settings)
  end

  defp count(opts, name) do
    case opts[name] do
      count when is_integer(count) and count >= 0 ->
        count

      other ->
        raise ArgumentError, "expected :#{name} to be an integer from 0, got #{inspect(other)}"
    end
  end

  defp checked(_name, :infinity), do: :infinity
  defp checked(_name, ms) when is_integer(ms) and ms >= 0, do: ms

  defp checked(name, other) do
    raise ArgumentError, "expected :#{name} in milliseconds or :infinity, got #{inspect(other)}"
  end
end
