defmodule Pipeline.DSPy.PythonBridge.Collector do
  @moduledoc """
  Puts an answer together that comes in chunks, checks it, and gives it to who waits for it.

  A process of its own for each such answer, so that neither its bytes nor the building of its term are the bridge's. It
  is linked to the bridge, which kills it when nobody waits any more, and hears `{:collected, id, outcome}` from it,
  where the outcome is `:ok` or an error.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonError

  @doc "Starts a collector for the answer to this request; `tag` is the first element of the message to the caller."
  @spec start_link(atom, reference, map) :: pid
  def start_link(tag, id, %{bytes: _, sha256: _} = about) do
    bridge = self()
    sum = :crypto.hash_init(:sha256)

    spawn_link(fn ->
      collect(%{tag: tag, id: id, about: about, bridge: bridge, sum: sum}, 0, "")
    end)
  end

  @doc "Hands over the next chunk."
  @spec put(pid, map) :: :ok
  def put(collector, chunk) do
    send(collector, {:data_chunk, chunk})
    :ok
  end

  # The stream grows in one place: parts that are joined in the end would stand in memory beside it.
  defp collect(state, index, stream) do
    receive do
      {:data_chunk, %{chunk_index: ^index, data: data, compression: :none} = chunk} ->
        state = %{state | sum: :crypto.hash_update(state.sum, data)}
        stream = <<stream::binary, data::binary>>

        cond do
          byte_size(stream) > state.about.bytes ->
            finish(state, {:error, broken("it is longer than it was to be")})

          chunk.is_final ->
            finish(state, result(state, stream))

          true ->
            collect(state, index + 1, stream)
        end

      {:data_chunk, chunk} ->
        shown = inspect(Map.take(chunk, [:chunk_index, :compression]))
        finish(state, {:error, broken("expected chunk #{index}, got #{shown}")})
    end
  end

  defp result(state, <<size::32, term::binary>>) when byte_size(term) == size do
    with :ok <- check(state),
         {:error, reason} <- MessageProtocol.decode_result(term) do
      {:error, broken("it is #{reason}")}
    end
  end

  defp result(_state, _stream), do: {:error, broken("its length is not the one that it says")}

  defp check(state) do
    sha256 = Base.encode16(:crypto.hash_final(state.sum), case: :lower)

    if sha256 == state.about.sha256,
      do: :ok,
      else: {:error, broken("its sha256 is #{sha256}, expected #{state.about.sha256}")}
  end

  defp broken(why) do
    message = "an answer that came in chunks is broken: #{why}; ask again"
    PythonError.new(:transfer_error, message, context: %{reason: :corrupt})
  end

  defp finish(state, outcome) do
    told = with {:ok, _result} <- outcome, do: :ok
    send(state.id, {state.tag, state.id, outcome})
    send(state.bridge, {:collected, state.id, told})
    # Chunks behind a broken one are on their way still; the bridge ends this process.
    Process.sleep(:infinity)
  end
end
