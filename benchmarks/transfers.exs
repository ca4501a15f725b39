# Transfers of examples into a node and back, beside a bare port: speed, memory and processor time at both ends.
#
# From a lazy stream, and as chunks that are there already.
#
#     cd priv_stub && mix run ../benchmarks/transfers.exs [--write | --short] [--compressed] [megabytes] [rounds]
#
# 2000 MB three times, or 200 once where it is short. Everything is measured in turn in each round; the table has the
# medians of speeds and of times, and the largest growths. `--write` puts it into docs/benchmarks.md, where there is one
# for each size; `--compressed` adds what is compressed.

Code.require_file("instruments/arguments.exs", __DIR__)

alias Pipeline.DSPy.DataTransfer
alias Pipeline.DSPy.PythonBridge

taken = %{name: "transfers.exs", flags: ["--compressed"], numbers: ["MEGABYTES", "ROUNDS"]}
{flags, [megabytes, rounds]} = Bench.Arguments.read(System.argv(), taken)
{size, times} = if "--short" in flags, do: {200, 1}, else: {2000, 3}
megabytes = megabytes || size
rounds = rounds || times

# Said before anything is measured.
Bench.Arguments.refuse_part(taken, flags, rounds < 3 && "ROUNDS of at least 3")
document = File.read!(Path.expand("../docs/benchmarks.md", __DIR__))

sections =
  for [_mark, size] <- Regex.scan(~r/^<!-- transfers of (\d+) MB -->$/m, document), do: size

Bench.Arguments.refuse_part(
  taken,
  flags,
  Integer.to_string(megabytes) not in sections && "MEGABYTES of #{Enum.join(sections, " or ")}"
)

data = Path.join(System.tmp_dir!(), "erlbridge-transfers-#{System.pid()}")
python = System.get_env("ERLBRIDGE_PYTHON", "python3")

# A kilobyte each, no two alike, and made in less time than they take to be sent.
texts =
  for number <- 0..999 do
    key = <<number::128>>

    Base.encode64(
      :crypto.crypto_one_time(:aes_128_ctr, key, <<0::128>>, <<0::size(750)-unit(8)>>, true)
    )
  end

texts = List.to_tuple(texts)

row = fn number ->
  %{question: elem(texts, rem(number, 1000)), answer: Integer.to_string(number)}
end

rows = Stream.map(1..div(megabytes * 1_000_000, 1052), row)

