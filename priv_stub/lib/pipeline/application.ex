defmodule Pipeline.Application do
  @moduledoc """
  Starts the bridges that are configured, and none otherwise; the supervisor of the functions that nodes call; and the
  `Pipeline.DSPy.OptimizationCache`, with the options of `config :pipeline, :optimization_cache` unless that is `false`.

      config :pipeline, :bridges, [[name: MyApp.DSPy, workers: 2]]

  What can be configured stands in `Pipeline.DSPy.Configuration`. A host that wants its bridges in its own tree leaves this
  empty and lists `{Pipeline.DSPy.PythonBridge, options}` among its children. The functions of `config :pipeline, :callbacks`
  are registered before any bridge starts (`Pipeline.DSPy.Callbacks`).
  """

  use Application

  alias Pipeline.DSPy.Callbacks
  alias Pipeline.DSPy.Configuration
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge.Restarts
  alias Pipeline.DSPy.RecoveryManager.Circuits

  @impl true
  def start(_type, _args) do
    # Owned by the process that runs this, which lives as long as the application does.
    create_tables()
    configured = Configuration.children()

    Supervisor.start_link(essentials() ++ cache() ++ configured,
      strategy: :one_for_one,
      # Each of them may fail as often as one alone under a supervisor of its own.
      max_restarts: 3 * max(length(configured), 1),
      name: Pipeline.Supervisor
    )
  end

  defp cache do
    case Application.get_env(:pipeline, :optimization_cache, []) do
      false -> []
      options -> [{Pipeline.DSPy.OptimizationCache, options}]
    end
  end

  @doc """
  Makes the tables that bridges and pools read, with the functions that are configured. They belong to the calling process.
  """
  @spec create_tables() :: :ok
  def create_tables do
    Metrics.Handlers.create_table()
    Circuits.create_table()
    Restarts.create_table()
    Callbacks.start(Application.get_env(:pipeline, :callbacks, []))
  end

  @doc "Deletes them again."
  @spec delete_tables() :: :ok
  def delete_tables do
    # Each is named as the module that makes it.
    Enum.each([Metrics.Handlers, Circuits, Restarts, Callbacks], &:ets.delete/1)
  end

  @doc "What bridges and pools need besides themselves. First, so that it outlives the bridges whose functions it runs."
  @spec essentials() :: [Supervisor.child_spec() | {module, term}]
  def essentials do
    [
      {Task.Supervisor, name: Pipeline.DSPy.FunctionSupervisor},
      {Callbacks.Gate, name: Callbacks.Gate},
      # Where pools name their bridges.
      {Registry, keys: :unique, name: Pipeline.DSPy.Registry}
    ]
  end
end
