defmodule Pipeline.DSPy.Callbacks.Gate do
  @moduledoc """
  Lets so many processes at once through each of its lanes, first come, first served. Functions that are registered
  with a `:max_concurrency` pass it; no others come here. Who dies inside or while it waits leaves.
  """

  use GenServer

  @type lane :: term

  @doc "Starts a gate through which nobody goes yet. Option: `:name`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts \\ []) do
    GenServer.start_link(__MODULE__, [], Keyword.take(opts, [:name]))
  end

  @doc "Runs the function once fewer than `most` others are in its lane. Waits for as long as that takes."
  @spec pass(GenServer.server(), lane, pos_integer, (() -> result)) :: result when result: term
  def pass(gate \\ __MODULE__, lane, most, function) do
    ticket = GenServer.call(gate, {:enter, lane, most}, :infinity)

    try do
      function.()
    after
      GenServer.cast(gate, {:leave, ticket})
    end
  end

  # State: lanes as {tickets inside, queue of {ticket, from, most}}, and the lane of each ticket, a monitor.

  @impl true
  def init([]), do: {:ok, %{lanes: %{}, tickets: %{}}}

  @impl true
  def handle_call({:enter, lane, most}, {pid, _tag} = from, state) do
    ticket = Process.monitor(pid)
    {inside, waiting} = Map.get(state.lanes, lane, {MapSet.new(), :queue.new()})
    waiting = :queue.in({ticket, from, most}, waiting)
    state = %{state | tickets: Map.put(state.tickets, ticket, lane)}
    {:noreply, put_lane(state, lane, let_in(inside, waiting))}
  end

  @impl true
  def handle_cast({:leave, ticket}, state) do
    Process.demonitor(ticket, [:flush])
    {:noreply, leave(state, ticket)}
  end

  @impl true
  def handle_info({:DOWN, ticket, :process, _pid, _reason}, state),
    do: {:noreply, leave(state, ticket)}

  def handle_info(_other, state), do: {:noreply, state}

  defp leave(state, ticket) do
    case Map.pop(state.tickets, ticket) do
      {nil, _tickets} ->
        state

      {lane, tickets} ->
        {inside, waiting} = Map.fetch!(state.lanes, lane)
        put_lane(%{state | tickets: tickets}, lane, without(ticket, inside, waiting))
    end
  end

  defp without(ticket, inside, waiting) do
    if MapSet.member?(inside, ticket),
      do: let_in(MapSet.delete(inside, ticket), waiting),
      else: {inside, :queue.filter(fn {other, _from, _most} -> other != ticket end, waiting)}
  end

  defp let_in(inside, waiting) do
    with {:value, {ticket, from, most}} <- :queue.peek(waiting),
         true <- MapSet.size(inside) < most do
      GenServer.reply(from, ticket)
      let_in(MapSet.put(inside, ticket), :queue.drop(waiting))
    else
      _empty_or_full -> {inside, waiting}
    end
  end

  # A lane that nobody uses goes: names may come and go.
  defp put_lane(state, lane, {inside, waiting} = now) do
    if MapSet.size(inside) == 0 and :queue.is_empty(waiting),
      do: %{state | lanes: Map.delete(state.lanes, lane)},
      else: %{state | lanes: Map.put(state.lanes, lane, now)}
  end
end
