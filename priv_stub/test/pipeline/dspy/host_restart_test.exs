defmodule Pipeline.DSPy.HostRestartTest do
  @moduledoc """
  A host that is killed with `kill -9`, at each stage of a transfer and of a job: the next one, in this BEAM and with a node of
  its own, goes on in the same data directory.
  """

  use Pipeline.NodeCase, async: true

  alias Pipeline.DSPy.DataTransfer
  alias Pipeline.HostProcess
  alias Pipeline.PaidModel

  @moduletag timeout: 60_000
  @moduletag :capture_log

  @rows 6000

  setup do
    directory = tmp_dir("host-#{System.unique_integer([:positive])}")
    %{directory: directory, options: [python: python(), workers: 1, data_dir: directory]}
  end

  defp host(options, more \\ []), do: HostProcess.start(Keyword.merge(options, more))

  # The next host's transfer: what it gives, and the chunks that it heard of.
  defp go_on(bridge, options) do
    test = self()
    tell = fn %{chunks: chunks} -> send(test, {:chunk, chunks}) end
    rows = HostProcess.rows(@rows)
    answer = DataTransfer.transfer_large_dataset(rows, bridge, [{:progress, tell} | options])
    {answer, heard([])}
  end

  defp heard(chunks) do
    receive do
      {:chunk, chunk} -> heard([chunk | chunks])
    after
      0 -> Enum.sort(chunks)
    end
  end

  describe "a host that is killed in the middle of a transfer" do
    # With the chunks that the next host need not send.
    for {stage, compression, spared} <- [
          {{:taken, 0}, :none, 0},
          {{:taken, 500}, :none, 0},
          {{:acknowledged, 1}, :none, 1},
          {{:acknowledged, 4}, :none, 4},
          {{:acknowledged, 3}, :zlib, 3},
          {{:taken, @rows - 1}, :none, 0}
        ] do
      test "is followed by one that goes on: #{inspect(stage)}, compression #{compression}",
           context do
        spared = unquote(spared)

        # All that is in flight may arrive without being heard of: not the end of it, with so small a window.
        transfer = [transfer: "examples", compression: unquote(compression), window: 2]
        host = host(context.options)
        HostProcess.cast(host, :transfer, [unquote(Macro.escape(stage)), @rows, transfer])
        HostProcess.await_end(host)

        bridge = start_bridge(data_dir: context.directory)

        # The node of the one that was killed may still be ending, and has the transfer until then.
        {:ok, %{next_index: next}} =
          eventually(fn ->
            case DataTransfer.status(bridge, "examples") do
              {:error, %{context: %{reason: :busy}}} -> nil
              answer -> answer
            end
          end)

        assert next >= spared

        assert {{:ok, dataset}, heard} = go_on(bridge, transfer)
        assert hd(heard) > spared
        assert {:ok, ^dataset} = DataTransfer.dataset(HostProcess.rows(@rows))
        assert {:ok, %{examples: @rows}} = DataTransfer.about(bridge, dataset)
      end
    end

    test "and had not heard that all of it is there, sends nothing more", context do
      transfer = [transfer: "examples", compression: :none]
      host = host(context.options)
      HostProcess.cast(host, :transfer, [:unheard, @rows, transfer])
      {:ok, dataset} = DataTransfer.dataset(HostProcess.rows(@rows))

      # A node of its own beside the first, on the same directory.
      bridge = start_bridge(data_dir: context.directory)
      eventually(fn -> match?({:ok, _}, DataTransfer.about(bridge, dataset)) end, 20_000)
      HostProcess.kill(host)
      assert {{:ok, ^dataset}, []} = go_on(bridge, transfer)
    end

    test "finds the dataset of one that was over, under its name and the transfer's", context do
      transfer = [transfer: "examples", compression: :none]
      host = host(context.options)
      HostProcess.cast(host, :transfer, [:over, @rows, transfer])
      HostProcess.await_end(host)
      bridge = start_bridge(data_dir: context.directory)
      assert {{:ok, dataset}, []} = go_on(bridge, transfer)
      untouched = Stream.map(1..1, fn _ -> flunk("sent again") end)

      assert {:ok, ^dataset} =
               DataTransfer.transfer_large_dataset(untouched, bridge, dataset: dataset)
    end
  end

  describe "a host that is killed while it waits for a result" do
    # It tells what it is asked, and outlives the host.
    setup do
      %{model: PaidModel.start("[[ ## category ## ]]\nbilling\n\n[[ ## completed ## ]]", 10)}
    end

    defp ask(bridge, model) do
      PythonBridge.request(bridge, :evaluate_pipeline, HostProcess.question(PaidModel.lm(model)),
        idempotency_key: "nightly"
      )
    end

    test "before anything was done, loses nothing: the next one has it done", context do
      host = host(context.options)
      HostProcess.cast(host, :ask_and_die, ["nightly", PaidModel.lm(context.model)])
      HostProcess.await_end(host)
      bridge = start_bridge(data_dir: context.directory)

      assert {:error, %PythonError{error_type: :not_found}} =
               PythonBridge.fetch_result(bridge, "nightly")

      assert {:ok, %{count: 60}} = ask(bridge, context.model)
      assert PaidModel.calls(context.model) == 60
    end

    test "in the middle of the job, leaves the answers that were paid for to the next one",
         context do
      host = host(context.options)
      HostProcess.cast(host, :ask_and_die, ["nightly", PaidModel.lm(context.model), 20])
      HostProcess.await_end(host)
      assert PaidModel.calls(context.model) in 20..59
      bridge = start_bridge(data_dir: context.directory)
      assert {:ok, %{count: 60, metrics: metrics}} = ask(bridge, context.model)
      assert metrics.cached_calls >= 20
      # The one that was on its way when it died.
      assert PaidModel.calls(context.model) in 60..61
    end

    for {what, more} <- [
          {"a result", []},
          {"a result in chunks", [max_frame_bytes: 16_384, credit: 2]}
        ] do
      test "has #{what} that was stored and not heard of fetched by the next one", context do
        host = host(context.options, unquote(more))
        HostProcess.cast(host, :ask_and_hear_nothing, ["nightly", PaidModel.lm(context.model)])

        # A node of its own beside the first, on the same directory.
        bridge = start_bridge([data_dir: context.directory] ++ unquote(more))
        fetch = fn -> PythonBridge.fetch_result(bridge, "nightly", atoms: fields()) end
        eventually(fn -> match?({:ok, _}, fetch.()) end, 20_000)
        HostProcess.kill(host)

        assert {:ok, %{verb: :evaluate_pipeline, result: stored}} = fetch.()
        assert %{count: 60, metrics: %{lm_calls: 60}} = stored
        assert {:ok, %{metrics: metrics, results: results}} = ask(bridge, context.model)
        assert %{lm_calls: 60, cached: true} = metrics
        assert results == stored.results
        assert PaidModel.calls(context.model) == 60
      end
    end

    defp fields, do: [:subject, :body, :category]

    test "and has it, pays for the same optimization no second time", context do
      host = host(context.options)
      HostProcess.cast(host, :optimize_and_die, [PaidModel.lm(context.model)])
      HostProcess.await_end(host)
      paid = PaidModel.calls(context.model)
      bridge = start_bridge(data_dir: context.directory)
      # The address is the same, so the question is.
      assert {:ok, %{optimization_metrics: metrics}} =
               HostProcess.optimize(bridge, PaidModel.lm(context.model))

      assert %{cached: true, lm_calls: ^paid} = metrics
      assert paid > 0 and PaidModel.calls(context.model) == paid
    end
  end
end
