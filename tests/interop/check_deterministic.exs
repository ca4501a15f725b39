# elixir check_deterministic.exs FILE: counts the frames that are not what this BEAM writes with [:deterministic], where
# atoms are UTF-8 (minor version 2).
Code.require_file("random_terms.exs", __DIR__)
[path] = System.argv()
frames = Frames.read(path)

other =
  Enum.reject(frames, fn bin ->
    :erlang.term_to_binary(:erlang.binary_to_term(bin), [:deterministic, minor_version: 2]) == bin
  end)

for bin <- Enum.take(other, 3), do: IO.inspect(:erlang.binary_to_term(bin), limit: 30)
IO.puts("#{length(frames)} frames, #{length(other)} in another order")
