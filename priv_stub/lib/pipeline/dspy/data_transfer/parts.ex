defmodule Pipeline.DSPy.DataTransfer.Parts do
  @moduledoc """
  A dataset of a node, part by part: a lazy stream that asks ahead by a window and checks the whole at its end.
  """

  alias Pipeline.DSPy.DataTransfer.Resumption
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Vocabulary

  @part_bytes 1024 * 1024
  @most_in_vain 8
  @defaults [window: 4, chunk_timeout: 60_000, resume_within: 30_000]

  # `asked` is up to where parts have been asked for, `given` up to where they have come. A node with short frames gives
  # shorter parts than it was asked for: `step` is what the first one had.
  @enforce_keys [:bridge, :name, :size, :opts, :sum, :pending]
  defstruct [
    :bridge,
    :name,
    :size,
    :opts,
    :sum,
    :pending,
    asked: 0,
    given: 0,
    step: nil,
    in_vain: 0
  ]

  @doc "The bytes of a dataset's stream. `about` is what the node says of it."
  @spec stream(PythonBridge.bridge(), map, keyword) :: Enumerable.t()
  def stream(bridge, %{dataset: "sha256:" <> _ = name, bytes: size}, opts) do
    opts = Keyword.validate!(opts, @defaults)

    Stream.resource(
      fn ->
        sum = :crypto.hash_init(:sha256)

        %__MODULE__{
          bridge: bridge,
          name: name,
          size: size,
          opts: opts,
          sum: sum,
          pending: :queue.new()
        }
      end,
      &next/1,
      fn state -> drain(state) end
    )
    |> Stream.map(&part!/1)
  end

  # Raised behind the stream and not in it: what is awaited once more when it is left must be what is still asked for.
  defp part!({:failed, error}), do: raise(error)
  defp part!(data), do: data

  @doc "The examples of such a stream."
  @spec examples(Enumerable.t()) :: Enumerable.t()
  def examples(parts) do
    Stream.transform(parts, "", fn part, rest -> cut(rest <> part, []) end)
  end

  defp cut(<<size::32, term::binary-size(size), rest::binary>>, found) do
    cut(rest, [decoded(term) | found])
  end

  defp cut(rest, found), do: {Enum.reverse(found), :binary.copy(rest)}

  defp decoded(term) do
    Vocabulary.load()
    :erlang.binary_to_term(term, [:safe])
  rescue
    ArgumentError ->
      message = "an example holds atoms that do not exist here; load the modules that use them"
      reraise PythonError.new(:serialization_error, message), __STACKTRACE__
  end

  # -- part by part

  defp next(%{given: size, size: size} = state) do
    case "sha256:" <> Base.encode16(:crypto.hash_final(state.sum), case: :lower) do
      name when name == state.name ->
        {:halt, state}

      other ->
        message =
          "the dataset #{state.name} came as #{other}; it is damaged at the node, send it again"

        error = PythonError.new(:transfer_error, message, context: %{reason: :checksum})
        {[{:failed, error}], state}
    end
  end

  defp next(state) do
    state = ask_ahead(state)
    {{:value, ref}, rest} = :queue.out(state.pending)

    case PythonBridge.await(ref) do
      {:ok, %{data: data}} when data != "" ->
        state = %{
          state
          | pending: rest,
            given: state.given + byte_size(data),
            in_vain: 0,
            step: state.step || byte_size(data),
            asked: if(state.step, do: state.asked, else: byte_size(data)),
            sum: :crypto.hash_update(state.sum, data)
        }

        {[data], state}

      {:ok, _nothing} ->
        error = PythonError.new(:transfer_error, "the dataset #{state.name} ends too early")
        {[{:failed, error}], %{state | pending: rest}}

      {:error, error} ->
        drain(%{state | pending: rest})
        resume(%{state | pending: :queue.new(), asked: state.given}, error)
    end
  end

  defp resume(%{in_vain: @most_in_vain} = state, error), do: {[{:failed, error}], state}

  defp resume(state, error) do
    case Resumption.await(state.bridge, error, state.opts[:resume_within], state.in_vain) do
      :ok -> next(%{state | in_vain: state.in_vain + 1})
      {:error, error} -> {[{:failed, error}], state}
    end
  end

  # The first part is asked for alone: it says how long the others are.
  defp ask_ahead(%{step: nil} = state), do: ask(state, @part_bytes)

  defp ask_ahead(state) do
    if :queue.len(state.pending) < state.opts[:window] and state.asked < state.size,
      do: state |> ask(state.step) |> ask_ahead(),
      else: state
  end

  defp ask(state, limit) do
    payload = %{dataset: state.name, offset: state.asked, limit: limit}
    opts = [timeout: state.opts[:chunk_timeout], progress: false, stream_to: false]
    ref = PythonBridge.async(state.bridge, :get_dataset, payload, opts)
    %{state | pending: :queue.in(ref, state.pending), asked: state.asked + limit}
  end

  # Nothing that was asked for is left in the mailbox of who read the stream.
  defp drain(state) do
    for ref <- :queue.to_list(state.pending), do: PythonBridge.await(ref)
    :ok
  end
end
