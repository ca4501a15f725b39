defmodule Pipeline.DSPy.Metrics do
  @moduledoc """
  Telemetry of the bridge, emitted when the host has the `:telemetry` application, and nothing otherwise.

  | event | measurements | metadata |
  |---|---|---|
  | `[:pipeline, :dspy, :python_bridge]` | `duration` (native units), `success` (1 or 0) | `operation`, `error_type` |
  | `[:pipeline, :dspy, :callback]`, a call of an Elixir function | `duration` (native units), `success` (1 or 0) | `name` |
  | `[:pipeline, :dspy, :cluster]`, an attempt at a member | `duration` (native units), `attempt` | `cluster`, `operation`, `node`, `error_type`, `verdict`: `:answered`, `:elsewhere` or `:lacks` |
  | `[:pipeline, :dspy, :cluster, :supply]`, a program or dataset brought | `duration` (native units) | `cluster`, `id`, `from`, `to` |
  | `[:pipeline, :dspy, :cluster, :member]`, a member changed | `usable`, how many are | `cluster`, `node`, `condition`: `:ready`, `:not_ready`, `:leaving` or `:gone` |

  Telemetry that the node itself sends is passed on under its own name: samples of `[:pipeline, :dspy, :worker]` and
  `[:pipeline, :dspy, :node]`, and `[:pipeline, :dspy, :limit]` when a worker passes one. Handlers run in the bridge's process: they
  must be quick, as everywhere in telemetry.
  """

  @event [:pipeline, :dspy, :python_bridge]

  @doc "Records one answered request: the verb, its duration in native time units and its outcome."
  @spec record_python_bridge_metrics(atom, integer, {:ok, term} | {:error, Exception.t()}) :: :ok
  def record_python_bridge_metrics(operation, duration, outcome) do
    {success, error_type} =
      case outcome do
        {:ok, _result} -> {1, nil}
        {:error, error} -> {0, error.error_type}
      end

    metadata = %{operation: operation, error_type: error_type}
    execute(@event, %{duration: duration, success: success}, metadata)
  end

  @doc "Emits an event when telemetry is there."
  @spec execute([atom], map, map) :: :ok
  def execute(name, measurements, metadata) do
    # A late apply, because telemetry is the host's choice and not a dependency of ours. Where the module is not loaded,
    # nobody has attached a handler.
    if function_exported?(:telemetry, :execute, 3) do
      apply(:telemetry, :execute, [name, measurements, metadata])
    end

    :ok
  end
end
