# elixir judge_frames.exs FILE: one line per frame, ok or badarg, as binary_to_term/1 sees it; and for those that are ok
# how many of the frame's bytes it used.
Code.require_file("random_terms.exs", __DIR__)
[path] = System.argv()

Frames.read(path)
|> Enum.map(fn bin ->
  try do
    {_, used} = :erlang.binary_to_term(bin, [:used])
    "ok #{used}\n"
  rescue
    ArgumentError -> "badarg\n"
  end
end)
|> IO.write()
