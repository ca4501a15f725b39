defmodule Pipeline.DSPy.BridgeLifeTest do
  @moduledoc "Bridges whose node is killed, stopped, missing, late or shut down."

  use Pipeline.NodeCase

  # The node with its workers, all of them up.
  defp os_pids(bridge) do
    await_idle(bridge)
    bridge |> port_os_pid() |> family()
  end

  defp port_os_pid(bridge), do: :sys.get_state(bridge).node.process.os_pid

  defp gone?(os_pids), do: not Enum.any?(os_pids, &running?/1)

  describe "a node that is killed" do
    test "fails what is in flight, and its supervisor starts another" do
      bridge = start_bridge()
      {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)
      first = Process.whereis(bridge)
      monitor = Process.monitor(first)

      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload())
      assert_receive {PythonBridge, ^ref, {:progress, _}}, 20_000
      signal("KILL", os_pid)

      assert {:error,
              %PythonError{error_type: :process_crashed, recovery_strategy: :retry} = error} =
               PythonBridge.await(ref, timeout: 10_000)

      assert error.context.reason in [:signal, :exit]
      assert_receive {:DOWN, ^monitor, :process, ^first, {:node_down, %PythonError{}}}, 10_000

      eventually(fn -> Process.whereis(bridge) not in [nil, first] end)
      assert {:ok, %{os_pid: other}} = PythonBridge.await_ready(bridge)
      assert other != os_pid
      assert {:ok, %{status: _}} = PythonBridge.health_check(bridge)
    end

    test "is known to its callers within half a second, and by which signal" do
      bridge = start_bridge()
      {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)
      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload())
      assert {:ok, _health} = PythonBridge.health_check(bridge)
      started = System.monotonic_time(:millisecond)
      signal("KILL", os_pid)
      assert {:error, %PythonError{context: context}} = PythonBridge.await(ref, timeout: 5_000)
      assert System.monotonic_time(:millisecond) - started < 500
      assert context == %{reason: :signal, signal: 9}
    end

    test "takes its workers with it, busy or idle" do
      bridge = start_bridge(workers: 2)
      pids = os_pids(bridge)
      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload())
      assert_receive {PythonBridge, ^ref, {:progress, _}}, 20_000
      signal("KILL", port_os_pid(bridge))
      eventually(fn -> gone?(pids) end)
    end

    test "tells whom :notify names" do
      bridge = start_bridge(notify: self())
      assert_receive {PythonBridge, pid, {:ready, %{os_pid: os_pid}}}, 15_000
      assert pid == Process.whereis(bridge)
      signal("KILL", os_pid)

      assert_receive {PythonBridge, ^pid, {:down, %PythonError{error_type: :process_crashed}}},
                     10_000
    end
  end

  describe "a node that is stopped" do
    setup do
      bridge = start_bridge(stop_timeout: 200)
      {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)
      signal("STOP", os_pid)
      %{bridge: bridge, os_pid: os_pid}
    end

    test "gives a typed timeout, and its late answer reaches nobody", %{
      bridge: bridge,
      os_pid: os_pid
    } do
      assert {:error, %PythonError{error_type: :timeout_error}} =
               PythonBridge.health_check(bridge, timeout: 100, grace: 0)

      signal("CONT", os_pid)

      assert {:error, %PythonError{error_type: :unknown_verb}} =
               PythonBridge.request(bridge, :no_such_verb, %{})

      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "does not block the bridge, however much waits for it", %{bridge: bridge} do
      payload = %{input: :binary.copy("x", 10_000_000)}

      refs =
        for _ <- 1..5, do: PythonBridge.async(bridge, :predict, payload, timeout: 300, grace: 0)

      # The bridge answers a system message while its writer is suspended.
      assert %{exchange: %{outgoing: %{unsent_bytes: unsent}}} = :sys.get_state(bridge, 1_000)
      assert unsent > 40_000_000

      for ref <- refs do
        assert {:error, %PythonError{error_type: :timeout_error}} =
                 PythonBridge.await(ref, timeout: 2_000)
      end
    end

    test "refuses more than may wait for it" do
      bridge = start_bridge(max_unsent_bytes: 1_000_000, stop_timeout: 200)
      {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)
      signal("STOP", os_pid)

      predict = &PythonBridge.async(bridge, :predict, &1, timeout: 2_000, grace: 0)

      # The first fills the node's pipe, however large that is, and leaves the rest in the port: then the writer is stuck.
      first = predict.(%{input: :binary.copy("x", 3_000_000)})
      eventually(fn -> :sys.get_state(bridge).exchange.outgoing.unsent_bytes == 0 end)
      second = predict.(%{input: :binary.copy("x", 900_000)})

      assert {:error, %PythonError{error_type: :overloaded, retryable: true} = error} =
               PythonBridge.request(bridge, :predict, %{input: :binary.copy("x", 200_000)})

      assert error.message =~ ":max_unsent_bytes"

      for ref <- [first, second] do
        assert {:error, %PythonError{error_type: :timeout_error}} = PythonBridge.await(ref)
      end
    end

    test "is ended by its guardian when the bridge is killed", %{bridge: bridge, os_pid: os_pid} do
      pids = bridge |> port_os_pid() |> family()
      assert os_pid in pids
      Process.exit(Process.whereis(bridge), :kill)
      eventually(fn -> gone?(pids) end, 2_000)
    end

    test "is killed when the bridge stops", %{bridge: bridge, os_pid: os_pid} do
      PythonBridge.async(bridge, :predict, %{input: :binary.copy("x", 10_000_000)})
      stop_supervised!(bridge)
      eventually(fn -> not running?(os_pid) end, 2_000)
    end
  end

  describe "a guardian that is stopped" do
    test "ends with its node when the bridge is killed, and nothing is left" do
      bridge = start_bridge()
      pids = os_pids(bridge)
      signal("STOP", port_os_pid(bridge))
      assert {:ok, %{status: :healthy}} = PythonBridge.health_check(bridge)
      Process.exit(Process.whereis(bridge), :kill)
      eventually(fn -> gone?(pids) end, 2_000)
    end
  end

  describe "a node that does not get ready" do
    test "in time is a typed failure, and does not hold up the supervisor" do
      started = System.monotonic_time(:millisecond)

      bridge =
        start_bridge(python: script("exec sleep 60"), handshake_timeout: 1_000, stop_timeout: 50)

      assert System.monotonic_time(:millisecond) - started < 1_000
      os_pid = port_os_pid(bridge)

      # A request that waits for the handshake hears of it as well.
      assert {:error, %PythonError{error_type: :timeout_error, context: %{reason: :handshake}}} =
               PythonBridge.health_check(bridge)

      assert System.monotonic_time(:millisecond) - started < 5_000
      eventually(fn -> not running?(os_pid) end)
    end

    test "because it says something else" do
      bridge =
        start_bridge(
          python: script(~S"printf '\000\000\000\002hi'; exec sleep 60"),
          stop_timeout: 50
        )

      assert {:error, %PythonError{error_type: :process_crashed, context: %{reason: :protocol}}} =
               PythonBridge.await_ready(bridge)
    end

    test "because its Python is not there" do
      bridge = start_bridge(python: "/no/such/python", notify: self())
      assert_receive {PythonBridge, pid, {:down, %PythonError{error_type: :import_error}}}, 5_000
      # A fault that a restart cannot help is not tried again, and callers are told so.
      eventually(fn -> not Process.alive?(pid) and Process.whereis(bridge) == nil end)

      assert {:error, %PythonError{context: %{reason: :noproc}}} =
               PythonBridge.await_ready(bridge)
    end

    test "because its Python has no erlbridge" do
      # -S leaves out site-packages, wherever the package is installed.
      bare = script(~s(exec "#{python()}" -S -E "$@" 2>/dev/null))
      bridge = start_bridge(python: bare)

      assert {:error, %PythonError{error_type: :import_error, recovery_strategy: :fatal} = error} =
               PythonBridge.await_ready(bridge)

      assert error.context == %{reason: :configuration, exit_code: 2}
      eventually(fn -> Process.whereis(bridge) == nil end)
    end

    test "a setting that the node refuses ends the bridge as fatal, and is not tried again" do
      # Not one restart is allowed, so that a restart would end the supervisor.
      supervisor = start_supervised!({DynamicSupervisor, strategy: :one_for_one, max_restarts: 0})

      for settings <- [[stall_s: "soon"], [endpoint_limits: %{"openai" => 0}], [wrokers: 2]] do
        name = :"bridge_#{System.unique_integer([:positive])}"

        options = [
          name: name,
          python: python(),
          data_dir: tmp_dir("unused-#{name}"),
          settings: settings
        ]

        {:ok, bridge} = DynamicSupervisor.start_child(supervisor, {PythonBridge, options})
        down = Process.monitor(bridge)

        assert {:error, %PythonError{recovery_strategy: :fatal, retryable: false} = error} =
                 PythonBridge.health_check(name)

        assert error.context == %{reason: :configuration, exit_code: 2}

        assert_receive {:DOWN, ^down, :process, ^bridge,
                        {:shutdown, {:node_down, %PythonError{}}}},
                       5_000
      end

      assert Process.alive?(supervisor)
      assert DynamicSupervisor.count_children(supervisor).specs == 0
    end
  end

  describe "the end" do
    test "of a bridge leaves no process" do
      bridge = start_bridge(workers: 2)
      pids = os_pids(bridge)
      assert length(pids) > 2
      stop_supervised!(bridge)
      eventually(fn -> gone?(pids) end)
    end

    test "of a bridge that is killed leaves no process" do
      bridge = start_bridge()
      pids = os_pids(bridge)
      Process.exit(Process.whereis(bridge), :kill)
      eventually(fn -> gone?(pids) end)
    end

    test "by shutdown is normal and not followed by a restart" do
      bridge = start_bridge()
      pids = os_pids(bridge)
      monitor = Process.monitor(bridge)

      assert {:ok, %{status: :stopped, unfinished: 0}} = PythonBridge.shutdown(bridge)
      assert_received {:DOWN, ^monitor, :process, _, :normal}
      assert Process.whereis(bridge) == nil
      eventually(fn -> gone?(pids) end)
    end

    test "by shutdown answers the jobs that it does not wait for" do
      bridge = start_bridge()
      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload())
      assert_receive {PythonBridge, ^ref, {:progress, _}}, 20_000

      assert {:ok, %{status: :stopped, unfinished: 1}} =
               PythonBridge.shutdown(bridge, mode: :now, grace_ms: 0)

      assert {:error, %PythonError{error_type: type}} = PythonBridge.await(ref)
      assert type in [:shutting_down, :cancelled]
    end

    test "of a bridge answers what is in flight" do
      bridge = start_bridge()
      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload())
      {:ok, _info} = PythonBridge.await_ready(bridge)
      stop_supervised!(bridge)

      assert {:error, %PythonError{error_type: :shutting_down}} =
               PythonBridge.await(ref, timeout: 1_000)
    end
  end

  describe "limits" do
    test "requests beyond :max_in_flight are refused" do
      bridge = start_bridge(max_in_flight: 2)
      refs = for _ <- 1..3, do: PythonBridge.async(bridge, :health_check, %{})
      outcomes = Enum.map(refs, &PythonBridge.await(&1, timeout: 15_000))

      # All three were sent before the node was ready.
      assert [
               {:ok, _},
               {:ok, _},
               {:error, %PythonError{error_type: :overloaded, retry_after_ms: after_ms}}
             ] = outcomes

      assert is_integer(after_ms)
    end

    test "a full bridge still takes what makes room" do
      bridge = start_bridge(max_in_flight: 1)
      {:ok, _info} = PythonBridge.await_ready(bridge)
      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload())
      assert {:error, %{error_type: :overloaded}} = PythonBridge.health_check(bridge)
      assert {:ok, %{status: :cancelling}} = PythonBridge.cancel(bridge, ref)
      assert {:error, %{error_type: :cancelled}} = PythonBridge.await(ref, timeout: 10_000)
    end

    test "events go on when there are more of them than credit" do
      bridge = start_bridge(credit: 2)
      payload = %{slow_payload() | config: Map.put(slow_payload().config, :lm, :offline)}
      ref = PythonBridge.async(bridge, :optimize_signature, payload, timeout: 25_000)
      assert {:ok, %{status: :success}} = await_counting(ref, 0)
    end

    defp await_counting(ref, events) do
      receive do
        {PythonBridge, ^ref, {:progress, _}} ->
          await_counting(ref, events + 1)

        {PythonBridge, ^ref, answer} ->
          assert events > 2
          answer
      after
        25_000 -> flunk("no answer after #{events} events")
      end
    end
  end

  describe "the wire itself" do
    test "an id that is in flight is refused, and a broken request spoils only itself" do
      {:ok, process} =
        ProcessManager.start_python_process(
          python: python(),
          workers: 1,
          data_dir: tmp_dir("wire")
        )

      on_exit(fn -> ProcessManager.stop(process) end)
      port = process.port
      assert {:ready, _info} = next(port)

      request =
        MessageProtocol.create_request(:optimize_signature, slow_payload(), message_id: "same")

      Port.command(port, MessageProtocol.encode(request))
      Port.command(port, MessageProtocol.encode(request))
      assert {:answer, "same", {:error, %{error_type: :duplicate_id}}} = next_answer(port)

      Port.command(port, "no term")
      assert {:answer, nil, {:error, %{error_type: :serialization_error}}} = next_answer(port)

      health = MessageProtocol.create_health_check_request(message_id: [1 | {:two, 3.0}])
      Port.command(port, MessageProtocol.encode(health))
      assert {:answer, [1 | {:two, 3.0}], {:ok, %{status: _}}} = next_answer(port)
      assert ProcessManager.stop(process) == :ok
    end

    defp next(port) do
      assert_receive {^port, {:data, frame}}, 15_000
      {:ok, message} = MessageProtocol.decode(frame)
      message
    end

    defp next_answer(port) do
      case next(port) do
        {:answer, _id, _outcome} = answer -> answer
        _event -> next_answer(port)
      end
    end
  end
end
