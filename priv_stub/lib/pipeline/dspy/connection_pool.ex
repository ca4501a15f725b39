defmodule Pipeline.DSPy.ConnectionPool do
  @moduledoc """
  Several bridges, each with a Python node of its own, that are used as if they were one.

      children = [
        {Pipeline.DSPy.ConnectionPool, name: MyApp.Pool, pool_size: 3, workers: 2, data_dir: "/var/lib/my_app/dspy"}
      ]

  Pools may also stand in the configuration of the application `:pipeline`, see `Pipeline.DSPy.Configuration`.

  A pool takes what a bridge takes: every function of `Pipeline.DSPy.PythonBridge` is called with its name in the
  bridge's place, here or from another BEAM node.

      PythonBridge.predict(MyApp.Pool, {:program, id}, %{question: "1 + 1"}, lm: "openai/gpt-4o-mini")
      PythonBridge.predict({MyApp.Pool, :"dspy@host"}, {:program, id}, %{question: "1 + 1"}, lm: "openai/gpt-4o-mini")

  The pool only decides which bridge gets a request: the answer, and everything before it, goes from the bridge to the
  caller.

  ## Lanes

  What a worker has for long (optimizing, evaluating, training, running a workflow) and what it has for moments (the other
  verbs) wait in two lanes, each with slots of its own at every bridge, so that nothing quick ever waits for something
  long: of a bridge's `workers`, long work takes all but one, and with one worker each it takes all bridges but one. (In a
  pool with one bridge and one worker there is nothing to spare, and it does wait.) A third lane has what the
  node answers itself. `Pipeline.DSPy.Verbs.lane/1` says which verb takes which.

  Where several bridges are free, the request goes to the one with the least to do; but one that names a stored program or
  dataset goes to the same bridge each time (`Pipeline.DSPy.Affinity`), whose workers have it at hand. All chunks of a transfer go to
  one bridge, and to another only when that has lost its node.

  ## The queue

  Where no slot is free, requests wait, `:max_queue_size` in each lane: higher `:priority` first, and among equals who came
  first. (As long as bridges are starting, as many more wait as these have slots.) The time in the queue is part of the
  request's own `:timeout`; the node gets what is left of it. One that waits for too long is answered with a
  `:timeout_error`, one whose caller dies is forgotten, one that is cancelled gets `:cancelled`. Where the queue is full:

      {:error, %PythonError{
        error_type: :overloaded,
        retry_after_ms: 900,
        context: %{reason: :pool_exhausted, lane: :quick, waiting: 10, limit: 10, running: 6, slots: 6, ready: 3, size: 3}
      }}

  A request that an Elixir function makes while a job waits for it never waits here: it goes to the job's own bridge, whose
  node lends it a worker.

  ## Verbs that concern no single bridge

    * `await_ready/2` of the bridge's functions waits for the first bridge that is ready, and gives what its node said.
    * `health_check/2` asks all bridges and gives one answer: see `Pipeline.DSPy.ConnectionPool.FanOut.health/2`.
    * `capture/2` goes to all bridges as well: see `Pipeline.DSPy.ConnectionPool.FanOut.capture/1`.
    * `cancel/3` goes to the bridge that has the request, or ends it in the queue.
    * `shutdown/2` takes no more requests, lets what waits and what runs finish within `:grace_ms`, shuts the bridges down
      and then ends the pool, which its supervisor does not restart. With `mode: :now` nothing is waited for.

  ## What dies

  A node that dies takes the requests in its hands with it, each answered with `:process_crashed`, and nothing else; its
  bridge is started anew. A bridge whose fault a restart cannot help (see `Pipeline.DSPy.PythonBridge`) is left out; when
  that holds for all of them, who waits gets the error, and the pool ends with `{:shutdown, {:node_down, error}}`. A pool
  that ends, however it does, takes its bridges and their nodes with it.

  All nodes of a pool share one `:data_dir`: a program that one has stored is known to all.

  ## Telemetry

  Who gets a slot and who gets none, and what becomes of its bridges, are the events below `[:pipeline, :dspy, :pool]` of
  `Pipeline.DSPy.Metrics`.
  """

  alias Pipeline.DSPy.ConnectionPool.Connection
  alias Pipeline.DSPy.ConnectionPool.Options
  alias Pipeline.DSPy.ConnectionPool.Server
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonError

  @default_wait_ms 5_000
  @stop_margin_ms 5_000

  @doc """
  A child that is restarted when it fails, and not when it was shut down. Its id is the pool's name.
  """
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(opts) do
    opts
    |> Keyword.put_new(:name, __MODULE__)
    |> Keyword.take([:name, :stop_timeout])
    |> PythonBridge.child_spec()
    |> Map.update!(:shutdown, &(&1 + @stop_margin_ms))
    |> Map.put(:start, {__MODULE__, :start_link, [opts]})
  end

  @doc """
  Starts a pool and its bridges; returns before their nodes are ready.

  Raises `ArgumentError` for options that are wrong. `:name` is this module's own unless given, and nil for none; all other
  options of `Pipeline.DSPy.PythonBridge.start_link/1` are those of each bridge. Beside them:

  #{Options.docs()}
  """
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts \\ []) do
    settings = Options.new!(opts)
    server_opts = if settings.name, do: [name: settings.name], else: []
    GenServer.start_link(Server, settings, server_opts)
  end

  @doc """
  Lends a bridge to the calling process, until it is returned or the process ends. `timeout` is how long to wait, 5000 ms.

      {:ok, connection} = ConnectionPool.get_connection(MyApp.Pool)

      try do
        PythonBridge.predict(connection, "question -> answer", %{question: "1 + 1"}, lm: :offline)
      after
        ConnectionPool.return_connection(connection)
      end

  It takes a slot of the long lane, since nobody knows what it is wanted for, and waits in that lane's queue;
  `:pool_exhausted` says that this is full, `:timeout` that no slot came free in time. Other requests go on using the
  bridge's other workers. Who only wants an answer needs no connection: requests may be sent to the pool itself.
  """
  @spec get_connection(PythonBridge.bridge() | timeout, timeout) ::
          {:ok, Connection.t()} | {:error, :pool_exhausted | :timeout | PythonError.t()}
  def get_connection(pool \\ __MODULE__, timeout \\ @default_wait_ms)

  def get_connection(wait_ms, _timeout) when is_integer(wait_ms) or wait_ms == :infinity do
    get_connection(__MODULE__, wait_ms)
  end

  def get_connection(pool, timeout) do
    case pool
         |> Caller.submit(:get_connection, nil, timeout: timeout, grace: 0)
         |> Caller.await() do
      {:error, %PythonError{context: %{reason: :pool_exhausted}}} -> {:error, :pool_exhausted}
      {:error, %PythonError{error_type: :timeout_error}} -> {:error, :timeout}
      other -> other
    end
  end

  @doc "Gives a connection back. Any process may, and more than once."
  @spec return_connection(Connection.t()) :: :ok
  def return_connection(%Connection{pool: pool} = connection) do
    return_connection(pool, connection)
  end

  @doc "Gives a connection back to this pool, which lent it."
  @spec return_connection(PythonBridge.bridge(), Connection.t()) :: :ok
  def return_connection(pool, %Connection{id: id}) do
    GenServer.cast(pool, {:return_connection, id})
  end

  @doc """
  The pool's numbers, at once: it asks no node.

      ConnectionPool.status(MyApp.Pool)
      #=> %{size: 3, ready: 3, phase: :open, max_queue_size: 10, connections: 0,
      #=>   lanes: %{quick: %{running: 2, slots: 6, waiting: 0}, long: %{…}, instant: %{…}}}

  Exits as `GenServer.call/3` does where there is no pool.
  """
  @spec status(GenServer.server(), timeout) :: %{
          size: pos_integer,
          ready: non_neg_integer,
          phase: :open | :closing,
          max_queue_size: non_neg_integer,
          connections: non_neg_integer,
          lanes: %{atom => %{running: integer, slots: integer, waiting: integer}}
        }
  def status(pool \\ __MODULE__, timeout \\ @default_wait_ms) do
    GenServer.call(pool, :status, timeout)
  end
end
