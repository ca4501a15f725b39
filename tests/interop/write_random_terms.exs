# elixir write_random_terms.exs SEED COUNT FILE: COUNT random terms, as frames in FILE.
Code.require_file("random_terms.exs", __DIR__)
[seed, count, path] = System.argv()
RandomTerms.seed(String.to_integer(seed))
Frames.write(path, for(_ <- 1..String.to_integer(count), do: RandomTerms.encode(RandomTerms.term(4))))
IO.puts("#{count} terms from seed #{seed}")
