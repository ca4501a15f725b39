defmodule Pipeline.DSPy.ConnectionPool.Entry do
  @moduledoc """
  A request on its way through a pool: which lane it takes, since when it is there, and what is to be undone when it goes on.

  A value of the pool's process, which owns the timer and gets `{:timed_out, id}` from it.
  """

  alias Pipeline.DSPy.ConnectionPool.Envelope
  alias Pipeline.DSPy.PythonBridge.Courier
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.Verbs

  @enforce_keys [:request, :lane, :since]
  defstruct [:request, :lane, :since, :monitor, :timer]

  @typedoc "`since` is monotonic, in native units. `monitor` and `timer`, of who asked and of its time, are set while it waits."
  @type t :: %__MODULE__{
          request: Request.t(),
          lane: Verbs.lane(),
          since: integer,
          monitor: reference | nil,
          timer: reference | nil
        }

  @doc "A request that has come just now, in the lane of its verb or in another."
  @spec new(Request.t(), Verbs.lane()) :: t
  def new(%Request{} = request, lane) do
    %__MODULE__{request: request, lane: lane, since: System.monotonic_time()}
  end

  @doc "The same in the lane of its verb; a connection, which may be used for anything, is long."
  @spec new(Request.t()) :: t
  def new(%Request{} = request), do: new(request, lane(request))

  defp lane(%Request{verb: :get_connection}), do: :long
  defp lane(%Request{verb: verb}), do: Verbs.lane(verb)

  @doc "It waits: its caller is watched, and so is its time."
  @spec wait(t) :: t
  def wait(%__MODULE__{request: request} = entry) do
    %{entry | monitor: Courier.monitor(request.owner), timer: start_timer(request)}
  end

  defp start_timer(%Request{timeout: :infinity}), do: nil

  defp start_timer(%Request{id: id, timeout: ms}) do
    Process.send_after(self(), {:timed_out, id}, ms)
  end

  @doc "Its time is watched no more; its monitor is its owner's to end, who knows what it is for."
  @spec stop_timer(t) :: :ok
  def stop_timer(%__MODULE__{timer: nil}), do: :ok

  def stop_timer(%__MODULE__{timer: timer}) do
    Process.cancel_timer(timer)
    :ok
  end

  @doc "Its request as the bridge gets it: what has waited has less time left."
  @spec request(t) :: Request.t()
  def request(%__MODULE__{request: %Request{timeout: :infinity} = request}), do: request

  def request(%__MODULE__{request: request, since: since}) do
    waited = System.convert_time_unit(System.monotonic_time() - since, :native, :millisecond)
    Envelope.shortened(request, max(request.timeout - waited, 0))
  end
end
