defmodule :telemetry do
  # Stands in for the host's telemetry, which is no dependency of ours: passes events on to who asks for them.
  def execute(name, measurements, metadata) do
    with pid when is_pid(pid) <- :persistent_term.get(__MODULE__, nil) do
      send(pid, {:telemetry, name, measurements, metadata})
    end

    :ok
  end
end

defmodule Pipeline.DSPy.MetricsTest do
  use Pipeline.NodeCase

  alias Pipeline.DSPy.Metrics

  setup do
    :persistent_term.put(:telemetry, self())
    on_exit(fn -> :persistent_term.erase(:telemetry) end)
  end

  test "each answered request is an event with its duration and outcome" do
    bridge = start_bridge()
    assert {:ok, _health} = PythonBridge.health_check(bridge)

    assert_receive {:telemetry, [:pipeline, :dspy, :python_bridge],
                    %{duration: duration, success: 1},
                    %{operation: :health_check, error_type: nil}}

    assert duration > 0
    assert {:error, _} = PythonBridge.request(bridge, :no_such_verb, %{})

    assert_receive {:telemetry, [:pipeline, :dspy, :python_bridge], %{success: 0},
                    %{operation: :no_such_verb, error_type: :unknown_verb}}
  end

  test "the node's own telemetry is passed on" do
    assert Metrics.execute([:pipeline, :dspy, :optimization], %{cost: 0.0}, %{}) == :ok
    assert_received {:telemetry, [:pipeline, :dspy, :optimization], %{cost: 0.0}, %{}}
  end
end
