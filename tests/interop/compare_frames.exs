# elixir compare_frames.exs FILE FILE: one line per pair of frames: same, different (with both terms), or badarg.
Code.require_file("random_terms.exs", __DIR__)
[ours, theirs] = Enum.map(System.argv(), &Frames.read/1)
if length(ours) != length(theirs), do: raise("#{length(ours)} frames against #{length(theirs)}")

read = fn bin ->
  try do
    {:ok, :erlang.binary_to_term(bin)}
  rescue
    ArgumentError -> :badarg
  end
end

# `===` finds 0.0 and -0.0 equal on this OTP; their bytes tell them apart.
exact = fn one, two -> :erlang.term_to_binary(one, [:deterministic]) == :erlang.term_to_binary(two, [:deterministic]) end

Enum.zip(ours, theirs)
|> Enum.map(fn {one, two} ->
  case {read.(one), read.(two)} do
    {{:ok, a}, {:ok, b}} when a === b -> if exact.(a, b), do: "same\n", else: "same but for its bytes\n"
    {{:ok, a}, {:ok, b}} -> "different #{inspect({a, b}, limit: 20) |> String.replace("\n", " ")}\n"
    {a, b} -> "badarg #{a == :badarg} #{b == :badarg}\n"
  end
end)
|> IO.write()
