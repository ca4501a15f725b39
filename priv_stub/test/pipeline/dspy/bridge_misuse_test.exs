defmodule Pipeline.DSPy.BridgeMisuseTest do
  @moduledoc "What one caller does wrong or leaves behind, which must not be everybody's."

  use Pipeline.NodeCase

  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.RecoveryManager.Replacement

  describe "an option that is wrong" do
    setup do
      # Never ready, so that the requests stay with the bridge.
      %{bridge: start_bridge(python: script("exec sleep 60"), stop_timeout: 50)}
    end

    test "is its caller's fault, and no bridge's", %{bridge: bridge} do
      pid = Process.whereis(bridge)

      for {option, value} <- [
            grace: :infinity,
            grace: -200,
            progress: true,
            progress: :a_name,
            stream_to: fn _a, _b -> :ok end
          ] do
        assert_raise ArgumentError, ~r/^expected :#{option} (to be|in)/, fn ->
          PythonBridge.predict(bridge, "a -> b", %{a: 1}, [{option, value}, {:timeout, 100}])
        end
      end

      assert Process.whereis(bridge) == pid
    end

    test "of an event's listener does not wait for the first event to be noticed", %{
      bridge: bridge
    } do
      assert_raise ArgumentError, fn ->
        PythonBridge.optimize_signature(bridge, "a -> b", [], progress: true, timeout: 100)
      end
    end
  end

  test "what was given up before there is a node does not count as waiting for it" do
    bridge =
      start_bridge(
        python: script("exec sleep 60"),
        stop_timeout: 50,
        max_unsent_bytes: 1_000_000
      )

    input = %{question: :binary.copy("x", 900_000)}

    for _ <- 1..3 do
      assert {:error, %PythonError{error_type: :timeout_error}} =
               PythonBridge.predict(bridge, "question -> answer", input, timeout: 50, grace: 0)
    end

    assert %{exchange: %{outgoing: %{unsent_bytes: 0}, waiting: waiting}} = :sys.get_state(bridge)
    assert :queue.is_empty(waiting)
  end

  describe "a shutdown" do
    test "goes on when who asked for it is gone, before the node was ready" do
      bridge = start_bridge()
      monitor = Process.monitor(bridge)
      asker = spawn(fn -> PythonBridge.shutdown(bridge) end)
      eventually(fn -> :sys.get_state(bridge).exchange.phase == :closing end)
      Process.exit(asker, :kill)
      assert_receive {:DOWN, ^monitor, :process, _pid, :normal}, 15_000
    end

    test "goes on when who asked for it is gone and the node does not move" do
      bridge = start_bridge(stop_timeout: 50)
      {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)
      monitor = Process.monitor(bridge)
      signal("STOP", os_pid)

      asker =
        spawn(fn -> PythonBridge.request(bridge, :shutdown, %{mode: :now}, timeout: 500) end)

      eventually(fn -> :sys.get_state(bridge).exchange.phase == :closing end)
      Process.exit(asker, :kill)
      assert_receive {:DOWN, ^monitor, :process, _pid, :normal}, 5_000
      eventually(fn -> not running?(os_pid) end)
    end

    test "is ended by the health timer where it has no end of its own" do
      bridge = start_bridge(stop_timeout: 50, health_interval: 100, health_misses: 2)
      {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)
      signal("STOP", os_pid)

      assert {:error, %PythonError{error_type: :shutting_down}} =
               PythonBridge.request(bridge, :shutdown, %{}, timeout: :infinity)

      eventually(fn -> not running?(os_pid) end)
    end

    test "that the node refuses changes nothing" do
      bridge = start_bridge()
      {:ok, _info} = PythonBridge.await_ready(bridge)
      pid = Process.whereis(bridge)

      assert {:error, %PythonError{error_type: :validation_error}} =
               PythonBridge.request(bridge, :shutdown, %{mode: :tomorrow})

      assert {:ok, %{status: _}} = PythonBridge.health_check(bridge)
      assert {:error, %PythonError{}} = PythonBridge.shutdown(bridge, mode: :tomorrow)
      assert {:ok, %{status: _}} = PythonBridge.health_check(bridge)
      assert Process.whereis(bridge) == pid
    end
  end

  test "an answer in chunks whose process is killed is an error, and not waited for" do
    bridge = start_bridge()
    {:ok, _info} = PythonBridge.await_ready(bridge)
    ref = PythonBridge.async(bridge, :optimize_signature, slow_payload(), timeout: :infinity)
    %{port: port} = :sys.get_state(bridge)
    about = %{bytes: 1_000_000, sha256: "00"}
    begins = :erlang.term_to_binary({:ok, ref, {:transfer, "answer", about}})
    send(bridge, {port, {:data, begins}})

    %{exchange: %{requests: %{by_id: %{^ref => %{collector: collector}}}}} =
      :sys.get_state(bridge)

    # As the limit of its heap does, where the application sets one.
    Process.exit(collector, :kill)

    assert {:error, %PythonError{error_type: :transfer_error}} =
             PythonBridge.await(ref, timeout: 5_000)
  end

  test "who stands between hears once that a request is over, also of one that ran out of time" do
    bridge = start_bridge(python: script("exec sleep 60"), stop_timeout: 50)
    ref = :erlang.monitor(:process, bridge, alias: :reply_demonitor)

    request = %Request{
      id: ref,
      owner: self(),
      verb: :predict,
      frame: "frame",
      timeout: 20,
      watcher: self()
    }

    GenServer.cast(bridge, {:submit, request})
    assert {:error, %PythonError{error_type: :timeout_error}} = PythonBridge.await(ref)
    assert_receive {:request_over, ^ref}
    _state = :sys.get_state(bridge)
    refute_received {:request_over, ^ref}
  end

  describe "a node that is well" do
    test "is not given up by one whose time is almost over" do
      bridge = start_bridge()
      {:ok, _info} = PythonBridge.await_ready(bridge)
      pid = Process.whereis(bridge)
      error = PythonError.new(:timeout_error, "no answer")
      for left_ms <- [0, 1], do: Replacement.restart(bridge, error, left_ms)
      assert {:ok, _health} = PythonBridge.health_check(bridge)
      assert Process.whereis(bridge) == pid
    end

    test "is not given up because it is not ready yet" do
      bridge = start_bridge()
      error = PythonError.new(:process_crashed, "it was silent")
      pid = Process.whereis(bridge)
      send(pid, {:give_up_node, error})
      assert {:ok, _info} = PythonBridge.await_ready(bridge)
      assert Process.whereis(bridge) == pid
    end
  end
end
