defmodule Pipeline.DSPy.PythonBridge.Scoped do
  @moduledoc """
  A bridge for as long as a function runs, for scripts and tasks. An application has bridges in its supervision tree.
  """

  alias Pipeline.DSPy.PythonBridge

  @doc """
  Runs the function with a bridge of these options, and gives what it gives. The bridge has no name, and is not restarted: a
  node that ends is an error of the requests to it. It is gone, and its node with it, when this returns or raises.
  """
  @spec run(keyword, (pid -> result)) :: result when result: term
  def run(options, function) do
    {:ok, supervisor} = DynamicSupervisor.start_link(strategy: :one_for_one)
    child = Map.put(PythonBridge.child_spec([{:name, nil} | options]), :restart, :temporary)

    try do
      {:ok, bridge} = DynamicSupervisor.start_child(supervisor, child)
      function.(bridge)
    after
      DynamicSupervisor.stop(supervisor)
    end
  end
end
