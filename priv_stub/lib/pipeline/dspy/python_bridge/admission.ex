defmodule Pipeline.DSPy.PythonBridge.Admission do
  @moduledoc """
  Whether a bridge takes one more request, decided before it costs anything. Knows counts; does nothing.
  """

  alias Pipeline.DSPy.PythonBridge.NodeFault
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError

  @retry_after_ms 1_000
  # However full a bridge is, what empties it is taken.
  @makes_room [:cancel, :shutdown]

  @typedoc "`pause` is how long the bridge still waits before it starts a node, and why; nil when it does not wait."
  @type load :: %{
          closing?: boolean,
          pause: {left_ms :: non_neg_integer, PythonError.t()} | nil,
          in_flight: non_neg_integer,
          unsent_bytes: non_neg_integer
        }

  @doc "Why a request cannot be taken under this load, nil when it can. Limits: `:max_in_flight`, `:max_unsent_bytes`."
  @spec refusal(Request.t(), load, keyword) :: PythonError.t() | nil
  # Waiting for the node to be ready takes nothing from anybody.
  def refusal(%Request{frame: nil}, _load, _limits), do: nil

  def refusal(_request, %{closing?: true}, _limits) do
    PythonError.new(:shutting_down, "the node is shutting down")
  end

  # Its time would be over before there is a node. `:infinity`, an atom, is more than any number.
  def refusal(%Request{timeout: timeout}, %{pause: {left_ms, fault}}, _limits)
      when timeout <= left_ms do
    NodeFault.restarting(left_ms, fault)
  end

  def refusal(request, load, limits) do
    unsent = load.unsent_bytes + byte_size(request.frame)

    cond do
      load.in_flight >= limits[:max_in_flight] and request.verb not in @makes_room ->
        overloaded("#{load.in_flight} requests are in flight", :max_in_flight, limits)

      # One request alone may be larger than the limit: nothing else is before it.
      load.unsent_bytes > 0 and unsent > limits[:max_unsent_bytes] ->
        overloaded("#{unsent} bytes would wait for the node", :max_unsent_bytes, limits)

      true ->
        nil
    end
  end

  defp overloaded(what, limit, limits) do
    message = "#{what}, limit #{limits[limit]} (#{inspect(limit)})"
    context = %{limit: limits[limit]}
    PythonError.new(:overloaded, message, context: context, retry_after_ms: @retry_after_ms)
  end
end
