defmodule Pipeline.DSPy.ConnectionPool.Desk do
  @moduledoc """
  The requests of a pool from the moment they come: refused, waiting, handed to a bridge, over. And the connections that
  are lent.

  A value of the pool's process, which owns the timers and monitors that are set here and passes on what they report. Who
  is answered by a bridge is not answered here, but for the requests of a bridge that was killed: it could not.
  """

  alias Pipeline.DSPy.ConnectionPool.Connection
  alias Pipeline.DSPy.ConnectionPool.Entry
  alias Pipeline.DSPy.ConnectionPool.Envelope
  alias Pipeline.DSPy.ConnectionPool.Lane
  alias Pipeline.DSPy.ConnectionPool.Options
  alias Pipeline.DSPy.ConnectionPool.Refusal
  alias Pipeline.DSPy.ConnectionPool.Report
  alias Pipeline.DSPy.ConnectionPool.Roster
  alias Pipeline.DSPy.ConnectionPool.Roster.Bridge
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Courier
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Verbs

  @lanes [:instant, :quick, :long]

  @enforce_keys [:name, :max_queue_size, :roster]
  defstruct [
    :name,
    :max_queue_size,
    :roster,
    lanes: Map.new(@lanes, &{&1, Lane.new()}),
    flights: %{},
    connections: %{},
    monitors: %{},
    closing?: false
  ]

  @typep flight :: %{index: pos_integer, lane: Verbs.lane(), since: integer}
  @typep watched :: {:bridge, pos_integer} | {:waiting, reference} | {:connection, reference}

  @typedoc "`flights` are the requests that bridges have, by id; `monitors` say what each monitor is for."
  @type t :: %__MODULE__{
          name: GenServer.name() | nil,
          max_queue_size: non_neg_integer,
          roster: Roster.t(),
          lanes: %{Verbs.lane() => Lane.t()},
          flights: %{reference => flight},
          connections: %{reference => %{index: pos_integer, monitor: reference}},
          monitors: %{reference => watched},
          closing?: boolean
        }

  @doc "A desk without requests."
  @spec new(Options.settings()) :: t
  def new(settings) do
    %__MODULE__{
      name: settings.name,
      max_queue_size: settings.max_queue_size,
      roster: Roster.new(settings.size, settings.workers, settings.slots)
    }
  end

  # -- from callers

  @doc "Hands a request to a bridge, or lets it wait, or answers at once why it cannot be taken."
  @spec submit(t, Request.t()) :: t
  def submit(%__MODULE__{} = desk, %Request{} = request) do
    entry = Entry.new(request)
    hopeless = Roster.hopeless(desk.roster)

    cond do
      # A function that a job calls asks for something, and the job has its slot until it gets it. The job's own node
      # lends it a worker; to wait for a slot here would be to wait for itself.
      is_map_key(desk.flights, request.parent) ->
        %{index: index} = desk.flights[request.parent]
        place(desk, Roster.fetch!(desk.roster, index), %{entry | lane: :instant})

      desk.closing? ->
        refuse(desk, entry, Refusal.shutting_down(), :shutting_down)

      hopeless != nil ->
        refuse(desk, entry, hopeless, :node_down)

      true ->
        place_or_wait(desk, entry)
    end
  end

  @doc "Has a request end that runs or waits: a `:cancel` goes to the bridge that has it, or is answered here."
  @spec cancel(t, Request.t()) :: t
  def cancel(%__MODULE__{} = desk, %Request{verb: :cancel} = request) do
    id = Envelope.cancelled_id(request)

    case {desk.flights[id], take_waiting(desk, id)} do
      {%{index: index}, _nothing} ->
        place(desk, Roster.fetch!(desk.roster, index), Entry.new(request, :instant))

      {nil, {nil, desk}} ->
        answer(request.id, {:error, Refusal.not_found()})
        desk

      {nil, {entry, desk}} ->
        answer(request.id, {:ok, %{status: :cancelling}})
        refuse(desk, entry, Refusal.cancelled(), :cancelled)
    end
  end

  @doc "Nobody waits for this request any more."
  @spec abandon(t, reference) :: t
  def abandon(%__MODULE__{} = desk, id) do
    case {desk.flights[id], take_waiting(desk, id)} do
      {%{index: index}, _nothing} ->
        GenServer.cast(Roster.fetch!(desk.roster, index).pid, {:abandon, id})
        desk

      {nil, {nil, desk}} ->
        desk

      {nil, {entry, desk}} ->
        forget(desk, entry, :abandoned)
    end
  end

  @doc "The time of a request that waits is up."
  @spec time_out(t, reference) :: t
  def time_out(%__MODULE__{} = desk, id) do
    case take_waiting(desk, id) do
      {nil, desk} -> desk
      {entry, desk} -> refuse(desk, entry, Refusal.timeout(entry.request), :timeout)
    end
  end

  @doc "Answers all that wait with the same error."
  @spec refuse_waiting(t, PythonError.t(), atom) :: t
  def refuse_waiting(%__MODULE__{} = desk, error, reason) do
    Enum.reduce(@lanes, desk, fn lane, desk ->
      case Lane.pop(desk.lanes[lane]) do
        {nil, _lane} ->
          desk

        {entry, rest} ->
          Entry.stop_timer(entry)
          desk = desk |> put_lane(lane, rest) |> unwatch(entry.monitor)
          desk |> refuse(entry, error, reason) |> refuse_waiting(error, reason)
      end
    end)
  end

  @doc "From now on nothing more is taken; what waits may still go."
  @spec close(t) :: t
  def close(%__MODULE__{} = desk), do: %{desk | closing?: true}

  @doc "Whether nobody waits here and nobody holds a connection. Bridges may have requests nonetheless."
  @spec quiet?(t) :: boolean
  def quiet?(%__MODULE__{} = desk) do
    desk.connections == %{} and
      Enum.all?(desk.lanes, fn {_name, lane} -> Lane.waiting(lane) == 0 end)
  end

  @doc "A connection comes back; one that is not lent is nothing to do."
  @spec return(t, reference) :: t
  def return(%__MODULE__{} = desk, id) do
    case Map.pop(desk.connections, id) do
      {nil, _connections} ->
        desk

      {%{index: index, monitor: monitor}, connections} ->
        desk = unwatch(%{desk | connections: connections}, monitor)
        dispatch(%{desk | roster: Roster.give_back(desk.roster, index, :long)})
    end
  end

  # -- from bridges

  @doc "A bridge has done with a request."
  @spec over(t, reference) :: t
  def over(%__MODULE__{} = desk, id) do
    case Map.pop(desk.flights, id) do
      {nil, _flights} ->
        desk

      {%{index: index, lane: lane, since: since}, flights} ->
        took = Lane.took(desk.lanes[lane], ms(now() - since))
        roster = Roster.give_back(desk.roster, index, lane)
        dispatch(put_lane(%{desk | flights: flights, roster: roster}, lane, took))
    end
  end

  @doc "A bridge has been started: nothing is given to it until its node is ready."
  @spec bridge_started(t, pos_integer, pid) :: t
  def bridge_started(%__MODULE__{} = desk, index, pid) do
    # The word of its end may come after that of the next one's start.
    known = Enum.find(desk.monitors, fn {_monitor, watched} -> watched == {:bridge, index} end)
    desk = if known, do: bridge_down(desk, elem(known, 0), Refusal.replaced(), false), else: desk

    desk = %{desk | roster: Roster.started(desk.roster, index, pid)}
    Report.bridge(desk, index, :started)
    watch(desk, Process.monitor(pid), {:bridge, index})
  end

  @doc "The node of a bridge that was started is ready: it takes its share."
  @spec bridge_ready(t, pid, map) :: t
  def bridge_ready(%__MODULE__{} = desk, pid, info) do
    %Bridge{index: index} = Roster.find(desk.roster, pid)
    desk = %{desk | roster: Roster.ready(desk.roster, pid, info)}
    Report.bridge(desk, index, :ready)
    dispatch(desk)
  end

  @doc """
  A bridge has lost its node. It will answer what it has, and the slots that come free with that are none any more.
  """
  @spec bridge_leaving(t, pid) :: t
  def bridge_leaving(%__MODULE__{} = desk, pid) do
    %{desk | roster: Roster.leaving(desk.roster, pid)}
  end

  @doc """
  Something that was watched has ended. Of a bridge's end, `error` is what its requests get, if it could not answer them
  itself, and `for_good?` whether it will not be started again.
  """
  @spec down(t, reference, PythonError.t(), boolean) :: t
  def down(%__MODULE__{} = desk, monitor, error, for_good?) do
    case desk.monitors[monitor] do
      {:bridge, _index} -> bridge_down(desk, monitor, error, for_good?)
      {:connection, id} -> return(desk, id)
      {:waiting, id} -> abandon(desk, id)
      nil -> desk
    end
  end

  defp bridge_down(desk, monitor, error, for_good?) do
    {{:bridge, index}, monitors} = Map.pop(desk.monitors, monitor)
    Process.demonitor(monitor, [:flush])
    roster = Roster.down(desk.roster, index, if(for_good?, do: error))

    # The slots of a bridge that is gone are gone with it: nothing is given back.
    {lost, flights} = of_bridge(desk.flights, index)
    {void, lent} = of_bridge(desk.connections, index)
    for {id, _flight} <- lost, do: answer(id, {:error, error})

    desk = %{desk | monitors: monitors, roster: roster, flights: flights, connections: lent}
    desk = Enum.reduce(void, desk, fn {_id, %{monitor: ref}}, desk -> unwatch(desk, ref) end)
    Report.bridge(desk, index, if(for_good?, do: :failed, else: :down))

    case Roster.hopeless(roster) do
      nil -> dispatch(desk)
      hopeless -> refuse_waiting(desk, hopeless, :node_down)
    end
  end

  defp of_bridge(entries, index) do
    {its, others} = Enum.split_with(entries, fn {_id, entry} -> entry.index == index end)
    {its, Map.new(others)}
  end

  # -- a request's way

  defp place_or_wait(desk, %{request: request, lane: lane} = entry) do
    with 0 <- Lane.waiting(desk.lanes[lane]),
         {:ok, bridge} <- Roster.choose(desk.roster, lane, request.affinity) do
      place(desk, bridge, entry)
    else
      _others_wait_or_no_slot_is_free -> wait(desk, entry)
    end
  end

  defp wait(desk, %{request: request, lane: lane} = entry) do
    room = desk.max_queue_size + Roster.awaited_slots(desk.roster, lane)

    if Lane.waiting(desk.lanes[lane]) < room do
      entry = Entry.wait(entry)
      lane_with = Lane.push(desk.lanes[lane], request.id, Envelope.priority(request), entry)
      desk |> put_lane(lane, lane_with) |> watch(entry.monitor, {:waiting, request.id})
    else
      error = Refusal.exhausted(lane, desk.lanes[lane], desk.roster, desk.max_queue_size)

      refuse(desk, entry, error, :pool_exhausted)
    end
  end

  # Whatever waits in a lane can go to the same bridges, so nobody is held up by who is before him.
  defp dispatch(desk), do: Enum.reduce(@lanes, desk, &dispatch_lane/2)

  defp dispatch_lane(lane, desk) do
    with {%{request: request} = entry, rest} <- Lane.pop(desk.lanes[lane]),
         {:ok, bridge} <- Roster.choose(desk.roster, lane, request.affinity) do
      desk = put_lane(desk, lane, rest)
      desk = unwatch(desk, entry.monitor)
      Entry.stop_timer(entry)
      dispatch_lane(lane, place(desk, bridge, entry))
    else
      _nobody_or_nowhere -> desk
    end
  end

  defp place(desk, bridge, %{request: request} = entry) do
    Report.checkout(desk, entry, bridge.index)
    give(desk, bridge, entry, request.verb)
  end

  defp give(desk, bridge, %{request: request}, :await_ready) do
    answer(request.id, {:ok, bridge.info})
    desk
  end

  defp give(desk, bridge, %{request: request}, :get_connection) do
    monitor = Courier.monitor(request.owner)
    answer(request.id, {:ok, %Connection{id: request.id, pool: self(), bridge: bridge.pid}})
    lent = %{index: bridge.index, monitor: monitor}

    watch(
      %{
        desk
        | connections: Map.put(desk.connections, request.id, lent),
          roster: Roster.take(desk.roster, bridge.index, :long)
      },
      monitor,
      {:connection, request.id}
    )
  end

  defp give(desk, bridge, %{lane: lane} = entry, _verb) do
    request = Entry.request(entry)
    GenServer.cast(bridge.pid, {:submit, %{request | watcher: self()}})
    flight = %{index: bridge.index, lane: lane, since: now()}

    %{
      desk
      | flights: Map.put(desk.flights, request.id, flight),
        roster: Roster.take(desk.roster, bridge.index, lane, request.affinity)
    }
  end

  # -- leaving the queue

  defp take_waiting(desk, id) do
    Enum.find_value(desk.lanes, {nil, desk}, fn {name, lane} ->
      case Lane.delete(lane, id) do
        {nil, _lane} ->
          nil

        {entry, rest} ->
          Entry.stop_timer(entry)
          {entry, desk |> put_lane(name, rest) |> unwatch(entry.monitor)}
      end
    end)
  end

  defp refuse(desk, %{request: request} = entry, error, reason) do
    answer(request.id, {:error, error})
    forget(desk, entry, reason)
  end

  defp forget(desk, entry, reason) do
    Report.refused(desk, entry, reason)
    desk
  end

  # -- small things

  defp answer(id, outcome), do: Courier.send_to(id, {PythonBridge, id, outcome})

  defp put_lane(desk, name, lane), do: %{desk | lanes: Map.put(desk.lanes, name, lane)}

  defp watch(desk, monitor, what), do: %{desk | monitors: Map.put(desk.monitors, monitor, what)}

  defp unwatch(desk, monitor) do
    Courier.demonitor(monitor)
    %{desk | monitors: Map.delete(desk.monitors, monitor)}
  end

  defp now, do: System.monotonic_time()
  defp ms(native), do: System.convert_time_unit(native, :native, :millisecond)
end
