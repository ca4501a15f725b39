defmodule Pipeline.ClusterCase do
  @moduledoc """
  Tests with several BEAM nodes on this machine, connected with each other and not with the test's own, which speaks to
  them over their standard input and output: so the test's node stays undistributed.
  """

  use ExUnit.CaseTemplate

  alias Pipeline.ClusterNode
  alias Pipeline.PeerCoverage

  using do
    quote do
      import Pipeline.ClusterCase

      import Pipeline.NodeCase,
        only: [eventually: 1, eventually: 2, tmp_dir: 1, python: 0, signal: 2]

      alias Pipeline.ClusterNode
      alias Pipeline.DSPy.Cluster
      alias Pipeline.DSPy.PythonBridge
      alias Pipeline.DSPy.PythonError
      alias Pipeline.Tickets
    end
  end

  @doc """
  Starts BEAM nodes, connected with each other: a map of label to `%{peer:, node:, os_pid:}`. Each ends
  when it is stopped, or with the test's own BEAM, whose end closes its standard input.
  """
  def start_beam_nodes(labels, directory) do
    run = System.unique_integer([:positive])
    nodes = labels |> Enum.map(&Task.async(fn -> start_beam_node(&1, run, directory) end))
    nodes = nodes |> Task.await_many(20_000) |> Map.new()
    [{_label, first} | others] = Enum.to_list(nodes)

    for {_label, %{peer: peer}} <- others,
        do: true = call(peer, :net_kernel, :connect_node, [first.node])

    nodes
  end

  defp start_beam_node(label, run, directory) do
    path = for directory <- :code.get_path(), directory != '.', arg <- ['-pa', directory], do: arg

    {:ok, peer, node} =
      :peer.start(%{
        name: :"#{label}_#{System.pid()}_#{run}",
        host: '127.0.0.1',
        longnames: true,
        connection: :standard_io,
        env: [{'ERLBRIDGE_TEST_NODES', to_charlist(directory)}],
        # A cookie of its own: the user's is neither read nor made.
        args:
          ['-setcookie', 'loopback', '-start_epmd', 'false'] ++
            ['-epmd_module', 'Elixir.Pipeline.LoopbackNames'] ++
            ['-kernel', 'inet_dist_use_interface', '{127,0,0,1}', 'logger_level', 'none'] ++ path
      })

    :ok = PeerCoverage.start(peer)
    {label, %{peer: peer, node: node, os_pid: List.to_integer(call(peer, :os, :getpid, []))}}
  end

  @doc "Stops them, those that still run."
  def stop_beam_nodes(nodes) do
    for {_label, %{peer: peer}} <- nodes, Process.alive?(peer) do
      :ok = PeerCoverage.take(peer)
      :peer.stop(peer)
    end
  end

  @doc "Runs a function of a module on a BEAM node."
  def call(peer, module, function, arguments, timeout \\ 20_000)

  def call(%{peer: peer}, module, function, arguments, timeout),
    do: call(peer, module, function, arguments, timeout)

  def call(peer, module, function, arguments, timeout),
    do: :peer.call(peer, module, function, arguments, timeout)

  @doc "Has a BEAM node serve a cluster with a bridge or pool of its own, or without one only send to it."
  def serve(node, target \\ nil), do: call(node, ClusterNode, :serve, [target])

  @doc "A bridge for `serve/2`. Its function `where` says where it runs."
  def bridge(data_dir, options \\ []) do
    defaults = [
      python: Pipeline.NodeCase.python(),
      workers: 1,
      data_dir: data_dir,
      functions: %{"where" => &ClusterNode.where/1, "large" => &ClusterNode.large/1}
    ]

    {Pipeline.DSPy.PythonBridge, Keyword.merge(defaults, options)}
  end

  @doc "Waits until exactly these are members that this node sends requests to."
  def await_members(node, members) do
    nodes = members |> Enum.map(& &1.node) |> Enum.sort()
    Pipeline.NodeCase.eventually(fn -> call(node, ClusterNode, :usable, []) == nodes end, 15_000)
    :ok
  end
end
