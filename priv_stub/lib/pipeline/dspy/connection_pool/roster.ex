defmodule Pipeline.DSPy.ConnectionPool.Roster do
  @moduledoc """
  The bridges of a pool: which of them is there, what each has to do, and which gets the next request. A value.

  A bridge has so many slots in each lane. Beyond that, quick work never comes behind long work: a bridge takes it only
  while long work has left it a worker, and long work leaves the pool one such bridge, if the pool has two.

  A transfer belongs to the bridge that had its first chunk: the nodes of a pool share a directory, and only one of them has
  a transfer open. It moves when that bridge loses its node, and not back.
  """

  alias Pipeline.DSPy.Affinity
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Verbs

  defmodule Bridge do
    @moduledoc """
    One bridge. `pid` is nil while its supervisor starts it anew, `info` what its node said of itself. `used` counts its
    slots by lane. It is `:starting` whenever it is not ready but may be again; `{:failed, error}` never will be.
    """

    @enforce_keys [:index]
    defstruct [:index, :pid, :info, status: :starting, used: %{instant: 0, quick: 0, long: 0}]

    @type t :: %__MODULE__{
            index: pos_integer,
            pid: pid | nil,
            info: map | nil,
            status: :starting | :ready | {:failed, PythonError.t()},
            used: %{Verbs.lane() => non_neg_integer}
          }
  end

  # Of transfers that are over nobody says so: they are forgotten by generations, which transfers that go on outlive.
  @homes 1_000

  @enforce_keys [:bridges, :workers, :slots]
  defstruct [:bridges, :workers, :slots, homes: %{}, older_homes: %{}]

  @typedoc "`homes` are the bridges that transfers belong to, by name."
  @type t :: %__MODULE__{
          bridges: %{pos_integer => Bridge.t()},
          workers: pos_integer,
          slots: %{Verbs.lane() => pos_integer},
          homes: %{String.t() => pos_integer},
          older_homes: %{String.t() => pos_integer}
        }

  @doc "A roster of bridges that have yet to start. `workers` and `slots` are those of each."
  @spec new(pos_integer, pos_integer, %{Verbs.lane() => pos_integer}) :: t
  def new(size, workers, slots) do
    bridges = Map.new(1..size, &{&1, %Bridge{index: &1}})
    %__MODULE__{bridges: bridges, workers: workers, slots: slots}
  end

  # -- life

  @doc "A bridge has been started, or started anew: it has nothing to do yet."
  @spec started(t, pos_integer, pid) :: t
  def started(%__MODULE__{} = roster, index, pid),
    do: roster |> leave_home(index) |> put(%Bridge{index: index, pid: pid})

  @doc "The node of a bridge is ready."
  @spec ready(t, pid, map) :: t
  def ready(%__MODULE__{} = roster, pid, info) do
    put(roster, %{find(roster, pid) | status: :ready, info: info})
  end

  @doc "The node of a bridge has ended, and the bridge is about to: it gets nothing more."
  @spec leaving(t, pid) :: t
  def leaving(%__MODULE__{} = roster, pid) do
    case find(roster, pid) do
      nil ->
        roster

      bridge ->
        roster |> leave_home(bridge.index) |> put(%{bridge | status: :starting, info: nil})
    end
  end

  @doc "A bridge is gone: for good where there is an error, else until its supervisor has started it anew."
  @spec down(t, pos_integer, PythonError.t() | nil) :: t
  def down(%__MODULE__{} = roster, index, error) do
    status = if error, do: {:failed, error}, else: :starting
    roster |> leave_home(index) |> put(%Bridge{index: index, status: status})
  end

  @doc "The bridge that is this process."
  @spec find(t, pid) :: Bridge.t() | nil
  def find(%__MODULE__{} = roster, pid), do: Enum.find(all(roster), &(&1.pid == pid))

  @doc "The bridge of this index, from 1 to the size."
  @spec fetch!(t, pos_integer) :: Bridge.t()
  def fetch!(%__MODULE__{bridges: bridges}, index), do: Map.fetch!(bridges, index)

  @doc "All bridges, whatever they are at."
  @spec all(t) :: [Bridge.t()]
  def all(%__MODULE__{bridges: bridges}), do: Map.values(bridges)

  @doc "How many bridges there are, whatever they are at."
  @spec size(t) :: pos_integer
  def size(%__MODULE__{bridges: bridges}), do: map_size(bridges)

  @doc "How many bridges are ready."
  @spec count_ready(t) :: non_neg_integer
  def count_ready(%__MODULE__{} = roster), do: Enum.count(all(roster), &(&1.status == :ready))

  @doc "Why no bridge will ever be ready again; nil while one may be."
  @spec hopeless(t) :: PythonError.t() | nil
  def hopeless(%__MODULE__{} = roster) do
    if usable(roster) == [] do
      {:failed, error} = hd(all(roster)).status
      error
    end
  end

  # -- slots

  @doc """
  The bridge for a request of this lane: the one that suits its affinity best, else the one with least to do. What belongs
  to a transfer goes where that belongs, also beyond the slots: its sender's window bounds it.
  """
  @spec choose(t, Verbs.lane(), Affinity.t() | nil) :: {:ok, Bridge.t()} | :none
  def choose(%__MODULE__{} = roster, lane, affinity) do
    with nil <- home(roster, affinity),
         [_ | _] = free <- Enum.filter(all(roster), &takes?(roster, &1, lane)) do
      {:ok, best(free, affinity)}
    else
      [] -> :none
      index -> {:ok, fetch!(roster, index)}
    end
  end

  @doc "A request takes a slot; one of a transfer has that belong to this bridge from now on."
  @spec take(t, pos_integer, Verbs.lane(), Affinity.t() | nil) :: t
  def take(%__MODULE__{} = roster, index, lane, affinity \\ nil) do
    roster |> use_slots(index, lane, 1) |> settle(index, affinity)
  end

  @doc "A request that took a slot is over."
  @spec give_back(t, pos_integer, Verbs.lane()) :: t
  def give_back(%__MODULE__{} = roster, index, lane), do: use_slots(roster, index, lane, -1)

  @doc "How many slots of a lane are taken."
  @spec used(t, Verbs.lane()) :: non_neg_integer
  def used(%__MODULE__{} = roster, lane) do
    roster |> all() |> Enum.map(& &1.used[lane]) |> Enum.sum()
  end

  @doc "How many slots a lane has, counting those of bridges that are being started."
  @spec slots(t, Verbs.lane()) :: non_neg_integer
  def slots(%__MODULE__{} = roster, lane), do: length(usable(roster)) * roster.slots[lane]

  @doc "How many of them are of bridges that are not ready yet."
  @spec awaited_slots(t, Verbs.lane()) :: non_neg_integer
  def awaited_slots(%__MODULE__{} = roster, lane) do
    (length(usable(roster)) - count_ready(roster)) * roster.slots[lane]
  end

  defp takes?(roster, %Bridge{status: :ready} = bridge, lane) do
    bridge.used[lane] < roster.slots[lane] and spares_quick?(roster, bridge, lane)
  end

  defp takes?(_roster, _bridge, _lane), do: false

  defp spares_quick?(_roster, _bridge, :instant), do: true
  defp spares_quick?(roster, bridge, :quick), do: bridge.used.long < roster.workers

  defp spares_quick?(roster, bridge, :long) do
    bridge.used.long + 1 < roster.workers or
      length(usable(roster)) == 1 or
      Enum.any?(all(roster), fn other ->
        other.index != bridge.index and other.status == :ready and
          other.used.long < roster.workers
      end)
  end

  # The same bridge each time for the same affinity, as long as it is free, without having to remember anything
  # (rendezvous hashing): a bridge that comes or goes moves only what was its own.
  defp best(free, nil), do: Enum.min_by(free, &(&1.used.quick + &1.used.long))
  defp best(free, affinity), do: Enum.max_by(free, &:erlang.phash2({affinity, &1.index}))

  # -- where transfers belong

  defp home(roster, {:transfer, name}), do: roster.homes[name] || roster.older_homes[name]
  defp home(_roster, _affinity), do: nil

  defp settle(%{homes: homes} = roster, index, {:transfer, name}) do
    if map_size(homes) < @homes or is_map_key(homes, name),
      do: %{roster | homes: Map.put(homes, name, index)},
      else: %{roster | homes: %{name => index}, older_homes: homes}
  end

  defp settle(roster, _index, _affinity), do: roster

  defp leave_home(roster, index) do
    %{
      roster
      | homes: Map.reject(roster.homes, fn {_name, home} -> home == index end),
        older_homes: Map.reject(roster.older_homes, fn {_name, home} -> home == index end)
    }
  end

  defp usable(roster), do: Enum.reject(all(roster), &match?({:failed, _error}, &1.status))

  defp use_slots(roster, index, lane, change) do
    bridge = fetch!(roster, index)
    put(roster, %{bridge | used: Map.update!(bridge.used, lane, &(&1 + change))})
  end

  defp put(roster, bridge), do: put_in(roster.bridges[bridge.index], bridge)
end
