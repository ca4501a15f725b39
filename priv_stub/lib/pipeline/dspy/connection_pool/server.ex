defmodule Pipeline.DSPy.ConnectionPool.Server do
  @moduledoc """
  The process behind `Pipeline.DSPy.ConnectionPool`: it takes the messages of a bridge, has its bridges supervised, and
  passes on what becomes of them. What becomes of a request is decided in its `Pipeline.DSPy.ConnectionPool.Desk`.

  No callback blocks. Only `terminate/2` waits, for the bridges' ends.
  """

  use GenServer

  require Logger

  alias Pipeline.DSPy.ConnectionPool.Bridges
  alias Pipeline.DSPy.ConnectionPool.Desk
  alias Pipeline.DSPy.ConnectionPool.Envelope
  alias Pipeline.DSPy.ConnectionPool.FanOut
  alias Pipeline.DSPy.ConnectionPool.Refusal
  alias Pipeline.DSPy.ConnectionPool.Report
  alias Pipeline.DSPy.ConnectionPool.Roster
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonBridge.Courier
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Verbs

  # As long as a bridge gets beyond its grace to say how its node has ended.
  @shutdown_margin_ms 5_000

  defmodule Closing do
    @moduledoc false

    # A shutdown under way: who asked, until when (milliseconds, monotonic) the pool waits, and whether the bridges are told.
    @enforce_keys [:until]
    defstruct [:until, ids: [], told?: false]
  end

  defmodule State do
    @moduledoc false

    # `fault` is what the node that ended last has said, `faults` the same of bridges that have not been counted out yet,
    # and `early` what nodes have said that are ready before their bridges were counted in.
    @enforce_keys [:desk, :supervisor]
    defstruct [:desk, :supervisor, :closing, :fault, faults: %{}, early: %{}, fan_outs: []]
  end

  # -- life

  @impl true
  def init(settings) do
    Process.flag(:trap_exit, true)

    case Bridges.start_link(settings.size, settings.bridges) do
      {:ok, supervisor} -> {:ok, %State{desk: Desk.new(settings), supervisor: supervisor}}
      {:error, reason} -> {:stop, reason}
    end
  end

  @impl true
  def terminate(_reason, state) do
    error = Refusal.shutting_down()
    Desk.refuse_waiting(state.desk, error, :shutting_down)
    for %FanOut{for: ids} <- state.fan_outs, id <- ids, do: answer(id, {:error, error})
    Bridges.stop(state.supervisor)
  end

  @impl true
  def format_status(_reason, [_dictionary, state]) do
    # Frames wait here, which are large and may be private; they stay out of crash reports.
    [data: [{~c"State", Report.status(state.desk)}]]
  end

  # -- callers

  @impl true
  def handle_call(:status, _from, state), do: {:reply, Report.status(state.desk), state}

  @impl true
  def handle_cast({:submit, %Request{verb: :health_check} = request}, state) do
    continue(check_health(request, state))
  end

  def handle_cast({:submit, %Request{verb: :capture} = request}, state) do
    continue(capture(request, state))
  end

  def handle_cast({:submit, %Request{verb: :shutdown} = request}, state) do
    continue(shut_down(request, state))
  end

  def handle_cast({:submit, %Request{verb: :cancel} = request}, state) do
    continue(%{state | desk: Desk.cancel(state.desk, request)})
  end

  def handle_cast({:submit, %Request{} = request}, state) do
    continue(%{state | desk: Desk.submit(state.desk, request)})
  end

  def handle_cast({:abandon, id}, state) do
    continue(%{state | desk: Desk.abandon(state.desk, id)})
  end

  def handle_cast({:return_connection, id}, state) do
    continue(%{state | desk: Desk.return(state.desk, id)})
  end

  # -- bridges

  @impl true
  def handle_info({:request_over, id}, state) do
    continue(%{state | desk: Desk.over(state.desk, id)})
  end

  def handle_info({:timed_out, id}, state) do
    continue(%{state | desk: Desk.time_out(state.desk, id)})
  end

  def handle_info({:bridge_started, index, pid}, state) do
    {info, early} = Map.pop(state.early, pid)
    desk = Desk.bridge_started(state.desk, index, pid)
    desk = if info, do: Desk.bridge_ready(desk, pid, info), else: desk
    continue(%{state | desk: desk, early: early})
  end

  def handle_info({PythonBridge, bridge, {:ready, info}}, state) when is_pid(bridge) do
    # The word of its start comes from its supervisor, and may come later.
    if Roster.find(state.desk.roster, bridge),
      do: continue(%{state | desk: Desk.bridge_ready(state.desk, bridge, info)}),
      else: {:noreply, %{state | early: Map.put(state.early, bridge, info)}}
  end

  def handle_info({PythonBridge, bridge, {:down, error}}, state) when is_pid(bridge) do
    desk = Desk.bridge_leaving(state.desk, bridge)
    {:noreply, %{state | desk: desk, fault: error, faults: Map.put(state.faults, bridge, error)}}
  end

  def handle_info({PythonBridge, ref, answer}, state) when is_reference(ref) do
    fan_in(state, ref, answer)
  end

  def handle_info({:DOWN, ref, :process, pid, reason}, state) do
    if Enum.any?(state.fan_outs, &is_map_key(&1.pending, ref)),
      do: fan_in(state, ref, {:error, Caller.down_error(reason)}),
      else: down(state, ref, pid, reason)
  end

  def handle_info({:EXIT, supervisor, _reason}, %State{supervisor: supervisor} = state) do
    error = Refusal.restarts(state.fault)
    desk = Desk.refuse_waiting(state.desk, error, :node_down)
    {:stop, {:node_down, error}, %{state | desk: desk}}
  end

  def handle_info(:grace_over, %State{closing: %Closing{} = closing} = state) do
    if closing.told? or now_ms() < closing.until do
      {:noreply, state}
    else
      desk = Desk.refuse_waiting(state.desk, Refusal.shutting_down(), :shutting_down)
      {:noreply, tell_bridges(%{state | desk: desk})}
    end
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp down(state, monitor, pid, reason) do
    {fault, faults} = Map.pop(state.faults, pid)
    {error, for_good?} = verdict(reason, fault)
    desk = Desk.down(state.desk, monitor, error, for_good?)
    state = %{state | desk: desk, faults: faults}

    case Roster.hopeless(desk.roster) do
      nil ->
        continue(state)

      _error when state.closing != nil ->
        continue(state)

      %PythonError{error_type: :shutting_down} ->
        {:stop, :normal, state}

      hopeless ->
        Logger.error("Python pool ended for good: #{Exception.message(hopeless)}")
        {:stop, {:shutdown, {:node_down, hopeless}}, state}
    end
  end

  # What its supervisor restarts a bridge for, and what it does not. One that was gone before it could be monitored has
  # said by then why.
  defp verdict(:noproc, %PythonError{} = fault), do: {fault, fault.recovery_strategy == :fatal}
  defp verdict(:noproc, nil), do: {Caller.down_error(:killed), false}

  defp verdict(reason, _fault) do
    for_good? = reason in [:normal, :shutdown] or match?({:shutdown, _why}, reason)
    {Caller.down_error(reason), for_good?}
  end

  # -- what concerns all bridges

  defp check_health(request, state) do
    timeout = min(request.timeout, Verbs.default_timeout(:health_check))
    fan_out(state, FanOut.ask(:health_check, state.desk.roster, %{}, timeout, [request.id]))
  end

  # One that was switched on is to be found by who switches it off, whichever bridge has a slot then.
  defp capture(request, state) do
    case Envelope.capture(request) do
      nil ->
        %{state | desk: Desk.submit(state.desk, request)}

      payload ->
        timeout = min(request.timeout, Verbs.default_timeout(:capture))
        fan_out(state, FanOut.ask(:capture, state.desk.roster, payload, timeout, [request.id]))
    end
  end

  defp shut_down(request, state) do
    case Envelope.grace_ms(request) do
      {:ok, grace} ->
        close(request.id, now_ms() + min(grace, request.timeout), state)

      :error ->
        answer(request.id, {:error, Refusal.bad_shutdown()})
        state
    end
  end

  defp close(id, until, state) do
    closing = state.closing || %Closing{until: until}
    closing = %{closing | until: min(until, closing.until), ids: [id | closing.ids]}
    Process.send_after(self(), :grace_over, closing.until, abs: true)
    state = %{state | desk: Desk.close(state.desk), closing: closing}
    # Bridges that are told already hear of a shorter time as well.
    if closing.told?, do: tell_bridges(state), else: state
  end

  defp tell_bridges(%State{closing: closing} = state) do
    left = max(closing.until - now_ms(), 0)
    payload = %{mode: if(left == 0, do: :now, else: :drain), grace_ms: left}
    roster = state.desk.roster
    asked = FanOut.ask(:shutdown, roster, payload, left + @shutdown_margin_ms, closing.ids)
    fan_out(%{state | closing: %{closing | told?: true, ids: []}}, asked)
  end

  defp fan_out(state, asked), do: %{state | fan_outs: [asked | state.fan_outs]}

  defp fan_in(state, ref, answer) do
    fan_outs =
      Enum.map(state.fan_outs, fn fan_out ->
        if is_map_key(fan_out.pending, ref), do: FanOut.put(fan_out, ref, answer), else: fan_out
      end)

    continue(%{state | fan_outs: fan_outs})
  end

  # -- after each message

  defp continue(%State{closing: %Closing{told?: false}} = state) do
    if Desk.quiet?(state.desk), do: conclude(tell_bridges(state)), else: conclude(state)
  end

  defp continue(state), do: conclude(state)

  defp conclude(state) do
    {complete, pending} = Enum.split_with(state.fan_outs, &FanOut.complete?/1)
    {stopped, others} = Enum.split_with(complete, &(&1.verb == :shutdown))
    for %FanOut{for: ids} = fan_out <- others, id <- ids, do: answer(id, told(fan_out, state))

    case stopped do
      [] ->
        {:noreply, %{state | fan_outs: pending}}

      [stopped | _others] ->
        # The node has stopped, whoever asked for it, and however often.
        result = {:ok, %{status: :stopped, unfinished: FanOut.unfinished(stopped)}}
        over = Enum.filter(state.fan_outs, &(&1.verb == :shutdown))
        for %FanOut{for: ids} <- over, id <- ids, do: answer(id, result)
        {:stop, :normal, %{state | fan_outs: Enum.reject(pending, &(&1.verb == :shutdown))}}
    end
  end

  defp told(%FanOut{verb: :capture} = fan_out, _state), do: FanOut.capture(fan_out)

  defp told(%FanOut{verb: :health_check} = fan_out, state) do
    {:ok, FanOut.health(fan_out, Report.status(state.desk))}
  end

  defp answer(id, outcome), do: Courier.send_to(id, {PythonBridge, id, outcome})

  defp now_ms, do: System.monotonic_time(:millisecond)
end
