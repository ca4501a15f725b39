# A BEAM that opens one node and then does what it is told, line by line, to show what becomes of the node.
#
#     elixir beam_host.exs PYTHON DATA
#
# Says `ready PORTS_OS_PID`, later `down` and what came with it. Takes: a frame in Base64, `queue` (much output for
# the port, written by other processes), `stop` (as a bridge that ends), `kill owner`, `halt`. Whatever ends the input
# ends the BEAM.

for file <- ~w(vocabulary python_error deadline process_manager) do
  Code.require_file("../../priv_stub/lib/pipeline/dspy/#{file}.ex", __DIR__)
end

defmodule BeamHost do
  alias Pipeline.DSPy.ProcessManager

  def run(python, data) do
    host = self()
    {owner, _monitor} = spawn_monitor(fn -> own(host, python, data) end)
    spawn_link(fn -> read(host) end)
    process = receive do: ({:started, process} -> process)
    serve(owner, process)
  end

  # What is written to a port is written by another process than its owner, who must not be the one that is suspended.
  defp own(host, python, data) do
    args = ["-m", "erlbridge", "serve", "--workers", "1", "--data", data]
    options = [:binary, :exit_status, :hide, {:packet, 4}, args: args]
    port = Port.open({:spawn_executable, python}, options)
    Process.flag(:trap_exit, true)
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    started_at = started_at(os_pid)
    send(host, {:started, %ProcessManager{port: port, os_pid: os_pid, started_at: started_at}})
    own(port, os_pid)
  end

  defp own(port, os_pid) do
    receive do
      {^port, {:data, <<131, _::binary>> = frame}} ->
        with {:ready, _} <- :erlang.binary_to_term(frame), do: IO.puts("ready #{os_pid}")
        own(port, os_pid)

      {^port, {:exit_status, status}} ->
        IO.puts("down #{status}")

      {:EXIT, ^port, reason} ->
        IO.puts("down #{inspect(reason)}")

      {:stop, process} ->
        IO.puts("stopped #{inspect(ProcessManager.stop(process, 200))}")
    end
  end

  defp read(host) do
    case IO.gets("") do
      line when is_binary(line) ->
        send(host, {:told, String.trim(line)})
        read(host)

      _end ->
        System.halt(0)
    end
  end

  defp serve(owner, process) do
    receive do
      {:told, "queue"} ->
        frame = :erlang.term_to_binary({:health_check, 1, :binary.copy("x", 5_000_000)})
        writer = spawn(fn -> for _ <- 1..5, do: Port.command(process.port, frame) end)
        await_suspended(writer)
        # As the bridge does: a suspended writer would keep even the closing of the port waiting.
        Process.exit(writer, :kill)
        IO.puts("queued")
        serve(owner, process)

      {:told, "stop"} ->
        send(owner, {:stop, process})
        serve(owner, process)

      {:told, "kill owner"} ->
        Process.exit(owner, :kill)
        serve(owner, process)

      {:told, "halt"} ->
        System.halt(0)

      {:told, frame} ->
        Port.command(process.port, Base.decode64!(frame))
        serve(owner, process)

      {:DOWN, _, _, _, _} ->
        serve(owner, process)
    end
  end

  defp await_suspended(writer) do
    if Process.info(writer, :status) != {:status, :suspended}, do: await_suspended(writer)
  end

  defp started_at(os_pid) do
    fields = "/proc/#{os_pid}/stat" |> File.read!() |> String.split(") ") |> List.last() |> String.split()
    fields |> Enum.at(19) |> String.to_integer()
  end
end

[python, data] = System.argv()
BeamHost.run(python, data)
