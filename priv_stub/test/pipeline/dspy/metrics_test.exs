defmodule Pipeline.DSPy.MetricsTest do
  use Pipeline.NodeCase

  import ExUnit.CaptureLog

  alias Pipeline.DSPy.Cluster
  alias Pipeline.DSPy.ConnectionPool
  alias Pipeline.DSPy.DataTransfer
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.OptimizationCache
  alias Pipeline.DSPy.RecoveryManager
  alias Pipeline.Tickets

  doctest Metrics

  @optimization [:pipeline, :dspy, :optimization]
  # What needs two BEAM nodes, see the tests of a cluster, and a worker that takes more than it may, see those of the node.
  @elsewhere [[:pipeline, :dspy, :cluster, :supply], [:pipeline, :dspy, :limit]]

  # A handler, which says what it hears to the test.
  def hear(event, measurements, metadata, to),
    do: send(to, {:heard, event, measurements, metadata})

  defp attach(event) do
    id = {__MODULE__, event, make_ref()}
    :ok = Metrics.attach(id, event, &__MODULE__.hear/4, self())
    on_exit(fn -> Metrics.detach(id) end)
    id
  end

  describe "without telemetry" do
    test "a handler hears its event and no other, until it is detached" do
      id = attach([:test, :heard])

      assert Metrics.attach(id, [:test, :other], &__MODULE__.hear/4, self()) ==
               {:error, :already_exists}

      Metrics.execute([:test, :heard], %{value: 1}, %{of: :it})
      Metrics.execute([:test, :other], %{value: 2}, %{})
      Metrics.execute([:test], %{value: 3}, %{})
      assert_received {:heard, [:test, :heard], %{value: 1}, %{of: :it}}
      refute_received {:heard, _event, _measurements, _metadata}

      assert Metrics.detach(id) == :ok
      assert Metrics.detach(id) == {:error, :not_found}
      Metrics.execute([:test, :heard], %{value: 4}, %{})
      refute_received {:heard, _event, _measurements, _metadata}
    end

    test "a handler that fails is detached and logged, and harms neither the others nor who emits" do
      for {name, failure} <- [
            raises: fn -> raise "oops" end,
            throws: fn -> throw(:oops) end,
            exits: fn -> exit(:oops) end
          ] do
        event = [:test, name]

        :ok =
          Metrics.attach(
            name,
            event,
            fn _event, _measurements, _metadata, _config -> failure.() end,
            nil
          )

        attach(event)

        log = capture_log(fn -> assert Metrics.execute(event, %{}, %{}) == :ok end)
        assert log =~ "The handler #{inspect(name)} of #{inspect(event)} failed and is detached"
        assert log =~ "oops"
        assert_received {:heard, ^event, _measurements, _metadata}
        assert capture_log(fn -> Metrics.execute(event, %{}, %{}) end) == ""
        assert Metrics.detach(name) == {:error, :not_found}
      end
    end

    test "a span has a start, and a stop or an exception" do
      for how <- [:start, :stop, :exception], do: attach([:test, :span, how])
      assert Metrics.span([:test, :span], %{of: 1}, fn -> {:result, %{of: 2}} end) == :result

      assert_received {:heard, [:test, :span, :start], %{monotonic_time: _, system_time: _},
                       started}

      assert_received {:heard, [:test, :span, :stop], %{monotonic_time: _, duration: duration},
                       stopped}

      assert duration >= 0
      assert %{of: 1, telemetry_span_context: context} = started
      assert stopped == %{of: 2, telemetry_span_context: context}

      assert_raise RuntimeError, fn ->
        Metrics.span([:test, :span], %{of: 1}, fn -> raise "oops" end)
      end

      assert_received {:heard, [:test, :span, :exception], %{duration: _, monotonic_time: _},
                       metadata}

      assert %{of: 1, kind: :error, reason: %RuntimeError{}, stacktrace: [_ | _]} = metadata
    end
  end

  describe "with the host's telemetry" do
    setup do
      # It is no dependency of ours: so much of it as a host's library would bring.
      source =
        quote do
          def execute(event, measurements, metadata),
            do: send(unquote(__MODULE__), {:telemetry, event, measurements, metadata})

          def attach(id, event, function, config),
            do: send(unquote(__MODULE__), {:attached, id, event, function, config}) && :ok

          def detach(id), do: send(unquote(__MODULE__), {:detached, id}) && :ok
        end

      Process.register(self(), __MODULE__)
      {:module, :telemetry, _binary, _term} = Module.create(:telemetry, source, __ENV__)

      on_exit(fn ->
        :code.purge(:telemetry)
        :code.delete(:telemetry)
      end)
    end

    test "events, handlers and their end go to it" do
      assert Metrics.record_optimization_metrics("3f2a", %{accuracy: 0.5, cost: nil, latency: 7}) ==
               :ok

      assert_received {:telemetry, @optimization, measurements, %{signature_hash: "3f2a"}}
      assert measurements == %{accuracy: 0.5, latency: 7}

      assert Metrics.attach("id", @optimization, &__MODULE__.hear/4, :config) == :ok
      assert_received {:attached, "id", @optimization, _function, :config}
      assert Metrics.detach("id") == :ok
      assert_received {:detached, "id"}
    end

    test "a handler from before it came is not lost" do
      :ok = Metrics.Handlers.attach("early", @optimization, &__MODULE__.hear/4, self())
      Metrics.record_optimization_metrics("3f2a", %{latency: 7})
      assert_received {:telemetry, @optimization, _measurements, _metadata}
      assert_received {:heard, @optimization, _measurements, _metadata}
      assert Metrics.detach("early") == :ok
      refute_received {:detached, _id}
    end
  end

  test "what the first design records has its names" do
    attach([:pipeline, :dspy, :python_bridge])
    Metrics.record_python_bridge_metrics(:predict, 12, true)
    Metrics.record_python_bridge_metrics(:predict, 13, false)

    assert_received {:heard, [:pipeline, :dspy, :python_bridge], %{duration: 12, success: 1},
                     %{operation: :predict}}

    assert_received {:heard, [:pipeline, :dspy, :python_bridge], %{duration: 13, success: 0},
                     %{operation: :predict}}
  end

  describe "the contract" do
    test "holds for every event that a bridge, its node and recovery emit" do
      contract = contract()
      for event <- Map.keys(contract), do: attach(event)
      bridge = start_bridge(settings: [telemetry_interval_s: 0.1])

      examples = Enum.take(Tickets.read(), 4)
      optimizing = [optimizer: :labeled_few_shot, lm: :offline, max_labeled_demos: 2]

      assert {:ok, %{optimization_metrics: metrics}} =
               PythonBridge.optimize_signature(bridge, Tickets.signature(), examples, optimizing)

      assert {:error, _error} =
               PythonBridge.optimize_signature(bridge, Tickets.signature(), examples,
                 optimizer: :unheard_of
               )

      assert {:error, _error} = PythonBridge.request(bridge, :no_such_verb, %{})

      # One whose caller goes, and one whose node goes.
      task =
        Task.async(fn -> PythonBridge.request(bridge, :optimize_signature, slow_payload()) end)

      eventually(fn ->
        match?({:ok, %{queue: %{running: 1}}}, PythonBridge.health_check(bridge))
      end)

      Task.shutdown(task, :brutal_kill)
      await_idle(bridge)
      slow = PythonBridge.async(bridge, :optimize_signature, slow_payload())
      {:ok, health} = PythonBridge.health_check(bridge)
      assert_receive {:heard, [:pipeline, :dspy, :worker], _measurements, _metadata}, 5_000
      signal("KILL", health.node.os_pid)

      # A retry which waits for the next node; then a circuit that opens.
      assert {:ok, %{status: _whatever}} =
               RecoveryManager.run(
                 fn timeout -> PythonBridge.health_check(bridge, timeout: timeout) end,
                 bridge: bridge,
                 timeout: 20_000,
                 idempotent: true
               )

      assert {:error, %PythonError{error_type: :process_crashed}} = PythonBridge.await(slow)
      late = fn -> {:error, PythonError.new(:timeout_error, "too late")} end
      RecoveryManager.run(late, target: make_ref(), breaker: [threshold: 1])

      heard = heard([])
      for event <- heard, do: assert_in(contract, event)

      # And each of them was there, but for the one that takes a worker out of bounds.
      names = heard |> Enum.map(&elem(&1, 0)) |> Enum.uniq()

      for event <- emitted_here(), do: assert(event in names, "#{inspect(event)} was not emitted")

      # What the events say agrees.
      hash = Metrics.signature_hash(Tickets.signature())

      optimizations =
        for {@optimization, measurements, %{signature_hash: ^hash}} <- heard, do: measurements

      assert %{latency: latency, accuracy: accuracy, cost: cost} = hd(optimizations)
      assert latency > 0
      assert {accuracy, cost} == {metrics.score_after, metrics.cost_usd}

      spans =
        Enum.group_by(
          for(
            {[_, _, :request, how], _, metadata} <- heard,
            do: {metadata.telemetry_span_context, how}
          ),
          &elem(&1, 0),
          &elem(&1, 1)
        )

      for {_ref, hows} <- spans,
          do: assert([:start, last] = hows) && assert(last in [:stop, :exception])

      reasons =
        for {[_, _, :request, :exception], _, %{operation: :optimize_signature} = metadata} <-
              heard,
            do: metadata.reason

      assert [:abandoned, %PythonError{error_type: :process_crashed}] = reasons
    end

    test "holds for every event of a pool, a transfer, a cache, a cluster and a callback" do
      contract = contract()
      for event <- Map.keys(contract), do: attach(event)
      [pool, cache, cluster] = for name <- ~w(pool cache cluster), do: :"metrics_#{name}"

      start_supervised!(
        {ConnectionPool,
         name: pool,
         python: python(),
         pool_size: 1,
         workers: 1,
         health_interval: 100,
         health_misses: 100,
         settings: [telemetry_interval_s: 0.1],
         data_dir: tmp_dir("metrics")}
      )

      start_supervised!({OptimizationCache, name: cache, max_cache_size: 1})
      start_supervised!({Cluster, name: cluster, target: pool, interval: 50})
      assert {:ok, _info} = PythonBridge.await_ready(Cluster.new(cluster), 20_000)

      assert {:ok, %{status: :success}} =
               PythonBridge.predict(Cluster.new(cluster), "question -> answer", %{question: "?"},
                 lm: fn _request -> "[[ ## answer ## ]]\n!\n\n[[ ## completed ## ]]" end
               )

      assert {:ok, {:dataset, _id}} =
               DataTransfer.transfer_large_dataset(Enum.take(Tickets.read(), 4), pool)

      for key <- ["a", "a", "b"],
          do: OptimizationCache.fetch(cache, key, fn _left -> {:ok, key} end)

      # Its node is gone: who asks then waits, and not for long enough.
      {:ok, %{bridges: %{1 => %{node: %{os_pid: os_pid}}}}} = PythonBridge.health_check(pool)
      signal("KILL", os_pid)
      assert_receive {:heard, [_, _, :python_bridge, :down] = down, measurements, about}, 5_000
      assert {:error, _timeout} = PythonBridge.request(pool, :stats, %{}, timeout: 1)
      PythonBridge.shutdown(pool)

      heard = heard([{down, measurements, about}])
      for event <- heard, do: assert_in(contract, event)
      names = for {name, _measurements, _metadata} <- heard, do: name
      assert Map.keys(contract) -- (names ++ emitted_here()) == @elsewhere
    end
  end

  defp emitted_here do
    for last <- [
          [:python_bridge],
          [:optimization],
          [:request, :start],
          [:request, :stop],
          [:request, :exception],
          [:recovery],
          [:circuit],
          [:worker],
          [:node]
        ],
        do: [:pipeline, :dspy | last]
  end

  defp heard(before) do
    receive do
      {:heard, event, measurements, metadata} -> heard([{event, measurements, metadata} | before])
    after
      0 -> Enum.reverse(before)
    end
  end

  defp assert_in(contract, {event, measurements, metadata}) do
    row = Map.fetch!(contract, event)

    for {keys, {always, sometimes}} <- [
          {measurements, row.measurements},
          {metadata, row.metadata}
        ] do
      keys = keys |> Map.keys() |> Enum.sort()
      assert {event, always -- keys} == {event, []}
      assert {event, keys -- (always ++ sometimes)} == {event, []}
    end
  end

  # The table of the documentation: an event with the keys that it always has, and those in parentheses.
  defp contract do
    {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Metrics)

    for line <- String.split(doc, "\n"), line =~ ~r/^\s*\| `\[:/, into: %{} do
      [event, measurements, metadata] =
        line |> String.split("|", trim: true) |> Enum.map(&String.trim/1)

      [event] = for [_whole, name] <- [Regex.run(~r/`\[([^\]]*)\]`/, event)], do: name
      event = for ":" <> name <- String.split(event, ", "), do: String.to_atom(name)
      {event, %{measurements: keys(measurements), metadata: keys(metadata)}}
    end
  end

  defp keys(cell) do
    cell
    |> String.split(", ", trim: true)
    |> Enum.split_with(&String.starts_with?(&1, "`"))
    |> then(fn {always, sometimes} -> {atoms(always), atoms(sometimes)} end)
  end

  defp atoms(names),
    do:
      for(
        name <- names,
        [_whole, key] = Regex.run(~r/^\(?`(\w+)`\)?$/, name),
        do: String.to_atom(key)
      )
end
