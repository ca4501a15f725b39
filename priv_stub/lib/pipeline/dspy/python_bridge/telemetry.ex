defmodule Pipeline.DSPy.PythonBridge.Telemetry do
  @moduledoc """
  What a bridge emits about its node, besides the events of single requests. `bridge` is its name, or its pid without one.

  | event | measurements | metadata |
  |---|---|---|
  | `[:pipeline, :dspy, :python_bridge, :up]` | `duration` of the start | `bridge` |
  | `[:pipeline, :dspy, :python_bridge, :down]` | `uptime`, `failures` (ends in a row that came soon after the start) | `bridge`, `error_type`, `reason` |
  | `[:pipeline, :dspy, :python_bridge, :health]` | `duration` until the answer, `waiting`, `running`, `restarts` of workers, `missed` intervals | `bridge`, `status`, `message` |

  Durations are in native units. An interval without a sign of life is a `:health` event with `missed` alone and the status
  `:silent`.
  """

  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge.Health
  alias Pipeline.DSPy.PythonError

  @event [:pipeline, :dspy, :python_bridge]

  @typedoc "A bridge's name, or its pid."
  @type bridge :: term

  @doc "The node is ready, so long after its start."
  @spec up(bridge, integer) :: :ok
  def up(bridge, duration), do: emit(:up, %{duration: duration}, %{bridge: bridge})

  @doc "The node has ended after so much time of being ready."
  @spec down(bridge, PythonError.t(), integer, non_neg_integer) :: :ok
  def down(bridge, error, uptime, failures) do
    metadata = %{bridge: bridge, error_type: error.error_type, reason: error.context[:reason]}
    emit(:down, %{uptime: uptime, failures: failures}, metadata)
  end

  @doc "The node has said how it is, so long after it was asked."
  @spec health(bridge, {:ok, term} | {:error, term}, integer, non_neg_integer) :: :ok
  def health(bridge, outcome, duration, missed) do
    {counts, told} = told(outcome)
    measurements = Map.merge(counts, %{duration: duration, missed: missed})
    emit(:health, measurements, Map.put(told, :bridge, bridge))
  end

  @doc "The node has said nothing for another interval."
  @spec silence(bridge, Health.t()) :: :ok
  def silence(bridge, health) do
    emit(:health, %{missed: health.missed}, %{bridge: bridge, status: :silent})
  end

  defp told({:ok, %{status: status, queue: %{waiting: waiting, running: running}} = health}) do
    counts = %{waiting: waiting, running: running, restarts: Map.get(health, :restarts)}
    {counts, %{status: status, message: Map.get(health, :message)}}
  end

  defp told({:ok, _other}), do: {%{}, %{status: :unknown}}
  defp told({:error, _error}), do: {%{}, %{status: :error}}

  defp emit(event, measurements, metadata) do
    Metrics.execute(@event ++ [event], measurements, metadata)
  end
end
