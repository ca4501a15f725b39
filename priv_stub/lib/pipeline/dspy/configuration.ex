defmodule Pipeline.DSPy.Configuration do
  @moduledoc """
  What stands in `config :pipeline`, checked when the application starts.

      # config/runtime.exs
      config :pipeline,
        python: "/opt/my_app/.venv/bin/python",
        bridges: [
          [name: MyApp.DSPy, workers: 4, data_dir: "/var/lib/my_app/dspy"]
        ]

    * `:bridges` - the bridges that the application starts: for each the options of
      `Pipeline.DSPy.PythonBridge.start_link/1`, which may also be given there, in a supervision tree of your own.
    * `:python` - the Python of every bridge that names none, see `Pipeline.DSPy.ProcessManager`.

  A wrong option ends the start with an `ArgumentError` that names it, its place, and the nearest right one:

      config :pipeline, :bridges, entry 1: Pipeline.DSPy.PythonBridge has no option :wrokers; did you mean :workers?
  """

  require Logger

  alias Pipeline.DSPy.Options
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Options, as: BridgeOptions

  @schema [
    {:bridges, :list, [], "the bridges that the application starts"},
    {:python, {:optional, :text}, nil, "the Python of every bridge that names none"}
  ]

  @doc "The children that the configuration asks for. Raises `ArgumentError` for what is wrong with it."
  @spec children() :: [{module, keyword}]
  def children do
    environment = Application.get_all_env(:pipeline)
    warn_of_slips(environment)

    case read(environment) do
      {:ok, %{bridges: bridges}} -> Enum.map(bridges, &{PythonBridge, &1})
      {:error, message} -> raise ArgumentError, message
    end
  end

  @doc """
  What a configuration says, or what is wrong with it. Keys that are not ours are the host's own and passed over.

      iex> Pipeline.DSPy.Configuration.read(bridges: [[name: MyApp.DSPy], [name: MyApp.DSPy]])
      {:error, "config :pipeline, :bridges, entry 2: the name MyApp.DSPy is taken by another entry"}
      iex> Pipeline.DSPy.Configuration.read(bridges: [[log_level: :loud]])
      {:error, "config :pipeline, :bridges, entry 1: expected :log_level of Pipeline.DSPy.PythonBridge to be one of :debug, :info, :warning, :error, :as_sent, :none, got: :loud"}
  """
  @spec read(keyword) ::
          {:ok, %{bridges: [keyword], python: String.t() | nil}} | {:error, String.t()}
  def read(environment) do
    given = Keyword.take(environment, Options.names(@schema))

    with {:ok, settings} <- Options.validate(given, @schema, "config :pipeline"),
         nil <- bridges_problem(settings[:bridges]) do
      {:ok, Map.new(settings)}
    else
      {:error, message} -> {:error, message}
      problem -> {:error, "config :pipeline, :bridges, #{problem}"}
    end
  end

  @doc """
  Warnings about keys that are likely slips of ours, and so are read by nobody.

      iex> Pipeline.DSPy.Configuration.slips(brigdes: [], ecto_repos: [])
      ["config :pipeline has :brigdes, which is not read; did you mean :bridges?"]
  """
  @spec slips(keyword) :: [String.t()]
  def slips(environment) do
    names = Options.names(@schema)

    for {key, _value} <- environment, key not in names, nearest = Options.nearest(key, names) do
      "config :pipeline has #{inspect(key)}, which is not read; did you mean #{inspect(nearest)}?"
    end
  end

  defp warn_of_slips(environment), do: environment |> slips() |> Enum.each(&Logger.warning/1)

  defp bridges_problem(bridges) do
    bridges
    |> Enum.with_index(1)
    |> Enum.find_value(fn {options, number} ->
      problem = BridgeOptions.problem(options) || taken(options, Enum.take(bridges, number - 1))
      problem && "entry #{number}: #{problem}"
    end)
  end

  defp taken(options, earlier) do
    name = name(options)
    taken? = name != nil and Enum.any?(earlier, &(name(&1) == name))
    if taken?, do: "the name #{inspect(name)} is taken by another entry"
  end

  defp name(options), do: Keyword.get(options, :name, PythonBridge)
end
