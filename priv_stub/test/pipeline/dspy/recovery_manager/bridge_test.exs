defmodule Pipeline.DSPy.RecoveryManager.BridgeTest do
  @moduledoc "Recovery at a real node: one that is killed, one that hangs, and one that is well."

  use Pipeline.NodeCase

  alias Pipeline.DSPy.RecoveryManager

  defp ask(bridge, opts) do
    operation = fn timeout ->
      PythonBridge.predict(bridge, "question -> answer", %{question: "?"},
        lm: :offline,
        timeout: timeout
      )
    end

    RecoveryManager.run(operation, [bridge: bridge, verb: :predict] ++ opts)
  end

  defp node_pid(bridge) do
    {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)
    os_pid
  end

  test "a node that is killed during the first attempt is waited for, and the next one answers" do
    bridge = start_bridge()
    first = node_pid(bridge)
    test = self()

    operation = fn timeout ->
      send(test, :attempt)
      if node_pid(bridge) == first, do: signal("KILL", first)

      PythonBridge.predict(bridge, "question -> answer", %{question: "?"},
        lm: :offline,
        timeout: timeout
      )
    end

    opts = [bridge: bridge, verb: :predict, timeout: 25_000]
    assert {:ok, %{status: :success}} = RecoveryManager.run(operation, [idempotent: true] ++ opts)
    assert node_pid(bridge) != first
    for _attempt <- 1..2, do: assert_received(:attempt)
    refute_received :attempt
  end

  test "nobody's budget is spent on a bridge that does not come" do
    started = System.monotonic_time(:millisecond)

    assert {:error, %PythonError{error_type: :process_crashed} = error} =
             ask(:no_such_bridge, timeout: 300, backoff: 1)

    assert error.context.reason == :noproc
    assert error.context.recovery.stopped_by == :deadline
    assert System.monotonic_time(:millisecond) - started < 2_000
  end

  test "a restart is asked for where the node shows no sign of life, and not where it is well" do
    bridge = start_bridge(notify: self())
    first = node_pid(bridge)
    error = PythonError.new(:timeout_error, "no answer within 500 ms")

    context = %{
      operation: fn -> {:ok, node_pid(bridge)} end,
      bridge: bridge,
      idempotent: true,
      backoff: 1,
      timeout: 25_000
    }

    assert {:ok, ^first} =
             RecoveryManager.execute_recovery_strategy(:restart_process, error, context)

    signal("STOP", first)

    assert {:ok, second} =
             RecoveryManager.execute_recovery_strategy(:restart_process, error, context)

    assert second != first
    assert_received {PythonBridge, _pid, {:down, %PythonError{context: %{reason: :unresponsive}}}}
    refute running?(first)
  end

  test "an exception in a worker takes no node away from others" do
    bridge = start_bridge()
    first = node_pid(bridge)
    error = PythonError.new(:python_runtime_error, "KeyError: 'x'")

    context = %{
      operation: fn -> {:ok, node_pid(bridge)} end,
      bridge: bridge,
      idempotent: true,
      backoff: 1
    }

    assert {:ok, ^first} =
             RecoveryManager.execute_recovery_strategy(:restart_process, error, context)
  end

  test "a bridge whose node cannot start is not waited for" do
    bridge = start_bridge(python: script("sleep 0.1; exit 2"))
    assert {:error, error} = RecoveryManager.Replacement.await(bridge, 20_000)
    assert {error.error_type, error.recovery_strategy} == {:import_error, :fatal}
  end

  describe "without the option :fallback" do
    @failed {:error, PythonError.new(:dspy_optimization_error, "no demo was good enough")}
    @step [step: %{"name" => "s"}, pipeline_context: %{a: 1}]

    test "the application's executor of steps is taken where there is one and a step is given" do
      source = quote(do: def(execute_step(step, context), do: {:ok, {:executed, step, context}}))
      {:module, executor, _binary, _term} = Module.create(Pipeline.Executor, source, __ENV__)

      on_exit(fn ->
        :code.purge(executor)
        :code.delete(executor)
      end)

      assert RecoveryManager.run(fn -> @failed end, @step) ==
               {:ok, {:executed, %{"name" => "s"}, %{a: 1}}}

      assert {:error, _error} = RecoveryManager.run(fn -> @failed end)
      assert {:error, _error} = RecoveryManager.run(fn -> @failed end, [fallback: false] ++ @step)
    end

    test "the configured one is taken" do
      Application.put_env(:pipeline, :fallback, fn error -> {:ok, error.error_type} end)
      on_exit(fn -> Application.delete_env(:pipeline, :fallback) end)
      assert RecoveryManager.run(fn -> @failed end) == {:ok, :dspy_optimization_error}
    end
  end
end
