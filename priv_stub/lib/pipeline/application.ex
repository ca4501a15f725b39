defmodule Pipeline.Application do
  @moduledoc """
  Starts the bridges that are configured, and none otherwise; the supervisor of the functions that nodes call; and the
  `Pipeline.DSPy.OptimizationCache`, with the options of `config :pipeline, :optimization_cache` unless that is `false`.

      config :pipeline, :bridges, [[name: MyApp.DSPy, workers: 2]]

  Each entry is the options of `Pipeline.DSPy.PythonBridge.start_link/1`. A host that wants its bridges in its own
  tree leaves this empty and lists `{Pipeline.DSPy.PythonBridge, options}` among its children.
  """

  use Application

  @impl true
  def start(_type, _args) do
    # First, so that it outlives the bridges whose functions it runs.
    functions = {Task.Supervisor, name: Pipeline.DSPy.FunctionSupervisor}

    cache =
      case Application.get_env(:pipeline, :optimization_cache, []) do
        false -> []
        options -> [{Pipeline.DSPy.OptimizationCache, options}]
      end

    bridges =
      for options <- Application.get_env(:pipeline, :bridges, []) do
        {Pipeline.DSPy.PythonBridge, options}
      end

    Supervisor.start_link([functions | cache ++ bridges],
      strategy: :one_for_one,
      name: Pipeline.Supervisor
    )
  end
end
