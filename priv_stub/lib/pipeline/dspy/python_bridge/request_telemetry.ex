defmodule Pipeline.DSPy.PythonBridge.RequestTelemetry do
  @moduledoc """
  What a bridge emits about a request: the span around it, that it was answered, and what an optimization came to.

  `Pipeline.DSPy.Metrics` has the events. `:await_ready` asks nothing of the node and is none of them.
  """

  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError

  @span [:pipeline, :dspy, :request]

  @doc "A request has come; it is noted when."
  @spec come(Request.t()) :: Request.t()
  def come(%Request{verb: :await_ready} = request), do: request
  def come(request), do: %{request | started_at: Metrics.span_start(@span, metadata(request))}

  @doc "It is answered; `:lost` where nobody can know the node's own answer any more."
  @spec answered(Request.t(), {:ok, term} | {:error, PythonError.t()}, :told | :lost) :: :ok
  def answered(%Request{started_at: nil}, _outcome, _how), do: :ok

  def answered(request, outcome, how) do
    duration = System.monotonic_time() - request.started_at
    Metrics.record_python_bridge_metrics(request.verb, duration, outcome)

    if request.signature_hash do
      figures = Map.put(figures(outcome), :latency, duration)
      Metrics.record_optimization_metrics(request.signature_hash, figures)
    end

    case {how, outcome} do
      {:lost, {:error, error}} -> ended(request, error)
      {:told, {:error, error}} -> stopped(request, error.error_type)
      {_how, {:ok, _result}} -> stopped(request, nil)
    end
  end

  @doc "Nobody waits for it any more."
  @spec abandoned(Request.t()) :: :ok
  def abandoned(%Request{started_at: nil}), do: :ok
  def abandoned(request), do: ended(request, :abandoned)

  defp stopped(request, error_type) do
    metadata = request |> metadata() |> Map.put(:error_type, error_type)
    Metrics.span_end(@span, :stop, request.started_at, metadata)
  end

  defp ended(request, reason) do
    why = %{kind: :exit, reason: reason, stacktrace: []}
    metadata = Map.merge(metadata(request), why)
    Metrics.span_end(@span, :exception, request.started_at, metadata)
  end

  defp metadata(request), do: %{operation: request.verb, telemetry_span_context: request.id}

  # One that was ended says what it had reached.
  defp figures({:ok, %{optimization_metrics: %{} = metrics}}),
    do: %{accuracy: metrics[:score_after], cost: metrics[:cost_usd]}

  defp figures({:error, %PythonError{context: %{} = context}}),
    do: %{accuracy: context[:best_score], cost: context[:cost_usd]}

  defp figures(_other), do: %{}
end