resident = fn pid, which ->
  [_, kilobytes] = Regex.run(~r/#{which}:\s+(\d+)/, File.read!("/proc/#{pid}/status"))
  String.to_integer(kilobytes) / 1000
end

# Seconds that a process has had of the processor.
busy = fn pid ->
  fields = File.read!("/proc/#{pid}/stat") |> String.split(") ") |> List.last() |> String.split()
  (String.to_integer(Enum.at(fields, 11)) + String.to_integer(Enum.at(fields, 12))) / 100
end

# Samples the BEAM's memory while a function runs; gives what it gave, the span in seconds, the growth in megabytes of
# the BEAM and of a process beside it, and the seconds that both have worked.
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
  worked = fn -> {busy.(System.pid()), os_pid && busy.(os_pid)} end
  {beam_before, beside_before} = worked.()
  {span, given} = :timer.tc(function)
  {beam_after, beside_after} = worked.()
  seconds = {beam_after - beam_before, os_pid && beside_after - beside_before}
  send(sampler, :stop)
  most = receive do: ({:most, most} -> most)
  beside = if os_pid, do: resident.(os_pid, "VmHWM") - beside
  {given, {span / 1.0e6, (most - before) / 1.0e6, beside, seconds}}
end

# A bare port, and one on whose both ends somebody else sums what passes: the least that a transfer does.
raw = fn arguments ->
  script = Path.join([__DIR__, "peers", "raw_port.py"])

  port =
    Port.open({:spawn_executable, System.find_executable(python)}, [
      :binary,
      packet: 4,
      args: [script | arguments]
    ])

  chunk = :crypto.strong_rand_bytes(1024 * 1024)
  heard = fn -> receive do: ({^port, {:data, _}} -> :ok) end
  Port.command(port, "are you there?")
  heard.()

  test = self()

  summing =
    spawn_link(fn ->
      sum =
        Enum.reduce(1..megabytes, :crypto.hash_init(:sha256), fn _, sum ->
          receive do: ({:sum, chunk} -> :crypto.hash_update(sum, chunk))
        end)

      send(test, {:summed, :crypto.hash_final(sum)})
    end)

  {:os_pid, os_pid} = Port.info(port, :os_pid)

  {_, found} =
    measure.(os_pid, fn ->
      for number <- 1..megabytes do
        if number > 8, do: heard.()
        if arguments == ["sum"], do: send(summing, {:sum, chunk})
        Port.command(port, chunk)
      end

      for _ <- 1..min(8, megabytes), do: heard.()
      if arguments == ["sum"], do: receive(do: ({:summed, _sum} -> :ok))
    end)

  Process.unlink(summing)
  Process.exit(summing, :kill)
  Port.close(port)
  {megabytes * 1024 * 1024, found}
end

raw_both = fn ->
  for {name, arguments} <- [
        {"a bare port, frames of 1 MiB", []},
        {"the same, summed at both ends and nothing else", ["sum"]}
      ] do
    {bytes, found} = raw.(arguments)
    {name, bytes, found}
  end
end

# Chunks that are the same examples again and again, to see what the node makes of them while the BEAM makes nothing.
framed = fn example ->
  term = :erlang.term_to_binary(example, [:deterministic, minor_version: 2])
  <<byte_size(term)::32, term::binary>>
end

some = 1..900 |> Enum.map(&framed.(row.(&1))) |> IO.iodata_to_binary()
rest = 1024 * 1024 - byte_size(some) - byte_size(framed.(%{question: ""}))
chunk = some <> framed.(%{question: String.duplicate("x", rest)})
1_048_576 = byte_size(chunk)

ready_made = fn bridge ->
  sum =
    Enum.reduce(1..megabytes, :crypto.hash_init(:sha256), fn _, sum ->
      :crypto.hash_update(sum, chunk)
    end)

  sha256 = Base.encode16(:crypto.hash_final(sum), case: :lower)
  whole = %{transfer: "ready-made", data: chunk, is_final: false, compression: :none}

  await = fn ref ->
    {:ok, told} = PythonBridge.await(ref)
    told
  end

  fn ->
    pending =
      Enum.reduce(1..megabytes, :queue.new(), fn number, pending ->
        pending =
          if :queue.len(pending) < 16 do
            pending
          else
            {{:value, ref}, pending} = :queue.out(pending)
            await.(ref)
            pending
          end

        payload = Map.put(whole, :chunk_index, number - 1)

        payload =
          if number == megabytes,
            do: Map.merge(payload, %{is_final: true, sha256: sha256}),
            else: payload

        :queue.in(
          PythonBridge.async(bridge, :data_chunk, payload, progress: false, stream_to: false),
          pending
        )
      end)

    %{dataset: "sha256:" <> ^sha256} =
      pending |> :queue.to_list() |> Enum.map(await) |> List.last()
  end
end

round = fn ->
  {:ok, bridge} = PythonBridge.start_link(name: nil, workers: 1, data_dir: data)
  {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(bridge)

  {{:ok, {:dataset, _}}, encoded} = measure.(nil, fn -> DataTransfer.dataset(rows) end)

  sent =
    for compression <- if("--compressed" in flags, do: [:none, :zlib], else: [:none]) do
      send = fn -> DataTransfer.transfer_large_dataset(rows, bridge, compression: compression) end
      {{:ok, dataset}, found} = measure.(os_pid, send)
      {:ok, %{bytes: bytes}} = DataTransfer.about(bridge, dataset)
      {dataset, {"sent, compression `#{compression}`", bytes, found}}
    end

  {dataset, {_, bytes, _}} = hd(sent)
  {:ok, examples} = DataTransfer.fetch(bridge, dataset)
  {_count, back} = measure.(os_pid, fn -> Enum.count(examples) end)
  DataTransfer.delete(bridge, dataset)
  {_told, ready} = measure.(os_pid, ready_made.(bridge))
  GenServer.stop(bridge)
  File.rm_rf!(data)

  [
    {"chunks that are there, sent", megabytes * 1024 * 1024, ready},
    {"encoded and summed by the BEAM, sent nowhere", bytes, encoded},
    {"read back as terms", bytes, back}
    | raw_both.() ++ Enum.map(sent, &elem(&1, 1))
  ]
end

shown = fn
  nil -> "–"
  megabytes -> "#{round(megabytes)} MB"
end

spent = fn
  nil -> "–"
  nanoseconds -> :erlang.float_to_binary(nanoseconds, decimals: 2)
end

lines =
  for _ <- 1..rounds, line <- round.(), reduce: %{} do
    lines -> Map.update(lines, elem(line, 0), [line], &[line | &1])
  end
  |> Enum.map(fn {what, found} ->
    middle = fn values -> values |> Enum.sort() |> Enum.at(div(rounds, 2)) end
    speed = middle.(for {_, bytes, {span, _, _, _}} <- found, do: bytes / span / 1.0e6)
    beam = middle.(for {_, bytes, {_, _, _, {seconds, _}}} <- found, do: seconds * 1.0e9 / bytes)

    node =
      middle.(
        for {_, bytes, {_, _, _, {_, seconds}}} <- found, do: seconds && seconds * 1.0e9 / bytes
      )

    most = fn place -> found |> Enum.map(&elem(elem(&1, 2), place)) |> Enum.max() end

    {speed, what,
     "#{shown.(most.(1))} | #{shown.(most.(2))} | #{spent.(beam)} | #{spent.(node)} |"}
  end)
  |> Enum.sort(:desc)

{bare, _, _} = List.keyfind(lines, "a bare port, frames of 1 MiB", 1)

table =
  Enum.join(
    [
      "| #{megabytes} MB of examples of 1 KB | | of the bare port's | the BEAM grew by | the other end by | the BEAM worked, ns for a byte | the other end |",
      "|---|---|---|---|---|---|---|"
    ] ++
      for(
        {speed, what, rest} <- lines,
        do: "| #{what} | #{round(speed)} MB/s | #{spent.(speed / bare)} × | #{rest}"
      ),
    "\n"
  )

# As report.py writes it, which gathers the aims of all benchmarks.
{sent, _, _} = List.keyfind(lines, "chunks that are there, sent", 1)

verdict =
  if sent / bare >= 2 / 3,
    do: "reached",
    else: "not reached: each end's SHA-256, on two cores"

aim =
  "| aim | measured | to be |  |\n|---|---|---|---|\n" <>
    "| #{megabytes} MB: the bare port's speed | #{spent.(sent / bare)} × | at least 0.67 × | #{verdict} |"

table = table <> "\n\n" <> aim

if "--write" in flags do
  report = Path.join(__DIR__, "report.py")
  {shown, 0} = System.cmd(python, [report, "transfers of #{megabytes} MB", table])
  IO.write(shown)
else
  IO.puts(table)
end
