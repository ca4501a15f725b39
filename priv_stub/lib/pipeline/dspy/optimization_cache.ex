defmodule Pipeline.DSPy.OptimizationCache do
  @moduledoc """
  Optimizations that were paid for, kept in memory, so that the same question costs nothing the second time.

      alias Pipeline.DSPy.OptimizationCache

      {:ok, result} =
        OptimizationCache.optimize(MyApp.DSPy, "question -> answer", examples,
          optimizer: :mipro_v2, lm: "openai/gpt-4o-mini", timeout: 600_000)

  The first call optimizes. Later ones get its result, with `optimization_metrics.cached` set to true and the cost as it
  was. `MyApp.DSPy` is a bridge, a pool or any struct that stands for several, as in `Pipeline.DSPy.PythonBridge`.

  ## What is the same question

  The key is a hash of signature, data and configuration: `key/3`. Atoms and binaries are alike in it, as they are to the
  node, and the order of a map's keys says nothing. The order of the examples counts, for it changes what an optimizer
  finds. Keys of models (`api_key`) do not count, and neither do options of the request such as `:timeout`.

  A function cannot be compared, so it is keyed by its name and a version that you give and change with it:

      OptimizationCache.optimize(MyApp.DSPy, signature, examples,
        metric: {:call, :judge}, functions: %{judge: &MyApp.Judge.score/2}, versions: %{judge: 3})

  Without a version, and as a function put in place (`metric: fn …`), it is refused with a `:validation_error`.

  ## One optimization for many callers

  Who asks while the same is being optimized waits for that: a hundred equal calls cost one optimization. When the one
  that optimizes dies, runs out of time or fails, the next takes over; only an error that the question itself has
  (`recovery_strategy: :fatal`) is everybody's. Failures are never kept. Each caller has its own `:timeout`, which counts
  the waiting too; `:progress` is told to the one that optimizes.

  ## Below it

  A miss asks the node next (`:fetch_result`), which stores such results on its disk: they outlive this cache, the node
  and the BEAM. Where that has none, the request is sent, and the node looks into its result cache (`result_cache: true`), which all
  nodes of a store share: what another one is just doing is waited for, what anybody has asked for without this cache is
  found. Jobs that name Elixir functions are left out there; here they have their versions.

  `:cache_ttl` says how long a result stays in memory here, the node's settings `result_max_age_s` (a week) and `cache_max_age_s`
  (thirty days) how long it stays there: who wants none that is older than an hour sets all three. `cache: false` asks none of them,
  stores nothing, and has the node ask its models anew as well. `result_cache: false` leaves out the node's cache alone.

  Reading takes no process: the result comes out of an ETS table in the caller's own. A cache that is not running is
  passed over.

  ## Starting

  The application starts one under this module's name; `config :pipeline, :optimization_cache, max_cache_size: 200`
  gives it options, `false` starts none. Others go into a tree of your own:

      children = [{Pipeline.DSPy.OptimizationCache, name: MyApp.Optimizations, cache_ttl: 600}]

  When it is full, the entry that would expire first goes: all live equally long, so that is the oldest. Dropping the
  least recently used would keep some results longer, but then every hit would have to write, and readers would wait
  for each other; what goes too early is still at the node, where it costs a request and no model call.

  Its events are `[:pipeline, :dspy, :cache, :hit | :miss | :store | :evict]`, see `Pipeline.DSPy.Metrics`.
  """

  alias Pipeline.DSPy.JobDefaults
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.OptimizationCache.Key
  alias Pipeline.DSPy.OptimizationCache.Server
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Verbs

  @typedoc "The name of a cache."
  @type cache :: atom

  @type key :: String.t()

  @doc "A child of a supervisor; its id is the cache's name."
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(opts) do
    name = Keyword.get(opts, :name, __MODULE__)
    %{id: name, start: {__MODULE__, :start_link, [opts]}}
  end

  @doc """
  Starts a cache.

  Options: `:name` (this module's own), `:max_cache_size` (1000 results) and `:cache_ttl` (3600, in seconds; fractions are
  taken).
  """
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts \\ []) do
    Server.start_link(Keyword.put_new(opts, :name, __MODULE__))
  end

  @doc """
  Optimizes a signature as `Pipeline.DSPy.PythonBridge.optimize_signature/4` does, unless that has been done.

  Options: those of that function, `:versions` (of the functions that the configuration names, by name), `:in` (the cache,
  this module's own by default), and `cache: false`.
  """
  @spec optimize(
          PythonBridge.bridge(),
          PythonBridge.signature(),
          PythonBridge.examples(),
          keyword
        ) ::
          PythonBridge.answer()
  def optimize(target, signature, training_data, opts \\ []) do
    {own, opts} = Keyword.split(opts, [:in, :versions])
    cache = Keyword.get(own, :in, __MODULE__)
    opts = Keyword.put_new(opts, :timeout, Verbs.default_timeout(:optimize_signature))

    if uncached?(opts) do
      PythonBridge.optimize_signature(target, signature, training_data, opts)
    else
      question = question(signature, training_data, opts)

      with {:ok, key} <- Key.new(question, own[:versions] || %{}) do
        node_key = Key.exact(key, question)

        answer(cache, key, opts[:timeout], fn left_ms ->
          until = Deadline.in_ms(left_ms)

          with :not_found <- stored(target, node_key, question, left_ms) do
            opts = Keyword.merge(opts, timeout: Deadline.left(until), idempotency_key: node_key)

            target
            |> PythonBridge.optimize_signature(signature, training_data, with_result_cache(opts))
            |> source()
          end
        end)
      end
    end
  end

  @doc """
  The result under a key, or what `fun` gives, which is then kept if it is `{:ok, result}`. However many ask at once, one
  runs `fun`, in its own process; it gets the milliseconds that are left of its caller's `timeout`.

      iex> alias Pipeline.DSPy.OptimizationCache
      iex> OptimizationCache.fetch("a doctest's own", fn _left_ms -> {:ok, %{answer: 42}} end)
      {:ok, %{answer: 42}}
      iex> OptimizationCache.fetch("a doctest's own", fn _left_ms -> {:error, :not_asked} end)
      {:ok, %{answer: 42}}
  """
  @spec fetch(cache, key, (timeout -> {:ok, term} | {:error, term}), timeout) ::
          {:ok, term} | {:error, term}
  def fetch(cache \\ __MODULE__, key, fun, timeout \\ :infinity) when is_function(fun, 1) do
    answer(cache, key, timeout, fun)
  end

  @doc """
  The key of an optimization: 64 hexadecimal digits, the same for the same question in every BEAM of one OTP release.

  Options: those of `optimize/4`. A function without a version, or something that no key can be made of, is a
  `:validation_error`.

      iex> alias Pipeline.DSPy.OptimizationCache
      iex> data = [%{question: "1 + 1", answer: "2"}, %{question: "2 + 2", answer: "4"}]
      iex> {:ok, key} = OptimizationCache.key("question -> answer", data, lm: :offline, seed: 1)
      iex> {:ok, ^key} = OptimizationCache.key("question -> answer", data, config: %{"seed" => 1, "lm" => "offline"})
      iex> OptimizationCache.key("question -> answer", Enum.reverse(data), lm: :offline, seed: 1) == {:ok, key}
      false
      iex> {:error, error} = OptimizationCache.key("question -> answer", data, lm: :offline, metric: {:call, :judge})
      iex> error.context.path
      "config.metric"
  """
  @spec key(PythonBridge.signature(), PythonBridge.examples(), keyword) ::
          {:ok, key} | {:error, PythonError.t()}
  def key(signature, training_data, opts \\ []) do
    {own, opts} = Keyword.split(opts, [:in, :versions])
    Key.new(question(signature, training_data, opts), own[:versions] || %{})
  end

  @doc """
  The result under a key. Counts as a hit or a miss.

      iex> alias Pipeline.DSPy.OptimizationCache
      iex> OptimizationCache.store_optimization("seen", %{optimization_metrics: %{cost_usd: 0.02, cached: false}})
      :ok
      iex> OptimizationCache.get_optimization("seen")
      {:ok, %{optimization_metrics: %{cost_usd: 0.02, cached: true}}}
      iex> OptimizationCache.get_optimization("never seen")
      :not_found
  """
  @spec get_optimization(cache, key) :: {:ok, term} | :not_found
  def get_optimization(cache \\ __MODULE__, key) do
    found = Server.lookup(cache, key)
    if found == :not_found, do: count(cache, :miss, key, %{}), else: hit(cache, key, :memory)
    found
  end

  @doc "Keeps a result under a key, for `:cache_ttl` or until it has to make room. It can be read when this returns."
  @spec store_optimization(cache, key, term) :: :ok
  def store_optimization(cache \\ __MODULE__, key, result), do: Server.store(cache, key, result)

  @doc "Forgets what is in memory; what nodes have stored stays."
  @spec clear(cache) :: :ok
  def clear(cache \\ __MODULE__), do: Server.clear(cache)

  @doc """
  How full a cache is: `size`, `max_cache_size`, and how many questions are being answered, `in_flight`.

      OptimizationCache.info()
      #=> %{size: 12, max_cache_size: 1000, in_flight: 1}
  """
  @spec info(cache) :: %{
          size: non_neg_integer,
          max_cache_size: pos_integer,
          in_flight: non_neg_integer
        }
  def info(cache \\ __MODULE__), do: Server.info(cache)

  # -- one question

  defp answer(cache, key, timeout, work) do
    until = Deadline.in_ms(timeout)

    case Server.lookup(cache, key) do
      {:ok, result} ->
        hit(cache, key, :memory)
        {:ok, result}

      :not_found ->
        case Server.join(cache, key, Deadline.left(until)) do
          {:ok, result, source} ->
            hit(cache, key, source)
            {:ok, result}

          {:lead, token} ->
            lead(cache, key, token, work, Deadline.left(until))

          :no_cache ->
            passed_on(cache, key, work.(Deadline.left(until)))

          {:error, :timeout} ->
            message =
              "no answer within #{timeout} ms to the same question, which another process had asked"

            {:error, PythonError.new(:timeout_error, message, context: %{deadline_ms: timeout})}

          {:error, error} ->
            {:error, error}
        end
    end
  end

  # Whatever happens in here, the next in line hears of it: an exit is seen by the server, the rest is said to it.
  defp lead(cache, key, token, work, left_ms) do
    outcome =
      try do
        work.(left_ms)
      catch
        kind, reason ->
          Server.fail(cache, token, nil)
          :erlang.raise(kind, reason, __STACKTRACE__)
      end

    case outcome do
      {:ok, result} -> Server.succeed(cache, token, result)
      {:stored, result} -> Server.succeed(cache, token, result)
      {:error, error} -> Server.fail(cache, token, error)
    end

    passed_on(cache, key, outcome)
  end

  defp passed_on(cache, key, {:stored, result}) do
    hit(cache, key, :node)
    {:ok, result}
  end

  defp passed_on(cache, key, outcome) do
    count(cache, :miss, key, %{})
    outcome
  end

  # The node's own cache is asked with the request, and keeps what comes of it for whoever asks without this one.
  defp with_result_cache(opts) do
    config = opts |> Keyword.get(:config, %{}) |> Map.new()
    said? = is_map_key(config, :result_cache) or is_map_key(config, "result_cache")
    if said?, do: opts, else: Keyword.put_new(opts, :result_cache, true)
  end

  # Somebody else has paid for it, by way of another cache or of none.
  defp source({:ok, %{optimization_metrics: %{cached: true}} = result}), do: {:stored, result}
  defp source(answer), do: answer

  # What went wrong here goes wrong with the optimization too, or does not matter to it.
  defp stored(target, node_key, question, left_ms) do
    # In the order of terms every number is less than :infinity.
    timeout = min(left_ms, Verbs.default_timeout(:fetch_result))
    opts = [atoms: Key.atoms(question), timeout: timeout, grace: 0]

    case PythonBridge.fetch_result(target, node_key, opts) do
      {:ok, %{result: result}} -> {:stored, result}
      {:error, _error} -> :not_found
    end
  end

  defp question(signature, training_data, opts) do
    {_request_opts, opts} = Keyword.split(opts, Caller.options())
    {validation_data, opts} = Keyword.pop(opts, :validation_data)
    {config, opts} = opts |> with_result_cache() |> Keyword.pop(:config, %{})

    %{
      signature: signature,
      training_data: training_data,
      validation_data: validation_data,
      config: JobDefaults.under(Enum.into(opts, Map.new(config)))
    }
  end

  defp uncached?(opts) do
    config = opts |> Keyword.get(:config, %{}) |> Map.new()
    false in [opts[:cache], config[:cache], config["cache"]]
  end

  defp hit(cache, key, source), do: count(cache, :hit, key, %{source: source})

  defp count(cache, event, key, metadata) do
    metadata = Map.merge(metadata, %{cache: cache, key: key})
    Metrics.execute([:pipeline, :dspy, :cache, event], %{count: 1}, metadata)
  end
end
