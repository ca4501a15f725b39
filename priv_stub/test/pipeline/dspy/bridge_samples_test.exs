defmodule Pipeline.DSPy.BridgeSamplesTest do
  @moduledoc "What a real node's watchdog tells its host."

  use Pipeline.NodeCase

  test "samples of workers and of the node arrive as telemetry" do
    start_bridge(notify: self(), settings: [telemetry_interval_s: "0.2"])

    assert_receive {PythonBridge, _pid,
                    {:telemetry, [:pipeline, :dspy, :worker], usage, %{worker: 1, os_pid: os_pid}}},
                   20_000

    assert is_integer(os_pid)
    assert %{rss_bytes: rss, peak_rss_bytes: peak, cpu_percent: percent} = usage
    assert 0 < rss and rss <= peak
    assert is_float(percent)

    assert_receive {PythonBridge, _pid,
                    {:telemetry, [:pipeline, :dspy, :node], %{descriptors: _, waiting: 0}, _}},
                   20_000
  end
end
