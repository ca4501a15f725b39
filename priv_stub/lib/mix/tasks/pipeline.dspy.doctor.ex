defmodule Mix.Tasks.Pipeline.Dspy.Doctor do
  @shortdoc "Says whether DSPy's nodes would run well here, and what to do where not"

  @moduledoc """
  Looks at everything that a bridge needs, from the versions to a node that does a job, and says of each how it is.

      $ mix pipeline.dspy.doctor
      ok       elixir: 1.14.0 on OTP 25
      ok       configuration: 1 bridge, none of its options unknown
      ok       python: 3.11.7, /opt/my_app/.venv/bin/python
      ok       erlbridge: 0.1.0, protocol 1
      …
      ok       start: ready after 0.2 s
      ok       job: a prediction with the offline model after 1.3 s
      ok       health: healthy, 2 workers

  Each line begins with `ok`, `warning` or `failed`, and what to do stands below those that are not `ok`. The exit code is 1 when
  something failed, and 0 otherwise. What is looked at are the bridges of `config :pipeline, :bridges`, or one with the default options.

  ## Options

    * `--python PATH` - the Python to look at, instead of the one that bridges find.
  """

  use Mix.Task

  alias Mix.Pipeline.DSPy, as: Support
  alias Pipeline.DSPy.Doctor

  @impl true
  def run(arguments) do
    opts = Support.options!(arguments, python: :string)
    Mix.Task.run("app.config")
    states = Support.with_essentials(fn -> Enum.map(Doctor.findings(opts), &tell/1) end)
    if :failed in states, do: Support.fail!()
  end

  defp tell({state, name, found, advice}) do
    label = state |> Atom.to_string() |> String.pad_trailing(8)
    Mix.shell().info([colour(state), label, :reset, " #{name}: #{found}"])
    if advice && state != :ok, do: Mix.shell().info("           #{advice}")
    state
  end

  defp colour(:ok), do: :green
  defp colour(:warning), do: :yellow
  defp colour(:failed), do: :red
end
