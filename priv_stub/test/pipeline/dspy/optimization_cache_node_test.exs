defmodule Pipeline.DSPy.OptimizationCacheNodeTest do
  use Pipeline.NodeCase

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

  test "without a bridge the error is the request's own" do
    cache = start_cache()
    {_calls, model} = counted()

    assert {:error, %PythonError{error_type: :process_crashed}} =
             optimize(:no_such_bridge, cache, model)
  end
end
