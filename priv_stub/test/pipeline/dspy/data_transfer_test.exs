defmodule Pipeline.DSPy.DataTransferTest do
  @moduledoc "Datasets to a real node and back: whole, resumed, cancelled, copied."

  use Pipeline.NodeCase, async: true

  alias Pipeline.DSPy.DataTransfer
  alias Pipeline.DSPy.DataTransfer.Chunks
  alias Pipeline.DSPy.Dataset

  doctest Pipeline.DSPy.DataTransfer
  doctest Pipeline.DSPy.Dataset

  # About one KB each, which zlib cannot make smaller than half of it.
  defp rows(count), do: Stream.map(1..count, &row/1)

  defp row(number) do
    key = "sixteen bytes it"

    noise =
      :crypto.crypto_one_time(
        :aes_128_ctr,
        key,
        <<number::64, 0::64>>,
        <<0::size(720)-unit(8)>>,
        true
      )

    %{question: Base.encode64(noise), answer: "#{number}"}
  end

  defp kill_node(bridge) do
    {:ok, info} = PythonBridge.await_ready(bridge)
    signal("KILL", info.os_pid)
  end

  describe "chunks" do
    test "are cuts of one zlib stream over framed examples, and the same ones each time" do
      chunks = rows(4000) |> Chunks.examples() |> Chunks.cut(:zlib, 1024 * 1024)
      found = Enum.to_list(chunks)
      assert length(found) > 1
      assert found == Enum.to_list(chunks)
      assert Enum.all?(found, &(byte_size(&1.data) <= 1024 * 1024))
      assert Enum.map(found, & &1.index) == Enum.to_list(0..(length(found) - 1))

      plain = found |> Enum.map_join(& &1.data) |> :zlib.uncompress()
      assert %{sha256: sha256, bytes: bytes, examples: 4000} = List.last(found)
      assert Enum.all?(Enum.drop(found, -1), &(&1.sha256 == nil))
      assert bytes == byte_size(plain)
      assert sha256 == Base.encode16(:crypto.hash(:sha256, plain), case: :lower)
      assert {:ok, {:dataset, "sha256:" <> ^sha256}} = DataTransfer.dataset(rows(4000))

      examples =
        for <<size::32, term::binary-size(size) <- plain>>, do: :erlang.binary_to_term(term)

      assert examples == Enum.to_list(rows(4000))
    end

    test "come from a stream that never ends, as they are asked for" do
      endless = Stream.map(Stream.iterate(1, &(&1 + 1)), &row/1)

      assert [_, _, _] =
               endless |> Chunks.examples() |> Chunks.cut(:none, 1024 * 1024) |> Enum.take(3)
    end
  end

  test "what is no example is refused with its place, before and after chunks were sent" do
    bridge = start_bridge()

    for {data, path} <- [
          {[:no_map], "data[0]"},
          {Stream.concat(rows(4000), ["no map"]), "data[4000]"},
          {[%{a: String.duplicate("x", 17 * 1024 * 1024)}], "data[0]"}
        ] do
      assert {:error, %PythonError{error_type: :validation_error, context: %{path: ^path}}} =
               DataTransfer.transfer_large_dataset(data, bridge)
    end

    assert {:error, %PythonError{error_type: :transfer_error, context: %{reason: :empty}}} =
             DataTransfer.transfer_large_dataset([], bridge)

    assert_raise ArgumentError, ~r/:compression/, fn ->
      DataTransfer.transfer_large_dataset([], bridge, compression: :gzip)
    end

    refute_received _anything
  end

  test "a dataset is sent once, learned from by its name, and read back lazily" do
    bridge = start_bridge()
    tickets = Tickets.read()

    assert {:ok, {:dataset, name} = dataset} =
             DataTransfer.transfer_large_dataset(tickets, bridge)

    assert {:ok, ^dataset} = DataTransfer.dataset(tickets)

    untouched = Stream.map(tickets, fn _ -> flunk("sent again") end)

    assert {:ok, ^dataset} =
             DataTransfer.transfer_large_dataset(untouched, bridge, dataset: dataset)

    assert {:ok, %{examples: 104, bytes: bytes}} = DataTransfer.about(bridge, dataset)
    assert bytes > 0

    assert {:ok, %{status: :success, program: program}} =
             PythonBridge.optimize_signature(bridge, Tickets.signature(), dataset,
               optimizer: :labeled_few_shot,
               lm: :offline
             )

    assert {:ok, %{count: 104}} =
             PythonBridge.evaluate_pipeline(bridge, {:program, program}, dataset, lm: :offline)

    assert {:ok, examples} = DataTransfer.fetch(bridge, name)
    assert Enum.to_list(examples) == tickets
    assert Enum.take(examples, 2) == Enum.take(tickets, 2)

    assert {:error, %PythonError{error_type: :not_found}} =
             DataTransfer.fetch(bridge, "sha256:" <> String.duplicate("0", 64))

    refute_received _anything
  end

  test "a dataset is split and sampled by its name, listed and deleted" do
    bridge = start_bridge()

    {:ok, {:dataset, name} = dataset} =
      DataTransfer.transfer_large_dataset(Tickets.read(), bridge)

    parts = Dataset.split(dataset, [0.5, 0.25, 0.25], seed: 7)

    seen =
      for part <- parts do
        {:ok, %{results: results}} =
          PythonBridge.evaluate_pipeline(bridge, Tickets.signature(), part, lm: :offline)

        for %{example: example} <- results, do: example
      end

    assert Enum.map(seen, &length/1) == [52, 26, 26]
    assert seen |> Enum.concat() |> Enum.uniq() |> length() == 104

    assert {:ok, %{count: 5}} =
             PythonBridge.evaluate_pipeline(
               bridge,
               Tickets.signature(),
               Dataset.sample(hd(parts), 5),
               lm: :offline
             )

    assert {:ok, %{datasets: [%{dataset: ^name, examples: 104, used_at_ms: _}], next: nil}} =
             DataTransfer.list(bridge)

    assert {:ok, %{dataset: ^name}} = DataTransfer.delete(bridge, dataset)
    assert {:ok, %{datasets: []}} = DataTransfer.list(bridge, limit: 10)
    assert {:error, %PythonError{error_type: :not_found}} = DataTransfer.delete(bridge, dataset)
  end

  test "a split has parts that share nothing, and says so of what has not" do
    dataset = {:dataset, "sha256:9c"}

    for shares <- [1.0, 0.0, 0, [], [0.5, 0.6], [0.5, 0.5, 0.0], [1, 0]] do
      assert_raise ArgumentError, fn -> Dataset.split(dataset, shares) end
    end

    [part, _rest] = Dataset.split(dataset, 0.5, seed: 3)
    assert_raise ArgumentError, fn -> Dataset.sample(part, 5, seed: 4) end
    assert {:dataset, _, %{limit: 5}} = part |> Dataset.sample(5) |> Dataset.sample(9)
    assert [{:dataset, _, view}, _rest] = Dataset.split(dataset, 0.5, seed: nil)
    refute Map.has_key?(view, :seed)
  end

  test "progress is told chunk by chunk, and a transfer can be ended from within it" do
    bridge = start_bridge()
    test = self()
    tell = fn state -> send(test, {:told, state}) end

    assert {:ok, _dataset} =
             DataTransfer.transfer_large_dataset(rows(4000), bridge,
               progress: tell,
               compression: :none,
               window: 2
             )

    assert_received {:told, %{chunks: 1, sent_bytes: 1_048_576}}
    assert_received {:told, %{chunks: 4, examples: 4000, bytes: bytes, sent_bytes: bytes}}

    assert {:error, %PythonError{error_type: :cancelled}} =
             DataTransfer.transfer_large_dataset(rows(8000), bridge,
               transfer: "to be ended",
               compression: :none,
               window: 1,
               progress: fn _state -> DataTransfer.cancel(bridge, "to be ended") end
             )

    assert {:ok, %{status: :not_found}} = DataTransfer.status(bridge, "to be ended")
  end

  test "a progress function that raises leaves no answer behind" do
    bridge = start_bridge()

    assert_raise RuntimeError, "enough", fn ->
      DataTransfer.transfer_large_dataset(rows(8000), bridge,
        compression: :none,
        progress: fn _state -> raise "enough" end
      )
    end

    PythonBridge.health_check(bridge)
    refute_received _anything
  end

  @tag capture_log: true
  test "a restart of the node during a transfer costs nothing but time, not even a second look at the data" do
    bridge = start_bridge()
    counter = :counters.new(1, [])

    data =
      Stream.map(rows(9000), fn row ->
        :counters.add(counter, 1, 1)
        if :counters.get(counter, 1) in [3000, 6000], do: kill_node(bridge)
        row
      end)

    assert {:ok, dataset} =
             DataTransfer.transfer_large_dataset(data, bridge, compression: :none, window: 3)

    assert :counters.get(counter, 1) == 9000
    assert {:ok, ^dataset} = DataTransfer.dataset(rows(9000))
    assert {:ok, %{examples: 9000}} = DataTransfer.about(bridge, dataset)
    refute_received _anything
  end

  @tag capture_log: true
  test "a bridge that is killed during a transfer is waited for by its name" do
    bridge = start_bridge()

    data =
      Stream.map(Stream.with_index(rows(6000)), fn {row, index} ->
        if index == 3000, do: Process.exit(Process.whereis(bridge), :kill)
        row
      end)

    assert {:ok, dataset} = DataTransfer.transfer_large_dataset(data, bridge, compression: :none)
    assert {:ok, ^dataset} = DataTransfer.dataset(rows(6000))
  end

  @tag capture_log: true
  test "a node that has less than it acknowledged gets the stream from its beginning" do
    directory = tmp_dir("lost-#{System.unique_integer([:positive])}")
    bridge = start_bridge(data_dir: directory)
    passes = :counters.new(1, [])

    data =
      Stream.map(Stream.with_index(rows(6000)), fn {row, index} ->
        if index == 0, do: :counters.add(passes, 1, 1)

        if index == 4000 and :counters.get(passes, 1) == 1 do
          kill_node(bridge)
          File.rm_rf!(Path.join(directory, "transfers"))
        end

        row
      end)

    assert {:ok, dataset} =
             DataTransfer.transfer_large_dataset(data, bridge, compression: :none, window: 1)

    assert :counters.get(passes, 1) == 2
    assert {:ok, ^dataset} = DataTransfer.dataset(rows(6000))
  end

  test "a transfer with a name is gone on with by another process, and other data are not taken for it" do
    bridge = start_bridge()
    opts = [transfer: "named", compression: :none, window: 1]

    {pid, monitor} =
      spawn_monitor(fn ->
        DataTransfer.transfer_large_dataset(rows(6000), bridge, [
          {:progress, fn %{chunks: chunks} -> if chunks == 3, do: exit(:kill_me) end} | opts
        ])
      end)

    assert_receive {:DOWN, ^monitor, :process, ^pid, :kill_me}, 10_000
    assert {:ok, %{status: :receiving, next_index: 3}} = DataTransfer.status(bridge, "named")

    {:ok, sent} = Agent.start_link(fn -> [] end)
    note = fn %{chunks: chunks} -> Agent.update(sent, &[chunks | &1]) end

    assert {:ok, dataset} =
             DataTransfer.transfer_large_dataset(rows(6000), bridge, [{:progress, note} | opts])

    assert Enum.min(Agent.get(sent, & &1)) == 4
    assert {:ok, ^dataset} = DataTransfer.dataset(rows(6000))
    assert {:ok, ^dataset} = DataTransfer.transfer_large_dataset(rows(6000), bridge, opts)
    assert {:ok, other} = DataTransfer.transfer_large_dataset(rows(3), bridge, opts)
    assert {:ok, ^other} = DataTransfer.dataset(rows(3))
  end

  test "a bridge that is not there is an error, at once by its pid and in time by its name" do
    data = rows(1)
    gone = spawn(fn -> :ok end)

    assert {:error, %PythonError{error_type: :process_crashed}} =
             DataTransfer.transfer_large_dataset(data, gone)

    assert {:error, %PythonError{error_type: :process_crashed}} =
             DataTransfer.transfer_large_dataset(data, :no_such_bridge, resume_within: 100)

    assert {:error, %PythonError{}} =
             DataTransfer.transfer_large_dataset(data, :no_such_bridge, timeout: 50)
  end

  test "a quota that is used up ends a transfer with what to do about it" do
    bridge = start_bridge(settings: [dataset_quota_bytes: "2MiB"])

    assert {:error, %PythonError{error_type: :transfer_error, context: %{reason: :quota}} = error} =
             DataTransfer.transfer_large_dataset(rows(4000), bridge)

    assert error.message =~ "dataset_quota_bytes"
  end

  @tag capture_log: true
  test "a dataset is copied byte by byte and read through a restart, with short frames as well" do
    from = start_bridge(max_frame_bytes: 200_000)
    to = start_bridge()

    assert {:ok, dataset} =
             DataTransfer.transfer_large_dataset(rows(2000), from, compression: :zlib)

    assert {:ok, ^dataset} = DataTransfer.copy(from, dataset, to)
    assert {:ok, ^dataset} = DataTransfer.copy(from, dataset, to)

    assert {:ok, examples} = DataTransfer.fetch(from, dataset)

    read =
      Enum.map(Stream.with_index(examples), fn {row, index} ->
        if index == 1000, do: kill_node(from)
        row
      end)

    assert read == Enum.to_list(rows(2000))
  end

  test "a dataset that is deleted while it is read raises, and leaves nothing to wait for" do
    bridge = start_bridge()
    {:ok, dataset} = DataTransfer.transfer_large_dataset(rows(12_000), bridge)
    {:ok, examples} = DataTransfer.fetch(bridge, dataset)

    reader =
      Task.async(fn ->
        assert_raise PythonError, ~r/no dataset/, fn ->
          for {_row, 2000} <- Stream.with_index(examples),
              do: DataTransfer.delete(bridge, dataset)
        end

        refute_received _anything
      end)

    assert {:ok, _} = Task.yield(reader, 20_000) || Task.shutdown(reader, :brutal_kill)
  end

  test "a dataset that is damaged at the node raises at its end" do
    directory = tmp_dir("damaged-#{System.unique_integer([:positive])}")
    bridge = start_bridge(data_dir: directory)

    {:ok, {:dataset, "sha256:" <> digits} = dataset} =
      DataTransfer.transfer_large_dataset(rows(5), bridge)

    path = Path.join([directory, "datasets", digits, "stream"])
    File.write!(path, String.replace(File.read!(path), "A", "B", global: false))
    {:ok, examples} = DataTransfer.fetch(bridge, dataset)
    assert_raise PythonError, ~r/damaged/, fn -> Enum.to_list(examples) end
  end
end
