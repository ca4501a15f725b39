defmodule Pipeline.DSPy.ConnectionPoolQueueTest do
  @moduledoc "Who waits for a slot of a pool, and who gets none. One pool of two bridges serves all of these tests."

  use Pipeline.PoolCase

  alias Pipeline.DSPy.Metrics

  setup_all :start_pool_of_two
  setup :await_idle_pool

  describe "a full queue" do
    setup %{pool: pool} do
      {refs, models} = fill(pool, :long)
      waiting = for n <- 1..2, do: hold_long(pool, label: {:waiting, n})
      await_waiting(pool, :long, 2)
      %{refs: refs, models: models, waiting: waiting}
    end

    test "refuses with its numbers, and what waits goes when its turn comes", context do
      %{pool: pool, refs: refs, models: models, waiting: waiting} = context

      assert {:error, %PythonError{error_type: :overloaded, retryable: true} = error} =
               pool |> hold_long() |> PythonBridge.await()

      assert error.retry_after_ms > 0

      assert error.context == %{
               reason: :pool_exhausted,
               lane: :long,
               waiting: 2,
               limit: 2,
               running: 2,
               slots: 2,
               ready: 2,
               size: 2
             }

      assert ConnectionPool.get_connection(pool) == {:error, :pool_exhausted}

      let_all_go(refs, models)
      models = for n <- 1..2, do: await_held({:waiting, n})
      let_all_go(waiting, models)
    end

    test "cancels what waits, and what runs", %{pool: pool} = context do
      [first, second] = context.waiting
      assert {:ok, %{status: :cancelling}} = PythonBridge.cancel(pool, first)
      assert {:error, %PythonError{error_type: :cancelled}} = PythonBridge.await(first)

      for ref <- context.refs do
        assert {:ok, %{status: :cancelling}} = PythonBridge.cancel(pool, ref)
        assert {:error, %PythonError{error_type: :cancelled}} = PythonBridge.await(ref)
      end

      let_all_go([second], [await_held({:waiting, 2})])
      assert {:error, %PythonError{error_type: :not_found}} = PythonBridge.cancel(pool, first)

      assert {:error, %PythonError{error_type: :not_found}} =
               PythonBridge.request(pool, :cancel, %{"id" => second})
    end
  end

  describe "the queue" do
    setup %{pool: pool} do
      {refs, models} = fill(pool, :long)
      %{refs: refs, models: models}
    end

    test "answers an entry whose deadline passes there", %{pool: pool} = context do
      started = System.monotonic_time(:millisecond)
      ref = hold_long(pool, timeout: 200)
      assert {:error, %PythonError{error_type: :timeout_error} = error} = PythonBridge.await(ref)
      assert (System.monotonic_time(:millisecond) - started) in 200..700
      assert error.context == %{reason: :pool_queue, deadline_ms: 200}
      assert ConnectionPool.status(pool).lanes.long.waiting == 0
      let_all_go(context.refs, context.models)
      refute_received {:held, :evaluate_pipeline, _model}
    end

    test "takes the time of waiting from the request's own", %{pool: pool} = context do
      ref = hold_long(pool, timeout: 2_000, label: :late)
      Process.send_after(self(), :later, 1_000)
      assert_receive :later, 2_000
      started = System.monotonic_time(:millisecond)
      let_all_go(context.refs, context.models)
      await_held(:late)

      # The node itself has stopped it, shortly before: it was told what was left.
      assert {:error, %PythonError{error_type: :timeout_error, context: %{deadline_ms: told}}} =
               PythonBridge.await(ref)

      assert System.monotonic_time(:millisecond) - started < 2_000
      assert told in 1..1_000
    end

    test "lets higher priority go first", %{pool: pool} = context do
      low = hold_long(pool, label: :low)
      high = hold_long(pool, label: :high, priority: 5)
      await_waiting(pool, :long, 2)
      [first | others] = context.models
      let_go(first)
      model = await_held(:high)
      refute_received {:held, :low, _model}
      let_all_go([high | context.refs], [model | others])
      let_all_go([low], [await_held(:low)])
    end

    test "forgets a caller that dies in it", %{pool: pool} = context do
      caller = spawn(fn -> pool |> hold_long() |> PythonBridge.await() end)
      await_waiting(pool, :long, 1)
      Process.exit(caller, :kill)
      await_waiting(pool, :long, 0)
      let_all_go(context.refs, context.models)
    end

    test "forgets a request that its caller abandons", %{pool: pool} = context do
      ref = hold_long(pool)
      await_waiting(pool, :long, 1)
      GenServer.cast(pool, {:abandon, ref})
      await_waiting(pool, :long, 0)
      let_all_go(context.refs, context.models)
      refute_received {PythonBridge, ^ref, _answer}
    end
  end

  describe "a function that a job calls" do
    test "may ask the pool, though every slot is taken and the queue is full", %{pool: pool} do
      test_process = self()

      asking = fn _request ->
        send(test_process, {:held, :asking, self()})
        receive do: (:go -> :ok)
        {:ok, %{prediction: %{"answer" => answer}}} = ask(pool)
        "[[ ## answer ## ]]\n#{answer}\n\n[[ ## completed ## ]]"
      end

      payload = %{
        signature: "question -> answer",
        input: %{question: "?"},
        config: %{lm: asking, cache: false}
      }

      refs = for _ <- 1..4, do: PythonBridge.async(pool, :predict, payload, progress: false)
      models = for _ <- 1..4, do: await_held(:asking)
      waiting = for _ <- 1..2, do: hold(pool, label: :waiting)
      await_waiting(pool, :quick, 2)
      let_all_go(refs, models)
      let_all_go(waiting, for(_ <- 1..2, do: await_held(:waiting)))
    end
  end

  describe "telemetry" do
    # What the pool's process gives to Metrics, whoever hears it there.
    setup %{pool: pool} do
      :erlang.trace_pattern({Metrics, :execute, 3}, true, [])
      :erlang.trace(Process.whereis(pool), true, [:call])
      on_exit(fn -> :erlang.trace_pattern({Metrics, :execute, 3}, false, []) end)
    end

    test "tells who gets a slot, after how long, and who gets none, and why", %{pool: pool} do
      {refs, models} = fill(pool, :long)
      waiting = hold_long(pool, label: :waiting)
      late = hold_long(pool, timeout: 100)

      for {ref, type} <- [{hold_long(pool), :overloaded}, {late, :timeout_error}] do
        assert {:error, %PythonError{error_type: ^type}} = PythonBridge.await(ref)
      end

      let_all_go(refs, models)
      let_all_go([waiting], [await_held(:waiting)])

      assert [%{wait: _, waiting: 0}, %{waiting: 0}, %{wait: wait, waiting: 0}] =
               for({:checkout, measurements, %{pool: ^pool}} <- events(), do: measurements)

      assert wait >= System.convert_time_unit(100, :millisecond, :native)
    end

    test "names pool, lane, verb, bridge and reason", %{pool: pool} do
      assert {:ok, %{status: :success}} = ask(pool)
      {refs, models} = fill(pool, :long)
      late = hold_long(pool, timeout: 0)
      assert {:error, %PythonError{error_type: :timeout_error}} = PythonBridge.await(late)
      let_all_go(refs, models)

      events = events()
      about = %{pool: pool, lane: :quick, verb: :predict, bridge: 1}
      assert {:checkout, %{waiting: 0}, ^about} = List.keyfind(events, :checkout, 0)
      about = %{pool: pool, lane: :long, verb: :evaluate_pipeline, reason: :timeout}
      assert {:refused, %{waiting: 0}, ^about} = List.keyfind(events, :refused, 0)
    end

    defp events do
      receive do
        {:trace, _pid, :call, {Metrics, :execute, [[:pipeline, :dspy, :pool, event], m, about]}} ->
          [{event, m, about} | events()]
      after
        0 -> []
      end
    end
  end
end
