defmodule Pipeline.DSPy.PythonBridgeRestartsTest do
  @moduledoc "Nodes that end soon after their start, and nodes that stop to answer."

  use Pipeline.NodeCase

  import ExUnit.CaptureLog

  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge.Backoff
  alias Pipeline.DSPy.PythonBridge.Exchange
  alias Pipeline.DSPy.PythonBridge.Health
  alias Pipeline.DSPy.PythonBridge.Outgoing
  alias Pipeline.DSPy.PythonBridge.Restarts

  @moduletag :capture_log

  doctest Backoff
  doctest Health

  @fault PythonError.new(:process_crashed, "it ended")

  # A Python that does what a file says at the moment; each start is a line of another one.
  defp python_that(does) do
    directory = tmp_dir("python-that-#{System.unique_integer([:positive])}")
    what = Path.join(directory, "what")
    starts = Path.join(directory, "starts")
    File.write!(what, does)
    {script(~s(echo start >> #{starts}; . #{what})), what, starts}
  end

  defp count(starts) do
    with {:ok, text} <- File.read(starts), do: length(String.split(text))
  end

  defp pause(bridge) do
    with pid when is_pid(pid) <- Process.whereis(bridge), do: :sys.get_state(pid).exchange.pause
  catch
    :exit, _reason -> nil
  end

  defp now_ms, do: System.monotonic_time(:millisecond)

  describe "a node that always ends at once" do
    test "does not take down a supervisor with the default restarts, and its callers hear at once what is hopeless" do
      {python, what, starts} = python_that("exit 1")
      # The supervisor's own defaults: three restarts within five seconds.
      {:ok, supervisor} = start_supervised({DynamicSupervisor, strategy: :one_for_one})
      bridge = :"flapping_#{System.unique_integer([:positive])}"
      options = [name: bridge, python: python, workers: 1, data_dir: tmp_dir("#{bridge}")]
      began = now_ms()
      {:ok, _pid} = DynamicSupervisor.start_child(supervisor, {PythonBridge, options})

      # The third restart is the last that is allowed within these five seconds, and its wait is longer than what is left of them.
      {until, %PythonError{error_type: :process_crashed}} =
        eventually(fn -> count(starts) == 3 && pause(bridge) end)

      assert until - began > 5_000
      assert Process.alive?(supervisor)

      # This one could not be answered in time.
      asked = now_ms()

      assert {:error, %PythonError{error_type: :process_crashed, retryable: true} = error} =
               PythonBridge.health_check(bridge, timeout: 1_000)

      assert now_ms() - asked < 500

      assert %{reason: :restarting, fault: %PythonError{error_type: :process_crashed}} =
               error.context

      assert error.retry_after_ms in 1_001..5_000

      # These could, and wait; a shutdown needs no node, and answers them.
      ref = PythonBridge.async(bridge, :health_check, %{}, timeout: 60_000)
      ready = PythonBridge.async(bridge, :health_check, %{}, timeout: :infinity)
      assert {:ok, %{status: :stopped, unfinished: 2}} = PythonBridge.shutdown(bridge)

      for ref <- [ref, ready] do
        assert {:error, %PythonError{error_type: :shutting_down}} = PythonBridge.await(ref)
      end

      # One that was stopped on purpose starts afresh.
      File.write!(what, ~s(exec "#{python()}" "$@"))
      {:ok, _pid} = DynamicSupervisor.start_child(supervisor, {PythonBridge, options})
      assert {:ok, _info} = PythonBridge.await_ready(bridge)
      assert count(starts) == 4
    end

    test "keeps no request that waits for the next one beyond its deadline" do
      {python, what, _starts} = python_that("exit 1")
      bridge = start_bridge(python: python, restart_delay: 400, stop_timeout: 50)
      eventually(fn -> pause(bridge) end)
      File.write!(what, "exec sleep 60")
      asked = now_ms()

      assert {:error, %PythonError{error_type: :timeout_error}} =
               PythonBridge.health_check(bridge, timeout: 600, grace: 0)

      assert (now_ms() - asked) in 600..1_500
    end

    test "and one that is well after it answers whoever has waited" do
      {python, what, starts} = python_that("exit 1")
      bridge = start_bridge(python: python, restart_delay: 300)
      eventually(fn -> pause(bridge) end)
      File.write!(what, ~s(exec "#{python()}" "$@"))
      assert {:ok, %{status: _}} = PythonBridge.health_check(bridge)
      assert count(starts) == 2
    end
  end

  describe "ends are counted" do
    @options [healthy_after: 1_000, restart_delay: 100, max_restart_delay: 1_000]

    test "by the bridge's name, from one process to the next, until a node was well for long enough" do
      key = make_ref()
      assert Restarts.pause(key, @options) == {0, nil}
      assert Restarts.node_ended(key, @fault, 0, @options) == 1
      assert {ms, @fault} = Restarts.pause(key, @options)
      assert ms in 85..100
      assert Restarts.node_ended(key, @fault, 0, @options) == 2
      minute = System.convert_time_unit(60, :second, :native)
      assert Restarts.node_ended(key, @fault, minute, @options) == 0
      assert Restarts.pause(key, @options) == {0, nil}
    end

    test "and forgotten when a bridge is stopped on purpose, not when its node ended it" do
      for {reason, left} <- [
            {{:node_down, @fault}, 1},
            {{:shutdown, {:node_down, @fault}}, 1},
            {:killed, 1},
            {:normal, 0},
            {:shutdown, 0},
            {{:shutdown, :upgrade}, 0}
          ] do
        key = make_ref()
        Restarts.node_ended(key, @fault, 0, @options)
        Restarts.bridge_ended(key, reason)
        assert {ms, _error} = Restarts.pause(key, @options)
        assert {reason, min(ms, 1)} == {reason, left}
        Restarts.forget(key)
      end
    end

    test "of a bridge without a name by its supervisor and options" do
      same = for _ <- 1..2, do: Restarts.key(name: nil, workers: 1)
      assert [key, key] = same
      assert Restarts.key(name: nil, workers: 2) != key
      assert Restarts.key(name: MyApp.DSPy, workers: 2) == MyApp.DSPy
    end
  end

  describe "a node that is asked how it is" do
    test "answers as telemetry, and is not asked where no interval is set" do
      # Traced, since telemetry is the host's and not there.
      :erlang.trace_pattern({Metrics, :execute, 3}, true, [:global])
      on_exit(fn -> :erlang.trace_pattern({Metrics, :execute, 3}, false, [:global]) end)
      bridge = start_bridge(health_interval: 50, health_misses: 100)
      :erlang.trace(Process.whereis(bridge), true, [:call])
      event = [:pipeline, :dspy, :python_bridge]
      up = event ++ [:up]
      health = event ++ [:health]

      assert_receive {:trace, _, :call,
                      {Metrics, :execute, [^up, %{duration: started}, %{bridge: ^bridge}]}},
                     15_000

      assert started > 0

      # The node is still loading when it is asked first, which may cost intervals.
      assert_receive {:trace, _, :call,
                      {Metrics, :execute,
                       [^health, %{duration: duration} = measurements, metadata]}},
                     5_000

      assert %{waiting: 0, running: 0, restarts: 0, missed: _} = measurements
      assert duration > 0
      assert %{bridge: ^bridge, status: status} = metadata
      assert status in [:healthy, :degraded]
      # These questions are no requests: nobody's answer, and no place among those in flight.
      assert :sys.get_state(bridge).exchange.requests.by_id == %{}

      quiet = start_bridge(health_interval: nil)
      {:ok, _info} = PythonBridge.await_ready(quiet)
      assert :sys.get_state(quiet).health.question == nil
    end

    test "and shows no sign of life for some intervals is killed and replaced, with an error for each caller" do
      bridge = start_bridge(health_interval: 100, health_misses: 3, stop_timeout: 100)
      {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)

      log =
        capture_log(fn ->
          signal("STOP", os_pid)

          waiting =
            for _ <- 1..3, do: PythonBridge.async(bridge, :predict, %{}, timeout: :infinity)

          for ref <- waiting do
            assert {:error, %PythonError{error_type: :process_crashed, retryable: true} = error} =
                     PythonBridge.await(ref, timeout: 5_000)

            assert error.context == %{reason: :wedged}
          end
        end)

      assert log =~ "Python node has shown no sign of life for 100 ms"
      eventually(fn -> not running?(os_pid) end)
      assert {:ok, %{os_pid: other}} = eventually(fn -> ready(bridge) end)
      assert other != os_pid
    end

    test "is not given up while it reads what was sent before the question" do
      exchange = Exchange.put_outgoing(Exchange.new(:tag, []), %Outgoing{writer: self()})
      exchange = Exchange.write(exchange, "1234567890")
      health = Health.new(health_interval: nil, health_misses: 2)
      {health, exchange} = Health.ask(health, exchange, 0)
      assert health.ahead_bytes == exchange.outgoing.unsent_bytes
      {:wait, health} = Health.tick(health)
      health = Health.written(health, 10)
      {:wait, health} = Health.tick(health)

      # The question itself has been written now: only the node's word counts from here on.
      health = Health.written(health, exchange.outgoing.unsent_bytes - 10)
      {:wait, health} = Health.tick(health)
      assert {:wedged, _health} = health |> Health.written(500) |> Health.tick()
    end
  end

  defp ready(bridge) do
    with {:error, _error} <- PythonBridge.await_ready(bridge), do: nil
  end
end
