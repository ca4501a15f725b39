defmodule Pipeline.DSPy.ClusterTest do
  use Pipeline.ClusterCase

  setup_all do
    directory = tmp_dir("cluster")
    nodes = start_beam_nodes([:a, :b, :asker], directory)
    on_exit(fn -> stop_beam_nodes(nodes) end)

    for label <- [:a, :b] do
      serve(nodes[label],
        python: python(),
        workers: 1,
        data_dir: Path.join(directory, "data-#{label}")
      )
    end

    serve(nodes.asker)
    nodes
  end

  test "every member is known", %{asker: asker, a: a, b: b} do
    IO.inspect({:ok, %{members: _}} = call(asker, ClusterNode, :ask, [:await_ready, []]))

    eventually(fn ->
      members = call(asker, ClusterNode, :members, [])

      Enum.sort(for %{usable: true, node: node} <- members, do: node) ==
        Enum.sort([a.node, b.node])
    end)

    IO.inspect(call(asker, ClusterNode, :ask, [:health_check, []]))

    IO.inspect(
      call(asker, ClusterNode, :ask, [
        :predict,
        ["question -> answer", %{question: "1 + 1"}, [lm: :offline]]
      ])
    )
  end
end
