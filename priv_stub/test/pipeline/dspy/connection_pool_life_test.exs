defmodule Pipeline.DSPy.ConnectionPoolLifeTest do
  @moduledoc "Pools that lose a node, a bridge, their owner or themselves, that cannot begin, and that are shut down."

  use Pipeline.PoolCase, async: true

  defp node_os_pid(pool, index), do: bridges(pool)[index].info.os_pid

  # Every process of every node, once all of them are up.
  defp os_pids(pool) do
    size = map_size(bridges(pool))
    eventually(fn -> ConnectionPool.status(pool).ready == size end)
    await_idle(pool)

    Enum.flat_map(bridges(pool), fn {_index, %{pid: bridge}} ->
      family(:sys.get_state(bridge).node.process.os_pid)
    end)
  end

  defp gone?(os_pids), do: not Enum.any?(os_pids, &running?/1)

  # The bridge that has something to do.
  defp busy(pool) do
    Enum.find_value(bridges(pool), fn {index, bridge} ->
      if bridge.used.quick + bridge.used.long > 0, do: {index, bridge}
    end)
  end

  describe "a bridge that is killed in the middle of a request" do
    test "has its requests answered by the pool, and another takes its place" do
      pool = start_pool()
      refs = [hold(pool), hold_long(pool, label: :waits)]
      model = await_held(:predict)
      await_waiting(pool, :long, 0)
      {1, %{pid: bridge}} = busy(pool)
      Process.exit(bridge, :kill)

      for ref <- refs do
        assert {:error, %PythonError{error_type: :process_crashed} = error} =
                 PythonBridge.await(ref, timeout: 5_000)

        assert error.context == %{reason: :bridge}
      end

      eventually(fn -> bridges(pool)[1].pid not in [nil, bridge] end)
      refute Process.alive?(model)
      assert {:ok, %{status: :success}} = ask(pool)

      # The pool hears of the end of a request after its caller.
      eventually(fn ->
        match?(
          %{lanes: %{quick: %{running: 0}, long: %{running: 0}}},
          ConnectionPool.status(pool)
        )
      end)
    end

    test "costs its own requests only: another bridge's go on, and what waits goes there" do
      pool = start_pool(pool_size: 2)
      eventually(fn -> ConnectionPool.status(pool).ready == 2 end)
      refs = for n <- 1..2, do: hold(pool, label: n)
      models = for n <- 1..2, do: await_held(n)
      waiting = hold(pool, label: :waiting)
      await_waiting(pool, :quick, 1)
      Process.exit(bridges(pool)[1].pid, :kill)
      Enum.each(models, &let_go/1)

      assert [{:error, %PythonError{error_type: :process_crashed}}, {:ok, _answer}] =
               refs |> Enum.map(&PythonBridge.await/1) |> Enum.sort_by(&elem(&1, 0))

      let_go(await_held(:waiting))
      assert {:ok, _answer} = PythonBridge.await(waiting)
    end

    test "takes back a connection that it was" do
      pool = start_pool()
      {:ok, connection} = ConnectionPool.get_connection(pool, 20_000)
      Process.exit(connection.bridge, :kill)

      assert {:error, %PythonError{error_type: :process_crashed}} =
               PythonBridge.health_check(connection)

      {:ok, other} = ConnectionPool.get_connection(pool, 20_000)
      assert other.bridge != connection.bridge
      # The void one is not counted against the other.
      ConnectionPool.return_connection(connection)
      assert ConnectionPool.status(pool).connections == 1
    end
  end

  describe "a node that is killed" do
    test "has its requests answered, by what killed it, and what waits goes to the next one" do
      pool = start_pool()
      ref = hold(pool)
      await_held(:predict)
      waiting = hold(pool, label: :waiting)
      await_waiting(pool, :quick, 1)
      signal("KILL", node_os_pid(pool, 1))

      assert {:error, %PythonError{error_type: :process_crashed, context: context}} =
               PythonBridge.await(ref, timeout: 5_000)

      assert context == %{reason: :signal, signal: 9}
      let_go(await_held(:waiting))
      assert {:ok, _answer} = PythonBridge.await(waiting)
    end

    test "together with all others leaves the pool as it was" do
      pool = start_pool(pool_size: 4)
      first = Process.whereis(pool)
      eventually(fn -> ConnectionPool.status(pool).ready == 4 end)
      os_pids = for index <- 1..4, do: node_os_pid(pool, index)
      for os_pid <- os_pids, do: signal("KILL", os_pid)
      eventually(fn -> gone?(os_pids) end)

      eventually(fn ->
        now =
          for {_index, %{status: :ready, info: %{os_pid: os_pid}}} <- bridges(pool), do: os_pid

        length(now) == 4 and Enum.all?(now, &(&1 not in os_pids))
      end)

      assert Process.whereis(pool) == first
    end
  end

  describe "bridges that die again and again" do
    test "end the pool, which says so to those that wait, and is started anew" do
      pool = start_pool()
      first = Process.whereis(pool)
      monitor = Process.monitor(first)
      ref = hold(pool)
      kill_bridges(pool, first)
      assert_receive {:DOWN, ^monitor, :process, ^first, {:node_down, %PythonError{}}}, 5_000

      assert {:error, %PythonError{error_type: :process_crashed}} =
               PythonBridge.await(ref, timeout: 5_000)

      eventually(fn -> Process.whereis(pool) not in [nil, first] end)
      assert {:ok, %{protocol: 1}} = PythonBridge.await_ready(pool)
    end

    defp kill_bridges(pool, first) do
      supervisor = :sys.get_state(pool).supervisor

      Stream.repeatedly(fn ->
        for {_id, bridge, _type, _modules} <- DynamicSupervisor.which_children(supervisor),
            is_pid(bridge),
            do: Process.exit(bridge, :kill)
      end)
      |> Enum.find(fn _killed -> not Process.alive?(first) end)
    catch
      # It is gone while it is asked.
      :exit, _reason -> :ok
    end

    test "leave no request without its one answer, and none with another's" do
      pool = start_pool(pool_size: 2, max_queue_size: 50)
      {:ok, _info} = PythonBridge.await_ready(pool)
      await_idle(pool)

      killer =
        Task.async(fn ->
          for {kind, index} <- [bridge: 1, node: 2, bridge: 2, node: 1] do
            bridge = eventually(fn -> ready(pool, index) end)

            if kind == :bridge,
              do: Process.exit(bridge.pid, :kill),
              else: signal("KILL", bridge.info.os_pid)
          end
        end)

      echo = fn %{messages: messages} ->
        [_before, rest] =
          String.split(List.last(messages).content, "[[ ## question ## ]]\n", parts: 2)

        [question | _after] = String.split(rest, "\n", parts: 2)
        "[[ ## answer ## ]]\n#{question}\n\n[[ ## completed ## ]]"
      end

      callers =
        for caller <- 1..12 do
          Task.async(fn ->
            answers =
              for number <- 1..10 do
                question = "#{caller} asks #{number}"

                case PythonBridge.predict(pool, "question -> answer", %{question: question},
                       lm: echo,
                       cache: false
                     ) do
                  {:ok, %{prediction: %{"answer" => ^question}}} -> :right
                  {:error, %PythonError{error_type: :process_crashed}} -> :crashed
                end
              end

            {answers, Process.info(self(), :messages)}
          end)
        end

      Task.await(killer, 25_000)

      for {answers, messages} <- Task.await_many(callers, 25_000) do
        assert length(answers) == 10
        assert messages == {:messages, []}
      end

      eventually(fn ->
        Enum.all?(ConnectionPool.status(pool).lanes, fn {_, lane} -> lane.running == 0 end)
      end)
    end

    defp ready(pool, index) do
      with %{status: :ready} = bridge <- bridges(pool)[index], do: bridge, else: (_ -> nil)
    end
  end

  describe "an owner that dies" do
    test "takes the pool, its bridges and their nodes along" do
      test_process = self()
      options = pool_options()

      {owner, monitor} =
        spawn_monitor(fn ->
          {:ok, pool} = ConnectionPool.start_link(options)
          send(test_process, {:pool, pool})
          Process.sleep(:infinity)
        end)

      assert_receive {:pool, pool}, 5_000
      pids = os_pids(pool)
      ref = hold(pool)
      await_held(:predict)
      Process.exit(owner, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^owner, :killed}
      assert {:error, %PythonError{}} = PythonBridge.await(ref, timeout: 5_000)
      eventually(fn -> gone?(pids) and not Process.alive?(pool) end)
    end
  end

  describe "a pool that is killed" do
    test "leaves no caller waiting and no process behind, and is started anew" do
      pool = start_pool()
      pids = os_pids(pool)
      first = Process.whereis(pool)
      running = hold(pool)
      model = await_held(:predict)
      waiting = hold(pool)
      await_waiting(pool, :quick, 1)
      Process.exit(first, :kill)

      # What runs hears of it from its bridge, which the pool's end shuts down, or of the pool itself: whichever is first.
      assert {:error, %PythonError{error_type: type}} =
               PythonBridge.await(running, timeout: 5_000)

      assert type in [:process_crashed, :shutting_down]

      assert {:error, %PythonError{error_type: :process_crashed}} =
               PythonBridge.await(waiting, timeout: 5_000)

      eventually(fn -> gone?(pids) and not Process.alive?(model) end)
      eventually(fn -> Process.whereis(pool) not in [nil, first] end)
      assert {:ok, %{protocol: 1}} = PythonBridge.await_ready(pool)
    end
  end

  describe "a pool that stops with its supervisor" do
    test "answers what runs and what waits, and leaves no process" do
      pool = start_pool()
      pids = os_pids(pool)
      running = hold(pool)
      await_held(:predict)
      waiting = hold(pool)
      await_waiting(pool, :quick, 1)
      stop_supervised!(pool)

      for ref <- [running, waiting] do
        assert {:error, %PythonError{error_type: :shutting_down}} =
                 PythonBridge.await(ref, timeout: 5_000)
      end

      eventually(fn -> gone?(pids) end)
    end
  end

  describe "a pool that cannot begin" do
    test "says why to all who wait, ends for good, and is not tried again" do
      pool = start_pool(python: "/no/such/python", pool_size: 2)

      # Whoever comes too late for that finds no pool.
      assert {:error, %PythonError{context: %{reason: reason}}} = PythonBridge.await_ready(pool)
      assert reason in [:configuration, :noproc]
      eventually(fn -> Process.whereis(pool) == nil end)
    end

    test "for want of erlbridge, tells those that wait for it" do
      bare = script(~s(exec "#{python()}" -S -E "$@" 2>/dev/null))
      pool = start_pool(python: bare, pool_size: 2)
      refs = for _ <- 1..3, do: hold(pool)

      for ref <- refs do
        assert {:error, %PythonError{error_type: :import_error} = error} =
                 PythonBridge.await(ref, timeout: 10_000)

        assert error.context == %{reason: :configuration, exit_code: 2}
      end

      eventually(fn -> Process.whereis(pool) == nil end)
    end
  end

  describe "shutdown" do
    test "under load lets what runs and what waits finish, and takes nothing more" do
      pool = start_pool(pool_size: 2)
      pids = os_pids(pool)
      monitor = Process.monitor(pool)
      refs = for n <- 1..2, do: hold(pool, label: n)
      models = for n <- 1..2, do: await_held(n)
      waiting = for n <- 3..4, do: hold(pool, label: n)
      await_waiting(pool, :quick, 2)

      shutdown = Task.async(fn -> PythonBridge.shutdown(pool, grace_ms: 20_000) end)
      eventually(fn -> ConnectionPool.status(pool).phase == :closing end)
      assert {:error, %PythonError{error_type: :shutting_down}} = ask(pool)
      assert {:ok, %{pool: %{phase: :closing}}} = PythonBridge.health_check(pool)

      Enum.each(models, &let_go/1)
      for n <- 3..4, do: let_go(await_held(n))
      for ref <- refs ++ waiting, do: assert({:ok, _answer} = PythonBridge.await(ref))

      assert {:ok, %{status: :stopped, unfinished: 0}} = Task.await(shutdown, 20_000)
      assert_receive {:DOWN, ^monitor, :process, _pid, :normal}, 5_000
      eventually(fn -> gone?(pids) end)
      # Its supervisor has not started it again.
      assert Process.whereis(pool) == nil
    end

    test "answers what its grace is too short for" do
      pool = start_pool()
      running = hold(pool)
      await_held(:predict)
      waiting = hold(pool)
      await_waiting(pool, :quick, 1)

      assert {:ok, %{status: :stopped, unfinished: 1}} =
               PythonBridge.shutdown(pool, grace_ms: 100)

      for ref <- [running, waiting] do
        assert {:error, %PythonError{error_type: type}} = PythonBridge.await(ref)
        assert type in [:shutting_down, :cancelled]
      end
    end

    test "with mode :now waits for nothing, also where a patient one was asked for before" do
      pool = start_pool()
      running = hold(pool)
      await_held(:predict)
      patient = Task.async(fn -> PythonBridge.shutdown(pool, grace_ms: 60_000) end)
      eventually(fn -> ConnectionPool.status(pool).phase == :closing end)

      assert {:ok, %{status: :stopped}} = PythonBridge.shutdown(pool, mode: :now, grace_ms: 0)
      assert {:ok, %{status: :stopped}} = Task.await(patient)
      assert {:error, %PythonError{}} = PythonBridge.await(running)
    end

    test "with a payload that says nothing of use is refused, and the pool goes on" do
      pool = start_pool()

      for payload <- [%{mode: :later}, %{grace_ms: "soon"}, %{"grace_ms" => -1}] do
        assert {:error, %PythonError{error_type: :validation_error}} =
                 PythonBridge.request(pool, :shutdown, payload)
      end

      assert ConnectionPool.status(pool).phase == :open
    end
  end

  describe "few workers" do
    test "with one worker each, long work leaves a bridge for what is quick" do
      pool = start_pool(pool_size: 2)
      eventually(fn -> ConnectionPool.status(pool).ready == 2 end)
      first = hold_long(pool, label: :first)
      model = await_held(:first)
      second = hold_long(pool, label: :second)
      await_waiting(pool, :long, 1)
      assert {:ok, %{status: :success}} = ask(pool)
      let_go(model)
      let_go(await_held(:second))
      for ref <- [first, second], do: assert({:ok, _answer} = PythonBridge.await(ref))
    end
  end
end
