defmodule Pipeline.DSPy.BridgeLongAnswersTest do
  @moduledoc "An answer above the frame limit, which comes in chunks: put together for its caller, whatever becomes of it."

  use Pipeline.NodeCase

  import ExUnit.CaptureLog

  alias Pipeline.DSPy.DataTransfer

  test "it is the ordinary result for its caller" do
    bridge = start_bridge(max_frame_bytes: 16_384, credit: 4)
    data = Tickets.read()
    {:ok, dataset} = DataTransfer.transfer_large_dataset(data, bridge)
    query = [optimizer: :labeled_few_shot, lm: :offline, max_labeled_demos: 96]

    assert {:ok, %{status: :success, program: %{signature: _}} = result} =
             PythonBridge.optimize_signature(bridge, Tickets.signature(), dataset, query)

    assert :erlang.external_size(result) > 16_384
    assert {:ok, %{status: :healthy}} = PythonBridge.health_check(bridge)
    refute_received _anything
  end

  @info %{protocol: 1, limits: %{credit: 4, max_frame_bytes: 1_000}}

  # A node that answers the first request, whose frame it reads, with a transfer of these chunks.
  defp scripted(chunks, about, timeout \\ 5_000) do
    directory = tmp_dir("scripted-#{System.unique_integer([:positive])}")
    frames = fn id -> Enum.map([{:ok, id, {:transfer, "t", about}} | chunks.(id)], &frame/1) end
    said = Path.join(directory, "said")
    answer = Path.join(directory, "answer")
    File.write!(said, frame({:ready, @info}))

    bridge =
      start_bridge(
        python:
          script(
            "cat #{said}; while [ ! -e #{answer} ]; do sleep 0.02; done; cat #{answer}; exec cat > /dev/null"
          )
      )

    ref = PythonBridge.async(bridge, :predict, %{}, timeout: timeout, grace: 0)
    File.write!(answer <> ".new", frames.(ref))
    File.rename!(answer <> ".new", answer)
    {PythonBridge.await(ref), bridge}
  end

  # What the bridge is linked to: its supervisor, its port, its writer, and whoever puts an answer together.
  defp links(bridge) do
    {:links, links} = bridge |> Process.whereis() |> Process.info(:links)
    Enum.count(links, &is_pid/1)
  end

  defp frame(term) do
    bytes = :erlang.term_to_binary(term)
    [<<byte_size(bytes)::32>>, bytes]
  end

  defp chunk(id, index, data, is_final) do
    {:data_chunk, id,
     %{transfer: "t", chunk_index: index, data: data, is_final: is_final, compression: :none}}
  end

  defp about(stream) do
    %{
      chunks: 2,
      bytes: byte_size(stream),
      sha256: Base.encode16(:crypto.hash(:sha256, stream), case: :lower)
    }
  end

  test "it is put together from its chunks" do
    term = :erlang.term_to_binary(%{status: :success, prediction: %{"answer" => "yes"}})
    <<first::binary-size(7), rest::binary>> = stream = <<byte_size(term)::32, term::binary>>
    chunks = &[chunk(&1, 0, first, false), chunk(&1, 1, rest, true)]

    assert {{:ok, %{prediction: %{"answer" => "yes"}}}, bridge} = scripted(chunks, about(stream))

    assert eventually(fn -> links(bridge) == 2 end)
  end

  test "one whose end does not come in time is a timeout, and nothing of it is left" do
    chunks = &[chunk(&1, 0, "abc", false)]
    assert {{:error, error}, bridge} = scripted(chunks, about("abcdef"), 1_000)
    assert error.error_type == :timeout_error
    assert eventually(fn -> links(bridge) == 2 end)
    refute_received _anything
  end

  test "one that somebody else cancels is over for who waits for the rest, without a deadline too" do
    cancelled = %{error_type: :cancelled, message: "cancelled", recovery_strategy: :fallback}
    chunks = &[chunk(&1, 0, "abc", false), {:error, &1, cancelled}]

    assert {{:error, %PythonError{error_type: :cancelled}}, bridge} =
             scripted(chunks, about("abcdef"), :infinity)

    assert eventually(fn -> links(bridge) == 2 end)
    refute_received _anything
  end

  test "one that is broken is a typed error, once" do
    term = :erlang.term_to_binary(:success)
    stream = <<byte_size(term)::32, term::binary>>
    unsafe = <<131, 119, 20, "no_atom_of_this_node">>
    framed = <<byte_size(unsafe)::32, unsafe::binary>>

    for {chunks, about, text} <- [
          {&[chunk(&1, 1, stream, true)], about(stream), "expected chunk 0"},
          {&[chunk(&1, 0, stream, true)],
           about(stream <> "x") |> Map.put(:bytes, byte_size(stream)), "sha256"},
          {&[chunk(&1, 0, stream <> "more", true)], about(stream), "longer"},
          {&[chunk(&1, 0, "abc", true)], about("abc"), "length"},
          {&[chunk(&1, 0, framed, true), chunk(&1, 1, "late", true)], about(framed),
           "not_a_safe_term"}
        ] do
      log =
        capture_log(fn ->
          assert {{:error, %PythonError{error_type: :transfer_error} = error}, _bridge} =
                   scripted(chunks, about)

          assert error.message =~ text
        end)

      refute log =~ "terminating"
    end

    refute_received _anything
  end
end
