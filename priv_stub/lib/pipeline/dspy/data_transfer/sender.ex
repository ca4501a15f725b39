defmodule Pipeline.DSPy.DataTransfer.Sender do
  @moduledoc """
  Sends the chunks of one transfer: a window of them in flight, each kept until it is acknowledged, and all that were not
  sent again when the node comes back. Runs in the calling process.
  """

  alias Pipeline.DSPy.DataTransfer
  alias Pipeline.DSPy.DataTransfer.Chunks
  alias Pipeline.DSPy.DataTransfer.Chunks.Chunk
  alias Pipeline.DSPy.DataTransfer.Resumption
  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError

  @defaults [
    transfer: nil,
    progress: nil,
    compression: :none,
    window: 16,
    total_bytes: nil,
    timeout: :infinity,
    chunk_timeout: 60_000,
    resume_within: 30_000
  ]
  @chunk_bytes 1024 * 1024
  @most_in_vain 8
  @event [:pipeline, :dspy, :transfer]

  # `next` is the first chunk that has not been sent, those before it are known to be there; `pending` are the chunks in
  # flight, oldest first, each with its request, and `window` how many these may be: what was asked for, or less where the
  # node says so. `last` is the chunk that was acknowledged last; `in_vain` counts how often the transfer has gone on since then.
  @enforce_keys [:bridge, :transfer, :opts, :until, :pending]
  defstruct [
    :bridge,
    :transfer,
    :opts,
    :until,
    :pending,
    :last,
    :chunk_bytes,
    :window,
    next: 0,
    sent_bytes: 0,
    resumed: 0,
    in_vain: 0
  ]

  @doc "Sends the stream that `pieces` gives, each time from its beginning. Options as in `DataTransfer`."
  @spec send_all((() -> Enumerable.t()), PythonBridge.bridge(), keyword) ::
          {:ok, DataTransfer.dataset()} | {:error, PythonError.t()}
  def send_all(pieces, bridge, opts) do
    opts = Keyword.validate!(opts, @defaults)
    check(opts)
    started_at = System.monotonic_time()

    state = %__MODULE__{
      bridge: bridge,
      transfer: opts[:transfer] || random_name(),
      opts: opts,
      window: opts[:window],
      pending: :queue.new(),
      until: Deadline.in_ms(opts[:timeout])
    }

    {outcome, state} = run(state, pieces)
    report(outcome, state, System.monotonic_time() - started_at)
    outcome
  end

  defp check(opts) do
    unless opts[:compression] in [:zlib, :none] and is_integer(opts[:window]) and
             opts[:window] > 0 do
      raise ArgumentError,
            "expected :compression to be :zlib or :none and :window a positive integer, got " <>
              inspect(Keyword.take(opts, [:compression, :window]))
    end
  end

  defp random_name do
    "elixir-" <> Base.encode32(:crypto.strong_rand_bytes(15), case: :lower)
  end

  # -- where to begin

  defp run(state, pieces) do
    case PythonBridge.await_ready(state.bridge, left_ms(state)) do
      {:ok, %{limits: %{max_frame_bytes: limit}}} ->
        state = %{state | chunk_bytes: min(@chunk_bytes, div(limit, 2))}
        if state.opts[:transfer], do: begin_named(state, pieces), else: produce(state, pieces)

      {:error, error} ->
        case resume(state, error) do
          {:ok, state} -> run(state, pieces)
          {:error, error} -> {{:error, error}, state}
        end
    end
  end

  # What was sent under this name before may be other data: then it is sent, and what is there is not taken for it.
  defp begin_named(state, pieces) do
    case DataTransfer.status(state.bridge, state.transfer) do
      {:ok, %{status: :finished, dataset: dataset}} ->
        case Chunks.sha256(pieces.()) do
          {:ok, sha256} when "sha256:" <> sha256 == dataset -> {{:ok, {:dataset, dataset}}, state}
          {:ok, _other} -> produce(state, pieces)
          {:error, error} -> {{:error, error}, state}
        end

      {:ok, %{next_index: next}} ->
        produce(%{state | next: next}, pieces)

      {:error, error} ->
        case resume(state, error) do
          {:ok, state} -> begin_named(state, pieces)
          {:error, error} -> {{:error, error}, state}
        end
    end
  end

  # -- the chunks, one after the other

  # Chunks are asked for one at a time, so that whatever the enumerable does, what is in flight is known.
  defp produce(state, pieces) do
    chunks = Chunks.cut(pieces.(), state.opts[:compression], state.chunk_bytes)
    next = &Enumerable.reduce(chunks, &1, fn chunk, nil -> {:suspend, chunk} end)

    case send_each(state, next) do
      {:again, state} -> produce(state, pieces)
      {:cont, state} -> {{:error, unfinished()}, state}
      over -> over
    end
  end

  defp send_each(state, next) do
    case pull(state, next) do
      {:suspended, chunk, next} ->
        # One that is known to be there is not sent; the last one always is, since with it the node finishes.
        if chunk.index < state.next and chunk.sha256 == nil,
          do: send_each(state, next),
          else: send_one(state, chunk, next)

      {:failed, error} ->
        {{:error, error}, state}

      _done ->
        make_room(state, 0)
    end
  end

  defp send_one(state, chunk, next) do
    case closing(next, fn -> make_room(state, state.window - 1) end) do
      {:cont, state} ->
        state |> submit(chunk) |> send_each(next)

      over ->
        next.({:halt, nil})
        over
    end
  end

  defp pull(state, next) do
    next.({:cont, nil})
  rescue
    error in PythonError ->
      drain(state.pending)
      {:failed, error}
  catch
    kind, reason ->
      drain(state.pending)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp closing(next, fun) do
    fun.()
  catch
    kind, reason ->
      next.({:halt, nil})
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  # No answer is left in the mailbox of who called.
  defp drain(pending),
    do: for({_chunk, ref} <- :queue.to_list(pending), do: PythonBridge.await(ref))

  defp unfinished do
    PythonError.new(
      :transfer_error,
      "the last chunk was acknowledged without a dataset: other data came under this name; cancel the transfer, or " <>
        "send under another name"
    )
  end

  defp submit(state, %Chunk{} = chunk) do
    payload = %{
      transfer: state.transfer,
      chunk_index: chunk.index,
      data: chunk.data,
      is_final: chunk.sha256 != nil,
      compression: state.opts[:compression]
    }

    payload = if chunk.sha256, do: Map.put(payload, :sha256, chunk.sha256), else: payload
    total = state.opts[:total_bytes]

    payload =
      if total && chunk.index == 0, do: Map.put(payload, :total_bytes, total), else: payload

    opts = [timeout: left_ms(state), progress: false, stream_to: false]
    ref = PythonBridge.async(state.bridge, :data_chunk, payload, opts)
    %{state | pending: :queue.in({chunk, ref}, state.pending), next: chunk.index + 1}
  end

  # Waits until no more than so many chunks are in flight.
  defp make_room(state, most) do
    if :queue.len(state.pending) <= most do
      {:cont, state}
    else
      {{:value, {chunk, ref}}, rest} = :queue.out(state.pending)

      case PythonBridge.await(ref) do
        {:ok, told} ->
          %{state | pending: rest} |> acknowledged(chunk, told) |> make_room_again(most)

        {:error, error} ->
          go_on(state, error, most)
      end
    end
  end

  defp make_room_again({:cont, state}, most), do: make_room(state, most)
  defp make_room_again(outcome, _most), do: outcome

  defp acknowledged(state, chunk, told) do
    state = %{
      state
      | in_vain: 0,
        last: chunk,
        window: min(state.opts[:window], Map.get(told, :window, state.opts[:window])),
        sent_bytes: state.sent_bytes + byte_size(chunk.data)
    }

    tell(state)

    case told do
      %{dataset: dataset} when is_binary(dataset) -> {{:ok, {:dataset, dataset}}, state}
      _receiving -> {:cont, state}
    end
  end

  defp tell(%{opts: opts, last: last} = state) do
    with progress when is_function(progress, 1) <- opts[:progress] do
      progress.(%{
        chunks: last.index + 1,
        examples: last.examples,
        bytes: last.bytes,
        sent_bytes: state.sent_bytes
      })
    end
  catch
    kind, reason ->
      drain(state.pending)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  # -- after an error

  # What is in flight was answered, or will be at once: the node refuses what comes behind a chunk that it did not take.
  defp go_on(state, error, most) do
    chunks = for {chunk, _ref} <- :queue.to_list(state.pending), do: chunk
    drain(:queue.drop(state.pending))
    state = %{state | pending: :queue.new()}

    with {:ok, state} <- resume(state, error),
         {:ok, %{next_index: there} = told} <- status_of(state) do
      first = hd(chunks)

      cond do
        told.status == :finished ->
          finished(state, List.last(chunks), told)

        there < first.index ->
          # The node has less than was acknowledged.
          {:again, %{state | next: there}}

        true ->
          chunks
          |> Enum.filter(&(&1.index >= there))
          |> Enum.reduce(state, &submit(&2, &1))
          |> make_room(most)
      end
    else
      {:error, error} -> {{:error, error}, state}
    end
  end

  defp finished(state, %Chunk{sha256: sha256} = chunk, %{dataset: "sha256:" <> sha256} = told) do
    acknowledged(state, chunk, told)
  end

  defp finished(state, _chunk, _told), do: {{:error, unfinished()}, state}

  defp status_of(state) do
    with {:error, error} <- DataTransfer.status(state.bridge, state.transfer),
         {:ok, state} <- resume(state, error) do
      status_of(state)
    end
  end

  # A chunk that kills whatever node gets it is not sent for ever.
  defp resume(%{in_vain: @most_in_vain}, error), do: {:error, error}

  defp resume(state, error) do
    within_ms = min(state.opts[:resume_within], Deadline.left(state.until))

    with :ok <- Resumption.await(state.bridge, error, within_ms, state.in_vain) do
      {:ok, %{state | resumed: state.resumed + 1, in_vain: state.in_vain + 1}}
    end
  end

  # In the order of terms every number is less than :infinity.
  defp left_ms(%{until: until, opts: opts}), do: min(opts[:chunk_timeout], Deadline.left(until))

  defp report(outcome, state, duration) do
    measurements = %{
      duration: duration,
      bytes: if(state.last, do: state.last.bytes, else: 0),
      sent_bytes: state.sent_bytes,
      examples: if(state.last, do: state.last.examples, else: 0),
      resumed: state.resumed
    }

    {success, error_type} =
      case outcome do
        {:ok, _dataset} -> {1, nil}
        {:error, error} -> {0, error.error_type}
      end

    metadata = %{transfer: state.transfer, error_type: error_type}
    Metrics.execute(@event, Map.put(measurements, :success, success), metadata)
  end
end
