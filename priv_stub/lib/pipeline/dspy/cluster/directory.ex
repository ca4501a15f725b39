defmodule Pipeline.DSPy.Cluster.Directory do
  @moduledoc """
  What this BEAM node knows of a cluster, in two ETS tables that callers read without asking anybody: its members, and
  which of them holds which program, dataset or model.

  `Pipeline.DSPy.Cluster.Server` owns the tables and writes members. Callers count there what they have sent since a
  member last spoke, so that a burst does not all go to whoever was idle a second ago, and note who holds what.
  """

  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.Cluster.Placement

  # What is noted of holdings is a hint, and is made anew from what members say.
  @max_holdings 20_000

  @typedoc "A member and how many requests this node has with it that it has not told of yet."
  @type entry :: {Member.t(), non_neg_integer}

  @doc "Makes the tables of a cluster; they end with the calling process."
  @spec create(atom) :: :ok
  def create(cluster) do
    options = [:named_table, :public, read_concurrency: true, write_concurrency: true]
    :ets.new(table(cluster), [:set | options])
    :ets.new(holdings(cluster), [:bag | options])
    :ok
  end

  @doc "Every member that is known, `:error` where no such cluster runs on this BEAM node."
  @spec entries(atom) :: {:ok, [entry]} | :error
  def entries(cluster) do
    table = table(cluster)

    entries =
      for {{:member, node}, member} <- :ets.tab2list(table) do
        {member, :ets.lookup_element(table, {:placed, node}, 2)}
      end

    {:ok, entries}
  rescue
    # The table is not there, or a member went away between two looks.
    ArgumentError ->
      if :ets.whereis(table(cluster)) == :undefined, do: :error, else: entries(cluster)
  end

  @doc "The members, without what was sent to them."
  @spec members(atom) :: [Member.t()]
  def members(cluster) do
    case entries(cluster) do
      {:ok, entries} -> for {member, _placed} <- entries, do: member
      :error -> []
    end
  end

  @doc """
  Those of them that new work may be sent to. The one on the node `finishing` may be leaving: the work has to do with what
  that has yet to finish.
  """
  @spec usable(atom, node | nil) :: {:ok, [entry]} | :error
  def usable(cluster, finishing \\ nil) do
    now = now()

    with {:ok, entries} <- entries(cluster) do
      {:ok,
       Enum.filter(entries, fn {member, _placed} ->
         Member.usable?(member, now) or
           (member.node == finishing and Member.gives?(member, now))
       end)}
    end
  end

  @doc "A member has spoken: what was sent to it before is in what it said."
  @spec put(atom, Member.t()) :: :ok
  def put(cluster, %Member{} = member) do
    rows = [{{:placed, member.node}, 0}, {{:member, member.node}, %{member | held: nil}}]
    :ets.insert(table(cluster), rows)

    if member.held do
      if :ets.info(holdings(cluster), :size) > @max_holdings,
        do: :ets.delete_all_objects(holdings(cluster))

      :ets.insert(holdings(cluster), for(id <- member.held, do: {id, member.node}))
    end

    :ok
  end

  @doc "A member is gone."
  @spec delete(atom, node) :: :ok
  def delete(cluster, node) do
    :ets.delete(table(cluster), {:member, node})
    :ets.delete(table(cluster), {:placed, node})
    :ets.match_delete(holdings(cluster), {:_, node})
    :ok
  end

  @doc "One request more, or less, is with a member."
  @spec count(atom, node, 1 | -1) :: :ok
  def count(cluster, node, 1), do: update(cluster, node, {2, 1})
  def count(cluster, node, -1), do: update(cluster, node, {2, -1, 0, 0})

  defp update(cluster, node, change) do
    :ets.update_counter(table(cluster), {:placed, node}, change)
    :ok
  rescue
    # The member is gone, or the cluster.
    ArgumentError -> :ok
  end

  @doc "Notes that a member holds these."
  @spec hold(atom, node, [String.t()]) :: :ok
  def hold(cluster, node, ids) do
    unless ids == [], do: :ets.insert(holdings(cluster), for(id <- ids, do: {id, node}))
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "Notes that a member does not hold this."
  @spec forget(atom, node, String.t()) :: :ok
  def forget(cluster, node, id) do
    :ets.delete_object(holdings(cluster), {id, node})
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "Who is known to hold these, and what that is worth (`Pipeline.DSPy.Cluster.Placement.worth/1`)."
  @spec holders(atom, [String.t()]) :: %{node => float}
  def holders(cluster, ids) do
    table = holdings(cluster)

    for id <- ids, {_id, node} <- :ets.lookup(table, id), reduce: %{} do
      found -> Map.update(found, node, Placement.worth(id), &(&1 + Placement.worth(id)))
    end
  rescue
    ArgumentError -> %{}
  end

  @doc "The clock of `heard_at`."
  @spec now() :: integer
  def now, do: System.monotonic_time(:millisecond)

  defp table(cluster), do: Module.concat(cluster, Members)
  defp holdings(cluster), do: Module.concat(cluster, Holdings)
end
