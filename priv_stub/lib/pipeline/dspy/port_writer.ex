defmodule Pipeline.DSPy.PortWriter do
  @moduledoc """
  The process that writes to a node's port, so that the port's owner never does.

  A port suspends whoever writes to it once a program does not read, its pipe is full (a node makes that a megabyte), and
  some 8 KB wait besides. The owner must go on receiving then (the node's answers, its exit, its callers), so a process of its
  own is the one that is suspended. It writes frame by frame, in order, and tells the owner `{:written, byte_size}` after each.
  It ends with `{:shutdown, :port_closed}` when the port is gone, and can be killed while it is suspended.
  """

  @doc "Starts a writer for a port, linked to the calling process, which hears of what has been written."
  @spec start_link(port) :: pid
  def start_link(port), do: :proc_lib.spawn_link(__MODULE__, :init, [port, self()])

  @doc "Hands over one frame. Returns at once; the writer's mailbox is the queue."
  @spec write(pid, binary) :: :ok
  def write(writer, frame) do
    send(writer, {:write, frame})
    :ok
  end

  @doc false
  def init(port, owner) do
    receive do
      {:write, frame} ->
        if command(port, frame) == :closed, do: exit({:shutdown, :port_closed})
        send(owner, {:written, byte_size(frame)})

      _other ->
        :ok
    end

    init(port, owner)
  end

  # badarg is what a writer gets, suspended or not, when its port has closed.
  defp command(port, frame) do
    Port.command(port, frame)
    :ok
  rescue
    ArgumentError -> :closed
  end
end
