defmodule Pipeline.Application do
  @moduledoc """
  Starts the bridges that are configured, and none otherwise; and the supervisor of the functions that nodes call.

      config :pipeline, :bridges, [[name: MyApp.DSPy, workers: 2]]

  What can be configured stands in `Pipeline.DSPy.Configuration`. A host that wants its bridges in its own tree leaves this
  empty and lists `{Pipeline.DSPy.PythonBridge, options}` among its children. The functions of `config :pipeline, :callbacks`
  are registered before any bridge starts (`Pipeline.DSPy.Callbacks`).
  """

  use Application

  alias Pipeline.DSPy.Callbacks
  alias Pipeline.DSPy.Configuration
  alias Pipeline.DSPy.PythonBridge.Restarts

  @impl true
  def start(_type, _args) do
    # Owned by the process that runs this, which lives as long as the application does.
    Restarts.create_table()
    Callbacks.start(Application.get_env(:pipeline, :callbacks, []))

    # First, so that they outlive the bridges whose functions they run.
    functions = [
      {Task.Supervisor, name: Pipeline.DSPy.FunctionSupervisor},
      {Callbacks.Gate, name: Callbacks.Gate}
    ]

    configured = Configuration.children()

    Supervisor.start_link(functions ++ configured,
      strategy: :one_for_one,
      # Each of them may fail as often as one alone under a supervisor of its own.
      max_restarts: 3 * max(length(configured), 1),
      name: Pipeline.Supervisor
    )
  end
end
