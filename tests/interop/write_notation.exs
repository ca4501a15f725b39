# elixir --erl "+pc unicode" write_notation.exs SEED COUNT VECTORS TERMS ELIXIR ERLANG: the terms of VECTORS and COUNT
# random ones, as frames in TERMS, and in the other two what inspect/2 and ~0tp make of them. All in one BEAM: the order
# of a large map's keys is another in each.
Code.require_file("random_terms.exs", __DIR__)
[seed, count, vectors, terms, elixir, erlang] = System.argv()
RandomTerms.seed(String.to_integer(seed))

found =
  Enum.map(Frames.read(vectors), &:erlang.binary_to_term/1) ++
    for(_ <- 1..String.to_integer(count), do: RandomTerms.term(4))

Frames.write(terms, Enum.map(found, &:erlang.term_to_binary/1))
Frames.write(elixir, Enum.map(found, &inspect(&1, limit: :infinity, printable_limit: :infinity)))
Frames.write(erlang, Enum.map(found, &:unicode.characters_to_binary(:io_lib.format("~0tp", [&1]))))
