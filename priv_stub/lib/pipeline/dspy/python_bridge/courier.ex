defmodule Pipeline.DSPy.PythonBridge.Courier do
  @moduledoc """
  What a bridge or a pool has to do with processes of other BEAM nodes, so that it never waits for one of them.

  Whoever sends to a BEAM node that reads nothing, or monitors a process there, is suspended until that node is given up
  after `net_ticktime`, a minute; a bridge would serve nobody meanwhile. So monitors of processes elsewhere are held by a
  courier, a process for each such node; and what cannot be sent at once is handed to it, with all that comes after it, to
  keep the order. A courier ends after the process that it works for, when it has sent what that left.

  Everything here is for one process, whose dictionary knows its couriers.
  """

  @doc "Sends a message to a pid or an alias."
  @spec send_to(pid | reference, term) :: :ok
  def send_to(to, message) when node(to) == node() do
    send(to, message)
    :ok
  end

  def send_to(to, message) do
    busy = {__MODULE__, :busy, node(to)}

    unless Process.get(busy) == nil and
             :erlang.send(to, message, [:nosuspend, :noconnect]) != :nosuspend do
      Process.put(busy, true)
      send(courier(node(to)), {:send, to, message})
    end

    :ok
  end

  @doc "Monitors a process: its end comes as a `:DOWN` message with this reference, wherever the process is."
  @spec monitor(pid) :: reference
  def monitor(pid) when node(pid) == node(), do: Process.monitor(pid)

  def monitor(pid) do
    ref = make_ref()
    courier = courier(node(pid))
    Process.put({__MODULE__, ref}, courier)
    send(courier, {:monitor, ref, pid})
    ref
  end

  @doc "Ends a monitor; no `:DOWN` message of it is left, but one may still come from elsewhere."
  @spec demonitor(reference) :: :ok
  def demonitor(ref) do
    case Process.delete({__MODULE__, ref}) do
      nil ->
        Process.demonitor(ref, [:flush])
        :ok

      courier ->
        send(courier, {:demonitor, ref})
        flush(ref)
    end
  end

  # What is said of a process here is taken back by the runtime, without a look through the mailbox.
  defp flush(ref) do
    receive do
      {:DOWN, ^ref, :process, _pid, _reason} -> :ok
    after
      0 -> :ok
    end
  end

  defp courier(node) do
    key = {__MODULE__, :courier, node}

    with nil <- Process.get(key) do
      owner = self()
      courier = spawn(fn -> carry(owner, Process.monitor(owner), %{}) end)
      Process.put(key, courier)
      courier
    end
  end

  # `refs` are the owner's references and ours, each way.
  defp carry(owner, end_of_owner, refs) do
    receive do
      {:send, to, message} ->
        send(to, message)
        carry(owner, end_of_owner, refs)

      {:monitor, ref, pid} ->
        monitor = Process.monitor(pid)
        carry(owner, end_of_owner, Map.merge(refs, %{ref => monitor, monitor => ref}))

      {:demonitor, ref} ->
        {monitor, refs} = Map.pop(refs, ref)
        if monitor, do: Process.demonitor(monitor, [:flush])
        carry(owner, end_of_owner, Map.delete(refs, monitor))

      {:DOWN, ^end_of_owner, :process, _pid, _reason} ->
        :ok

      {:DOWN, monitor, :process, pid, reason} ->
        {ref, refs} = Map.pop(refs, monitor)
        if ref, do: send(owner, {:DOWN, ref, :process, pid, reason})
        carry(owner, end_of_owner, Map.delete(refs, ref))
    end
  end
end
