# Transfers of examples from a lazy stream into a node, and back: how fast beside a bare port, and how much memory the BEAM
# and the node take for it.
#
#     cd priv_stub && mix run ../benchmarks/transfers.exs [--write] [megabytes] [rounds]
#
# Everything is measured in turn in each round; the table has the medians of speeds and the largest growths. `--write` puts
# it into docs/benchmarks.md.

alias Pipeline.DSPy.DataTransfer
alias Pipeline.DSPy.PythonBridge

{flags, numbers} = Enum.split_with(System.argv(), &(&1 == "--write"))
[megabytes, rounds] = numbers |> Enum.map(&String.to_integer/1) |> Kernel.++([100, 3]) |> Enum.take(2)
rounds = if length(numbers) < 2, do: 3, else: rounds

data = Path.join(System.tmp_dir!(), "erlbridge-transfers-#{System.pid()}")
python = System.get_env("ERLBRIDGE_PYTHON", "python3")

# A kilobyte each, no two alike, and made in less time than they take to be sent.
texts =
  for number <- 0..999 do
    key = <<number::128>>
    Base.encode64(:crypto.crypto_one_time(:aes_128_ctr, key, <<0::128>>, <<0::size(750)-unit(8)>>, true))
  end

texts = List.to_tuple(texts)
row = fn number -> %{question: elem(texts, rem(number, 1000)), answer: Integer.to_string(number)} end
rows = Stream.map(1..div(megabytes * 1_000_000, 1052), row)

resident = fn pid, which ->
  [_, kilobytes] = Regex.run(~r/#{which}:\s+(\d+)/, File.read!("/proc/#{pid}/status"))
  String.to_integer(kilobytes) / 1000
end

# Samples the BEAM's memory while a function runs; gives what it gave, the span in seconds and the growth in megabytes of
# the BEAM and of a process beside it.
measure = fn os_pid, function ->
  :erlang.garbage_collect()
  before = :erlang.memory(:total)
  test = self()

  sampler =
    spawn_link(fn ->
      sample = fn sample, most ->
        receive do
          :stop -> send(test, {:most, most})
        after
          5 -> sample.(sample, max(most, :erlang.memory(:total)))
        end
      end

      sample.(sample, before)
    end)

  beside = os_pid && resident.(os_pid, "VmRSS")
  # Its highest mark begins anew.
  if os_pid, do: File.write("/proc/#{os_pid}/clear_refs", "5")
  {span, given} = :timer.tc(function)
  send(sampler, :stop)
  most = receive do: ({:most, most} -> most)
  {given, span / 1.0e6, (most - before) / 1.0e6, if(os_pid, do: resident.(os_pid, "VmHWM") - beside)}
end

raw = fn ->
  script = Path.join(__DIR__, "raw_port.py")
  port = Port.open({:spawn_executable, System.find_executable(python)}, [:binary, packet: 4, args: [script]])
  chunk = :crypto.strong_rand_bytes(1024 * 1024)
  heard = fn -> receive do: ({^port, {:data, _}} -> :ok) end
  Port.command(port, "are you there?")
  heard.()

  {_, span, grown, _} =
    measure.(nil, fn ->
      for number <- 1..megabytes do
        if number > 8, do: heard.()
        Port.command(port, chunk)
      end

      for _ <- 1..min(8, megabytes), do: heard.()
    end)

  Port.close(port)
  {"a bare port, frames of 1 MiB", megabytes * 1024 * 1024, span, grown, nil}
end

round = fn ->
  {:ok, bridge} = PythonBridge.start_link(name: nil, workers: 1, data_dir: data)
  {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)

  {{:ok, {:dataset, _}}, span, grown, _} = measure.(nil, fn -> DataTransfer.dataset(rows) end)

  sent =
    for compression <- [:none, :zlib] do
      send = fn -> DataTransfer.transfer_large_dataset(rows, bridge, compression: compression) end
      {{:ok, dataset}, span, grown, beside} = measure.(os_pid, send)
      {:ok, %{bytes: bytes}} = DataTransfer.about(bridge, dataset)
      {dataset, {"sent, compression `#{compression}`", bytes, span, grown, beside}}
    end

  {dataset, {_, bytes, _, _, _}} = hd(sent)
  {:ok, examples} = DataTransfer.fetch(bridge, dataset)
  {_count, back, back_grown, back_beside} = measure.(os_pid, fn -> Enum.count(examples) end)
  GenServer.stop(bridge)
  File.rm_rf!(data)

  [
    raw.(),
    {"encoded and summed by the BEAM, sent nowhere", bytes, span, grown, nil},
    elem(hd(sent), 1),
    elem(List.last(sent), 1),
    {"read back as terms", bytes, back, back_grown, back_beside}
  ]
end

shown = fn
  nil -> "–"
  megabytes -> "#{round(megabytes)} MB"
end

lines =
  for _ <- 1..rounds, line <- round.(), reduce: %{} do
    lines -> Map.update(lines, elem(line, 0), [line], &[line | &1])
  end
  |> Enum.map(fn {what, found} ->
    speeds = for {_, bytes, span, _, _} <- found, do: bytes / span / 1.0e6
    speed = speeds |> Enum.sort() |> Enum.at(div(rounds, 2))
    most = fn place -> found |> Enum.map(&elem(&1, place)) |> Enum.max() end
    {speed, "| #{what} | #{round(speed)} MB/s | #{shown.(most.(3))} | #{shown.(most.(4))} |"}
  end)
  |> Enum.sort(:desc)

table =
  Enum.join(
    ["| #{megabytes} MB of examples of 1 KB | | the BEAM grew by | the node by |", "|---|---|---|---|"] ++
      Enum.map(lines, &elem(&1, 1)),
    "\n"
  )

IO.puts(table)

if flags != [] do
  path = Path.expand("../docs/benchmarks.md", __DIR__)
  [before, _old, rest] = String.split(File.read!(path), ["<!-- transfers -->\n", "<!-- end of transfers -->"])
  File.write!(path, before <> "<!-- transfers -->\n" <> table <> "\n<!-- end of transfers -->" <> rest)
end
