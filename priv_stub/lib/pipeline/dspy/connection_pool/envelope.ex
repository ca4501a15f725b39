defmodule Pipeline.DSPy.ConnectionPool.Envelope do
  @moduledoc """
  What a pool reads in a request's frame, and the one thing that it writes there. The frame is its caller's own and comes
  from no node; the payload is read of those verbs only whose payload is a word.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonBridge.Requests.Request

  @default_grace_ms 10_000

  @doc "Whose turn it is before others, -10 to 10; 0 where nothing is said, or nothing that the node would take."
  @spec priority(Request.t()) :: integer
  def priority(%Request{frame: nil}), do: 0

  def priority(%Request{} = request) do
    case MessageProtocol.metadata(request.frame, request.metadata_bytes) do
      %{priority: priority} when priority in -10..10 -> priority
      _other -> 0
    end
  end

  @doc "The request with `left_ms` milliseconds left, which the node is told as well."
  @spec shortened(Request.t(), non_neg_integer) :: Request.t()
  def shortened(%Request{timeout: timeout} = request, left_ms) when left_ms == timeout,
    do: request

  def shortened(%Request{} = request, left_ms) do
    frame = MessageProtocol.put_deadline(request.frame, request.metadata_bytes, left_ms)
    %{request | timeout: left_ms, frame: frame}
  end

  @doc "The id that a `:cancel` names; nil where it names none."
  @spec cancelled_id(Request.t()) :: term
  def cancelled_id(%Request{verb: :cancel} = request), do: value(request, :id)

  @doc "How long a `:shutdown` lets things finish, 0 for `mode: :now`; `:error` where the node would refuse it."
  @spec grace_ms(Request.t()) :: {:ok, non_neg_integer} | :error
  def grace_ms(%Request{verb: :shutdown} = request) do
    case {value(request, :mode), value(request, :grace_ms)} do
      {:now, _grace} -> {:ok, 0}
      {mode, nil} when mode in [nil, :drain] -> {:ok, @default_grace_ms}
      {mode, ms} when mode in [nil, :drain] and is_integer(ms) and ms >= 0 -> {:ok, ms}
      _other -> :error
    end
  end

  @doc "What a `:capture` says; nil where it is no map, which the node would refuse."
  @spec capture(Request.t()) :: map | nil
  def capture(%Request{verb: :capture, frame: frame}) do
    case MessageProtocol.payload(frame) do
      %{} = payload -> payload
      _other -> nil
    end
  end

  defp value(%Request{frame: frame}, key) do
    case MessageProtocol.payload(frame) do
      %{} = payload -> Map.get(payload, key) || Map.get(payload, Atom.to_string(key))
      _other -> nil
    end
  end
end
