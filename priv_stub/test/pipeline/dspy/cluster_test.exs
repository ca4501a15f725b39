defmodule Pipeline.DSPy.ClusterTest do
  @moduledoc "A cluster of BEAM nodes that are well. Killed ones: `Pipeline.DSPy.ClusterDownTest`."

  use Pipeline.ClusterCase

  alias Pipeline.DSPy.ConnectionPool
  alias Pipeline.DSPy.DataTransfer

  @question ["question -> answer", %{question: "1 + 1"}, [lm: :offline]]

  setup_all do
    directory = tmp_dir("cluster")
    nodes = start_beam_nodes([:a, :b, :asker], directory)
    on_exit(fn -> stop_beam_nodes(nodes) end)
    serve(nodes.a, bridge(Path.join(directory, "a")))
    # A pool as good as a bridge.
    {_bridge, options} = bridge(Path.join(directory, "b"))
    serve(nodes.b, {ConnectionPool, [pool_size: 1] ++ options})
    serve(nodes.asker)
    {:ok, %{members: [_ | _]}} = ask(nodes.asker, :await_ready, [20_000])
    nodes
  end

  setup %{asker: asker, a: a, b: b} do
    await_members(asker, [a, b])
  end

  defp ask(node, function, arguments), do: call(node, ClusterNode, :ask, [function, arguments])

  defp ask_at(%{asker: asker}, member, function, arguments) do
    call(asker, ClusterNode, :ask, [ClusterNode.at(member.node), function, arguments])
  end

  # Where a member's target captures: a bridge into one file, a pool into one of each bridge.
  defp files(%{bridges: bridges}), do: for({_index, %{file: file}} <- bridges, do: file)
  defp files(%{file: file}), do: [file]

  # Somewhere, with no more than one place for it.
  defp alone_at(nodes, member, test) do
    other = if member == nodes.a, do: nodes.b, else: nodes.a
    :ok = call(other, ClusterNode, :leave, [10_000])
    await_members(nodes.asker, [member])

    try do
      test.()
    after
      :ok = call(other, ClusterNode, :join, [])
      await_members(nodes.asker, [nodes.a, nodes.b])
    end
  end

  defp program(seed) do
    %{
      signature: Tickets.signature(),
      training_data: Enum.take(Tickets.read(), 8),
      config: %{optimizer: :labeled_few_shot, lm: :offline, seed: seed}
    }
  end

  defp slow do
    config = %{
      optimizer: :bootstrap_few_shot_with_random_search,
      lm: %{model: :offline, latency_ms: 50},
      num_threads: 1,
      cache: false
    }

    %{program(1) | config: config}
  end

  test "a request is answered by one of the members, many by all of them", nodes do
    assert {:ok, %{prediction: %{"answer" => _}}} = ask(nodes.asker, :predict, @question)

    answers =
      1..8
      |> Enum.map(fn n ->
        options = [lm: {:call, :where}, cache: false]
        arguments = ["question -> answer", %{question: "#{n}"}, options]
        Task.async(fn -> ask(nodes.asker, :predict, arguments) end)
      end)
      |> Task.await_many(15_000)

    where = for {:ok, %{prediction: %{"answer" => node}}} <- answers, do: node
    assert length(where) == 8

    assert where |> Enum.uniq() |> Enum.sort() ==
             Enum.sort(["#{nodes.a.node}", "#{nodes.b.node}"])
  end

  test "a program that the chosen member lacks is brought from the one that has it", nodes do
    assert {:ok, %{program_id: id}} =
             ask_at(nodes, nodes.a, :request, [:optimize_signature, program(2)])

    assert {:error, %PythonError{error_type: :not_found, context: %{program_id: ^id}}} =
             ask_at(nodes, nodes.b, :get_program, [id])

    supply = [:pipeline, :dspy, :cluster, :supply]
    :ok = call(nodes.asker, ClusterNode, :listen, [supply])

    alone_at(nodes, nodes.b, fn ->
      ticket = hd(Tickets.read())
      arguments = [{:program, id}, Map.delete(ticket, :category), [lm: :offline]]
      assert {:ok, %{prediction: %{"category" => _}}} = ask(nodes.asker, :predict, arguments)
    end)

    brought = %{cluster: Pipeline.TestCluster, id: id, from: nodes.a.node, to: nodes.b.node}
    assert [{%{duration: duration}, ^brought}] = call(nodes.asker, ClusterNode, :noted, [supply])
    assert duration > 0

    assert {:ok, %{program_id: ^id}} = ask_at(nodes, nodes.b, :get_program, [id])
    assert {:ok, %{programs: programs}} = ask(nodes.asker, :list_programs, [])
    assert %{beam_nodes: holders} = Enum.find(programs, &(&1.program_id == id))
    assert Enum.sort(holders) == Enum.sort([nodes.a.node, nodes.b.node])

    assert {:ok, %{program_id: ^id}} = ask(nodes.asker, :delete_program, [id])

    for member <- [nodes.a, nodes.b] do
      assert {:error, %PythonError{error_type: :not_found}} =
               ask_at(nodes, member, :get_program, [id])
    end

    assert {:error, %PythonError{error_type: :not_found}} = ask(nodes.asker, :get_program, [id])

    assert {:error, %PythonError{error_type: :not_found}} =
             ask(nodes.asker, :delete_program, [id])
  end

  test "a dataset goes to one member, and is copied to another only when that has to have it",
       nodes do
    examples = for n <- 1..40, do: %{question: "#{n} + #{n}", answer: "#{2 * n}"}

    assert {:ok, {:dataset, id} = dataset} =
             call(nodes.asker, DataTransfer, :transfer_large_dataset, [
               examples,
               ClusterNode.cluster(),
               []
             ])

    about = &call(nodes.asker, DataTransfer, :about, [ClusterNode.at(&1.node), dataset])
    [holder] = for member <- [nodes.a, nodes.b], match?({:ok, _}, about.(member)), do: member
    [other] = [nodes.a, nodes.b] -- [holder]
    arguments = ["question -> answer", dataset, [lm: :offline, metric: :exact_match]]

    # Nobody has told who holds it: it is found, and used where it is.
    assert {:ok, %{count: 40}} = ask(nodes.asker, :evaluate_pipeline, arguments)
    assert {:error, %PythonError{error_type: :not_found}} = about.(other)
    assert {:ok, ^examples} = call(nodes.asker, ClusterNode, :fetch, [dataset])

    alone_at(nodes, other, fn ->
      assert {:ok, %{count: 40}} = ask(nodes.asker, :evaluate_pipeline, arguments)
    end)

    assert {:ok, %{dataset: ^id}} = about.(other)

    cluster = ClusterNode.cluster()
    assert {:ok, %{datasets: datasets}} = call(nodes.asker, DataTransfer, :list, [cluster, []])
    assert %{beam_nodes: [_, _], examples: 40} = Enum.find(datasets, &(&1.dataset == id))

    assert {:ok, %{dataset: ^id}} =
             call(nodes.asker, DataTransfer, :delete, [cluster, dataset, []])

    for member <- [holder, other], do: assert({:error, _not_found} = about.(member))
  end

  test "a request that is sent once goes to who holds its program", nodes do
    assert {:ok, %{program_id: id}} =
             ask_at(nodes, nodes.b, :request, [:optimize_signature, program(3)])

    ticket = Map.delete(hd(Tickets.read()), :category)
    payload = %{program: id, input: ticket, config: %{lm: :offline}}

    for _ <- 1..4 do
      assert {:ok, %{prediction: _}} = call(nodes.asker, ClusterNode, :once, [:predict, payload])
    end

    assert {:error, %PythonError{error_type: :not_found}} =
             ask_at(nodes, nodes.a, :get_program, [id])
  end

  test "a stored result is found wherever it is", nodes do
    for member <- [nodes.a, nodes.b] do
      key = "result of #{member.node}"

      assert {:error, %PythonError{error_type: :not_found}} =
               ask(nodes.asker, :fetch_result, [key])

      options = [lm: :offline, idempotency_key: key]
      arguments = ["question -> answer", %{question: "1 + 1"}, options]
      assert {:ok, %{prediction: prediction}} = ask_at(nodes, member, :predict, arguments)
      assert {:ok, %{result: result}} = ask(nodes.asker, :fetch_result, [key])
      assert result.prediction == prediction
    end
  end

  test "what members keep of results is told together, and their caches are cleared together",
       nodes do
    options = [lm: :offline, result_cache: true]

    for member <- [nodes.a, nodes.b], number <- [1, 1] do
      arguments = ["question -> answer", %{question: "#{number} of both"}, options]
      assert {:ok, _prediction} = ask_at(nodes, member, :predict, arguments)
    end

    assert {:ok, %{cache: %{count: 2, hits: 2}, members: members}} = ask(nodes.asker, :stats, [])
    assert map_size(members) == 2
    assert {:ok, %{status: :success, count: 2}} = ask(nodes.asker, :clear_cache, [])
    assert {:ok, %{cache: %{count: 0}}} = ask(nodes.asker, :stats, [])
  end

  test "a capture is one of all members' nodes", nodes do
    assert {:ok, %{status: :success, mode: :on, members: members}} =
             ask(nodes.asker, :capture, [[mode: :on]])

    told = for {_beam_node, {:ok, told}} <- members, do: told
    assert length(told) == map_size(members) and length(told) >= 2
    files = Enum.flat_map(told, &files/1)
    assert length(Enum.uniq(files)) >= length(told)
    assert {:ok, %{mode: :off, members: members}} = ask(nodes.asker, :capture, [[mode: :off]])
    assert Enum.all?(members, &match?({_beam_node, {:ok, %{mode: :off}}}, &1))

    assert {:error, %{error_type: :validation_error}} =
             ask(nodes.asker, :capture, [[mode: :sideways]])
  end

  test "a program that nobody has is not found", nodes do
    id = "program:" <> String.duplicate("0", 64)
    arguments = [{:program, id}, %{question: "?"}, [lm: :offline]]

    assert {:error, %PythonError{error_type: :not_found} = error} =
             ask(nodes.asker, :predict, arguments)

    assert %{program_id: ^id, beam_node: _} = error.context
  end

  test "progress and chunks reach the caller on another BEAM node", nodes do
    assert {{:ok, %{status: :success}}, [%{stage: _} | _]} =
             call(nodes.asker, ClusterNode, :optimize, [program(4)])

    assert {{:ok, %{prediction: %{"answer" => answer}}}, answer} =
             call(nodes.asker, ClusterNode, :stream, [])
  end

  test "an answer may use atoms that only the caller's BEAM node knew", nodes do
    # Its bridge reads answers with [:safe].
    name = :"field_#{System.unique_integer([:positive])}"

    for member <- [nodes.a, nodes.b] do
      payload = %{
        signature: %{
          input_fields: [%{name: :question, type: :string}],
          output_fields: [%{name: name, type: :string}]
        },
        input: %{question: "1 + 1"},
        config: %{lm: :offline}
      }

      assert {:ok, %{prediction: %{^name => _}}} =
               ask_at(nodes, member, :request, [:predict, payload])
    end
  end

  test "cancel finds the request wherever it runs", nodes do
    assert {{:ok, %{status: :cancelling}}, {:error, %PythonError{error_type: :cancelled}}} =
             call(nodes.asker, ClusterNode, :cancel, [slow()])

    assert {:error, %PythonError{error_type: :not_found}} =
             call(nodes.asker, ClusterNode, :cancel_unknown, [])
  end

  test "functions of a request run on the caller's BEAM node", nodes do
    for member <- [nodes.a, nodes.b] do
      assert {node, true} =
               call(nodes.asker, ClusterNode, :own_function, [ClusterNode.at(member.node)])

      assert node == nodes.asker.node
    end
  end

  test "what a function asks goes where its job waits, and not behind it", nodes do
    for member <- [nodes.a, nodes.b] do
      assert {:ok, %{prediction: %{"answer" => where}}} =
               call(nodes.asker, ClusterNode, :nested, [ClusterNode.at(member.node)])

      assert where == "#{member.node}"
    end
  end

  test "the health of a cluster is that of all members", nodes do
    health =
      eventually(fn ->
        {:ok, health} = ask(nodes.asker, :health_check, [])
        health.status == :healthy && health
      end)

    assert %{queue: %{waiting: 0}} = health
    assert health.message == "2 of 2 members are healthy"
    assert Enum.sort(Map.keys(health.members)) == Enum.sort([nodes.a.node, nodes.b.node])
    assert [_ | _] = for(%{beam_node: node} <- health.workers, node == nodes.a.node, do: node)
    # The same, for who does not wait for it.
    assert {:ok, %{status: :healthy}} =
             call(nodes.asker, ClusterNode, :once, [:health_check, %{}])
  end

  test "a member that leaves finishes what it has, and gets nothing new", nodes do
    options = [lm: %{model: :offline, latency_ms: 700}, cache: false]
    arguments = ["question -> answer", %{question: "1 + 2"}, options]
    running = Task.async(fn -> {ask_at(nodes, nodes.a, :predict, arguments), now()} end)
    eventually(fn -> Enum.any?(call(nodes.asker, ClusterNode, :members, []), &(&1.busy > 0)) end)

    assert :ok = call(nodes.a, ClusterNode, :leave, [10_000])
    left = now()
    assert {{:ok, %{prediction: _}}, answered} = Task.await(running)
    assert answered <= left + 50
    await_members(nodes.asker, [nodes.b])

    arguments = ["question -> answer", %{question: "?"}, [lm: {:call, :where}, cache: false]]

    for _ <- 1..3 do
      assert {:ok, %{prediction: %{"answer" => where}}} = ask(nodes.asker, :predict, arguments)
      assert where == "#{nodes.b.node}"
    end

    assert :ok = call(nodes.a, ClusterNode, :join, [])
  end

  test "a BEAM node that dies takes the requests of its callers along", nodes do
    directory = call(nodes.asker, :os, :getenv, ['ERLBRIDGE_TEST_NODES'])
    %{other: other} = start_beam_nodes([:other], List.to_string(directory))
    true = call(other, :net_kernel, :connect_node, [nodes.asker.node])
    :ok = serve(other)
    await_members(other, [nodes.a, nodes.b])
    call(other, ClusterNode, :hold, [ClusterNode.cluster(), :optimize_signature, slow()])
    busy? = fn -> Enum.any?(call(nodes.asker, ClusterNode, :members, []), &(&1.busy > 0)) end
    eventually(busy?)
    signal("KILL", other.os_pid)
    eventually(fn -> not busy?.() end)
  end

  test "a BEAM node that reads nothing does not hold up the bridge that answers it", nodes do
    directory = call(nodes.asker, :os, :getenv, ['ERLBRIDGE_TEST_NODES'])
    %{deaf: deaf} = start_beam_nodes([:deaf], List.to_string(directory))
    true = call(deaf, :net_kernel, :connect_node, [nodes.a.node])
    {:ok, _} = call(deaf, Application, :ensure_all_started, [:pipeline])
    payload = %{signature: "question -> answer", config: %{lm: {:call, :large}, cache: false}}
    there = ClusterNode.at(nodes.a.node)

    # More than the buffers between two nodes take.
    for n <- 1..12 do
      payload = Map.put(payload, :input, %{question: "#{n}"})
      call(deaf, ClusterNode, :hold, [there, :predict, payload, [timeout: 20_000]])
    end

    eventually(fn -> call(nodes.a, ClusterNode, :in_flight, []) > 10 end)
    signal("STOP", deaf.os_pid)

    try do
      eventually(fn -> call(nodes.a, ClusterNode, :in_flight, []) == 0 end)
      assert {:ok, _health} = ask_at(nodes, nodes.a, :health_check, [[timeout: 2_000]])
      assert call(nodes.a, ClusterNode, :busy, []) == [deaf.node]
    after
      signal("KILL", deaf.os_pid)
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
