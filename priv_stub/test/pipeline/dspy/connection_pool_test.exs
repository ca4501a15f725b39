defmodule Pipeline.DSPy.ConnectionPoolTest do
  @moduledoc "A pool whose nodes are well. One pool of two bridges with two workers each serves all of these tests."

  use Pipeline.PoolCase

  alias Pipeline.DSPy.ConnectionPool.Connection
  alias Pipeline.DSPy.Metrics

  setup_all do
    pool = start_pool(pool_size: 2, workers: 2, max_queue_size: 2)
    {:ok, _info} = PythonBridge.await_ready(pool)
    eventually(fn -> ConnectionPool.status(pool).ready == 2 end)
    await_idle(pool)
    %{pool: pool}
  end

  # Whatever a test has left behind is over before the next one begins.
  setup %{pool: pool} do
    eventually(fn -> idle?(pool) end)
    :ok
  end

  defp idle?(pool) do
    %{lanes: lanes, connections: lent} = ConnectionPool.status(pool)
    lent == 0 and Enum.all?(lanes, fn {_, lane} -> lane.running == 0 and lane.waiting == 0 end)
  end

  defp fill(pool, lane) do
    {send, slots} = if lane == :long, do: {&hold_long/2, 2}, else: {&hold/2, 4}
    held = for n <- 1..slots, do: {send.(pool, label: {lane, n}), await_held({lane, n})}
    Enum.unzip(held)
  end

  defp let_all_go(refs, models) do
    Enum.each(models, &let_go/1)
    for ref <- refs, do: assert({:ok, _answer} = PythonBridge.await(ref))
  end

  describe "a pool in a bridge's place" do
    test "answers the bridge's verbs, by name, by pid and by name and node", %{pool: pool} do
      for target <- [pool, Process.whereis(pool), {pool, node()}] do
        assert {:ok, %{protocol: 1, verbs: verbs}} = PythonBridge.await_ready(target)
        assert :predict in verbs
        assert {:ok, %{status: :success}} = ask(target)
      end
    end

    test "captures the frames of all its nodes, and ends that on all of them", %{pool: pool} do
      on = fn answer -> for {_index, one} <- answer.bridges, one.mode == :on, do: one.file end

      assert {:ok, %{status: :success, mode: :on, bridges: bridges} = answer} =
               PythonBridge.capture(pool, mode: :on, name: "pool.ecap")

      assert map_size(bridges) == 2
      files = on.(answer)
      assert length(Enum.uniq(files)) == 2 and Enum.all?(files, &File.exists?/1)
      assert {:ok, %{status: :success}} = ask(pool)

      assert {:ok, %{mode: :off, count: count, lost: 0} = answer} =
               PythonBridge.capture(pool, mode: :off)

      assert count > 0 and on.(answer) == []
      assert {:ok, %{mode: :off, count: 0}} = PythonBridge.capture(pool)

      for payload <- [[name: "../x", mode: :on], [mode: :sideways]] do
        assert {:error, %PythonError{error_type: :validation_error}} =
                 PythonBridge.capture(pool, payload)
      end

      assert {:error, %PythonError{error_type: :validation_error}} =
               PythonBridge.request(pool, :capture, %{1 => [2]}, [])
    end

    test "gives many callers at once each its own answer, over both of its bridges", %{pool: pool} do
      questions = for number <- 1..24, do: "question number #{number}"
      echo = fn %{messages: messages} -> echo(List.last(messages).content) end

      answers =
        questions
        |> Task.async_stream(
          fn question ->
            {:ok, %{prediction: prediction}} =
              PythonBridge.predict(pool, "question -> answer", %{question: question},
                lm: echo,
                cache: false
              )

            prediction["answer"]
          end,
          # As many as run and wait at once: none is refused.
          max_concurrency: 6,
          timeout: 30_000
        )
        |> Enum.map(fn {:ok, answer} -> answer end)

      assert answers == questions
    end

    defp echo(content) do
      [_before, rest] = String.split(content, "[[ ## question ## ]]\n", parts: 2)
      [question | _after] = String.split(rest, "\n", parts: 2)
      "[[ ## answer ## ]]\n#{question}\n\n[[ ## completed ## ]]"
    end

    test "passes progress on", %{pool: pool} do
      test_process = self()

      assert {:ok, %{score: _}} =
               PythonBridge.evaluate_pipeline(
                 pool,
                 Tickets.signature(),
                 Enum.take(Tickets.read(), 4),
                 lm: :offline,
                 progress: &send(test_process, {:heard, &1.stage})
               )

      assert_received {:heard, :evaluating}
    end

    test "knows at every bridge a program that one of them has stored", %{pool: pool} do
      assert {:ok, %{program_id: program}} =
               PythonBridge.optimize_signature(
                 pool,
                 Tickets.signature(),
                 Enum.take(Tickets.read(), 8),
                 optimizer: :labeled_few_shot,
                 lm: :offline
               )

      for {_index, %{pid: bridge}} <- bridges(pool) do
        assert {:ok, %{program: %{}}} = PythonBridge.get_program(bridge, program)
      end
    end

    test "says how all of its bridges are", %{pool: pool} do
      # A worker may still boot, or end what a test before has cancelled.
      eventually(fn -> match?({:ok, %{status: :healthy}}, PythonBridge.health_check(pool)) end)
      await_idle(pool)
      assert {:ok, health} = PythonBridge.health_check(pool)
      assert %{status: :healthy, message: "2 of 2 bridges are ready, 0 requests wait"} = health
      assert %{1 => %{uptime_ms: _}, 2 => %{uptime_ms: _}} = health.bridges
      assert length(health.workers) == 4
      assert health.queue == %{waiting: 0, running: 0, capacity: 2}
      assert health.pool == ConnectionPool.status(pool)
    end

    test "tells of a health that a stopped node does not give, in time", %{pool: pool} do
      # A worker may still be ending the job that a test before has cancelled.
      await_idle(pool)
      %{2 => %{info: %{os_pid: os_pid}}} = bridges(pool)
      signal("STOP", os_pid)
      assert {:ok, health} = PythonBridge.health_check(pool, timeout: 200)
      signal("CONT", os_pid)
      assert health.status == :degraded

      assert %{
               1 => %{status: :healthy},
               2 => %{status: :unavailable, error: %PythonError{error_type: :timeout_error}}
             } = health.bridges
    end
  end

  describe "lanes" do
    test "a long optimization does not block quick requests", %{pool: pool} do
      {refs, models} = fill(pool, :long)
      waiting = for _ <- 1..2, do: hold_long(pool, label: :waiting)
      await_waiting(pool, :long, 2)

      for _ <- 1..8, do: assert({:ok, %{status: :success}} = ask(pool))

      for ref <- waiting, do: assert({:ok, _} = PythonBridge.cancel(pool, ref))
      let_all_go(refs, models)
    end

    test "a full quick lane keeps nobody from long work and from what the node answers", %{
      pool: pool
    } do
      {refs, models} = fill(pool, :quick)
      waiting = for _ <- 1..2, do: hold(pool, label: :waiting)
      await_waiting(pool, :quick, 2)

      assert {:ok, %{programs: _}} = PythonBridge.list_programs(pool)
      assert {:ok, %{queue: %{waiting: 2}}} = PythonBridge.health_check(pool)
      assert %{lanes: %{long: %{waiting: 0}}} = ConnectionPool.status(pool)

      for ref <- waiting, do: assert({:ok, _} = PythonBridge.cancel(pool, ref))
      let_all_go(refs, models)
    end

    test "work goes to the bridge with the least to do", %{pool: pool} do
      {refs, models} = fill(pool, :quick)
      assert [2, 2] == for({_index, bridge} <- bridges(pool), do: bridge.used.quick)
      let_all_go(refs, models)
    end

    test "work on one program goes to the same bridge, until that is full", %{pool: pool} do
      {:ok, %{program_id: program}} =
        PythonBridge.optimize_signature(
          pool,
          "question -> answer",
          [%{question: "a", answer: "b"}],
          optimizer: :labeled_few_shot,
          lm: :offline
        )

      test_process = self()

      held = fn label ->
        lm = fn _request ->
          send(test_process, {:held, label, self()})
          receive do: (:go -> "[[ ## answer ## ]]\n!\n\n[[ ## completed ## ]]")
        end

        payload = %{
          program: program,
          input: %{question: "?"},
          config: %{lm: lm, cache: false}
        }

        {PythonBridge.async(pool, :predict, payload, progress: false), await_held(label)}
      end

      {refs, models} = Enum.unzip([held.(1), held.(2)])
      assert [0, 2] == Enum.sort(for {_index, bridge} <- bridges(pool), do: bridge.used.quick)
      {more, more_models} = held.(3)
      assert [1, 2] == Enum.sort(for {_index, bridge} <- bridges(pool), do: bridge.used.quick)
      let_all_go([more | refs], [more_models | models])
    end
  end

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

  describe "requests in flight" do
    test "a caller that dies takes its request with it, and its slot is free", %{pool: pool} do
      test_process = self()

      caller =
        spawn(fn ->
          ref = hold(pool)
          receive do: ({:held, _label, model} -> send(test_process, {:model, model}))
          PythonBridge.await(ref)
        end)

      assert_receive {:model, model}, 20_000
      down = Process.monitor(model)
      Process.exit(caller, :kill)
      assert_receive {:DOWN, ^down, :process, ^model, _reason}, 5_000
      eventually(fn -> idle?(pool) end)
    end

    test "a late answer after a timeout reaches nobody", %{pool: pool} do
      refs = for n <- 1..4, do: hold(pool, label: n, timeout: 1_500, grace: 0)
      models = for n <- 1..4, do: await_held(n)

      for ref <- refs do
        assert {:error, %PythonError{error_type: :timeout_error}} = PythonBridge.await(ref)
      end

      Enum.each(models, &let_go/1)
      # Whoever asks next, at the same workers, gets what he asked for.
      for _ <- 1..4, do: assert({:ok, %{status: :success}} = ask(pool))
      eventually(fn -> idle?(pool) end)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "a progress function that raises ends its request", %{pool: pool} do
      assert_raise RuntimeError, "enough", fn ->
        PythonBridge.request(pool, :optimize_signature, slow_payload(),
          progress: fn _state -> raise "enough" end
        )
      end

      eventually(fn -> idle?(pool) end)
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  describe "connections" do
    test "lend a bridge, as many as there are slots for long work", %{pool: pool} do
      assert {:ok, %Connection{} = first} = ConnectionPool.get_connection(pool)
      assert {:ok, %Connection{} = second} = ConnectionPool.get_connection(pool)
      assert first.bridge != second.bridge
      assert {:ok, %{status: :success}} = ask(first)
      assert {:ok, %{status: :healthy}} = PythonBridge.health_check(first)
      assert {:ok, %{protocol: 1}} = PythonBridge.await_ready(second)
      assert ConnectionPool.get_connection(pool, 50) == {:error, :timeout}
      assert {:ok, %{status: :success}} = ask(pool)

      waiting = Task.async(fn -> ConnectionPool.get_connection(pool) end)
      await_waiting(pool, :long, 1)
      assert ConnectionPool.return_connection(first) == :ok
      # Twice does no harm.
      assert ConnectionPool.return_connection(pool, first) == :ok
      assert {:ok, %Connection{bridge: bridge}} = Task.await(waiting)
      assert bridge == first.bridge
      ConnectionPool.return_connection(second)
    end

    test "come back when their holder dies", %{pool: pool} do
      test_process = self()

      holder =
        spawn(fn ->
          send(test_process, ConnectionPool.get_connection(pool))
          Process.sleep(:infinity)
        end)

      assert_receive {:ok, %Connection{}}, 5_000
      assert ConnectionPool.status(pool).connections == 1
      Process.exit(holder, :kill)
      eventually(fn -> idle?(pool) end)
    end

    test "are sought at the pool with the module's own name where none is named" do
      assert {:error, %PythonError{context: %{reason: :noproc}}} =
               ConnectionPool.get_connection(100)

      assert {:error, %PythonError{context: %{reason: :noproc}}} = ConnectionPool.get_connection()
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

  describe "options" do
    test "that are unknown or out of range raise in the caller" do
      for wrong <- [[pool_size: 0], [max_queue_size: -1], [lanes: [long: 0]], [stop_timeout: 0.5]] do
        assert_raise ArgumentError, fn -> ConnectionPool.start_link(wrong) end
      end
    end

    test "that are misspelt are told the nearest right name, be they the pool's, a lane's or a bridge's" do
      for {wrong, right} <- [pol_size: :pool_size, log_levle: :log_level] do
        assert_raise ArgumentError, ~r/did you mean #{inspect(right)}/, fn ->
          ConnectionPool.start_link([{wrong, 1}])
        end
      end

      assert_raise ArgumentError, ~r/did you mean :quick/, fn ->
        ConnectionPool.start_link(lanes: [quik: 1])
      end
    end
  end
end
