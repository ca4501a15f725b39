defmodule Pipeline.DSPy.ConnectionPool.Report do
  @moduledoc """
  What a pool tells of itself: its numbers, and the telemetry events that `Pipeline.DSPy.ConnectionPool` lists.
  """

  alias Pipeline.DSPy.ConnectionPool.Desk
  alias Pipeline.DSPy.ConnectionPool.Entry
  alias Pipeline.DSPy.ConnectionPool.Lane
  alias Pipeline.DSPy.ConnectionPool.Roster
  alias Pipeline.DSPy.Metrics

  @doc "The pool's numbers, see `Pipeline.DSPy.ConnectionPool.status/2`."
  @spec status(Desk.t()) :: map
  def status(%Desk{roster: roster} = desk) do
    %{
      size: Roster.size(roster),
      ready: Roster.count_ready(roster),
      phase: if(desk.closing?, do: :closing, else: :open),
      max_queue_size: desk.max_queue_size,
      connections: map_size(desk.connections),
      lanes:
        Map.new(desk.lanes, fn {name, lane} ->
          {name,
           %{
             running: Roster.used(roster, name),
             slots: Roster.slots(roster, name),
             waiting: Lane.waiting(lane)
           }}
        end)
    }
  end

  @doc "A request gets its slot."
  @spec checkout(Desk.t(), Entry.t(), pos_integer) :: :ok
  def checkout(desk, entry, index), do: request(desk, :checkout, entry, %{bridge: index})

  @doc "A request gets none."
  @spec refused(Desk.t(), Entry.t(), atom) :: :ok
  def refused(desk, entry, reason), do: request(desk, :refused, entry, %{reason: reason})

  @doc "Something has become of a bridge."
  @spec bridge(Desk.t(), pos_integer, :started | :ready | :down | :failed) :: :ok
  def bridge(%Desk{name: name, roster: roster}, index, state) do
    measurements = %{ready: Roster.count_ready(roster), size: Roster.size(roster)}
    emit(:bridge, measurements, %{pool: name, bridge: index, state: state})
  end

  defp request(desk, event, %{request: request, lane: lane, since: since}, metadata) do
    wait = System.monotonic_time() - since
    measurements = %{wait: wait, waiting: Lane.waiting(desk.lanes[lane])}
    metadata = Map.merge(metadata, %{pool: desk.name, lane: lane, verb: request.verb})
    emit(event, measurements, metadata)
  end

  defp emit(event, measurements, metadata) do
    Metrics.execute([:pipeline, :dspy, :pool, event], measurements, metadata)
  end
end
