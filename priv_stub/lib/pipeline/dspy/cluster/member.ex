defmodule Pipeline.DSPy.Cluster.Member do
  @moduledoc """
  One BEAM node of a cluster as the others know it: where its bridge or pool is, whether work may be sent there, and how
  much it has. A value; it travels as a plain map, which is checked before it is believed.
  """

  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError

  # Raise it when the messages between members, or what they mean, change.
  @protocol 1
  @max_held 1_000
  @max_id_bytes 128
  # A member that has said nothing for so many of its intervals is not chosen: its node may hang.
  @silent_after 5

  @enforce_keys [:node, :server, :target, :shape]
  defstruct [
    :node,
    :server,
    :target,
    :shape,
    :held,
    :info,
    ready: false,
    leaving: false,
    workers: 0,
    busy: 0,
    waiting: 0,
    interval: 1_000,
    heard_at: 0
  ]

  @typedoc """
  `target` is the registered name of the bridge or pool. `shape` is the same where requests look the same. `ready`:
  there is a node behind the target. `busy` and `waiting` are requests. `held` are ids of programs that it holds, nil
  where it said nothing of them. `info` is what its node, or one of its nodes, said of itself. `interval` (how often it speaks) and `heard_at` (when it last did, by this node's
  monotonic clock) are milliseconds.
  """
  @type t :: %__MODULE__{
          node: node,
          server: pid,
          target: atom,
          shape: non_neg_integer,
          held: [String.t()] | nil,
          info: map | nil,
          ready: boolean,
          leaving: boolean,
          workers: non_neg_integer,
          busy: non_neg_integer,
          waiting: non_neg_integer,
          interval: pos_integer,
          heard_at: integer
        }

  @doc "The member that this process stands for, before anything is known of its target."
  @spec new(pid, atom, pos_integer) :: t
  def new(server, target, interval) do
    %__MODULE__{
      node: node(server),
      server: server,
      target: target,
      shape: shape(),
      interval: interval
    }
  end

  @doc """
  What a request and an error look like in this version of the library. Members of another one are not sent any: a
  bridge would stumble over a request that lacks a field.
  """
  @spec shape() :: non_neg_integer
  def shape do
    fields =
      for struct <- [Request, PythonError], do: struct |> struct() |> Map.keys() |> Enum.sort()

    :erlang.phash2({@protocol, fields})
  end

  @doc "How requests get there."
  @spec address(t) :: {atom, node}
  def address(%__MODULE__{target: target, node: node}), do: {target, node}

  @doc "Whether new work may be sent there, at this time in milliseconds."
  @spec usable?(t, integer) :: boolean
  def usable?(%__MODULE__{} = member, now), do: gives?(member, now) and not member.leaving

  @doc "Whether it may be asked for what it keeps, at this time: who leaves, and gets no new work, may."
  @spec gives?(t, integer) :: boolean
  def gives?(%__MODULE__{} = member, now) do
    member.ready and speaks?(member) and
      now - member.heard_at <= @silent_after * member.interval
  end

  @doc "Whether requests look there as they do here. If not, it must be sent none."
  @spec speaks?(t) :: boolean
  def speaks?(%__MODULE__{shape: shape}), do: shape == shape()

  @doc """
  The member with the load that its target's answer to `health_check` tells, of a bridge or of a pool. Workers that are
  not up yet do not count.

      iex> alias Pipeline.DSPy.Cluster.Member
      iex> health = %{workers: [%{state: :busy}, %{state: :idle}], queue: %{waiting: 3, running: 1}}
      iex> member = Member.new(self(), MyApp.DSPy, 1_000) |> Member.put_health(health)
      iex> {member.ready, member.workers, member.busy, member.waiting}
      {true, 2, 1, 3}
  """
  @spec put_health(t, map) :: t
  def put_health(%__MODULE__{} = member, health) do
    queue = Map.get(health, :queue, %{})

    %{
      member
      | # A pool answers itself, whether or not one of its bridges is there.
        ready: not match?(%{pool: %{ready: 0}}, health),
        workers: health |> Map.get(:workers, []) |> Enum.count(&(&1.state in [:idle, :busy])),
        busy: Map.get(queue, :running, 0),
        waiting: Map.get(queue, :waiting, 0)
    }
  end

  @doc "Whether its target has nothing to do, as far as it said."
  @spec idle?(t) :: boolean
  def idle?(%__MODULE__{busy: busy, waiting: waiting}), do: busy + waiting == 0

  @doc "As it travels."
  @spec to_map(t) :: map
  def to_map(%__MODULE__{} = member) do
    member |> Map.from_struct() |> Map.drop([:node, :heard_at])
  end

  @doc """
  The member that such a map tells of, `:error` where it tells of none. Which node it is on is taken from its process
  and not from what it says.
  """
  @spec from_map(term, integer) :: {:ok, t} | :error
  def from_map(%{server: server, target: target, shape: shape} = map, now)
      when is_pid(server) and is_atom(target) and target != nil and is_integer(shape) do
    known = Map.take(map, [:held, :info, :ready, :leaving, :workers, :busy, :waiting, :interval])

    if Enum.all?(known, &sane?/1) do
      member = %__MODULE__{
        node: node(server),
        server: server,
        target: target,
        shape: shape,
        heard_at: now
      }

      {:ok, struct!(member, known)}
    else
      :error
    end
  end

  def from_map(_other, _now), do: :error

  defp sane?({key, value}) when key in [:ready, :leaving], do: is_boolean(value)
  defp sane?({:interval, value}), do: is_integer(value) and value > 0

  defp sane?({key, value}) when key in [:workers, :busy, :waiting],
    do: is_integer(value) and value >= 0

  defp sane?({:info, value}), do: value == nil or is_map(value)
  defp sane?({:held, nil}), do: true

  defp sane?({:held, ids}) do
    is_list(ids) and not List.improper?(ids) and length(ids) <= @max_held and
      Enum.all?(ids, &(is_binary(&1) and byte_size(&1) <= @max_id_bytes))
  end
end
