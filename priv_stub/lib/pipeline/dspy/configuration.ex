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
    * `:pools` - the same of pools, with the options of `Pipeline.DSPy.ConnectionPool.start_link/1`.
    * `:python` - the Python of every bridge that names none, see `Pipeline.DSPy.ProcessManager`.
    * `:job_defaults` - settings of every job, such as its model, see `Pipeline.DSPy.JobDefaults`.
    * `:callbacks` - functions that jobs may call, registered at the start, see `Pipeline.DSPy.Callbacks`.
    * `:optimization_cache` - the options of `Pipeline.DSPy.OptimizationCache`, or `false` for none.
    * `:fallback` - what is done in the place of work that failed, see `Pipeline.DSPy.RecoveryManager`.
    * `:providers` - the application's own providers by type of a workflow's steps, see `Pipeline.Providers`.

  A wrong option ends the start with an `ArgumentError` that names it, its place, and the nearest right one:

      config :pipeline, :bridges, entry 1: Pipeline.DSPy.PythonBridge has no option :wrokers; did you mean :workers?
  """

  require Logger

  alias Pipeline.DSPy.ConnectionPool
  alias Pipeline.DSPy.ConnectionPool.Options, as: PoolOptions
  alias Pipeline.DSPy.Options
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Options, as: BridgeOptions

  @schema [
    {:bridges, :list, [], "the bridges that the application starts"},
    {:pools, :list, [], "the pools that the application starts"},
    {:python, {:optional, :text}, nil, "the Python of every bridge that names none"},
    {:job_defaults, :entries, [], "what the configuration of every job starts from"},
    {:callbacks, :entries, [], "functions that jobs may call, by name"},
    # Checked by those that read them.
    {:optimization_cache, :any, [], "the options of the cache, or false"},
    {:fallback, :any, nil, "what is done in the place of work that failed"},
    {:providers, :entries, [], "who answers the steps of workflows that are not DSPy's, by type"}
  ]

  @doc "The children that the configuration asks for. Raises `ArgumentError` for what is wrong with it."
  @spec children() :: [{module, keyword}]
  def children do
    environment = Application.get_all_env(:pipeline)
    warn_of_slips(environment)

    case read(environment) do
      {:ok, %{bridges: bridges, pools: pools}} ->
        Enum.map(bridges, &{PythonBridge, &1}) ++ Enum.map(pools, &{ConnectionPool, &1})

      {:error, message} ->
        raise ArgumentError, message
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
          {:ok,
           %{
             bridges: [keyword],
             pools: [keyword],
             python: String.t() | nil,
             job_defaults: map | list,
             callbacks: map | list,
             optimization_cache: term,
             fallback: term,
             providers: map | list
           }}
          | {:error, String.t()}
  def read(environment) do
    given = Keyword.take(environment, Options.names(@schema))

    with {:ok, settings} <- Options.validate(given, @schema, "config :pipeline"),
         bridges = Enum.map(settings[:bridges], &{name(&1, PythonBridge), &1}),
         pools = Enum.map(settings[:pools], &{name(&1, ConnectionPool), &1}),
         nil <- problem(:bridges, bridges, &BridgeOptions.problem/1, []),
         nil <- problem(:pools, pools, &PoolOptions.problem/1, bridges) do
      {:ok, Map.new(settings)}
    else
      {:error, message} -> {:error, message}
      problem -> {:error, "config :pipeline, #{problem}"}
    end
  end

  @doc """
  Warnings about keys that are likely slips of ours, and so are read by nobody.

      iex> Pipeline.DSPy.Configuration.slips(brigdes: [], ecto_repos: [])
      ["config :pipeline has :brigdes, which is not read; did you mean :bridges?"]
      iex> Pipeline.DSPy.Configuration.slips(optimisation_cache: false, calbacks: [])
      ["config :pipeline has :optimisation_cache, which is not read; did you mean :optimization_cache?",
       "config :pipeline has :calbacks, which is not read; did you mean :callbacks?"]
  """
  @spec slips(keyword) :: [String.t()]
  def slips(environment) do
    names = Options.names(@schema)

    for {key, _value} <- environment, key not in names, nearest = Options.nearest(key, names) do
      "config :pipeline has #{inspect(key)}, which is not read; did you mean #{inspect(nearest)}?"
    end
  end

  defp warn_of_slips(environment), do: environment |> slips() |> Enum.each(&Logger.warning/1)

  # Entries with their names; a name is taken by another entry of either kind.
  defp problem(key, entries, check, others) do
    entries
    |> Enum.with_index(1)
    |> Enum.find_value(fn {{name, options}, number} ->
      problem = check.(options) || taken(name, others ++ Enum.take(entries, number - 1))
      problem && "#{inspect(key)}, entry #{number}: #{problem}"
    end)
  end

  defp taken(nil, _earlier), do: nil

  defp taken(name, earlier) do
    if List.keymember?(earlier, name, 0),
      do: "the name #{inspect(name)} is taken by another entry"
  end

  defp name(options, default) do
    if Keyword.keyword?(options), do: Keyword.get(options, :name, default)
  end
end
