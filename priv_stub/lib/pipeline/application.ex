defmodule Pipeline.Application do
  @moduledoc """
  Starts the bridges that are configured, and none otherwise; the supervisor of the functions that nodes call; and the
  `Pipeline.DSPy.OptimizationCache`, with the options of `config :pipeline, :optimization_cache` unless that is `false`.

      config :pipeline, :bridges, [[name: MyApp.DSPy, workers: 2]]

  What can be configured stands in `Pipeline.DSPy.Configuration`. A host that wants its bridges in its own tree leaves this
  empty and lists `{Pipeline.DSPy.PythonBridge, options}` among its children.
  """

  use Application

  alias Pipeline.DSPy.Configuration
  alias Pipeline.DSPy.PythonBridge.Restarts

  @impl true
  def start(_type, _args) do
    # Owned by the process that runs this, which lives as long as the application does.
    Restarts.create_table()

    # First, so that it outlives the bridges whose functions it runs.
    functions = {Task.Supervisor, name: Pipeline.DSPy.FunctionSupervisor}
    configured = Configuration.children()

    cache =
      case Application.get_env(:pipeline, :optimization_cache, []) do
        false -> []
        options -> [{Pipeline.DSPy.OptimizationCache, options}]
      end

    Supervisor.start_link([functions | cache ++ configured],
      strategy: :one_for_one,
      # Each of them may fail as often as one alone under a supervisor of its own.
      max_restarts: 3 * max(length(configured), 1),
      name: Pipeline.Supervisor
    )
  end
end
