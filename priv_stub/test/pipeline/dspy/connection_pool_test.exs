defmodule Pipeline.DSPy.ConnectionPoolTest do
  @moduledoc "A pool whose nodes are well. One pool of two bridges with two workers each serves all of these tests."

  use Pipeline.PoolCase

  alias Pipeline.DSPy.ConnectionPool.Connection

  setup_all :start_pool_of_two
  setup :await_idle_pool

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
      await_idle_pool(%{pool: pool})
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
      await_idle_pool(%{pool: pool})
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "a progress function that raises ends its request", %{pool: pool} do
      assert_raise RuntimeError, "enough", fn ->
        PythonBridge.request(pool, :optimize_signature, slow_payload(),
          progress: fn _state -> raise "enough" end
        )
      end

      await_idle_pool(%{pool: pool})
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  describe "connections" do
    test "lend a bridge, as many as there are slots for long work", %{pool: pool} do
      # A worker may still be ending the job that a test before has cancelled.
      await_idle(pool)
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
      await_idle_pool(%{pool: pool})
    end

    test "are sought at the pool with the module's own name where none is named" do
      assert {:error, %PythonError{context: %{reason: :noproc}}} =
               ConnectionPool.get_connection(100)

      assert {:error, %PythonError{context: %{reason: :noproc}}} = ConnectionPool.get_connection()
    end
  end
end
