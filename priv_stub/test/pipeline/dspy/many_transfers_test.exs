defmodule Pipeline.DSPy.ManyTransfersTest do
  @moduledoc "Ten transfers at once, through a pool that loses a node and through a cluster, and an answer of ten thousand rows."

  use Pipeline.PoolCase, async: true

  import Pipeline.ClusterCase,
    only: [start_beam_nodes: 2, stop_beam_nodes: 1, serve: 1, serve: 2, await_members: 2, call: 4]

  alias Pipeline.ClusterCase
  alias Pipeline.ClusterNode
  alias Pipeline.DSPy.DataTransfer

  @moduletag timeout: 180_000
  @moduletag :capture_log

  @rows 1500

  # Ten datasets of some three megabytes, no two the same.
  defp rows(number) do
    Stream.map(1..@rows, fn row ->
      %{question: "#{number}.#{row} " <> String.duplicate("x", 2_000), answer: "#{row}"}
    end)
  end

  test "ten transfers at once through a pool arrive whole, also when a node is killed beneath them" do
    pool = start_pool(pool_size: 2)
    eventually(fn -> ConnectionPool.status(pool).ready == 2 end)
    [os_pid | _] = for {_index, bridge} <- bridges(pool), do: bridge.info.os_pid
    half_way = :counters.new(1, [])

    names =
      1..10
      |> Task.async_stream(
        fn number ->
          data =
            Stream.map(Stream.with_index(rows(number)), fn {row, index} ->
              if index == 750, do: :counters.add(half_way, 1, 1)
              if index == 750 and :counters.get(half_way, 1) == 5, do: signal("KILL", os_pid)
              row
            end)

          DataTransfer.transfer_large_dataset(data, pool, compression: :none, window: 2)
        end,
        max_concurrency: 10,
        timeout: 60_000
      )
      |> Enum.map(fn {:ok, {:ok, dataset}} -> dataset end)

    for {dataset, number} <- Enum.with_index(names, 1) do
      assert {:ok, ^dataset} = DataTransfer.dataset(rows(number))
      assert {:ok, %{examples: @rows}} = DataTransfer.about(pool, dataset)
    end
  end

  test "ten transfers at once through a cluster lie each at one member, and are read from any node" do
    directory = tmp_dir("many")
    nodes = start_beam_nodes([:a, :b, :asker], directory)
    on_exit(fn -> stop_beam_nodes(nodes) end)
    serve(nodes.a, ClusterCase.bridge(Path.join(directory, "a")))
    serve(nodes.b, ClusterCase.bridge(Path.join(directory, "b")))
    serve(nodes.asker)
    await_members(nodes.asker, [nodes.a, nodes.b])

    expected = for number <- 1..10, do: ClusterNode.rows(number) |> DataTransfer.dataset()
    assert call(nodes.asker, ClusterNode, :transfer_many, [10]) == expected

    places =
      for {:ok, dataset} <- expected do
        about = &call(nodes.asker, DataTransfer, :about, [ClusterNode.at(&1.node), dataset])
        [place] = for member <- [nodes.a, nodes.b], match?({:ok, _}, about.(member)), do: member
        assert {:ok, rows} = call(nodes.asker, ClusterNode, :fetch, [dataset])
        assert length(rows) == 500
        place
      end

    assert length(Enum.uniq(places)) == 2
  end

  test "an evaluation of ten thousand examples gives each its row, above the limit of a frame" do
    bridge = start_bridge()
    text = String.duplicate("x", 2_000)
    rows = Stream.map(1..10_000, &%{question: "#{&1} + 1 " <> text, answer: "#{&1 + 1}"})
    assert {:ok, dataset} = DataTransfer.transfer_large_dataset(rows, bridge)

    assert {:ok, %{count: 10_000, results: results, failures: 0}} =
             PythonBridge.evaluate_pipeline(bridge, "question -> answer", dataset,
               lm: :offline,
               metric: :exact_match,
               idempotency_key: "ten thousand",
               timeout: 150_000
             )

    assert length(results) == 10_000
    assert :erlang.external_size(results) > 2 * 16 * 1024 * 1024
    given = for %{example: example} <- results, do: example["answer"]
    assert given == for(number <- 1..10_000, do: "#{number + 1}")

    # Once more, without a worker: so large a result is stored as well.
    assert {:ok, %{result: %{results: stored}}} =
             PythonBridge.fetch_result(bridge, "ten thousand", timeout: 60_000)

    assert stored == results
  end
end
