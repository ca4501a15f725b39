defmodule Pipeline.DSPy.PythonBridge.Server do
  @moduledoc """
  The process behind `Pipeline.DSPy.PythonBridge`: it owns the port, and passes on what comes from callers, from the node
  and from timers to the values that decide. What becomes of a request is up to its `Pipeline.DSPy.PythonBridge.Exchange`,
  how the node starts and ends to its `Pipeline.DSPy.PythonBridge.NodeLife`.

  No callback blocks: requests come encoded and are written without waiting (`Pipeline.DSPy.PythonBridge.Outgoing`), answers
  and events go out as messages, and waiting is done with timers. Only `terminate/2` waits, for the node's end.
  """

  use GenServer

  require Logger

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PortWriter
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Calls
  alias Pipeline.DSPy.PythonBridge.Calls.Call
  alias Pipeline.DSPy.PythonBridge.Exchange
  alias Pipeline.DSPy.PythonBridge.Health
  alias Pipeline.DSPy.PythonBridge.Listeners
  alias Pipeline.DSPy.PythonBridge.NodeFault
  alias Pipeline.DSPy.PythonBridge.NodeLife
  alias Pipeline.DSPy.PythonBridge.NodeLog
  alias Pipeline.DSPy.PythonBridge.Outgoing
  alias Pipeline.DSPy.PythonBridge.Requests
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonBridge.Telemetry
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Vocabulary

  @protocol 1
  @overdue_ms 5_000

  defmodule State do
    @moduledoc false

    # `port` is that of `node`, nil until there is one.
    @enforce_keys [:options, :exchange, :calls, :health, :node]
    defstruct [:port | @enforce_keys]
  end

  @doc "The version of the wire that bridges speak."
  @spec protocol() :: pos_integer
  def protocol, do: @protocol

  # -- life

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    Vocabulary.load()
    Logger.metadata(bridge: options[:name] || self())

    state = %State{
      options: options,
      exchange: Exchange.new(PythonBridge, options),
      calls: Calls.new(options),
      health: Health.new(options),
      node: NodeLife.new(options)
    }

    {:ok, state, {:continue, :start}}
  end

  # A node that ended soon after its start is not followed by another at once. Requests wait here meanwhile.
  @impl true
  def handle_continue(:start, state) do
    case NodeLife.pause(state.node) do
      {0, _error} ->
        open(state)

      {ms, error} ->
        Process.send_after(self(), :open, ms)
        continue(state, Exchange.pause(state.exchange, ms, error))
    end
  end

  defp open(state) do
    case NodeLife.open(state.node) do
      {:ok, %NodeLife{process: %{port: port}} = node} ->
        outgoing = Outgoing.open(state.exchange.outgoing, port, PortWriter.start_link(port))
        state = %{state | node: node, port: port}
        continue(state, Exchange.put_outgoing(state.exchange, outgoing))

      {:error, error, node} ->
        node_down(error, %{state | node: node})
    end
  end

  @impl true
  def terminate(reason, state) do
    error = PythonError.new(:shutting_down, "the bridge is shutting down")
    exchange = Exchange.answer_all(state.exchange, error)
    Calls.retain(state.calls, fn _request_id -> false end)

    # A suspended writer would keep the port's queue alive; only a kill reaches it.
    if exchange.outgoing.writer, do: Process.exit(exchange.outgoing.writer, :kill)
    NodeLife.stop(state.node, reason)
  end

  @impl true
  def format_status(_reason, [_dictionary, state]) do
    # Frames and payloads are large and may be private; they stay out of crash reports.
    shown = %{
      phase: state.exchange.phase,
      os_pid: state.port && state.node.process.os_pid,
      in_flight: Requests.count(state.exchange.requests),
      calls: Calls.count(state.calls),
      unsent_bytes: state.exchange.outgoing.unsent_bytes
    }

    [data: [{~c"State", shown}]]
  end

  # -- callers

  @impl true
  def handle_cast({:submit, %Request{verb: :shutdown} = request}, %State{port: nil} = state) do
    # There is no node to ask. Whoever waits for one is answered by terminate/2.
    unfinished = Exchange.count(state.exchange)
    exchange = state.exchange |> Exchange.pause(0, nil) |> Exchange.submit(request)
    stopped = {:ok, %{status: :stopped, unfinished: unfinished}}
    {_verb, exchange} = Exchange.answer(exchange, request.id, stopped)
    {:stop, :normal, %{state | exchange: exchange}}
  end

  def handle_cast({:submit, %Request{} = request}, state) do
    continue(state, Exchange.submit(state.exchange, request))
  end

  def handle_cast({:abandon, id}, state) do
    continue(state, Exchange.abandon(state.exchange, id))
  end

  @impl true
  def handle_info({port, {:data, frame}}, %State{port: port} = state) do
    state = %{state | health: Health.heard(state.health)}

    case MessageProtocol.decode(frame) do
      {:ok, message} -> incoming(message, state)
      # Whose answer this was cannot be known, and every request gets its answer: so all of them end here.
      {:error, reason} -> node_down(NodeFault.unreadable(frame, reason), state)
    end
  end

  def handle_info({port, {:exit_status, code}}, %State{port: port} = state) do
    exited(code, state)
  end

  def handle_info({:EXIT, port, reason}, %State{port: port} = state) do
    # :epipe comes instead of an exit status when the node dies while something is being written to it.
    node_down(NodeFault.port_closed(reason), state)
  end

  def handle_info(
        {:EXIT, writer, _reason},
        %State{exchange: %{outgoing: %{writer: writer}}} = state
      ) do
    # The port is closing. Its exit status, which says more, is on its way; this is for the case that it is not.
    Process.send_after(self(), :port_lost, 1_000)
    outgoing = Outgoing.close(state.exchange.outgoing)
    continue(state, Exchange.put_outgoing(state.exchange, outgoing))
  end

  def handle_info({:EXIT, pid, reason}, state) when is_pid(pid) and reason != :normal do
    continue(state, Exchange.collector_ended(state.exchange, pid, reason))
  end

  def handle_info({:written, bytes}, state) do
    state = %{state | health: Health.written(state.health, bytes)}
    outgoing = Outgoing.written(state.exchange.outgoing, bytes)
    continue(state, Exchange.put_outgoing(state.exchange, outgoing))
  end

  def handle_info({:collected, id, outcome}, state) do
    continue(state, Exchange.collected(state.exchange, id, outcome))
  end

  def handle_info({:timed_out, id}, state) do
    case Exchange.time_out(state.exchange, id) do
      # A node that does not even shut down is ended by terminate/2.
      {:shutdown, exchange} -> {:stop, :normal, %{state | exchange: exchange}}
      {_verb, exchange} -> continue(state, exchange)
    end
  end

  def handle_info({:DOWN, monitor, :process, _pid, reason}, state) do
    if Calls.runs?(state.calls, monitor),
      do: called(Calls.died(state.calls, monitor, reason), state),
      else: continue(state, Exchange.abandon_monitored(state.exchange, monitor))
  end

  def handle_info({task, frame}, state) when is_reference(task) and is_binary(frame) do
    called(Calls.finished(state.calls, task, frame), state)
  end

  def handle_info({:call_timed_out, task}, state) do
    called(Calls.timed_out(state.calls, task), state)
  end

  # Somebody who asked how it is got no answer; terminate/2 sees to its end. One that has yet to be ready has its own time
  # for that, and is not the one that was asked.
  def handle_info(
        {:give_up_node, %PythonError{} = error},
        %State{exchange: %{phase: :ready}} = state
      ) do
    node_down(error, state)
  end

  def handle_info(:open, %State{port: nil} = state) do
    open(%{state | exchange: Exchange.pause(state.exchange, 0, nil)})
  end

  # Also of a node that is shutting down: it may stop on its way.
  def handle_info(:health, state) do
    case Health.tick(state.health) do
      {:ask, health} ->
        {health, exchange} = Health.ask(health, state.exchange, now())
        continue(%{state | health: health}, exchange)

      {:wait, health} ->
        silent(%{state | health: health})

      {:wedged, health} ->
        node_down(NodeFault.wedged(Health.silent_ms(health)), state)
    end
  end

  def handle_info(:settled, state) do
    NodeLife.settled(state.node)
    {:noreply, state}
  end

  def handle_info(:handshake_timeout, %State{exchange: %{info: nil}} = state) do
    node_down(NodeFault.handshake(state.options[:handshake_timeout]), state)
  end

  def handle_info(:port_lost, state) do
    node_down(NodeFault.port_closed(:epipe), state)
  end

  def handle_info(:overdue, state) do
    # The node answered the shutdown and did not go; terminate/2 sees to it.
    {:stop, :normal, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # A request that is over takes the functions along that run for it.
  defp continue(state, exchange) do
    calls =
      if Exchange.count(exchange) < Exchange.count(state.exchange),
        do: Calls.retain(state.calls, &match?({:ok, _request}, Exchange.fetch(exchange, &1))),
        else: state.calls

    {:noreply, %{state | exchange: exchange, calls: calls}}
  end

  defp called({nil, calls}, state), do: {:noreply, %{state | calls: calls}}

  defp called({frame, calls}, state) do
    continue(%{state | calls: calls}, Exchange.write(state.exchange, frame))
  end

  # -- what the node says

  defp incoming({:ready, info}, %State{exchange: %{info: nil}} = state), do: ready(info, state)
  defp incoming({:answer, id, outcome}, state), do: answered(id, outcome, state)

  defp incoming({:event, id, event}, state) do
    Exchange.pass_on(state.exchange, id, event)
    consume(state)
  end

  defp incoming({:log, level, text, metadata} = event, state) do
    NodeLog.write(state.options[:log_level], level, text, metadata)
    Listeners.tell(state.options, event)
    consume(state)
  end

  defp incoming({:telemetry, name, measurements, metadata} = event, state) do
    Metrics.execute(name, measurements, metadata)
    Listeners.tell(state.options, event)
    consume(state)
  end

  defp incoming({:call, call_id, id, name, arguments}, state) do
    case Exchange.fetch(state.exchange, id) do
      {:ok, request} ->
        functions = state.options[:functions]
        longest = state.exchange.max_frame_bytes
        call = Call.new(call_id, request, {name, arguments}, functions, longest)
        {:noreply, %{state | calls: Calls.take(state.calls, call)}}

      :error ->
        # Timed out or abandoned a moment ago: its job is being cancelled.
        refusal = MessageProtocol.encode_result(call_id, {:error, "the request is over"})
        continue(state, Exchange.write(state.exchange, refusal))
    end
  end

  defp incoming({:call_over, call_id}, state) do
    {:noreply, %{state | calls: Calls.release(state.calls, call_id)}}
  end

  defp incoming(_other, state), do: {:noreply, state}

  # An event is done with: the node may send another one.
  defp consume(state) do
    outgoing = Outgoing.consume(state.exchange.outgoing)
    continue(state, Exchange.put_outgoing(state.exchange, outgoing))
  end

  defp ready(%{protocol: @protocol} = info, state) do
    state = %{state | node: NodeLife.ready(state.node)}
    Listeners.tell(state.options, {:ready, info})
    Health.plan(state.health)
    continue(state, Exchange.ready(state.exchange, info))
  end

  defp ready(info, state) do
    node_down(NodeFault.protocol(Map.get(info, :protocol), @protocol), state)
  end

  defp answered(nil, {:error, error}, state) do
    # Something unreadable reached the node.
    node = NodeLife.complained(state.node, PythonError.from_node(error))
    {:noreply, %{state | node: node}}
  end

  defp answered(id, {:ok, {:transfer, _name, %{bytes: _, sha256: _} = about}}, state) do
    continue(state, Exchange.collect(state.exchange, id, about))
  end

  defp answered(id, outcome, state) do
    case Health.answered(state.health, id, now()) do
      {:ok, {missed, duration}, health} ->
        Telemetry.health(NodeLife.name(state.node), outcome, duration, missed)
        {:noreply, %{state | health: health}}

      :error ->
        answered_caller(id, outcome, state)
    end
  end

  defp answered_caller(id, outcome, state) do
    {verb, exchange} = Exchange.answer(state.exchange, id, typed(outcome))

    if verb == :shutdown and exchange.phase == :closing,
      do: Process.send_after(self(), :overdue, @overdue_ms)

    continue(state, exchange)
  end

  defp typed({:ok, result}), do: {:ok, result}
  defp typed({:error, error}), do: {:error, PythonError.from_node(error)}

  defp silent(%State{health: health} = state) do
    Logger.warning("Python node has shown no sign of life for #{Health.silent_ms(health)} ms")
    Telemetry.silence(NodeLife.name(state.node), health)
    Health.plan(health)
    {:noreply, state}
  end

  # -- the node's end

  defp exited(code, %State{exchange: %{phase: :closing}} = state) do
    if code != 0,
      do: Logger.warning("Python node ended with exit code #{code} while shutting down")

    {:stop, :normal, state}
  end

  defp exited(code, state) do
    node_down(NodeFault.exit_status(code, state.exchange.info != nil), state)
  end

  defp node_down(_error, %State{exchange: %{phase: :closing}} = state) do
    {:stop, :normal, state}
  end

  defp node_down(error, state) do
    error = NodeLife.down(state.node, error)
    Listeners.tell(state.options, {:down, error})
    state = %{state | exchange: Exchange.answer_all(state.exchange, error)}

    # A supervisor need not try again what cannot help; anything else it should.
    if error.recovery_strategy == :fatal do
      Logger.error("Python bridge ended for good: #{Exception.message(error)}")
      {:stop, {:shutdown, {:node_down, error}}, state}
    else
      {:stop, {:node_down, error}, state}
    end
  end

  defp now, do: System.monotonic_time()
end
