defmodule Pipeline.DSPy.Metrics do
  @moduledoc """
  The events of the bridge, for whoever counts, times and draws.

  They go through `:telemetry` when the host has that application. Else they go to the handlers of `attach/4`, which have
  the same shape: a function of the event's name, its measurements, its metadata, and what it was attached with.

      iex> alias Pipeline.DSPy.Metrics
      iex> tell = fn _event, measurements, _metadata, to -> send(to, measurements) end
      iex> Metrics.attach("my handler", [:pipeline, :dspy, :optimization], tell, self())
      :ok
      iex> Metrics.record_optimization_metrics("3f2a", %{accuracy: 0.9, cost: 0.02, latency: 5})
      iex> receive do measurements -> measurements end
      %{accuracy: 0.9, cost: 0.02, latency: 5}
      iex> Metrics.detach("my handler")
      :ok

  Handlers run in the process that emits, often a bridge's: they must be quick, as everywhere in telemetry. One that fails
  is detached, and logged.

  ## The contract

  An event has exactly these keys; those in parentheses are there when their value is known.

  | event | measurements | metadata |
  |---|---|---|
  | `[:pipeline, :dspy, :python_bridge]` | `duration`, `success` | `operation`, `error_type` |
  | `[:pipeline, :dspy, :optimization]` | `latency`, (`accuracy`), (`cost`) | `signature_hash` |
  | `[:pipeline, :dspy, :request, :start]` | `system_time`, `monotonic_time` | `operation`, `telemetry_span_context` |
  | `[:pipeline, :dspy, :request, :stop]` | `duration`, `monotonic_time` | `operation`, `error_type`, `telemetry_span_context` |
  | `[:pipeline, :dspy, :request, :exception]` | `duration`, `monotonic_time` | `operation`, `kind`, `reason`, `stacktrace`, `telemetry_span_context` |
  | `[:pipeline, :dspy, :python_bridge, :up]` | `duration` | `bridge` |
  | `[:pipeline, :dspy, :python_bridge, :down]` | `uptime`, `failures` | `bridge`, `error_type`, `reason` |
  | `[:pipeline, :dspy, :python_bridge, :health]` | `missed`, (`duration`), (`waiting`), (`running`), (`restarts`) | `bridge`, `status`, (`message`) |
  | `[:pipeline, :dspy, :pool, :checkout]` | `wait`, `waiting` | `pool`, `lane`, `verb`, `bridge` |
  | `[:pipeline, :dspy, :pool, :refused]` | `wait`, `waiting` | `pool`, `lane`, `verb`, `reason` |
  | `[:pipeline, :dspy, :pool, :bridge]` | `ready`, `size` | `pool`, `bridge`, `state` |
  | `[:pipeline, :dspy, :callback]` | `duration`, `success` | `name` |
  | `[:pipeline, :dspy, :transfer]` | `duration`, `success`, `bytes`, `sent_bytes`, `examples`, `resumed` | `transfer`, `error_type` |
  | `[:pipeline, :dspy, :cache, :hit]` | `count` | `cache`, `key`, `source` |
  | `[:pipeline, :dspy, :cache, :miss]` | `count` | `cache`, `key` |
  | `[:pipeline, :dspy, :cache, :store]` | `count`, `size` | `cache`, `key` |
  | `[:pipeline, :dspy, :cache, :evict]` | `count`, `size` | `cache`, `key`, `reason` |
  | `[:pipeline, :dspy, :cluster]` | `duration`, `attempt` | `cluster`, `operation`, `node`, `error_type`, `verdict` |
  | `[:pipeline, :dspy, :cluster, :member]` | `usable` | `cluster`, `node`, `condition` |
  | `[:pipeline, :dspy, :cluster, :supply]` | `duration` | `cluster`, `id`, `from`, `to` |
  | `[:pipeline, :dspy, :recovery]` | `attempts`, `pause_ms` | `action`, `stopped_by`, `error_type`, `operation`, `target` |
  | `[:pipeline, :dspy, :circuit]` | `failures` | `strategy`, `target`, `state` |
  | `[:pipeline, :dspy, :worker]` | (`rss_bytes`), (`peak_rss_bytes`), (`cpu_percent`) | `worker`, `state`, `os_pid` |
  | `[:pipeline, :dspy, :node]` | (`rss_bytes`), (`peak_rss_bytes`), (`cpu_percent`), (`descriptors`), (`max_descriptors`), (`disk_free_bytes`), `waiting`, `running` | `os_pid` |
  | `[:pipeline, :dspy, :limit]` | (`rss_bytes`), (`total_bytes`), (`cpu_percent`), `limit` | `worker`, `reason`, `mode` |

  What they mean:

    * `duration`, `latency`, `uptime` and `wait` are in native time units (`System.convert_time_unit/3`), `…_ms` in milliseconds, `…_bytes` in
      bytes, `cost` in US dollars. `success` is 1 or 0, `error_type` nil where there was no error.
    * `:python_bridge` is emitted once for each request that a bridge has answered; `operation` is its verb.
    * `:optimization` is emitted for each `optimize_signature`. `accuracy` is the score of the program that was found, from
      0 to 1, or the best one of an optimization that was ended; `signature_hash` is `signature_hash/1`.
    * `:request` is a span around each request at its bridge, as `:telemetry.span/3` has it. `:stop` is an answer, which
      may be an error; `:exception` is an end without one: the node is gone, and `reason` its error, or the caller is, and
      `reason` is `:abandoned`. `telemetry_span_context` is the request's reference.
    * `:up`, `:down` and `:health` are what a bridge sees of its node, see `Pipeline.DSPy.PythonBridge.Telemetry`; `:callback` is a
      call of an Elixir function by the node; `:transfer` is of `Pipeline.DSPy.DataTransfer`, `:cache` of
      `Pipeline.DSPy.OptimizationCache`, `:cluster` of `Pipeline.DSPy.Cluster`.
    * `:pool` is a `Pipeline.DSPy.ConnectionPool`: `:checkout` comes when a request or a connection gets its slot, `:refused` when
      one leaves the queue, or does not enter it, without one. Its `reason` is `:pool_exhausted`, `:shutting_down`, `:timeout`,
      `:cancelled`, `:abandoned` or `:node_down`; the `state` of `:bridge` is `:started`, `:ready`, `:down` or `:failed`.
    * `:recovery` is what `Pipeline.DSPy.RecoveryManager` does about an error: `action` is `:retry`, `:restart_process`,
      `:fallback` or `:stop`; `stopped_by` says why there is no further attempt.
    * `:circuit` is emitted when a circuit breaker changes its `state`.
    * `:worker`, `:node` and `:limit` are what the node reports of itself, see `docs/operations.md`.
  """

  alias Pipeline.DSPy.Metrics.Handlers
  alias Pipeline.DSPy.PythonError

  @bridge_event [:pipeline, :dspy, :python_bridge]
  @optimization_event [:pipeline, :dspy, :optimization]

  # -- handlers

  @doc """
  Has `function.(event, measurements, metadata, config)` run for each event of this name, by `:telemetry` when it is there.

  The id is any term; one that is taken is `{:error, :already_exists}`.
  """
  @spec attach(term, Handlers.event(), Handlers.handler(), term) ::
          :ok | {:error, :already_exists}
  def attach(handler_id, event, function, config)
      when is_list(event) and is_function(function, 4) do
    if telemetry?(:attach, 4),
      do: apply(:telemetry, :attach, [handler_id, event, function, config]),
      else: Handlers.attach(handler_id, event, function, config)
  end

  @doc "Has it run no more."
  @spec detach(term) :: :ok | {:error, :not_found}
  def detach(handler_id) do
    # Telemetry may have come after the handler.
    with {:error, :not_found} <- Handlers.detach(handler_id) do
      if telemetry?(:detach, 1),
        do: apply(:telemetry, :detach, [handler_id]),
        else: {:error, :not_found}
    end
  end

  # -- events

  @doc "Emits an event."
  @spec execute(Handlers.event(), map, map) :: :ok
  def execute(event, measurements, metadata) do
    # A late apply, because telemetry is the host's choice and not a dependency of ours.
    if function_exported?(:telemetry, :execute, 3) do
      apply(:telemetry, :execute, [event, measurements, metadata])
    end

    Handlers.run(event, measurements, metadata)
  end

  defp telemetry?(function, arity) do
    Code.ensure_loaded?(:telemetry) and function_exported?(:telemetry, function, arity)
  end

  @doc """
  Runs a function that gives `{result, metadata}`, emits `:start`, and then `:stop` or `:exception`, below this name; gives
  the result.

  The metadata of `:start` and `:exception` is `metadata`, that of `:stop` is what the function gave; each has a
  `telemetry_span_context` of its own besides.

      iex> Pipeline.DSPy.Metrics.span([:my_app, :draft], %{model: "m"}, fn -> {:done, %{model: "m", tokens: 7}} end)
      :done
  """
  @spec span(Handlers.event(), map, (() -> {result, map})) :: result when result: term
  def span(prefix, metadata, function) do
    metadata = Map.put_new_lazy(metadata, :telemetry_span_context, &make_ref/0)
    started_at = span_start(prefix, metadata)

    try do
      {result, told} = function.()
      context = Map.take(metadata, [:telemetry_span_context])
      span_end(prefix, :stop, started_at, Map.merge(context, told))
      result
    catch
      kind, reason ->
        what = %{kind: kind, reason: reason, stacktrace: __STACKTRACE__}
        span_end(prefix, :exception, started_at, Map.merge(metadata, what))
        :erlang.raise(kind, reason, __STACKTRACE__)
    end
  end

  @doc "Emits the start of a span that no function encloses; gives the time, for `span_end/4`."
  @spec span_start(Handlers.event(), map) :: integer
  def span_start(prefix, metadata) do
    now = System.monotonic_time()
    measurements = %{monotonic_time: now, system_time: System.system_time()}
    execute(prefix ++ [:start], measurements, metadata)
    now
  end

  @doc "Emits its end."
  @spec span_end(Handlers.event(), :stop | :exception, integer, map) :: :ok
  def span_end(prefix, how, started_at, metadata) do
    now = System.monotonic_time()
    execute(prefix ++ [how], %{duration: now - started_at, monotonic_time: now}, metadata)
  end

  # -- what the first design records

  @doc """
  Records one answered request: the verb, its duration in native time units, and its outcome, or whether it succeeded.
  """
  @spec record_python_bridge_metrics(
          atom,
          integer,
          {:ok, term} | {:error, PythonError.t()} | boolean
        ) ::
          :ok
  def record_python_bridge_metrics(operation, duration, outcome) do
    {success, error_type} =
      case outcome do
        {:ok, _result} -> {1, nil}
        {:error, %PythonError{error_type: type}} -> {0, type}
        true -> {1, nil}
        false -> {0, nil}
      end

    metadata = %{operation: operation, error_type: error_type}
    execute(@bridge_event, %{duration: duration, success: success}, metadata)
  end

  @doc "Records one optimization: `latency`, and `accuracy` and `cost` unless they are nil."
  @spec record_optimization_metrics(String.t(), map) :: :ok
  def record_optimization_metrics(signature_hash, metrics) do
    measurements =
      for name <- [:accuracy, :cost, :latency],
          value = Map.get(metrics, name),
          into: %{},
          do: {name, value}

    execute(@optimization_event, measurements, %{signature_hash: signature_hash})
  end

  @doc """
  What a signature, a pipeline or a program is called in metrics: the same for equal ones, on every machine.

      iex> Pipeline.DSPy.Metrics.signature_hash("question -> answer")
      "55bdc5090a3060ec47e11a13f7f4498bbe86b74a15e5d6b9aa4c6b7fcba6fa81"
  """
  @spec signature_hash(term) :: String.t()
  def signature_hash(signature) do
    bytes = :erlang.term_to_binary(signature, [:deterministic, minor_version: 2])
    :sha256 |> :crypto.hash(bytes) |> Base.encode16(case: :lower)
  end
end
