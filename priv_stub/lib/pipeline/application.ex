defmodule Pipeline.Application do
  @moduledoc """
  Starts the bridges that are configured, and none otherwise; and the supervisor of the functions that nodes call.

      config :pipeline, :bridges, [[name: MyApp.DSPy, workers: 2]]

  Each entry is the options of `Pipeline.DSPy.PythonBridge.start_link/1`. A host that wants its bridges in its own
  tree leaves this empty and lists `{Pipeline.DSPy.PythonBridge, options}` among its children.
  """

  use Application

  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.RecoveryManager.Circuits

  @impl true
  def start(_type, _args) do
    # Owned by the process that runs this, which lives as long as the application does.
    Metrics.Handlers.create_table()
    Circuits.create_table()

    # First, so that it outlives the bridges whose functions it runs.
    functions = {Task.Supervisor, name: Pipeline.DSPy.FunctionSupervisor}

    bridges =
      for options <- Application.get_env(:pipeline, :bridges, []) do
        {Pipeline.DSPy.PythonBridge, options}
      end

    Supervisor.start_link([functions | bridges], strategy: :one_for_one, name: Pipeline.Supervisor)
  end
end
