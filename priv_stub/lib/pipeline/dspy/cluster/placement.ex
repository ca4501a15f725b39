defmodule Pipeline.DSPy.Cluster.Placement do
  @moduledoc """
  Which member gets a request: the one with the least work for each of its workers, where work is lessened for those
  that hold what the request names. Values only.
  """

  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member

  # Bringing a program takes some milliseconds once, a prediction by a model seconds: who holds it may be behind by
  # about one round of its workers before another member is the better place; by more, for a dataset.
  @holding_is_worth 1.0
  @dataset_is_worth 4.0

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
  @spec pick([Directory.entry()], %{node => number}, keyword) :: Member.t() | nil
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
    work - Map.get(holders, member.node, 0)
  end

  @doc """
  How many requests for each worker it is worth to hold these.

      iex> Pipeline.DSPy.Cluster.Placement.worth("program:ab") < Pipeline.DSPy.Cluster.Placement.worth("sha256:ef")
      true
  """
  @spec worth(String.t()) :: float
  def worth("sha256:" <> _), do: @dataset_is_worth
  def worth(_program_or_model), do: @holding_is_worth

  @doc """
  The node that a name belongs to: the same for every caller, and for most names the same after a member came or went.
  """
  @spec of_name([Directory.entry()], String.t()) :: node | nil
  def of_name(entries, name) do
    entries
    |> Enum.map(fn {member, _placed} -> member.node end)
    |> Enum.max_by(&:erlang.phash2({name, &1}), fn -> nil end)
  end
end
