defmodule Pipeline.DSPy.OptimizationCacheNodeTest do
  use Pipeline.NodeCase

  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.OptimizationCache

  @moduletag timeout: 60_000

  defp start_cache(opts \\ []) do
    name = :"cache_#{System.unique_integer([:positive])}"
    start_supervised!({OptimizationCache, [name: name] ++ opts})
    name
  end

  # A model that counts how often it is asked.
  defp counted do
    counter = :counters.new(1, [])

    model = fn _request ->
      :counters.add(counter, 1, 1)
      "[[ ## category ## ]]\nbilling\n\n[[ ## completed ## ]]"
    end

    {fn -> :counters.get(counter, 1) end, model}
  end

  defp optimize(bridge, cache, model, opts \\ []) do
    defaults = [
      in: cache,
      optimizer: :labeled_few_shot,
      lm: {:call, :model},
      functions: %{model: model},
      versions: %{model: 1},
      timeout: 30_000
    ]

    examples = Enum.take(Tickets.read(), 4)

    OptimizationCache.optimize(
      bridge,
      Tickets.signature(),
      examples,
      Keyword.merge(defaults, opts)
    )
  end

  defp jobs(bridge) do
    {:ok, health} = PythonBridge.health_check(bridge)
    Enum.sum(for worker <- health.workers, do: worker.jobs)
  end

  test "a hundred equal calls cost one job, and each of its model calls once" do
    {bridge, cache} = {start_bridge(), start_cache()}
    {calls, model} = counted()

    answers =
      1..100
      |> Enum.map(fn _ -> Task.async(fn -> optimize(bridge, cache, model) end) end)
      |> Task.await_many(30_000)

    assert [_one] = answers |> Enum.map(fn {:ok, result} -> result.program_id end) |> Enum.uniq()
    paid = for {:ok, %{optimization_metrics: %{cached: false} = metrics}} <- answers, do: metrics
    assert [%{lm_calls: spent}] = paid
    assert calls.() == spent
    assert jobs(bridge) == 1

    assert {:ok, %{optimization_metrics: %{cached: true, lm_calls: ^spent}}} =
             optimize(bridge, cache, model)

    assert jobs(bridge) == 1
  end

  test "a result outlives cache and node: after both have been started anew it costs no call of a model" do
    directory = tmp_dir("outlived")
    {calls, model} = counted()
    bridge = start_bridge(data_dir: directory)
    before = optimize(bridge, start_cache(), model)
    assert {:ok, %{optimization_metrics: %{cached: false, lm_calls: spent}}} = before
    assert calls.() == spent
    {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)
    signal("KILL", os_pid)
    eventually(fn -> not running?(os_pid) end)
    stop_supervised(bridge)

    {bridge, cache} = {start_bridge(data_dir: directory), start_cache()}
    assert {:ok, result} = optimize(bridge, cache, model)
    assert %{cached: true, lm_calls: ^spent} = result.optimization_metrics
    {:ok, first} = before
    assert result.program_id == first.program_id

    assert result.optimized_signature == first.optimized_signature,
           "with the atoms that it was asked with"

    assert calls.() == spent
    assert jobs(bridge) == 0

    # Now it is in memory.
    stop_supervised(bridge)
    assert {:ok, %{optimization_metrics: %{cached: true}}} = optimize(bridge, cache, model)
  end

  test "another version of a function is another question, and no cache is asked when none is wanted" do
    {bridge, cache} = {start_bridge(), start_cache()}
    {calls, model} = counted()
    assert {:ok, %{optimization_metrics: %{lm_calls: spent}}} = optimize(bridge, cache, model)
    assert {:ok, _} = optimize(bridge, cache, model, versions: %{model: 2})
    assert calls.() == 2 * spent

    for off <- [[cache: false], [config: %{"cache" => false}]] do
      assert {:ok, %{optimization_metrics: %{cached: false}}} =
               optimize(bridge, cache, model, off)
    end

    assert calls.() == 4 * spent
    assert OptimizationCache.info(cache).size == 2
  end

  test "a question that the node refuses is refused, and not kept" do
    {bridge, cache} = {start_bridge(), start_cache()}
    {calls, model} = counted()

    assert {:error, %PythonError{error_type: :validation_error}} =
             optimize(bridge, cache, model, optimizer: :no_such_optimizer)

    assert {:error, %PythonError{error_type: :validation_error} = error} =
             optimize(bridge, cache, model, versions: %{})

    assert error.context.path == "config.lm"
    assert OptimizationCache.info(cache).size == 0
    assert calls.() == 0
  end

  test "what becomes of a question is an event of its cache" do
    {bridge, cache} = {start_bridge(), start_cache(max_cache_size: 1)}
    other_cache = start_cache(cache_ttl: 0.05)
    {_calls, model} = counted()
    assert {:ok, _} = optimize(bridge, cache, model)
    {:ok, key} = OptimizationCache.key("a -> b", [])

    events =
      traced([Process.whereis(cache), Process.whereis(other_cache)], fn ->
        assert {:ok, _} = optimize(bridge, cache, model)
        assert {:ok, _} = optimize(bridge, other_cache, model)
        assert :not_found = OptimizationCache.get_optimization(cache, key)
        assert {:ok, 1} = OptimizationCache.fetch(cache, key, fn _left -> {:ok, 1} end)
        eventually(fn -> OptimizationCache.info(other_cache).size == 0 end)
      end)

    # Those of one process are in order; those of two are not.
    by_name = Enum.group_by(events, &elem(&1, 0), &Tuple.delete_at(&1, 0))

    assert [
             {%{count: 1}, %{source: :memory, cache: ^cache, key: question}},
             {%{count: 1}, %{source: :node, cache: ^other_cache, key: question}}
           ] = by_name.hit

    assert [{%{count: 1}, %{cache: ^cache, key: ^key}}, {_, %{key: ^key}}] = by_name.miss

    assert [{%{size: 1}, %{key: ^question}}, {%{size: 2}, %{cache: ^cache, key: ^key}}] =
             Enum.sort_by(by_name.store, fn {%{size: size}, _metadata} -> size end)

    assert [
             {%{size: 0}, %{reason: :expired, cache: ^other_cache, key: ^question}},
             {%{size: 1}, %{reason: :full, cache: ^cache, key: ^question}}
           ] = Enum.sort_by(by_name.evict, fn {%{size: size}, _metadata} -> size end)

    assert length(events) == 8
  end

  # The events of caches that these processes emit, whoever listens to them.
  defp traced(pids, fun) do
    match = [{[[:pipeline, :dspy, :cache, :_], :_, :_], [], []}]
    :erlang.trace_pattern({Metrics, :execute, 3}, match, [])
    for pid <- pids, do: :erlang.trace(pid, true, [:call])
    tracer = self()
    # A process cannot trace itself.
    Task.await(
      Task.async(fn ->
        :erlang.trace(self(), true, [:call, {:tracer, tracer}])
        fun.()
      end),
      30_000
    )

    :erlang.trace_pattern({Metrics, :execute, 3}, false, [])
    received([])
  end

  defp received(events) do
    receive do
      {:trace, _pid, :call, {Metrics, :execute, [name, measurements, metadata]}} ->
        received([{List.last(name), measurements, metadata} | events])
    after
      100 -> Enum.reverse(events)
    end
  end

  test "a result that was asked for without the cache is fetched by its key as well" do
    bridge = start_bridge()

    assert {:error, %PythonError{error_type: :not_found}} =
             PythonBridge.fetch_result(bridge, "mine")

    assert {:ok, %{prediction: prediction}} =
             PythonBridge.predict(
               bridge,
               Tickets.signature(),
               %{subject: "Invoice", body: "Twice!"},
               lm: :offline,
               idempotency_key: "mine"
             )

    assert {:ok, %{verb: :predict, result: result}} =
             PythonBridge.fetch_result(bridge, "mine", atoms: [:category])

    assert result.prediction == prediction
    assert %{category: _} = prediction
  end

  test "asking for what is stored takes its time from the caller's own" do
    bridge = start_bridge(python: script("exec sleep 60"))
    {_calls, model} = counted()
    started_at = System.monotonic_time(:millisecond)

    assert {:error, %PythonError{error_type: :timeout_error}} =
             optimize(bridge, start_cache(), model, timeout: 500, grace: 0)

    assert System.monotonic_time(:millisecond) - started_at < 950
  end

  test "without a bridge the error is the request's own" do
    cache = start_cache()
    {_calls, model} = counted()

    assert {:error, %PythonError{error_type: :process_crashed}} =
             optimize(:no_such_bridge, cache, model)
  end

  test "what was asked for without this cache is found in the node's, and the other way round" do
    {bridge, cache} = {start_bridge(), start_cache()}
    examples = Enum.take(Tickets.read(), 4)
    query = [optimizer: :labeled_few_shot, lm: :offline]
    plain = &PythonBridge.optimize_signature(bridge, Tickets.signature(), examples, query ++ &1)
    opts = [in: cache] ++ query
    through = &OptimizationCache.optimize(bridge, Tickets.signature(), examples, opts ++ &1)

    assert {:ok, %{optimization_metrics: %{cached: false}} = first} = plain.(result_cache: true)
    assert {:ok, %{optimization_metrics: %{cached: true}} = found} = through.([])
    assert found.program_id == first.program_id

    assert {:ok, %{optimization_metrics: %{cached: false}}} = through.(seed: 5)
    assert {:ok, %{optimization_metrics: metrics}} = plain.(seed: 5, result_cache: true)
    assert metrics.cached
    assert jobs(bridge) == 2

    assert {:ok, %{results: %{count: 2}, cache: %{count: 2, hits: 2}}} =
             PythonBridge.stats(bridge)

    assert {:ok, %{count: 2, bytes: bytes}} = PythonBridge.clear_cache(bridge)
    assert bytes > 0
    assert {:ok, %{results: %{count: 2}, cache: %{count: 0}}} = PythonBridge.stats(bridge)
    assert {:ok, %{optimization_metrics: %{cached: false}}} = plain.(result_cache: true)

    assert {:ok, %{optimization_metrics: %{cached: false}}} =
             plain.(result_cache: true, cache: false)
  end
end
