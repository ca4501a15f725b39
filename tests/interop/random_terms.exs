# Random terms of every kind that a BEAM can send, and frames to carry them: four bytes of length, then the bytes.
#
# A file to require, with no effect of its own. `RandomTerms.seed(n)` makes what follows repeatable: identifiers are made
# from numbers, never taken from the running system.

defmodule RandomTerms do
  @atoms [:ok, :error, nil, true, false, :undefined, :"", :é, :日本語, :"with space", :"\0", Elixir, Enum, :"a@b"]
  @edges [0, 1, 127, 128, 255, 256, 65535, 65536, 2_147_483_647, 2_147_483_648, 4_294_967_295, 4_294_967_296] ++
           [576_460_752_303_423_487, 576_460_752_303_423_488, 9_223_372_036_854_775_807, 9_223_372_036_854_775_808]

  def seed(n), do: :rand.seed(:exsss, {n, n, n})

  @doc "A random term whose containers nest at most `depth` deep."
  def term(depth) when depth <= 0, do: leaf()

  def term(depth) do
    case :rand.uniform(20) do
      n when n <= 8 -> leaf()
      n when n <= 10 -> list(depth)
      11 -> improper(depth)
      n when n <= 13 -> tuple(depth)
      n when n <= 16 -> map(depth)
      17 -> odd_keys(depth)
      18 -> closure(depth)
      19 -> numbers()
      20 -> %{:__struct__ => RandomTerms, text() => term(depth - 1)}
    end
  end

  @doc "The term's bytes, in one of the forms that `term_to_binary/2` can be asked for."
  def encode(term) do
    options =
      pick([[], [], [:compressed], [compressed: 9], [minor_version: 0], [minor_version: 2], [:deterministic]])

    :erlang.term_to_binary(term, options)
  end

  def leaf do
    case :rand.uniform(16) do
      n when n <= 3 -> integer()
      n when n <= 5 -> float()
      n when n <= 7 -> atom()
      n when n <= 9 -> binary()
      10 -> bitstring()
      11 -> charlist()
      12 -> pid()
      13 -> port()
      14 -> reference()
      15 -> pick([&:lists.map/2, &Enum.map/2, &RandomTerms.leaf/0, Function.capture(:nope, :nope, 255)])
      16 -> pick([[], {}, %{}, "", -0.0, 0.0, 1, 1.0])
    end
  end

  def integer do
    sign = pick([1, -1])

    case :rand.uniform(4) do
      1 -> :rand.uniform(256) - 1
      2 -> sign * (pick(@edges) + :rand.uniform(3) - 2)
      3 -> sign * :rand.uniform(4_000_000_000)
      4 -> sign * :binary.decode_unsigned(:rand.bytes(pick([8, 9, 16, 31, 255, 256, 300])))
    end
  end

  def float do
    case :rand.bytes(8) do
      <<value::float>> -> pick([value, Float.round(:rand.uniform() * 100, 2)])
      _ -> -0.0
    end
  end

  def atom do
    case :rand.uniform(4) do
      1 -> :"atom_#{:rand.uniform(500)}"
      2 -> :"ü_#{:rand.uniform(500)}"
      _ -> pick(@atoms)
    end
  end

  def text, do: pick(["", "plain", "naïve", "日本語", "q\"uote", "key #{:rand.uniform(50)}"])
  def binary, do: pick([text(), :rand.bytes(:rand.uniform(40)), :rand.bytes(pick([255, 256, 300]))])

  def bitstring do
    size = :rand.uniform(60)
    <<bits::bitstring-size(size), _::bitstring>> = :rand.bytes(8)
    bits
  end

  def charlist, do: for(_ <- 1..:rand.uniform(12), do: pick([:rand.uniform(255), :rand.uniform(0xD000)]))

  def numbers do
    size = pick([1, 3, 4, 50, 300])
    kind = pick([:float, :byte, :int, :mixed])

    for _ <- 1..size do
      case kind do
        :float -> float()
        :byte -> :rand.uniform(256) - 1
        :int -> :rand.uniform(2_000_000_000)
        :mixed -> pick([integer(), float()])
      end
    end
  end

  def pid do
    pick([
      :erlang.list_to_pid('<0.#{:rand.uniform(30000)}.#{:rand.uniform(8000)}>'),
      foreign(<<88>>, <<:rand.uniform(100)::32, :rand.uniform(100)::32, :rand.uniform(3)::32>>),
      foreign(<<103>>, <<:rand.uniform(100)::32, :rand.uniform(100)::32, :rand.uniform(3)>>)
    ])
  end

  def port do
    pick([
      :erlang.list_to_port('#Port<0.#{:rand.uniform(30000)}>'),
      foreign(<<89>>, <<:rand.uniform(4_294_967_295)::32, 7::32>>),
      foreign(<<102>>, <<:rand.uniform(1000)::32, 1>>),
      foreign(<<120>>, <<:rand.uniform(0xFFFFFFFFFFFFFFFF)::64, 7::32>>)
    ])
  end

  def reference do
    n = :rand.uniform(5)
    words = for _ <- 1..n, into: <<>>, do: <<:rand.uniform(4_294_967_296) - 1::32>>

    pick([
      local_reference(),
      foreign(<<90, n::16>>, <<:rand.uniform(9)::32>> <> words),
      foreign(<<101>>, <<:rand.uniform(200_000)::32, 2>>)
    ])
  end

  defp local_reference do
    words = for _ <- 1..3, into: <<>>, do: <<:rand.uniform(200_000)::32>>
    :erlang.binary_to_term(<<131, 90, 3::16, 119, 13, "nonode@nohost", 0::32>> <> words)
  end

  defp foreign(head, tail), do: :erlang.binary_to_term(<<131>> <> head <> <<119, 3, "a@b">> <> tail)

  defp list(depth), do: some(depth, 6)
  defp improper(depth), do: some(depth, 4) |> then(&(&1 ++ pick([integer(), atom(), binary(), {term(depth - 1)}, %{}])))
  defp tuple(depth), do: pick([some(depth, 5), List.duplicate(leaf(), pick([255, 256]))]) |> List.to_tuple()
  defp some(depth, most), do: for(_ <- 1..:rand.uniform(most), do: term(depth - 1))

  defp map(depth) do
    size = pick([1, 2, 5, 5, 32, 33, 70])
    depth = if size > 5, do: 1, else: depth
    for i <- 1..size, into: %{}, do: {pick([:"k#{i}", "k#{i}", i]), term(depth - 1)}
  end

  # Keys that most languages would merge or refuse.
  defp odd_keys(depth) do
    for key <- [1, 1.0, true, :"1", "1", '1', {1}, {1.0}, [1 | 2], %{1 => 2}, %{1.0 => 2}, term(depth - 1)],
        :rand.uniform(2) == 1,
        into: %{},
        do: {key, leaf()}
  end

  defp closure(depth) do
    one = term(depth - 1)
    two = leaf()
    pick([fn -> one end, fn x -> {x, one, two} end, fn x, y -> [x, y | two] end, fn -> :none end])
  end

  defp pick(list), do: Enum.at(list, :rand.uniform(length(list)) - 1)
end

defmodule Frames do
  def write(path, binaries), do: File.write!(path, for(bin <- binaries, do: [<<byte_size(bin)::32>>, bin]))
  def read(path), do: split(File.read!(path))

  defp split(<<size::32, bin::binary-size(size), rest::binary>>), do: [bin | split(rest)]
  defp split(<<>>), do: []
end
