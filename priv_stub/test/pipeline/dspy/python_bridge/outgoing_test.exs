defmodule Pipeline.DSPy.PythonBridge.OutgoingTest do
  @moduledoc "What goes to a node, with a program in its place that reads or does not."

  use Pipeline.NodeCase, async: true

  alias Pipeline.DSPy.PortWriter
  alias Pipeline.DSPy.PythonBridge.Outgoing

  @frames 100
  @filling String.duplicate("x", 4_096)

  defp open(program) do
    port = Port.open({:spawn_executable, program}, [:binary, {:packet, 4}])
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    {port, os_pid, Outgoing.open(Outgoing.new(), port, PortWriter.start_link(port))}
  end

  # What the writer tells is what the bridge would get.
  defp all_written(%Outgoing{unsent_bytes: 0} = outgoing), do: outgoing

  defp all_written(outgoing) do
    assert_receive {:written, bytes}, 5_000
    all_written(Outgoing.written(outgoing, bytes))
  end

  test "a frame that the port takes at once wakes no other process" do
    {port, _os_pid, outgoing} = open("/bin/cat")
    assert %Outgoing{unsent_bytes: 0} = outgoing = Outgoing.write(outgoing, "one")
    assert_receive {^port, {:data, "one"}}, 5_000
    assert {:messages, []} = Process.info(outgoing.writer, :messages)
    refute_received {:written, _bytes}
  end

  test "frames that nobody reads are the writer's, arrive in their order, and then it is spared again" do
    {port, os_pid, outgoing} = open("/bin/cat")
    signal("STOP", os_pid)

    outgoing =
      Enum.reduce(1..@frames, outgoing, &Outgoing.write(&2, <<&1::32, @filling::binary>>))

    assert outgoing.unsent_bytes > 0
    signal("CONT", os_pid)

    for number <- 1..@frames do
      assert_receive {^port, {:data, <<^number::32, _filling::binary>>}}, 5_000
    end

    assert Outgoing.write(all_written(outgoing), "last").unsent_bytes == 0
    assert_receive {^port, {:data, "last"}}, 5_000
  end

  test "frames of all sizes arrive in their order, whoever writes them, while the node reads" do
    {port, _os_pid, outgoing} = open("/bin/cat")

    frame =
      &<<&1::32, :binary.copy("x", Enum.at([1, 9_000, 70_000, 300_000], rem(&1, 4)))::binary>>

    outgoing =
      Enum.reduce(1..@frames, outgoing, fn number, outgoing ->
        outgoing = Outgoing.write(outgoing, frame.(number))

        receive do
          {:written, bytes} -> Outgoing.written(outgoing, bytes)
        after
          0 -> outgoing
        end
      end)

    for number <- 1..@frames do
      assert_receive {^port, {:data, <<arrived::32, _filling::binary>>}}, 5_000
      assert arrived == number
    end

    all_written(outgoing)
  end

  test "a frame for a port that has closed ends the writer, which tells the bridge, and never the bridge" do
    Process.flag(:trap_exit, true)
    {port, _os_pid, %Outgoing{writer: writer} = outgoing} = open("/bin/cat")
    Port.close(port)
    assert Outgoing.write(outgoing, "late").unsent_bytes == 4
    assert_receive {:EXIT, ^writer, {:shutdown, :port_closed}}, 5_000
    assert Outgoing.write(Outgoing.close(outgoing), "later").writer == nil
  end
end
