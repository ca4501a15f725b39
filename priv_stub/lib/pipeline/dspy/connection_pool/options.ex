defmodule Pipeline.DSPy.ConnectionPool.Options do
  @moduledoc """
  The options of a pool: the one list of them, from which their checks, defaults and documentation are taken.
  """

  alias Pipeline.DSPy.Options
  alias Pipeline.DSPy.PythonBridge.Options, as: BridgeOptions
  alias Pipeline.DSPy.Verbs

  @owner "Pipeline.DSPy.ConnectionPool"

  # Nobody sees that these pass, they are so quick; it is only that not a million of them should.
  @instant_slots 100

  @schema [
    {:pool_size, {:count, 1}, 3, "how many bridges"},
    {:max_queue_size, {:count, 0}, 10, "how many requests wait in each lane; with 0 none waits"},
    {:workers, {:count, 1}, 2, "how many workers each bridge's node has"},
    {:lanes, :entries, [],
     "the slots of each bridge by lane: `:quick`, as many as workers unless given, `:long`, one less than that and at " <>
       "least one, and `:instant`, #{@instant_slots}"}
  ]

  @typedoc "What a pool is: its bridges' options, and for each bridge the workers of its node and its slots by lane."
  @type settings :: %{
          name: GenServer.name() | nil,
          size: pos_integer,
          workers: pos_integer,
          max_queue_size: non_neg_integer,
          slots: %{Verbs.lane() => pos_integer},
          bridges: keyword
        }

  @doc """
  What these options say. Raises `ArgumentError` for what is wrong, also with those of the bridges.

      iex> settings = Pipeline.DSPy.ConnectionPool.Options.new!(name: MyApp.Pool, workers: 4, lanes: [quick: 8])
      iex> {settings.size, settings.slots}
      {3, %{instant: 100, long: 3, quick: 8}}
  """
  @spec new!(term) :: settings
  def new!(opts) do
    names = Options.names(@schema)
    opts = Options.known!(opts, names ++ Options.names(BridgeOptions.schema()), @owner)
    {pool, bridges} = Keyword.split(opts, names)
    pool = Options.validate!(pool, @schema, @owner)
    bridges = Keyword.put(bridges, :workers, pool[:workers])

    # What is wrong with them shall be the caller's to know, and not that of a supervisor behind the pool.
    _checked = BridgeOptions.new!(bridges)

    %{
      name: Keyword.get(opts, :name, Pipeline.DSPy.ConnectionPool),
      size: pool[:pool_size],
      workers: pool[:workers],
      max_queue_size: pool[:max_queue_size],
      slots: slots!(pool[:lanes], pool[:workers]),
      bridges: Keyword.delete(bridges, :name)
    }
  end

  @doc "The list of the options that are not a bridge's, in Markdown."
  @spec docs() :: String.t()
  def docs, do: Options.docs(@schema)

  @doc "What is wrong with these options, nil when nothing is."
  @spec problem(term) :: String.t() | nil
  def problem(opts) do
    _settings = new!(opts)
    nil
  rescue
    error in ArgumentError -> Exception.message(error)
  end

  defp slots!(lanes, workers) do
    schema = [
      {:quick, {:count, 1}, workers, "slots for what a worker has for moments"},
      {:long, {:count, 1}, max(workers - 1, 1), "slots for what a worker has for long"},
      {:instant, {:count, 1}, @instant_slots, "slots for what the node answers itself"}
    ]

    lanes |> Enum.to_list() |> Options.validate!(schema, "the lanes of #{@owner}") |> Map.new()
  end
end
