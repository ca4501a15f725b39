defmodule Pipeline.DSPy.Cluster.Placement do
  @moduledoc """
  Which member gets a request: the one with the least work for each of its workers, where work is lessened for those
  that hold what the request names. Values only.
  """

  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member

  # Bringing a program takes some milliseconds once, a prediction by a model seconds: who holds it may be behind by
  # about one round of its workers before another member is the better place.
  @holding_is_worth 1.0

  @doc """
  The best of these members that is not among `tried`, nil when there is none.

      iex> alias Pipeline.DSPy.Cluster.{Member, Placement}
      iex> member = &%Member{node: &1, server: self(), target: :pool, shape: 1, workers: 2, busy: &2}
      iex> entries = [{member.(:a@h, 2), 0}, {member.(:b@h, 1), 0}, {member.(:c@h, 0), 3}]
      iex> Placement.pick(entries).node
      :b@h
      iex> Placement.pick(entries, %{a@h: 1}).node
      :a@h
      iex> Placement.pick(entries, %{}, [:a@h, :b@h]).node
      :c@h
      iex> Placement.pick([], %{})
      nil
  """
  @spec pick([Directory.entry()], %{node => pos_integer}, [node]) :: Member.t() | nil
  def pick(entries, holders \\ %{}, tried \\ []) do
    entries
    |> Enum.reject(fn {member, _placed} -> member.node in tried end)
    # Equals are not always taken in the same order by every caller.
    |> Enum.shuffle()
    |> Enum.min_by(fn {member, placed} -> cost(member, placed, holders) end, fn -> {nil, 0} end)
    |> elem(0)
  end

  defp cost(member, placed, holders) do
    work = (member.busy + member.waiting + placed) / member.workers
    if is_map_key(holders, member.node), do: work - @holding_is_worth, else: work
  end
end
