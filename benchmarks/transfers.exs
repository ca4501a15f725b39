# A transfer of 100 MB of examples from a lazy stream, and back: how fast, and how much memory the BEAM takes for it.
#
#     cd priv_stub && mix run ../benchmarks/transfers.exs [megabytes]

alias Pipeline.DSPy.DataTransfer
alias Pipeline.DSPy.PythonBridge

megabytes = String.to_integer(List.first(System.argv()) || "100")
data = Path.join(System.tmp_dir!(), "erlbridge-transfers-#{System.pid()}")
{:ok, bridge} = PythonBridge.start_link(name: nil, workers: 1, data_dir: data)
{:ok, _info} = PythonBridge.await_ready(bridge)

row = fn number ->
  noise = :crypto.crypto_one_time(:aes_128_ctr, "sixteen bytes it", <<number::64, 0::64>>, <<0::size(360)-unit(8)>>, true)
  %{question: Base.encode64(noise), answer: "#{number}"}
end

rows = Stream.map(1..(megabytes * 2000), row)

# Samples the whole BEAM while a function runs; gives what it gave, the span and by how much memory grew at most.
measure = fn function ->
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

  {span, given} = :timer.tc(function)
  send(sampler, :stop)

  receive do
    {:most, most} -> {given, span / 1.0e6, (most - before) / 1.0e6}
  end
end

show = fn what, bytes, span, grown ->
  IO.puts("#{what}: #{round(bytes / span / 1.0e6)} MB/s, the BEAM grew by at most #{Float.round(grown, 1)} MB")
end

for compression <- [:none, :zlib] do
  opts = [compression: compression]
  {{:ok, dataset}, span, grown} = measure.(fn -> DataTransfer.transfer_large_dataset(rows, bridge, opts) end)
  {:ok, %{bytes: bytes}} = DataTransfer.about(bridge, dataset)
  show.("#{round(bytes / 1.0e6)} MB sent, compression #{compression}", bytes, span, grown)
end

{:ok, {:dataset, name}} = DataTransfer.dataset(rows)
{:ok, %{bytes: bytes}} = DataTransfer.about(bridge, name)
{:ok, examples} = DataTransfer.fetch(bridge, name)
{count, span, grown} = measure.(fn -> Enum.count(examples) end)
show.("#{count} examples read back", bytes, span, grown)

GenServer.stop(bridge)
File.rm_rf!(data)
