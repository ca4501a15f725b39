defmodule Pipeline.Application do
  @moduledoc """
  Starts the bridges that are configured, and none otherwise.

      config :pipeline, :bridges, [[name: MyApp.DSPy, workers: 2]]

  Each entry is the options of `Pipeline.DSPy.PythonBridge.start_link/1`. A host that wants its bridges in its own
  tree leaves this empty and lists `{Pipeline.DSPy.PythonBridge, options}` among its children.
  """

  use Application

  @impl true
  def start(_type, _args) do
    children =
      for options <- Application.get_env(:pipeline, :bridges, []) do
        {Pipeline.DSPy.PythonBridge, options}
      end

    Supervisor.start_link(children, strategy: :one_for_one, name: Pipeline.Supervisor)
  end
end
