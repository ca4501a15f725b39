defmodule Pipeline.DSPy.Cluster do
  @moduledoc """
  Bridges or pools of several BEAM nodes, used as if they were one.

  Every BEAM node lists the cluster behind its pool, with the pool's name:

      children = [
        {Pipeline.DSPy.ConnectionPool, name: MyApp.Pool, data_dir: "/var/lib/my_app/dspy"},
        {Pipeline.DSPy.Cluster, name: MyApp.Cluster, target: MyApp.Pool}
      ]

  and one that only sends requests leaves `:target` out. Connecting the BEAM nodes is the application's affair, as
  always. Every verb of `Pipeline.DSPy.PythonBridge` takes the cluster in a bridge's place:

      cluster = Pipeline.DSPy.Cluster.new(MyApp.Cluster)
      PythonBridge.predict(cluster, {:program, id}, %{question: "1 + 1"}, lm: "openai/gpt-4o-mini")

  ## Which member gets a request

  Each member tells the others once a second how much its target has to do, and every five seconds which 100 programs
  were stored there last. Callers read that from an ETS table; no process stands in a request's way. A request goes to
  the member with the least work for each of its workers. One that holds the program that the request names is taken
  although it has more to do, by up to one request for each worker.

  Not chosen are members whose node is not ready, that leave, that have said nothing for five intervals, and those with
  another version of this library: these are named in a warning, are asked nothing, and count as an error with
  `reason: :version` where all members are asked. A cluster that has no member yet holds a request for as
  long as `:wait` says.

  ## What is missing is brought

  A program lies where it was optimized, a dataset where it was sent. A member that is sent its name and does not keep it
  says `:not_found`; then it is fetched from one that does, stored there, and the request sent again. Programs and
  datasets are named by the hash of their content, which the node that stores one reckons itself. Holding a dataset
  counts for more than holding a program: four requests for each worker. A trained offline model is not brought: the
  request goes to the member that has it.

  `Pipeline.DSPy.DataTransfer` takes a cluster like any bridge: all chunks of a transfer go to the same member.

  ## When a member is lost

  A BEAM node that goes down is seen at once by its closed connection, or after `net_ticktime` where it hangs or the
  network does. Requests that it had get `:process_crashed` with `reason: :nodedown` and `beam_node`, at once. Within the
  deadline of the request another member is tried, `:attempts` of them altogether,

    * whatever the verb, where the first one has not begun: its queue was full, or nobody had its target's name;
    * after a crash, a lost node or a shutdown only where a repetition does no harm: for the verbs of
      `Pipeline.DSPy.Verbs.idempotent?/2`, and for every request with `idempotent: true` or an `:idempotency_key`. A request
      with `:stream_to` needs `idempotent: true`: pieces come again.

  An `:idempotency_key` is known to the member that works on its request or has stored the result, and to no other: two
  requests with the same key at the same time may be worked on by two members.

  A worker that was killed for what its own job did (its memory, a stall) is no reason to try another member. An error
  says in its context on which `:beam_node` it arose, and which were `:tried`.

  `Pipeline.DSPy.PythonBridge.async/4` sends a request once: it goes to a member that holds what it names, is not tried
  elsewhere, and its `await/2` gives the error. For more, put the call itself into a task:
  `Task.async(fn -> PythonBridge.predict(cluster, …) end)`.

  ## Elsewhere is like here

  Progress and chunks reach the caller from any node. A caller that dies takes its requests with it, and so does its BEAM
  node. Functions given with a request run on the caller's BEAM node; those given to a bridge run where the bridge is.

  ## The whole cluster

    * `health_check` asks every member: `status`, `message`, `queue`, `workers` (each with its `beam_node`), and `members`, what each
      BEAM node said.
    * `cancel` finds the request wherever it runs.
    * `list_programs` and `list_datasets` give what all members keep in one page, newest first, each with its `beam_nodes`.
    * `fetch_result` gives the stored result of whoever has it.
    * `stats` adds up what the members say, `clear_cache` clears every one's cache; `members` is what each BEAM node said.
    * `capture` goes to every member, and tells what all have written together; `members` is what each BEAM node said, with
      the files there.
    * `get_program` takes a program from whoever has it, `delete_program` deletes it everywhere, and
      `delete_dataset` a dataset.
    * `await_ready` waits for the first member that can take requests, and gives what its node said of itself; `members` are
      the BEAM nodes that can, `workers` those of all.
    * `shutdown` shuts down the target of every member.

  ## Leaving

  `leave/2` takes a BEAM node out: nobody sends it new requests, and it returns when those that it had are done. Stop it
  then. Without that, a stop of the supervisor says goodbye too, and what is left is for the pool to drain.

  ## Who may send

  BEAM nodes of one distribution trust each other with everything, and so does this: keep the cookie secret, and the ports
  on a network of your own (or use TLS distribution). What members say of themselves is checked for its form only.
  """

  @behaviour Pipeline.DSPy.Target

  use Supervisor

  alias Pipeline.DSPy.Cluster.Delivery
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Everywhere
  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.Cluster.Server
  alias Pipeline.DSPy.Options
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonError

  @target_options [
    {:attempts, {:count, 1}, 3, "how many members a request may see"},
    {:wait, {:count, 0}, 5_000, "how many milliseconds a request waits for a first member"}
  ]

  @enforce_keys [:name]
  defstruct [:name | Options.defaults(@target_options)]

  @typedoc "What `new/2` makes of its options."
  @type t :: %__MODULE__{name: atom, attempts: pos_integer, wait: non_neg_integer}

  @doc """
  A cluster to send requests to. Options:

  #{Options.docs(@target_options)}

      iex> Pipeline.DSPy.Cluster.new(MyApp.Cluster, attempts: 2)
      %Pipeline.DSPy.Cluster{name: MyApp.Cluster, attempts: 2, wait: 5_000}
  """
  @spec new(atom, keyword) :: t
  def new(name \\ __MODULE__, opts \\ []) when is_atom(name) do
    opts = Options.validate!(opts, @target_options, "a cluster to send to")
    struct!(__MODULE__, [{:name, name} | opts])
  end

  @doc """
  Takes part in a cluster. Options: `:name` (`Pipeline.DSPy.Cluster`), `:target` (the registered name of this BEAM node's
  bridge or pool; nil for one that only sends), `:interval` (how often it speaks, 1000 ms).

      children = [{ConnectionPool, name: MyApp.DSPy}, {Cluster, name: MyApp.Cluster, target: MyApp.DSPy}]
  """
  @spec start_link(keyword) :: Supervisor.on_start()
  def start_link(opts \\ []) do
    opts = Keyword.validate!(opts, name: __MODULE__, target: nil, interval: 1_000)

    unless is_atom(opts[:name]) and is_atom(opts[:target]) do
      raise ArgumentError,
            "expected :name and :target to be registered names, got #{inspect(opts)}"
    end

    unless is_integer(opts[:interval]) and opts[:interval] > 0 do
      raise ArgumentError, "expected :interval in milliseconds, got #{inspect(opts[:interval])}"
    end

    Supervisor.start_link(__MODULE__, opts, name: opts[:name])
  end

  @doc false
  @impl Supervisor
  def init(opts) do
    scope = Server.scope(opts[:name])

    # The server registers with the scope, so that it starts anew when that does.
    Supervisor.init(
      [%{id: scope, start: {:pg, :start_link, [scope]}}, {Server, opts}],
      strategy: :rest_for_one
    )
  end

  @doc """
  The members that this BEAM node knows of, each as `%{node:, target:, usable:, ready:, leaving:, workers:, busy:, waiting:}`.

      for %{node: node, usable: true, busy: busy, workers: workers} <- Cluster.members(MyApp.Cluster), do: {node, busy, workers}
      #=> [{:"dspy@a", 2, 4}, {:"dspy@b", 0, 4}]
  """
  @spec members(atom) :: [map]
  def members(name \\ __MODULE__) do
    now = Directory.now()

    for member <- Directory.members(name) do
      member
      |> Map.take([:node, :target, :ready, :leaving, :workers, :busy, :waiting])
      |> Map.put(:usable, Member.usable?(member, now))
    end
  end

  @doc """
  Takes this BEAM node out of the cluster, and waits until its target has nothing left to do, or for `timeout`: then it
  gives a `:timeout_error`, and still gets nothing new.

      # Before this BEAM node is deployed anew:
      :ok = Cluster.leave(MyApp.Cluster, 60_000)
  """
  @spec leave(atom, pos_integer) :: :ok | {:error, PythonError.t()}
  def leave(name \\ __MODULE__, timeout \\ 30_000) when is_integer(timeout) and timeout > 0 do
    GenServer.call(Server.name(name), {:drain, timeout}, :infinity)
  end

  @doc "Takes part again, after `leave/2`."
  @spec join(atom) :: :ok
  def join(name \\ __MODULE__), do: GenServer.call(Server.name(name), :join)

  # -- as a target

  @doc false
  @impl Pipeline.DSPy.Target
  def request(%__MODULE__{} = cluster, verb, payload, opts) do
    if verb in Everywhere.verbs(),
      do: Everywhere.request(cluster, verb, payload, opts),
      else: Delivery.request(cluster, verb, payload, opts)
  end

  @doc false
  @impl Pipeline.DSPy.Target
  def submit(%__MODULE__{} = cluster, :await_ready, nil, opts) do
    Caller.submit(Server.name(cluster.name), :await_ready, nil, opts)
  end

  def submit(%__MODULE__{} = cluster, verb, payload, opts) do
    if verb in Everywhere.verbs(),
      do: ask_everywhere(cluster, verb, payload, opts),
      else: Delivery.submit(cluster, verb, payload, opts)
  end

  # Waits for several answers, so somebody else has to: for as long as the one who asks is there.
  defp ask_everywhere(cluster, verb, payload, opts) do
    opts = Keyword.take(opts, [:timeout])
    caller = self()

    asker =
      spawn(fn ->
        gone = Process.monitor(caller)

        receive do
          {:ask, ref} -> ask_for(ref, gone, fn -> request(cluster, verb, payload, opts) end)
          {:DOWN, ^gone, :process, _pid, _reason} -> :ok
        end
      end)

    ref = :erlang.monitor(:process, asker, alias: :reply_demonitor)
    send(asker, {:ask, ref})
    ref
  end

  defp ask_for(ref, gone, request) do
    %Task{ref: task} = Task.async(request)

    receive do
      {^task, answer} -> send(ref, {PythonBridge, ref, answer})
      # The task is linked, and its requests end with it.
      {:DOWN, ^gone, :process, _pid, _reason} -> exit(:shutdown)
    end
  end
end
