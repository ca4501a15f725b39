defmodule Pipeline.DSPy.Target do
  @moduledoc """
  What requests may be sent to, besides a bridge: a struct whose module decides which bridge gets each of them.

  Every function of `Pipeline.DSPy.PythonBridge` takes one in the bridge's place. A process that takes the messages of a
  bridge, as a pool does, needs none of this: it is addressed by its name.
  """

  alias Pipeline.DSPy.PythonBridge

  @doc "Sends a request and waits for its answer, as `Pipeline.DSPy.PythonBridge.request/4` says."
  @callback request(struct, verb :: atom, payload :: map, keyword) :: PythonBridge.answer()

  @doc """
  Hands a request on and returns its reference, by which the calling process gets its answer. A payload of nil, with the
  verb `:await_ready`, asks whether there is a node at all.
  """
  @callback submit(struct, verb :: atom, payload :: map | nil, keyword) :: reference
end
