defmodule Pipeline.DSPy.PythonBridge.EventStream do
  @moduledoc """
  A request as a `Stream` of its events and its answer. See `Pipeline.DSPy.PythonBridge.stream/4`.
  """

  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller

  @doc "The stream. Nothing is sent before it is run, and then once for each run, by the process that runs it."
  @spec new(PythonBridge.bridge(), atom, map, keyword) :: Enumerable.t()
  def new(bridge, verb, payload, opts) do
    Stream.resource(fn -> start(bridge, verb, payload, opts) end, &next/1, &stop/1)
  end

  defp start(bridge, verb, payload, opts) do
    # An alias of its own: with it go the events that come after the stream was left.
    heard_at = :erlang.alias()
    heard = for option <- [:progress, :stream_to], do: {option, opts[option] != false && heard_at}

    try do
      ref = Caller.submit(bridge, verb, payload, Keyword.merge(opts, heard))
      until = Caller.patient_until(bridge, opts)
      %{bridge: bridge, ref: ref, opts: opts, until: until, heard_at: heard_at, answered?: false}
    rescue
      error ->
        :erlang.unalias(heard_at)
        reraise error, __STACKTRACE__
    end
  end

  defp next(%{answered?: true} = state), do: {:halt, state}

  defp next(state) do
    case Caller.next(state.bridge, state.ref, state.opts, state.until) do
      {kind, _what} = event when kind in [:progress, :chunk] -> {[event], state}
      answer -> {[answer], %{state | answered?: true}}
    end
  end

  defp stop(state) do
    :erlang.unalias(state.heard_at)
    if not state.answered?, do: Caller.abandon(state.bridge, state.ref)
    Caller.flush(state.ref)
  end
end
