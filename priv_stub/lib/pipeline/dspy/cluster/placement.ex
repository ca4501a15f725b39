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
  The best of these members, nil when there is none. Options: `:tried`, nodes not to choose, and `:prefer`, the node to
  choose if it is one of them.

      iex> alias Pipeline.DSPy.Cluster.{Member, Placement}
      iex> member = &%Member{node: &1, server: self(), target: :pool, shape: 1, workers: 2, busy: &2}
      iex> entries = [{member.(:a@h, 2), 0}, {member.(:b@h, 1), 0}, {member.(:c@h, 0), 3}]
      iex> Placement.pick(entries).node
      :b@h
      iex> Placement.pick(entries, %{a@h: 1}).node
      :a@h
      iex> Placement.pick(entries, %{}, tried: [:a@h, :b@h]).node
      :c@h
      iex> Placement.pick(entries, %{}, prefer: :a@h).node
      :a@h
      iex> Placement.pick([], %{})
      nil
  """
  @spec pick([Directory.entry()], %{node => pos_integer}, keyword) :: Member.t() | nil
  def pick(entries, holders \\ %{}, opts \\ []) do
    tried = Keyword.get(opts, :tried, [])
    open = Enum.reject(entries, fn {member, _placed} -> member.node in tried end)

    case Enum.find(open, fn {member, _placed} -> member.node == opts[:prefer] end) do
      {preferred, _placed} ->
        preferred

      nil ->
        open
        # Equals are not always taken in the same order by every caller.
        |> Enum.shuffle()
        |> Enum.min_by(fn {member, placed} -> cost(member, placed, holders) end, fn ->
          {nil, 0}
        end)
        |> elem(0)
    end
  end

  # Where no worker is up yet, even the first request waits.
  defp work(%Member{workers: 0}, count), do: count + 1
  defp work(%Member{workers: workers}, count), do: count / workers

  defp cost(member, placed, holders) do
    work = work(member, member.busy + member.waiting + placed)
    if is_map_key(holders, member.node), do: work - @holding_is_worth, else: work
  end
end
