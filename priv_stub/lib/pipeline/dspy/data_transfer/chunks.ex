defmodule Pipeline.DSPy.DataTransfer.Chunks do
  @moduledoc """
  The stream that a dataset is, and the chunks that it is cut into. Lazy, and knows no node.

  The stream is the examples one after the other, each a 4-byte length and a term. It comes as pieces, `{iodata, count}`
  with the examples that end in each; chunks are cuts of it, or of the one zlib stream over all of it.
  """

  alias Pipeline.DSPy.PythonError

  @max_example_bytes 16 * 1024 * 1024
  # Compressed and summed at once: each call costs as much as some kilobytes.
  @batch_bytes 64 * 1024

  defmodule Chunk do
    @moduledoc """
    One chunk, with how much of the stream has gone into it and those before it. `sha256`, of the whole stream, is that of
    the last one.
    """

    @enforce_keys [:index, :data, :bytes, :examples]
    defstruct [:index, :data, :bytes, :examples, :sha256]

    @type t :: %__MODULE__{
            index: non_neg_integer,
            data: binary,
            bytes: non_neg_integer,
            examples: non_neg_integer,
            sha256: String.t() | nil
          }
  end

  defmodule Cutter do
    @moduledoc false
    # What is between the pieces that came and the chunks that went. `raw`, one binary, waits to be summed and compressed,
    # `packed` to be cut.
    @enforce_keys [:sum, :zlib, :chunk_bytes]
    defstruct [
      :sum,
      :zlib,
      :chunk_bytes,
      raw: "",
      packed: [],
      packed_bytes: 0,
      index: 0,
      bytes: 0,
      examples: 0
    ]
  end

  @type piece :: {iodata, non_neg_integer}

  @doc """
  The pieces of a stream of these examples. What is no example raises a `Pipeline.DSPy.PythonError` with its place.
  """
  @spec examples(Enumerable.t()) :: Enumerable.t()
  def examples(data), do: Stream.chunk_while(data, {0, 0, [], 0}, &gather/2, &rest/1)

  # Handing on each example by itself costs more than encoding it.
  defp gather(example, {index, count, framed, bytes}) do
    {one, size} = framed(example, index)
    bytes = bytes + size
    framed = [framed | one]

    if bytes < @batch_bytes,
      do: {:cont, {index + 1, count + 1, framed, bytes}},
      else: {:cont, {framed, count + 1}, {index + 1, 0, [], 0}}
  end

  defp rest({_index, 0, _framed, _bytes}), do: {:cont, nil}
  defp rest({_index, count, framed, _bytes}), do: {:cont, {framed, count}, nil}

  @doc "The SHA-256 of a stream, as hexadecimal digits."
  @spec sha256(Enumerable.t()) :: {:ok, String.t()} | {:error, PythonError.t()}
  def sha256(pieces) do
    sum =
      pieces
      |> Stream.map(fn {bytes, _examples} -> bytes end)
      |> Enum.reduce(:crypto.hash_init(:sha256), &:crypto.hash_update(&2, &1))

    {:ok, hex(:crypto.hash_final(sum))}
  rescue
    error in PythonError -> {:error, error}
  end

  @doc "The chunks of a stream, of so many bytes. Lazy; each enumeration makes the same ones."
  @spec cut(Enumerable.t(), :zlib | :none, pos_integer) :: Enumerable.t()
  def cut(pieces, compression, chunk_bytes) do
    Stream.transform(
      pieces,
      fn -> open(compression, chunk_bytes) end,
      &take/2,
      &finish/1,
      &close/1
    )
  end

  defp framed(example, index) when is_map(example) do
    # The same examples are to have the same name, whoever sends them: OTP 25 writes atoms in another way than later ones
    # and than `erlbridge dataset import`, unless it is told the version.
    # Not as one binary: long texts would be copied into it, and once more into the chunk.
    term = :erlang.term_to_iovec(example, [:deterministic, minor_version: 2])
    size = IO.iodata_length(term)
    if size > @max_example_bytes, do: raise(too_large(index, size))
    {[<<size::32>> | term], 4 + size}
  end

  defp framed(example, index) do
    shown = inspect(example, limit: 5, printable_limit: 60)
    raise refused(index, "expected a map, got #{shown}")
  end

  defp too_large(index, size) do
    refused(index, "an example of #{size} bytes, limit #{@max_example_bytes}")
  end

  defp refused(index, message) do
    path = "data[#{index}]"
    PythonError.new(:validation_error, "#{path}: #{message}", context: %{path: path})
  end

  # -- cutting

  defp open(:none, chunk_bytes) do
    %Cutter{sum: :crypto.hash_init(:sha256), zlib: nil, chunk_bytes: chunk_bytes}
  end

  defp open(:zlib, chunk_bytes) do
    zlib = :zlib.open()
    # The wire is a pipe on this machine: what costs least wins.
    :ok = :zlib.deflateInit(zlib, :best_speed)
    %Cutter{sum: :crypto.hash_init(:sha256), zlib: zlib, chunk_bytes: chunk_bytes}
  end

  defp close(%Cutter{zlib: nil}), do: :ok
  defp close(%Cutter{zlib: zlib}), do: :zlib.close(zlib)

  defp take({bytes, examples}, cutter) do
    cutter = %{cutter | raw: joined(cutter.raw, bytes), examples: cutter.examples + examples}

    if byte_size(cutter.raw) < @batch_bytes,
      do: {[], cutter},
      else: cutter |> pack() |> whole_chunks()
  end

  defp finish(cutter) do
    cutter = pack(cutter)
    rest = if cutter.zlib, do: :zlib.deflate(cutter.zlib, [], :finish), else: []
    {chunks, cutter} = cutter |> add(rest) |> whole_chunks()
    last = chunk(cutter, IO.iodata_to_binary(cutter.packed))
    {chunks ++ [%{last | sha256: hex(:crypto.hash_final(cutter.sum))}], cutter}
  end

  # Once: what sums iodata makes a binary of it as well.
  defp joined("", bytes), do: IO.iodata_to_binary(bytes)
  defp joined(raw, bytes), do: IO.iodata_to_binary([raw | bytes])

  defp pack(cutter) do
    packed = if cutter.zlib, do: :zlib.deflate(cutter.zlib, cutter.raw), else: cutter.raw

    add(
      %{
        cutter
        | sum: :crypto.hash_update(cutter.sum, cutter.raw),
          bytes: cutter.bytes + byte_size(cutter.raw),
          raw: ""
      },
      packed
    )
  end

  defp add(cutter, packed) do
    %{
      cutter
      | packed: [cutter.packed, packed],
        packed_bytes: cutter.packed_bytes + IO.iodata_length(packed)
    }
  end

  # Something is always left for the last chunk, unless there is nothing at all.
  defp whole_chunks(%Cutter{packed_bytes: size, chunk_bytes: most} = cutter) when size <= most do
    {[], cutter}
  end

  defp whole_chunks(cutter) do
    {chunks, rest, cutter} = split(IO.iodata_to_binary(cutter.packed), cutter, [])
    {chunks, %{cutter | packed: [rest], packed_bytes: byte_size(rest)}}
  end

  defp split(packed, %Cutter{chunk_bytes: size} = cutter, chunks) when byte_size(packed) > size do
    <<data::binary-size(size), rest::binary>> = packed
    split(rest, %{cutter | index: cutter.index + 1}, [chunk(cutter, data) | chunks])
  end

  # A copy, since what is left would keep all that it was cut from.
  defp split(rest, cutter, chunks), do: {Enum.reverse(chunks), :binary.copy(rest), cutter}

  defp chunk(cutter, data) do
    %Chunk{index: cutter.index, data: data, bytes: cutter.bytes, examples: cutter.examples}
  end

  defp hex(digest), do: Base.encode16(digest, case: :lower)
end
