defmodule Pipeline.DSPy.PythonBridge.Outgoing do
  @moduledoc """
  What goes to a bridge's node: the frames on their way there, the bytes among them that its port has yet to take, and the
  credit that passed-on events have earned the node back.

  A value of the bridge's process, which owns the port. A frame that the port takes at once is written right here, which
  spares two processes a wake-up for each request. One that it does not take (the node does not read, or others wait already)
  goes to the `Pipeline.DSPy.PortWriter`, which is suspended in the bridge's stead, and tells it `{:written, bytes}`.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PortWriter

  defstruct [:port, :writer, unsent_bytes: 0, credit: 0, consumed: 0]

  @typedoc """
  `unsent_bytes` are those of frames that the port has not taken, be they with the writer or held for a node that is not
  ready. `credit` is how many events the node may send before it is granted more, `consumed` how many of these have been
  passed on since it was.
  """
  @type t :: %__MODULE__{
          port: port | nil,
          writer: pid | nil,
          unsent_bytes: integer,
          credit: non_neg_integer,
          consumed: non_neg_integer
        }

  @doc "Nothing, to nowhere."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "From now on frames go to this port, which the calling process owns, and where that is full to this writer."
  @spec open(t, port, pid) :: t
  def open(%__MODULE__{} = outgoing, port, writer), do: %{outgoing | port: port, writer: writer}

  @doc "From now on frames go nowhere: the port is closing."
  @spec close(t) :: t
  def close(%__MODULE__{} = outgoing), do: %{outgoing | port: nil, writer: nil}

  @doc "The node is ready, and begins with so much credit. What was held counts anew when it is written."
  @spec ready(t, non_neg_integer) :: t
  def ready(%__MODULE__{} = outgoing, credit) do
    %{outgoing | credit: credit, unsent_bytes: 0}
  end

  @doc "So many bytes are held for a node that is not ready. A negative number lets them go again."
  @spec hold(t, integer) :: t
  def hold(%__MODULE__{} = outgoing, bytes) do
    %{outgoing | unsent_bytes: outgoing.unsent_bytes + bytes}
  end

  @doc "Writes a frame, or has it written. Never waits."
  @spec write(t, binary) :: t
  def write(%__MODULE__{writer: nil} = outgoing, _frame), do: outgoing

  # Nothing may overtake what the writer has.
  def write(%__MODULE__{unsent_bytes: 0} = outgoing, frame) do
    if taken?(outgoing.port, frame), do: outgoing, else: hand_over(outgoing, frame)
  end

  def write(%__MODULE__{} = outgoing, frame), do: hand_over(outgoing, frame)

  # One that has closed says so in a message of its own.
  defp taken?(port, frame) do
    Port.command(port, frame, [:nosuspend])
  rescue
    ArgumentError -> false
  end

  defp hand_over(outgoing, frame) do
    PortWriter.write(outgoing.writer, frame)
    hold(outgoing, byte_size(frame))
  end

  @doc "The writer has written so many bytes."
  @spec written(t, non_neg_integer) :: t
  def written(%__MODULE__{} = outgoing, bytes), do: hold(outgoing, -bytes)

  @doc "One event has been passed on. Credit is granted back in batches of half of what the node began with."
  @spec consume(t) :: t
  def consume(%__MODULE__{} = outgoing) do
    consumed = outgoing.consumed + 1

    if consumed * 2 >= outgoing.credit,
      do: write(%{outgoing | consumed: 0}, MessageProtocol.encode_credit(consumed)),
      else: %{outgoing | consumed: consumed}
  end
end
