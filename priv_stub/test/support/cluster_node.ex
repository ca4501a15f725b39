defmodule Pipeline.ClusterNode do
  @moduledoc "What a test has the BEAM nodes of a cluster do; a test's own functions are not there."

  alias Pipeline.DSPy.Cluster
  alias Pipeline.DSPy.PythonBridge

  @cluster Pipeline.TestCluster
  @target Pipeline.TestBridge
  @interval_ms 100

  def serve(bridge_options) do
    {:ok, _} = Application.ensure_all_started(:pipeline)
    if bridge_options, do: start(bridge(bridge_options))
    start({Cluster, name: @cluster, target: bridge_options && @target, interval: @interval_ms})
  end

  def bridge(options), do: {PythonBridge, Keyword.put(options, :name, @target)}

  def target, do: @target

  def start(child) do
    {:ok, pid} = Supervisor.start_child(Pipeline.Supervisor, child)
    pid
  end

  def stop(id) do
    :ok = Supervisor.terminate_child(Pipeline.Supervisor, id)
    :ok = Supervisor.delete_child(Pipeline.Supervisor, id)
  end

  def cluster(options \\ []), do: Cluster.new(@cluster, options)

  def members, do: Cluster.members(@cluster)
  def leave(timeout), do: Cluster.leave(@cluster, timeout)
  def join, do: Cluster.join(@cluster)

  @doc "A function of `PythonBridge` with the cluster as its first argument."
  def ask(function, arguments), do: apply(PythonBridge, function, [cluster() | arguments])
end
