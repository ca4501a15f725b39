defmodule Pipeline.DSPy.Cluster.Everywhere do
  @moduledoc """
  The verbs that concern a place rather than work, answered for the cluster as a whole: every member is asked.
  """

  alias Pipeline.DSPy.Cluster
  alias Pipeline.DSPy.Cluster.Asking
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.Cluster.Supplies
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError

  @verbs [
    :health_check,
    :cancel,
    :shutdown,
    :list_programs,
    :get_program,
    :get_report,
    :delete_program,
    :list_datasets,
    :delete_dataset,
    :fetch_result,
    :stats,
    :capture,
    :clear_cache
  ]

  # What a member keeps, by the verb that lists it: under which key, and what names one.
  @lists %{list_programs: {:programs, :program_id}, list_datasets: {:datasets, :dataset}}
  @deletes %{delete_program: :program_id, delete_dataset: :dataset}

  @default_limit 100

  @doc "These verbs."
  @spec verbs() :: [atom]
  def verbs, do: @verbs

  @doc "The cluster's answer."
  @spec request(Cluster.t(), atom, map, keyword) :: PythonBridge.answer()
  def request(%Cluster{name: name}, verb, payload, opts) do
    timeout = Keyword.get(opts, :timeout, :infinity)

    case Directory.members(name) do
      [] ->
        message = "#{inspect(name)} has no members that this BEAM node knows of"
        context = %{reason: :no_member, members: []}
        {:error, PythonError.new(:process_crashed, message, context: context)}

      members ->
        answer(verb, name, members, payload, timeout)
    end
  end

  defp answer(:health_check, _name, members, payload, timeout) do
    answers = Asking.all(members, :health_check, payload, timeout)

    case for({_member, {:ok, health}} <- answers, do: health) do
      [] -> first_error(answers)
      healths -> {:ok, health(answers, healths)}
    end
  end

  defp answer(:cancel, _name, members, payload, timeout) do
    one_of(Asking.all(members, :cancel, payload, timeout))
  end

  # It is asked for before work that may not be needed: who says nothing for long is not waited for.
  defp answer(:fetch_result, _name, members, payload, timeout) do
    now = Directory.now()

    case Enum.filter(members, &Member.gives?(&1, now)) do
      [] -> one_of(Asking.all(members, :fetch_result, payload, timeout))
      givers -> one_of(Asking.all(givers, :fetch_result, payload, timeout))
    end
  end

  # A program that was copied to another member has left its report where it was made.
  defp answer(:get_report, _name, members, payload, timeout) do
    one_of(Asking.all(members, :get_report, payload, timeout))
  end

  defp answer(:get_program, name, _members, payload, timeout) do
    id = payload[:program_id] || payload["program_id"]

    case Supplies.get_program(name, id, timeout) do
      {:ok, _member, result} ->
        {:ok, result}

      :error ->
        message =
          "no member of #{inspect(name)} gives the program #{inspect(id, printable_limit: 100)}"

        {:error, PythonError.new(:not_found, message, context: %{program_id: id})}
    end
  end

  defp answer(verb, name, members, payload, timeout) when is_map_key(@deletes, verb) do
    answers = Asking.all(members, verb, payload, timeout)
    key = @deletes[verb]
    id = payload[key] || payload[Atom.to_string(key)]
    for {member, {:ok, _result}} <- answers, do: Directory.forget(name, member.node, id)

    # One that failed may still have it.
    case for({_member, {:error, error}} <- answers, error.error_type != :not_found, do: error) do
      [] -> one_of(answers)
      [error | _more] -> {:error, error}
    end
  end

  defp answer(verb, name, members, payload, timeout) when is_map_key(@lists, verb) do
    limit = payload[:limit] || payload["limit"] || @default_limit

    if payload[:after] || payload["after"] do
      message = "a cluster's list has one page; ask a member for more: {target, node}"
      context = %{path: "payload.after"}
      {:error, PythonError.new(:validation_error, message, context: context)}
    else
      {key, id} = @lists[verb]
      answers = Asking.all(members, verb, payload, timeout)
      pages = for {member, {:ok, page}} <- answers, do: {member, Map.fetch!(page, key)}

      for {member, found} <- pages do
        Directory.hold(name, member.node, Enum.map(found, &Map.fetch!(&1, id)))
      end

      if pages == [],
        do: first_error(answers),
        else: {:ok, %{:status => :success, key => merge(pages, id, limit), :next => nil}}
    end
  end

  # Members that share a store say each the same of it; what they have asked it is each one's own.
  defp answer(verb, _name, members, payload, timeout) when verb in [:stats, :clear_cache] do
    answers = Asking.all(members, verb, payload, timeout)

    case for({_member, {:ok, told}} <- answers, do: told) do
      [] -> first_error(answers)
      told -> {:ok, told |> Enum.reduce(&summed/2) |> Map.put(:members, by_node(answers))}
    end
  end

  # Each writes files of its own, on its own machine.
  defp answer(:capture, _name, members, payload, timeout) do
    answers = Asking.all(members, :capture, payload, timeout)

    case for({_member, {:ok, told}} <- answers, do: told) do
      [] ->
        first_error(answers)

      told ->
        mode = if Enum.any?(told, &(&1.mode == :on)), do: :on, else: :off
        total = told |> Enum.map(&Map.drop(&1, [:file, :bridges])) |> Enum.reduce(&summed/2)
        {:ok, Map.merge(total, %{mode: mode, members: by_node(answers)})}
    end
  end

  defp answer(:shutdown, _name, members, payload, timeout) do
    # Each in a process of its own, since a shutdown is over when the bridge is gone and not with its answer.
    answers =
      members
      |> Enum.map(&{&1, Task.async(fn -> shut_down(&1, payload, timeout) end)})
      |> Enum.map(fn {member, task} -> {member, Task.await(task, :infinity)} end)

    case for({_member, {:ok, result}} <- answers, do: result) do
      [] ->
        first_error(answers)

      results ->
        unfinished = Enum.sum(for result <- results, do: Map.get(result, :unfinished, 0))
        {:ok, %{status: :stopped, unfinished: unfinished, members: by_node(answers)}}
    end
  end

  defp shut_down(member, payload, timeout) do
    if Member.speaks?(member) do
      opts = for {key, value} <- payload, do: {key, value}
      PythonBridge.shutdown(Member.address(member), [{:timeout, timeout} | opts])
    else
      {:error, Asking.stranger(member)}
    end
  end

  # -- putting answers together

  defp health(answers, healths) do
    statuses = for health <- healths, do: health.status

    status =
      cond do
        Enum.all?(statuses, &(&1 == :overloaded)) -> :overloaded
        length(healths) == length(answers) and Enum.all?(statuses, &(&1 == :healthy)) -> :healthy
        true -> :degraded
      end

    healthy = Enum.count(statuses, &(&1 == :healthy))

    workers =
      for {member, {:ok, %{workers: workers}}} <- answers, worker <- workers do
        Map.put(worker, :beam_node, member.node)
      end

    %{
      status: status,
      message: "#{healthy} of #{length(answers)} members are healthy",
      queue: %{waiting: total(healths, :waiting), running: total(healths, :running)},
      workers: workers,
      members: by_node(answers)
    }
  end

  defp total(healths, key) do
    Enum.sum(for %{queue: queue} <- healths, do: Map.get(queue, key, 0))
  end

  defp summed(one, other), do: Map.merge(one, other, fn _key, a, b -> plus(a, b) end)

  defp plus(a, b) when is_number(a), do: a + b
  defp plus(a, b) when is_map(a), do: summed(a, b)
  defp plus(status, _same), do: status

  defp by_node(answers), do: Map.new(answers, fn {member, answer} -> {member.node, answer} end)

  defp merge(pages, id, limit) do
    entries = for {member, page} <- pages, entry <- page, do: {entry, member.node}

    entries
    |> Enum.group_by(fn {entry, _node} -> Map.fetch!(entry, id) end)
    |> Enum.map(fn {_id, [{entry, _node} | _] = found} ->
      stored_at = found |> Enum.map(fn {one, _node} -> one.stored_at_ms end) |> Enum.max()

      Map.merge(entry, %{
        stored_at_ms: stored_at,
        beam_nodes: for({_one, node} <- found, do: node)
      })
    end)
    |> Enum.sort_by(& &1.stored_at_ms, :desc)
    |> Enum.take(limit)
  end

  defp one_of(answers) do
    Enum.find_value(answers, fn {_member, answer} -> match?({:ok, _}, answer) && answer end) ||
      first_error(answers)
  end

  # That it is not here is said by many; what went wrong says more, and that it is coming.
  defp first_error(answers) do
    errors = for {_member, {:error, error}} <- answers, do: error

    {:error,
     Enum.find(errors, &match?(%{context: %{state: :running}}, &1)) ||
       Enum.find(errors, hd(errors), &(&1.error_type != :not_found))}
  end
end
