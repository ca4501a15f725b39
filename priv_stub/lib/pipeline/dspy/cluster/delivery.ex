defmodule Pipeline.DSPy.Cluster.Delivery do
  @moduledoc """
  One request's way to an answer: to the member that is best for it, to another one when that could not take it or was
  lost with it, all within the request's own time. Runs in the caller's process.
  """

  alias Pipeline.DSPy.Cluster
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.Cluster.Needs
  alias Pipeline.DSPy.Cluster.Placement
  alias Pipeline.DSPy.Cluster.Server
  alias Pipeline.DSPy.Cluster.Supplies
  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonBridge.Nesting
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Verbs

  @event [:pipeline, :dspy, :cluster]
  # Their jobs would do the same to the next worker.
  @own_fault [:memory_limit, :total_memory_limit, :cpu_limit, :stalled]

  defmodule Run do
    @moduledoc false

    @enforce_keys [:cluster, :verb, :payload, :opts, :needs, :deadline]
    defstruct @enforce_keys ++ [tried: [], brought: [], waited: false, started: 0]
  end

  @doc "Sends a request and waits for its answer; see `Pipeline.DSPy.Cluster` for what is sent a second time."
  @spec request(Cluster.t(), atom, map, keyword) :: PythonBridge.answer()
  def request(%Cluster{} = cluster, verb, payload, opts) do
    timeout = Keyword.get(opts, :timeout, :infinity)

    run = %Run{
      cluster: cluster,
      verb: verb,
      payload: payload,
      opts: opts,
      needs: Needs.of(payload),
      deadline: Deadline.in_ms(timeout)
    }

    # A dataset may be large: it is not brought anywhere before it is known who has it.
    Supplies.locate(cluster.name, Enum.filter(run.needs, &Needs.dataset?/1), timeout)
    place(run)
  end

  @doc """
  Sends a request to the best member there is now and returns its reference. Who holds what it names is asked for first
  where nobody is known to.
  """
  @spec submit(Cluster.t(), atom, map, keyword) :: reference
  def submit(%Cluster{name: name}, verb, payload, opts) do
    needs = Needs.of(payload)
    timeout = Keyword.get(opts, :timeout, :infinity)

    Supplies.locate(name, needs, timeout)

    # Nobody is there to bring a program afterwards, so holding it counts for more than work.
    with {:ok, entries} <- Directory.usable(name, parents_node()),
         holders = Directory.holders(name, needs),
         most = Enum.max(Map.values(holders), fn -> 0 end),
         best =
           Enum.filter(entries, fn {member, _} -> Map.get(holders, member.node, 0) == most end),
         parent = [prefer: preferred(payload, entries)],
         member when member != nil <-
           Placement.pick(best, %{}, parent) || Placement.pick(entries, %{}, parent) do
      Directory.count(name, member.node, 1)
      Caller.submit(Member.address(member), verb, payload, opts)
    else
      nil -> answered({:error, no_member(name)})
      :error -> answered({:error, no_cluster(name)})
    end
  end

  # The reference of a request that is answered already.
  defp answered(answer) do
    ref = make_ref()
    send(self(), {PythonBridge, ref, answer})
    ref
  end

  # -- choosing

  defp place(run, last \\ nil) do
    name = run.cluster.name
    holders = Directory.holders(name, run.needs)

    with {:ok, entries} <- Directory.usable(name, parents_node()),
         member when member != nil <-
           Placement.pick(entries, holders,
             tried: run.tried,
             prefer: preferred(run.payload, entries)
           ) do
      at(run, member)
    else
      :error -> {:error, no_cluster(name)}
      nil -> nobody(run, last)
    end
  end

  defp nobody(run, %PythonError{} = last), do: {:error, with_tried(last, run)}
  defp nobody(%Run{waited: true} = run, nil), do: {:error, no_member(run.cluster.name)}

  # A cluster that has just started, or whose nodes have: as a bridge does, it holds what comes until it can be taken.
  defp nobody(run, nil) do
    timeout = min(left(run), run.cluster.wait)
    server = Server.name(run.cluster.name)

    case server
         |> Caller.submit(:await_ready, nil, timeout: timeout, grace: 0)
         |> Caller.await() do
      {:ok, _members} -> place(%{run | waited: true})
      {:error, _none} -> {:error, no_member(run.cluster.name)}
    end
  end

  # A function that a job calls has its own requests run where that job waits for it: only there is it known that they
  # must not wait behind the job. And all chunks of a transfer go to the same member, as long as the members are the same.
  defp preferred(payload, entries) do
    case {parents_node(), Needs.transfer(payload)} do
      {nil, nil} -> nil
      {nil, transfer} -> Placement.of_name(entries, transfer)
      {node, _transfer} -> node
    end
  end

  defp parents_node, do: with(%{node: node} <- Nesting.current(), do: node)

  # -- one attempt

  defp at(run, member) do
    case left(run) do
      0 ->
        message = "no answer to #{run.verb} within #{run.opts[:timeout]} ms"
        context = %{deadline_ms: run.opts[:timeout]}
        {:error, with_tried(PythonError.new(:timeout_error, message, context: context), run)}

      left ->
        started = System.monotonic_time()
        answer = send_to(run, member, left)
        verdict = verdict(answer, run)
        record(run, member, answer, verdict, started)
        follow(verdict, answer, run, member)
    end
  end

  defp send_to(run, member, left) do
    name = run.cluster.name
    Directory.count(name, member.node, 1)

    try do
      opts = Keyword.put(run.opts, :timeout, left)
      Caller.request(Member.address(member), run.verb, run.payload, opts)
    after
      Directory.count(name, member.node, -1)
    end
  end

  defp follow(:answered, {:ok, result}, run, member) do
    Directory.hold(run.cluster.name, member.node, held(run, result))
    {:ok, result}
  end

  defp follow(:answered, {:error, error}, run, member) do
    {:error, error |> at_node(member) |> with_tried(run)}
  end

  defp follow({:lacks, id}, {:error, error}, run, member) do
    case Supplies.bring(run.cluster.name, id, member, left(run)) do
      :ok -> at(%{run | brought: [id | run.brought]}, member)
      :error -> {:error, error |> at_node(member) |> with_tried(run)}
    end
  end

  defp follow(:elsewhere, {:error, error}, run, member) do
    run = %{run | tried: [member.node | run.tried]}
    error = at_node(error, member)

    if length(run.tried) < run.cluster.attempts,
      do: place(run, error),
      else: {:error, with_tried(error, run)}
  end

  # What a member could use, it holds; but for what is not there any more, of which it was told.
  defp held(%Run{verb: verb}, _result) when verb in [:delete_program, :delete_dataset], do: []
  defp held(run, result), do: Needs.left_by(result) ++ run.needs

  # -- what an answer means

  defp verdict({:ok, _result}, _run), do: :answered

  defp verdict({:error, %PythonError{error_type: :not_found, context: context}}, run) do
    case context do
      # Who asks for a part of it wants it from wherever it is.
      %{dataset: _id} when run.verb == :get_dataset ->
        :elsewhere

      %{program_id: id} when is_binary(id) ->
        lacks(id, run)

      %{dataset: id} when is_binary(id) ->
        lacks(id, run)

      # A trained model cannot be brought; but nothing was done yet, and another member may have it.
      %{model: _model} ->
        :elsewhere

      _other ->
        :answered
    end
  end

  defp verdict({:error, error}, run) do
    cond do
      refused?(error) -> :elsewhere
      lost?(error) and repeatable?(run) -> :elsewhere
      true -> :answered
    end
  end

  defp lacks(id, run), do: if(id in run.brought, do: :answered, else: {:lacks, id})

  # Nothing of the work was begun: there is no such process, or its queue is full, which says when to come again.
  defp refused?(%PythonError{error_type: :process_crashed, context: %{reason: :noproc}}), do: true

  defp refused?(%PythonError{error_type: :overloaded, retry_after_ms: after_ms}),
    do: is_integer(after_ms)

  defp refused?(_error), do: false

  defp lost?(%PythonError{error_type: :process_crashed, context: context}) do
    Map.get(context, :reason) not in @own_fault
  end

  defp lost?(%PythonError{error_type: type}), do: type == :shutting_down

  # Pieces of a text that were heard already would be heard again.
  defp repeatable?(%Run{opts: opts, verb: verb}) do
    if opts[:stream_to],
      do: opts[:idempotent] == true,
      else: Verbs.idempotent?(verb, opts)
  end

  # -- errors

  defp no_cluster(name) do
    message = "no cluster #{inspect(name)} runs on this BEAM node"
    PythonError.new(:process_crashed, message, context: %{reason: :noproc})
  end

  defp no_member(name) do
    known = for member <- Directory.members(name), do: member.node
    message = "no member of #{inspect(name)} can take requests now; known are #{inspect(known)}"
    PythonError.new(:process_crashed, message, context: %{reason: :no_member, members: known})
  end

  defp at_node(error, member) do
    %{error | context: Map.put_new(error.context, :beam_node, member.node)}
  end

  defp with_tried(error, %Run{tried: []}), do: error

  defp with_tried(error, run) do
    %{error | context: Map.put(error.context, :tried, Enum.reverse(run.tried))}
  end

  # -- time and telemetry

  defp left(%Run{deadline: deadline}), do: Deadline.left(deadline)

  defp record(run, member, answer, verdict, started) do
    metadata = %{
      cluster: run.cluster.name,
      operation: run.verb,
      node: member.node,
      error_type: error_type(answer),
      verdict: if(is_tuple(verdict), do: elem(verdict, 0), else: verdict)
    }

    duration = System.monotonic_time() - started
    Metrics.execute(@event, %{duration: duration, attempt: length(run.tried) + 1}, metadata)
  end

  defp error_type({:ok, _result}), do: nil
  defp error_type({:error, %PythonError{error_type: type}}), do: type
end
