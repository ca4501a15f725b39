# A BEAM between a test and a node, so that the node's host is a real one and can be killed.
#
#     elixir --erl -noinput relay.exs PROGRAM ARGUMENT...
#
# Opens the program as a port and passes frames on in both directions, from its own standard input and to its standard
# output. The frame `kill owner` kills the process that has the port. Ends with its input, or a moment after the port.

defmodule Relay do
  @moment_ms 300

  def run([program | args]) do
    host = Port.open({:fd, 0, 1}, [:binary, :eof, {:packet, 4}])
    relay = self()
    {owner, _monitor} = spawn_monitor(fn -> own(relay, host, program, args) end)
    node = receive do: ({:opened, node} -> node)
    pass_on(host, node, owner)
  end

  defp own(relay, host, program, args) do
    program = System.find_executable(program)
    node = Port.open({:spawn_executable, program}, [:binary, :exit_status, :hide, {:packet, 4}, args: args])
    send(relay, {:opened, node})
    answer(node, host)
  end

  defp answer(node, host) do
    receive do
      {^node, {:data, frame}} ->
        Port.command(host, frame)
        answer(node, host)

      {^node, {:exit_status, status}} ->
        System.halt(status)
    end
  end

  defp pass_on(host, node, owner) do
    receive do
      {^host, {:data, "kill owner"}} ->
        Process.exit(owner, :kill)
        pass_on(host, node, owner)

      {^host, {:data, frame}} ->
        Port.command(node, frame)
        pass_on(host, node, owner)

      {^host, :eof} ->
        System.halt(0)

      {:DOWN, _, :process, ^owner, _} ->
        Process.sleep(@moment_ms)
        System.halt(1)
    end
  end
end

Relay.run(System.argv())
