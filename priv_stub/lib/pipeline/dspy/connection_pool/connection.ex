defmodule Pipeline.DSPy.ConnectionPool.Connection do
  @moduledoc """
  One bridge of a pool, lent to the process that asked for it. Every function of `Pipeline.DSPy.PythonBridge` takes it
  in a bridge's place.

  `bridge` is the bridge itself and `pool` the pool, which gets it back. When the bridge's node dies, the connection is
  void: requests on it get `:process_crashed`, and returning it does nothing.
  """

  @behaviour Pipeline.DSPy.Target

  alias Pipeline.DSPy.PythonBridge.Caller

  @enforce_keys [:id, :pool, :bridge]
  defstruct [:id, :pool, :bridge]

  @type t :: %__MODULE__{id: reference, pool: pid, bridge: pid}

  @impl true
  def request(%__MODULE__{bridge: bridge}, verb, payload, opts) do
    Caller.request(bridge, verb, payload, opts)
  end

  @impl true
  def submit(%__MODULE__{bridge: bridge}, verb, payload, opts) do
    Caller.submit(bridge, verb, payload, opts)
  end
end
