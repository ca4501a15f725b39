defmodule Pipeline.Application do
  @moduledoc """
  Starts the bridges that are configured, and none otherwise; and the supervisor of the functions that nodes call.

      config :pipeline, :bridges, [[name: MyApp.DSPy, workers: 2]]

  Each entry is the options of `Pipeline.DSPy.PythonBridge.start_link/1`. A host that wants its bridges in its own
  tree leaves this empty and lists `{Pipeline.DSPy.PythonBridge, options}` among its children. The functions of
  `config :pipeline, :callbacks` are registered before any of them starts (`Pipeline.DSPy.Callbacks`).
  """

  use Application

  alias Pipeline.DSPy.Callbacks

  @impl true
  def start(_type, _args) do
    Callbacks.start(Application.get_env(:pipeline, :callbacks, []))

    # First, so that they outlive the bridges whose functions they run.
    functions = [
      {Task.Supervisor, name: Pipeline.DSPy.FunctionSupervisor},
      {Callbacks.Gate, name: Callbacks.Gate}
    ]

    bridges =
      for options <- Application.get_env(:pipeline, :bridges, []) do
        {Pipeline.DSPy.PythonBridge, options}
      end

    Supervisor.start_link(functions ++ bridges, strategy: :one_for_one, name: Pipeline.Supervisor)
  end
end
