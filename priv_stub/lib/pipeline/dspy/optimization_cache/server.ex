defmodule Pipeline.DSPy.OptimizationCache.Server do
  @moduledoc """
  The process behind a cache: it owns the table, alone writes to it, and knows who answers which question.

  Readers look into the table themselves. Whoever finds nothing there joins the question's flight, by a message with an
  alias of its own: a late answer to one that has given up reaches nobody. No callback blocks.
  """

  use GenServer

  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.OptimizationCache.Flights
  alias Pipeline.DSPy.PythonError

  @store_timeout_ms 5_000

  @enforce_keys [:table, :by_expiry, :max_cache_size, :ttl_ms]
  defstruct [
    :table,
    :by_expiry,
    :max_cache_size,
    :ttl_ms,
    :timer,
    flights: Flights.new(),
    monitors: %{}
  ]

  # -- from any process

  @doc "Starts a cache. Options: those of `Pipeline.DSPy.OptimizationCache.start_link/1`."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts) do
    opts = Keyword.validate!(opts, [:name, max_cache_size: 1000, cache_ttl: 3600])
    name = checked(opts, :name, &(is_atom(&1) and &1 != nil), "an atom")
    checked(opts, :max_cache_size, &(is_integer(&1) and &1 > 0), "a positive integer")
    checked(opts, :cache_ttl, &(is_number(&1) and &1 > 0), "a positive number of seconds")
    GenServer.start_link(__MODULE__, opts, name: name)
  end

  defp checked(opts, key, fits?, expected) do
    value = opts[key]

    if fits?.(value),
      do: value,
      else:
        raise(ArgumentError, "expected #{inspect(key)} to be #{expected}, got #{inspect(value)}")
  end

  @doc "The result under a key, read in the caller's process."
  @spec lookup(atom, term) :: {:ok, term} | :not_found
  def lookup(cache, key) do
    case :ets.lookup(cache, key) do
      [{^key, result, {expires_at, _number}}] ->
        if expires_at > now_ms(), do: {:ok, result}, else: :not_found

      [] ->
        :not_found
    end
  rescue
    # There is no such table: the cache is not running.
    ArgumentError -> :not_found
  end

  @doc """
  Joins the flight of a question. Gives a result, or the error of the question itself; `{:lead, token}` to the one that
  has to answer it, and then owes `succeed/3` or `fail/3`; `:no_cache` where there is nobody to wait for.
  """
  @spec join(atom, term, timeout) ::
          {:ok, term, :memory | :flight}
          | {:lead, reference}
          | {:error, PythonError.t() | :timeout}
          | :no_cache
  def join(cache, key, timeout) do
    # The monitor of a name that nobody has is answered as well.
    token = :erlang.monitor(:process, cache, alias: :reply_demonitor)
    GenServer.cast(cache, {:join, key, token, self()})

    receive do
      {^token, reply} -> reply
      {:DOWN, ^token, :process, _cache, _reason} -> :no_cache
    after
      timeout -> give_up(cache, token)
    end
  end

  defp give_up(cache, token) do
    Process.demonitor(token, [:flush])

    receive do
      {^token, {:lead, ^token}} ->
        # Just now; but there is no time left to lead.
        fail(cache, token, nil)
        {:error, :timeout}

      {^token, reply} ->
        reply
    after
      0 ->
        fail(cache, token, nil)
        {:error, :timeout}
    end
  end

  @doc "The one that leads has a result: it is kept, and everybody gets it."
  @spec succeed(atom, reference, term) :: :ok
  def succeed(cache, token, result), do: call(cache, {:succeeded, token, result})

  @doc """
  The one that leads has none, and neither has one that waits and gives up (`nil`): the next takes over. An error that
  the question itself has is everybody's.
  """
  @spec fail(atom, reference, term) :: :ok
  def fail(cache, token, error), do: GenServer.cast(cache, {:failed, token, error})

  @doc "Keeps a result. One that cannot be kept, because the cache is gone, is a result all the same."
  @spec store(atom, term, term) :: :ok
  def store(cache, key, result), do: call(cache, {:store, key, result})

  @doc "Forgets all results of a cache."
  @spec clear(atom) :: :ok
  def clear(cache), do: GenServer.call(cache, :clear)

  @doc "How full a cache is, see `Pipeline.DSPy.OptimizationCache.info/1`."
  @spec info(atom) :: map
  def info(cache), do: GenServer.call(cache, :info)

  # A result that cannot be kept is a result all the same.
  defp call(cache, message) do
    GenServer.call(cache, message, @store_timeout_ms)
  catch
    :exit, _reason -> :ok
  end

  # -- the process

  @impl true
  def init(opts) do
    # One writer, this process; any number of readers.
    table = :ets.new(opts[:name], [:named_table, :protected, :set, read_concurrency: true])
    by_expiry = :ets.new(:by_expiry, [:ordered_set, :private])
    ttl_ms = max(round(opts[:cache_ttl] * 1000), 1)

    {:ok,
     %__MODULE__{
       table: table,
       by_expiry: by_expiry,
       max_cache_size: opts[:max_cache_size],
       ttl_ms: ttl_ms
     }}
  end

  @impl true
  def handle_call({:store, key, result}, _from, state), do: {:reply, :ok, put(state, key, result)}

  def handle_call({:succeeded, token, result}, _from, state) do
    {key, waiting, flights} = Flights.land(state.flights, token)

    # A leader that was taken for gone has still a good result, but nobody knows of which question.
    state = if key == nil, do: state, else: put(%{state | flights: flights}, key, result)
    for waiter <- waiting, do: send(waiter, {waiter, {:ok, shared(result), :flight}})
    {:reply, :ok, forget(state, [token | waiting])}
  end

  def handle_call(:clear, _from, state) do
    :ets.delete_all_objects(state.table)
    :ets.delete_all_objects(state.by_expiry)
    {:reply, :ok, state}
  end

  def handle_call(:info, _from, state) do
    size = :ets.info(state.table, :size)
    in_flight = Flights.count(state.flights)
    {:reply, %{size: size, max_cache_size: state.max_cache_size, in_flight: in_flight}, state}
  end

  @impl true
  def handle_cast({:join, key, token, pid}, state) do
    # It may have come since the caller looked.
    case lookup(state.table, key) do
      {:ok, result} ->
        send(token, {token, {:ok, result, :memory}})
        {:noreply, state}

      :not_found ->
        monitor = Process.monitor(pid)

        state = %{
          state
          | monitors: state.monitors |> Map.put(monitor, token) |> Map.put(token, monitor)
        }

        {role, flights} = Flights.join(state.flights, key, token)
        if role == :lead, do: send(token, {token, {:lead, token}})
        {:noreply, %{state | flights: flights}}
    end
  end

  def handle_cast({:failed, token, %PythonError{recovery_strategy: :fatal} = error}, state) do
    {_key, waiting, flights} = Flights.land(state.flights, token)
    for waiter <- waiting, do: send(waiter, {waiter, {:error, error}})
    {:noreply, forget(%{state | flights: flights}, [token | waiting])}
  end

  def handle_cast({:failed, token, _error}, state), do: {:noreply, leave(state, token)}

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, state) do
    case state.monitors do
      %{^monitor => token} -> {:noreply, leave(state, token)}
      %{} -> {:noreply, state}
    end
  end

  def handle_info(:sweep, state) do
    {:noreply, sweep(%{state | timer: nil}, now_ms())}
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def format_status(_reason, [_dictionary, state]) do
    # Results may be private; they stay out of crash reports.
    [data: [{~c"State", %{in_flight: Flights.count(state.flights), ttl_ms: state.ttl_ms}}]]
  end

  # -- flights

  defp leave(state, token) do
    {heir, flights} = Flights.leave(state.flights, token)
    if heir, do: send(heir, {heir, {:lead, heir}})
    forget(%{state | flights: flights}, [token])
  end

  defp forget(state, tokens) do
    monitors =
      Enum.reduce(tokens, state.monitors, fn token, monitors ->
        case Map.pop(monitors, token) do
          {nil, monitors} ->
            monitors

          {monitor, monitors} ->
            Process.demonitor(monitor, [:flush])
            Map.delete(monitors, monitor)
        end
      end)

    %{state | monitors: monitors}
  end

  # -- the table

  defp put(state, key, result) do
    drop(state, key)
    # The number tells those apart that come within a millisecond.
    expiry = {now_ms() + state.ttl_ms, System.unique_integer([:monotonic])}
    :ets.insert(state.table, {key, shared(result), expiry})
    :ets.insert(state.by_expiry, {expiry, key})
    count(state, :store, key, %{})
    state |> make_room() |> schedule()
  end

  defp drop(state, key) do
    case :ets.take(state.table, key) do
      [{^key, _result, expiry}] -> :ets.delete(state.by_expiry, expiry)
      [] -> true
    end
  end

  defp make_room(state) do
    if :ets.info(state.table, :size) > state.max_cache_size do
      evict(state, :ets.first(state.by_expiry), :full)
      make_room(state)
    else
      state
    end
  end

  defp sweep(state, now) do
    case :ets.first(state.by_expiry) do
      {expires_at, _number} = expiry when expires_at <= now ->
        evict(state, expiry, :expired)
        sweep(state, now)

      _none_or_later ->
        schedule(state)
    end
  end

  defp evict(state, expiry, reason) do
    [{^expiry, key}] = :ets.lookup(state.by_expiry, expiry)
    drop(state, key)
    count(state, :evict, key, %{reason: reason})
  end

  defp schedule(%__MODULE__{timer: nil} = state) do
    case :ets.first(state.by_expiry) do
      {expires_at, _number} ->
        %{state | timer: Process.send_after(self(), :sweep, max(expires_at - now_ms(), 0))}

      :"$end_of_table" ->
        state
    end
  end

  defp schedule(state), do: state

  # What others get, and the cost that the first one had.
  defp shared(%{optimization_metrics: %{} = metrics} = result) do
    %{result | optimization_metrics: Map.put(metrics, :cached, true)}
  end

  defp shared(result), do: result

  defp count(state, event, key, metadata) do
    metadata = Map.merge(metadata, %{cache: state.table, key: key})
    size = :ets.info(state.table, :size)
    Metrics.execute([:pipeline, :dspy, :cache, event], %{count: 1, size: size}, metadata)
  end

  defp now_ms, do: System.monotonic_time(:millisecond)
end
