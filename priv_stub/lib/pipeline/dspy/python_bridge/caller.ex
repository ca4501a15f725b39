defmodule Pipeline.DSPy.PythonBridge.Caller do
  @moduledoc """
  The caller's side of a request: encoding it, handing it over, and waiting for its answer. Runs in the caller's process.

  A request's reference is three things at once: its id on the wire, a monitor of the bridge, and an alias that ends
  with the first answer. So whatever comes later than that, or later than a caller that gave up, is dropped by the
  runtime and can reach nobody else.
  """

  alias Pipeline.DSPy.Affinity
  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.Options
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Atoms
  alias Pipeline.DSPy.PythonBridge.Functions
  alias Pipeline.DSPy.PythonBridge.Nesting
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError

  @meta_options [:priority, :idempotency_key, :source, :version, :trace, :traceparent]
  @options [:timeout, :grace, :progress, :stream_to, :functions, :idempotent | @meta_options]
  @default_grace_ms 1_000
  # How long a bridge of another BEAM node has to say that the time is up, before its caller takes it to hang.
  @remote_margin_ms 500
  # What a timer of the BEAM can count.
  @max_timeout_ms 4_294_967_295

  @doc "The options that every request takes."
  @spec options() :: [atom]
  def options, do: @options

  @doc """
  Hands a request to a bridge and returns its reference. `:progress` and `:stream_to` are a pid, an alias, or nothing.

  A payload of nil is for `:await_ready`, which the bridge answers itself.
  """
  @spec submit(PythonBridge.bridge(), atom, map | nil, keyword) :: reference
  def submit(%target{} = bridge, verb, payload, opts) when is_atom(verb) do
    target.submit(bridge, verb, payload, opts)
  end

  def submit(bridge, verb, payload, opts) when is_atom(verb) do
    opts = Options.known!(opts, @options, "a request")
    timeout = checked(opts[:timeout])
    grace = checked_grace(opts[:grace])
    progress_to = checked_listener(:progress, opts)
    stream_to = checked_listener(:stream_to, opts)
    {payload, functions} = if payload, do: Functions.take_out(payload), else: {nil, %{}}
    functions = Map.merge(Functions.new(opts[:functions]), functions)
    within = Nesting.current()
    ref = monitor(bridge, alias: :reply_demonitor)
    # Encoded here, so that a large payload costs its caller and not the bridge.
    {frame, metadata_bytes} =
      if payload,
        do: frame(ref, verb, payload, timeout, within, progress_to, opts),
        else: {nil, nil}

    request = %Request{
      id: ref,
      owner: self(),
      verb: verb,
      frame: frame,
      metadata_bytes: metadata_bytes,
      affinity: Affinity.of(payload),
      signature_hash: signature_hash(verb, payload),
      atoms: if(payload && far?(bridge), do: Atoms.of(payload), else: []),
      progress_to: progress_to,
      stream_to: stream_to,
      timeout: timeout,
      grace: grace,
      functions: functions,
      parent: within && within.parent,
      depth: Nesting.depth(within)
    }

    GenServer.cast(bridge, {:submit, request})
    ref
  end

  @doc """
  Who hears of a request's events, for one that is not waited for: the calling process unless another pid, or `false`, is
  given. Raises `ArgumentError` for anything else.
  """
  @spec hear_all(keyword) :: keyword
  def hear_all(opts) do
    Enum.reduce([:progress, :stream_to], opts, fn option, opts ->
      Keyword.put(opts, option, heard_by(option, Keyword.get(opts, option, true)))
    end)
  end

  defp heard_by(_option, true), do: self()
  defp heard_by(_option, pid) when is_pid(pid), do: pid
  defp heard_by(_option, none) when none in [nil, false], do: nil

  defp heard_by(option, other) do
    raise ArgumentError, "expected #{inspect(option)} to be a pid or false, got #{inspect(other)}"
  end

  @doc """
  Sends a request and waits for its answer. Where `:progress` or `:stream_to` is a function, it is run here for each
  such event until then.
  """
  @spec request(PythonBridge.bridge(), atom, map, keyword) :: PythonBridge.answer()
  def request(%target{} = bridge, verb, payload, opts) do
    target.request(bridge, verb, payload, opts)
  end

  def request(bridge, verb, payload, opts) do
    case Enum.filter(listeners(opts), fn {_option, heard_by} -> is_function(heard_by, 1) end) do
      [] -> await_from(bridge, submit(bridge, verb, payload, opts), opts)
      heard -> request_heard(bridge, verb, payload, opts, heard)
    end
  end

  defp request_heard(bridge, verb, payload, opts, heard) do
    # Events come to an alias of its own, so that none is left in the mailbox once the functions are done with.
    heard_at = :erlang.alias()
    opts = Keyword.merge(opts, for({option, _function} <- heard, do: {option, heard_at}))
    ref = submit(bridge, verb, payload, opts)

    try do
      await_from(bridge, ref, opts, heard)
    catch
      # Only the functions can get here; nobody waits for the answer any more.
      kind, reason ->
        abandon(bridge, ref)
        :erlang.raise(kind, reason, __STACKTRACE__)
    after
      :erlang.unalias(heard_at)
      flush(ref)
    end
  end

  @doc """
  Waits for the answer, or for `timeout`. The functions `:progress` and `:stream_to`, where given, are run for each
  such event until then.
  """
  @spec await(reference, keyword, timeout) :: PythonBridge.answer()
  def await(ref, functions \\ [], timeout \\ :infinity) do
    with :none <- receive_answer(ref, Map.new(listeners(functions)), Deadline.in_ms(timeout)) do
      {:error, PythonError.new(:timeout_error, "no answer yet; the request goes on")}
    end
  end

  @doc """
  Waits for the answer to a request that was submitted with these options. A bridge of this BEAM node gives one in time
  or ends; one of another may hang with its node, and is not waited for much longer than the request may take.
  """
  @spec await_from(PythonBridge.bridge(), reference, keyword, keyword) :: PythonBridge.answer()
  def await_from(bridge, ref, opts, functions \\ []) do
    with :none <- receive_answer(ref, Map.new(functions), patient_until(bridge, opts)) do
      silent(bridge, ref, opts)
    end
  end

  @doc "Until when, by the monotonic clock in milliseconds, a bridge is waited for in this way."
  @spec patient_until(PythonBridge.bridge(), keyword) :: integer | :infinity
  def patient_until(bridge, opts) do
    bridge
    |> patience(opts[:timeout] || :infinity, opts[:grace] || @default_grace_ms)
    |> Deadline.in_ms()
  end

  defp silent(bridge, ref, opts) do
    abandon(bridge, ref)
    flush(ref)
    message = "no answer within #{opts[:timeout]} ms; the bridge's BEAM node says nothing"
    context = %{reason: :silent, deadline_ms: opts[:timeout]}
    {:error, PythonError.new(:timeout_error, message, context: context)}
  end

  defp patience(bridge, timeout, grace) do
    if timeout != :infinity and far?(bridge),
      do: timeout + grace + @remote_margin_ms,
      else: :infinity
  end

  @doc """
  Tells a bridge that nobody waits for this request any more, so that its work does not go on. No answer comes after this.
  """
  @spec abandon(PythonBridge.bridge(), reference) :: :ok
  def abandon(%target{} = bridge, ref) do
    Process.demonitor(ref, [:flush])

    # Which of its bridges has the request is known to it alone; nobody waits to hear how this went.
    cancelling = target.submit(bridge, :cancel, %{id: ref}, timeout: 5_000)
    Process.demonitor(cancelling, [:flush])
    flush(cancelling)
  end

  def abandon(bridge, ref) do
    Process.demonitor(ref, [:flush])
    GenServer.cast(bridge, {:abandon, ref})
  end

  @doc """
  Waits for the next event of a request that was submitted with these options, or its answer; `until` is what
  `patient_until/2` gave then.
  """
  @spec next(PythonBridge.bridge(), reference, keyword, integer | :infinity) ::
          {:progress, map} | {:chunk, map} | PythonBridge.answer()
  def next(bridge, ref, opts, until) do
    receive do
      {PythonBridge, ^ref, event_or_answer} -> event_or_answer
      {:DOWN, ^ref, :process, _pid, reason} -> {:error, down_error(reason)}
    after
      Deadline.left(until) -> silent(bridge, ref, opts)
    end
  end

  @doc "The options that say who hears of events."
  @spec listeners(keyword) :: keyword
  def listeners(opts), do: Keyword.take(opts, [:progress, :stream_to])

  @doc """
  Monitors a bridge by whatever name it has. Where nobody holds the name, the answer is a `:DOWN` message as well.
  """
  @spec monitor(PythonBridge.bridge(), list) :: reference
  def monitor(bridge, options) do
    process = GenServer.whereis(bridge) || local_name(bridge)
    :erlang.monitor(:process, process, options)
  end

  defp local_name(name) when is_atom(name), do: name
  # Stands for :global and :via names, which cannot be monitored as such.
  defp local_name(_global_or_via), do: :"$pipeline_no_such_bridge"

  # Whether a bridge is on another BEAM node, or may be.
  defp far?(%_target{}), do: true

  defp far?({name, node}) when is_atom(name) and is_atom(node) and name not in [:global, :via],
    do: node != node()

  defp far?(pid) when is_pid(pid), do: node(pid) != node()
  defp far?(name) when is_atom(name), do: false

  defp far?(name) do
    case GenServer.whereis(name) do
      pid when is_pid(pid) -> node(pid) != node()
      _nobody -> false
    end
  end

  defp frame(ref, verb, payload, timeout, within, progress_to, opts) do
    meta = opts |> Keyword.take(@meta_options) |> Keyword.put(:progress, progress_to != nil)
    meta = Keyword.merge(traceparent(), meta)
    meta = if within, do: Keyword.put(meta, :parent, within.parent), else: meta
    meta = if timeout == :infinity, do: meta, else: Keyword.put(meta, :deadline_ms, timeout)

    request = MessageProtocol.create_request(verb, payload, [{:message_id, ref} | meta])
    {MessageProtocol.encode(request), MessageProtocol.metadata_bytes(request)}
  end

  # The caller's span, where OpenTelemetry is there. Whoever has begun one has loaded its propagator; it is not looked for.
  defp traceparent do
    if :erlang.function_exported(:otel_propagator_text_map, :inject, 1) do
      headers = apply(:otel_propagator_text_map, :inject, [[]])
      for {"traceparent", value} <- headers, do: {:traceparent, value}
    else
      []
    end
  end

  defp signature_hash(:optimize_signature, %{} = payload) do
    keys = for key <- [:signature, :pipeline, :program], spelt <- [key, "#{key}"], do: spelt
    Metrics.signature_hash(Enum.find_value(keys, &payload[&1]))
  end

  defp signature_hash(_verb, _payload), do: nil

  defp checked(:infinity), do: :infinity
  defp checked(ms) when is_integer(ms) and ms >= 0 and ms < @max_timeout_ms, do: ms

  defp checked(other) do
    raise ArgumentError, "expected :timeout in milliseconds or :infinity, got #{inspect(other)}"
  end

  # Checked here, in the process of who says it: the bridge, which would stumble over it, is everybody's.
  defp checked_grace(nil), do: @default_grace_ms
  defp checked_grace(ms) when is_integer(ms) and ms in 0..@max_timeout_ms, do: ms

  defp checked_grace(other) do
    raise ArgumentError, "expected :grace in milliseconds, got #{inspect(other)}"
  end

  defp checked_listener(option, opts) do
    case opts[option] do
      none when none in [nil, false] ->
        nil

      to when is_pid(to) or is_reference(to) ->
        to

      other ->
        raise ArgumentError,
              "expected #{inspect(option)} to be a function of one argument, a pid or false, got #{inspect(other)}"
    end
  end

  defp receive_answer(ref, functions, until) do
    receive do
      {PythonBridge, ^ref, {:progress, state}} ->
        if functions[:progress], do: functions[:progress].(state)
        receive_answer(ref, functions, until)

      {PythonBridge, ^ref, {:chunk, piece}} ->
        if functions[:stream_to], do: functions[:stream_to].(piece)
        receive_answer(ref, functions, until)

      {PythonBridge, ^ref, answer} ->
        answer

      {:DOWN, ^ref, :process, _pid, reason} ->
        {:error, down_error(reason)}
    after
      Deadline.left(until) -> :none
    end
  end

  @doc """
  The error that a bridge's exit reason stands for: one that ended before it read a request says why in it.
  """
  @spec down_error(term) :: PythonError.t()
  def down_error({:node_down, %PythonError{} = error}), do: error
  def down_error({:shutdown, {:node_down, %PythonError{} = error}}), do: error

  def down_error(:noproc) do
    message = "no bridge runs under this name"
    PythonError.new(:process_crashed, message, context: %{reason: :noproc})
  end

  def down_error(:noconnection) do
    message = "the BEAM node of the bridge is gone, or the connection to it"
    PythonError.new(:process_crashed, message, context: %{reason: :nodedown})
  end

  def down_error(reason) when reason in [:normal, :shutdown] do
    PythonError.new(:shutting_down, "the bridge has been stopped")
  end

  def down_error(reason) do
    shown = inspect(reason, limit: 10, printable_limit: 200)
    message = "the bridge ended: #{shown}"
    PythonError.new(:process_crashed, message, context: %{reason: :bridge})
  end

  @doc "Drops what has come for a request."
  @spec flush(reference) :: :ok
  def flush(ref) do
    receive do
      {PythonBridge, ^ref, _anything} -> flush(ref)
    after
      0 -> :ok
    end
  end
end
