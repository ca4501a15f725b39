defmodule Mix.Tasks.Pipeline.Dspy.Setup do
  @shortdoc "Finds or makes the Python environment of DSPy's nodes"

  @moduledoc """
  Finds a Python that has erlbridge, or makes a virtual environment and installs it there.

      mix pipeline.dspy.setup
      mix pipeline.dspy.setup --from ../erlbridge --venv /opt/my_app/python

  A Python that bridges would find already, and that has erlbridge, is left as it is. Otherwise a virtual environment is made
  in `.venv`, with the first Python of version 3.11 or newer on the search path, and erlbridge is installed into it. Running it again
  does no harm. The last line says what to put into `config/config.exs`.

  ## Options

    * `--from PATH` - a checkout, a wheel or an archive of erlbridge; unless given, the checkout that this library is part of.
    * `--venv DIR` - where the environment is or will be, `.venv`.
    * `--python PATH` - the Python to make it with.
    * `--wheels DIR` - take everything from this directory, for machines without a network.
    * `--force` - install even where a Python with erlbridge is found.
  """

  use Mix.Task

  alias Pipeline.DSPy.ProcessManager
  alias Pipeline.DSPy.PythonBridge.Server
  alias Pipeline.DSPy.PythonEnvironment

  @switches [from: :string, venv: :string, python: :string, wheels: :string, force: :boolean]
  # Of a library that is used from its checkout.
  @checkout Path.expand("../../../..", __DIR__)

  @impl true
  def run(arguments) do
    opts = Mix.Pipeline.DSPy.options!(arguments, @switches)
    Mix.Task.run("app.config")

    case not Keyword.get(opts, :force, false) && usable(ProcessManager.python([])) do
      %{} = facts -> Mix.shell().info("#{described(facts)} is what bridges find: nothing to do.")
      _none -> make(opts)
    end
  end

  defp make(opts) do
    venv = Path.expand(opts[:venv] || ".venv")

    with {:ok, source} <- source(opts[:from]),
         {:ok, base} <- PythonEnvironment.find(opts[:python]),
         Mix.shell().info("#{base.path} is Python #{PythonEnvironment.version(base)}"),
         {:ok, python} <- PythonEnvironment.make(base, venv),
         Mix.shell().info("installing erlbridge from #{source} into #{venv} …"),
         :ok <- install(python, source, opts),
         {:ok, facts} <- checked(python) do
      Mix.shell().info("""
      #{described(facts)} is ready. Bridges find it with this in config/config.exs:

          config :pipeline, python: #{inspect(python)}
      """)
    else
      {:error, sentence} -> Mix.raise(sentence)
    end
  end

  defp source(nil) do
    if File.exists?(Path.join(@checkout, "pyproject.toml")),
      do: {:ok, @checkout},
      else: {:error, "say with --from where erlbridge is: a checkout, a wheel or an archive"}
  end

  defp source(path) do
    if File.exists?(path),
      do: {:ok, Path.expand(path)},
      else: {:error, "there is nothing at #{path}"}
  end

  defp install(python, source, opts) do
    into = if Mix.shell() == Mix.Shell.Quiet, do: "", else: Mix.Pipeline.DSPy.lines()
    PythonEnvironment.install(python, source, Keyword.take(opts, [:wheels]), into)
  end

  defp checked(python) do
    case usable(python) do
      nil ->
        {:error,
         "erlbridge was installed, and #{python} cannot use it; `mix pipeline.dspy.doctor` says more"}

      facts ->
        {:ok, facts}
    end
  end

  defp usable(python) do
    protocol = Server.protocol()

    with {:ok, %{error: nil, protocol: ^protocol} = facts} <- PythonEnvironment.probe(python),
         do: facts,
         else: (_other -> nil)
  end

  defp described(facts) do
    "#{facts.path} (Python #{PythonEnvironment.version(facts)}, erlbridge #{facts.erlbridge}, DSPy #{facts.dspy})"
  end
end
