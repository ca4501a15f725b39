defmodule Pipeline.DSPy.PythonEnvironment do
  @moduledoc """
  The Python that nodes run in: found, looked at, or made. `mix pipeline.dspy.setup` and `mix pipeline.dspy.doctor` say what
  these functions find; no bridge needs them.

  Errors are sentences for the one who sits before the terminal: what is wrong, and what to do.
  """

  @least {3, 11}
  @names ["python3" | Enum.map(14..11//-1, &"python3.#{&1}")]

  # What a Python says of itself, one fact a line, so that nothing needs to be parsed that it might have printed besides.
  @probe """
  import sys
  def say(name, value):
      print("erlbridge-probe", name, value)
  say("python", "%d.%d.%d" % sys.version_info[:3])
  try:
      import venv, ensurepip
      say("venv", "yes")
  except ImportError:
      pass
  try:
      from erlbridge import __version__
      from erlbridge.wire.messages import PROTOCOL
      say("erlbridge", __version__)
      say("protocol", PROTOCOL)
      from importlib.metadata import version
      say("dspy", version("dspy"))
  except Exception as error:
      say("error", str(error).replace("\\n", " "))
  """

  @typedoc "What a Python says of itself. `error` is why erlbridge or DSPy cannot be imported, nil where they can be."
  @type facts :: %{
          path: Path.t(),
          version: {non_neg_integer, non_neg_integer, non_neg_integer},
          venv?: boolean,
          erlbridge: String.t() | nil,
          protocol: integer | nil,
          dspy: String.t() | nil,
          error: String.t() | nil
        }

  @doc "Asks a Python, a path or a name on the search path, what it is."
  @spec probe(String.t()) :: {:ok, facts} | {:error, String.t()}
  def probe(python) do
    with path when path != nil <- System.find_executable(python),
         # Not from here: a checkout in the working directory is no installed package.
         {text, 0} <- run(path, ["-c", @probe], cd: System.tmp_dir!()) do
      facts(path, text)
    else
      nil -> {:error, "there is no `#{python}`"}
      {text, code} -> {:error, "`#{python}` ended with exit code #{code}: #{last_line(text)}"}
    end
  end

  @doc "The first Python on the search path that is new enough, or the one given."
  @spec find(String.t() | nil) :: {:ok, facts} | {:error, String.t()}
  def find(nil) do
    found = for name <- @names, {:ok, facts} <- [probe(name)], do: facts

    case Enum.find(found, &new_enough?/1) do
      nil ->
        {:error, "no Python #{least()} or newer is on the search path#{old(found)}; #{get()}"}

      facts ->
        {:ok, facts}
    end
  end

  def find(python) do
    with {:ok, facts} <- probe(python) do
      if new_enough?(facts),
        do: {:ok, facts},
        else:
          {:error,
           "#{facts.path} is Python #{version(facts)}, and #{least()} is needed; #{get()}"}
    end
  end

  @doc "Whether it is a Python that erlbridge can run in."
  @spec new_enough?(facts) :: boolean
  def new_enough?(%{version: {major, minor, _patch}}), do: {major, minor} >= @least

  @doc "A version as text."
  @spec version(facts) :: String.t()
  def version(%{version: version}), do: version |> Tuple.to_list() |> Enum.join(".")

  @doc "Makes a virtual environment in a directory, or finds the one that is there. Gives its Python."
  @spec make(facts, Path.t()) :: {:ok, Path.t()} | {:error, String.t()}
  def make(facts, directory) do
    python = Path.join([directory, "bin", "python"])

    cond do
      File.exists?(python) ->
        {:ok, python}

      not facts.venv? ->
        {:error,
         "#{facts.path} cannot make virtual environments; install its venv (on Debian: apt-get install python3-venv)"}

      true ->
        case run(facts.path, ["-m", "venv", directory]) do
          {_text, 0} ->
            {:ok, python}

          {text, _code} ->
            {:error, "no environment could be made in #{directory}: #{last_line(text)}"}
        end
    end
  end

  @doc """
  Installs erlbridge from a checkout, a wheel or an archive, with what it needs. What pip says goes to `into`.

  Options: `:wheels`, a directory that everything is taken from, so that no network is needed; `:extras`, those of
  erlbridge, `["optimizers"]` unless given.
  """
  @spec install(Path.t(), Path.t(), keyword, Collectable.t()) :: :ok | {:error, String.t()}
  def install(python, source, opts \\ [], into \\ "") do
    extras = Enum.join(opts[:extras] || ["optimizers"], ",")
    constraints = Path.join([source, "scripts", "constraints.txt"])
    wheels = opts[:wheels]

    arguments =
      ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--retries", "1"] ++
        if(wheels, do: ["--no-index", "--find-links", Path.expand(wheels)], else: []) ++
        if(File.exists?(constraints), do: ["--constraint", constraints], else: []) ++
        ["#{Path.expand(source)}#{if extras != "", do: "[#{extras}]"}"]

    case System.cmd(python, arguments, stderr_to_stdout: true, into: into) do
      {_text, 0} -> :ok
      {_text, code} -> {:error, install_failed(code, source, wheels)}
    end
  end

  defp install_failed(code, source, nil) do
    "pip ended with exit code #{code}; its lines say why. Where this machine has no network: run `pip wheel --wheel-dir wheels " <>
      "'#{source}[optimizers]'` with the same Python on one that has, bring the directory here, and add `--wheels wheels`."
  end

  defp install_failed(code, _source, wheels) do
    "pip ended with exit code #{code}; its lines say why. #{wheels} must hold a wheel of everything that erlbridge needs, for " <>
      "this Python and machine: `pip wheel --wheel-dir` makes them where there is a network."
  end

  # -- probing

  defp facts(path, text) do
    said =
      for line <- String.split(text, "\n"),
          ["erlbridge-probe", name, value] <- [String.split(line, " ", parts: 3)],
          into: %{},
          do: {name, String.trim(value)}

    with %{"python" => version} <- said,
         [major, minor, patch] <- version |> String.split(".") |> Enum.map(&String.to_integer/1) do
      {:ok,
       %{
         path: path,
         version: {major, minor, patch},
         venv?: said["venv"] == "yes",
         erlbridge: said["erlbridge"],
         protocol: said["protocol"] && String.to_integer(said["protocol"]),
         dspy: said["dspy"],
         error: said["error"]
       }}
    else
      _other -> {:error, "`#{path}` is no Python: #{last_line(text)}"}
    end
  end

  defp run(path, arguments, opts \\ []) do
    System.cmd(path, arguments, [stderr_to_stdout: true] ++ opts)
  end

  defp last_line(text) do
    text |> String.split("\n", trim: true) |> List.last("it said nothing") |> String.slice(0, 300)
  end

  defp least, do: @least |> Tuple.to_list() |> Enum.join(".")
  defp get, do: "install one, or say where it is with --python"

  defp old([]), do: ""
  defp old([facts | _]), do: " (#{facts.path} is #{version(facts)})"
end
