defmodule Pipeline.PeerCoverage do
  @moduledoc """
  Has what BEAM nodes of a test run counted as covered too, while `mix test --cover` does: its own counters are those of
  the test's BEAM alone. What a node that is killed has run is not counted.
  """

  # How long a BEAM node may take to compile the modules that are counted there.
  @timeout_ms 30_000

  @doc "Has a BEAM node count, before it runs anything of these modules."
  def start(peer) do
    if counts?() do
      {:ok, _} = :peer.call(peer, :cover, :start, [])
      :ok = :peer.call(peer, :cover, :local_only, [])

      for result <- :peer.call(peer, :cover, :compile_beam, [beams()], @timeout_ms),
          do: {:ok, _module} = result
    end

    :ok
  end

  @doc "Adds what a BEAM node has counted to what this one has."
  def take(peer) do
    if counts?() do
      file = Path.join(System.tmp_dir!(), "peer-#{System.unique_integer([:positive])}.coverdata")
      :ok = :peer.call(peer, :cover, :export, [to_charlist(file)], @timeout_ms)
      hush()
      :ok = :cover.import(to_charlist(file))
      File.rm!(file)
    end

    :ok
  end

  # It would say of every module that imported data are among its own.
  defp hush do
    test = self()

    # Lives for as long as `:cover` does, which this process does not.
    spawn(fn ->
      {:ok, nowhere} = StringIO.open("")
      Process.group_leader(Process.whereis(:cover_server), nowhere)
      send(test, :hushed)
      Process.sleep(:infinity)
    end)

    receive do: (:hushed -> :ok)
  end

  # Asking `:cover` itself would start it.
  defp counts?, do: Process.whereis(:cover_server) != nil

  # What only several BEAM nodes have a use for; to compile all of the library would take each of them seconds.
  defp beams do
    ebin = Application.app_dir(:pipeline, "ebin")

    for module <- :cover.modules(), for_several_nodes?(inspect(module)) do
      ebin |> Path.join("#{module}.beam") |> to_charlist()
    end
  end

  defp for_several_nodes?(name) do
    String.starts_with?(name, "Pipeline.DSPy.Cluster") or
      name in ["Pipeline.DSPy.PythonBridge.Courier", "Pipeline.DSPy.PythonBridge.Atoms"]
  end
end
