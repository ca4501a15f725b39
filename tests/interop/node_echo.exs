# Sends random terms of every kind through a real node and compares what comes back with `===`.
#
#     elixir node_echo.exs SEED COUNT PYTHON DATA
#
# A request's id is any term and comes back exactly as it was sent, decoded and encoded again by the node: so each term
# travels as the id of a request. Prints one line a difference, then how many were the same.

Code.require_file("random_terms.exs", __DIR__)
Code.require_file("../../priv_stub/lib/pipeline/dspy/vocabulary.ex", __DIR__)

defmodule NodeEcho do
  @window 64

  def run(seed, count, python, data) do
    :ok = Pipeline.DSPy.Vocabulary.load()
    RandomTerms.seed(seed)
    args = ["-m", "erlbridge", "serve", "--workers", "1", "--data", data]
    options = [:binary, :exit_status, {:packet, 4}, args: args]
    port = Port.open({:spawn_executable, python}, options)
    {:ready, _} = receive_term(port)
    {first, rest} = Enum.split(Enum.map(1..count, fn n -> {n, RandomTerms.term(4)} end), @window)
    Enum.each(first, &send_request(port, &1))
    same = echo(port, first, rest, 0)
    IO.puts("#{same} of #{count} terms came back identical")
    send_request(port, :shutdown, :bye)
    {:ok, :bye, %{status: :stopped}} = receive_term(port)

    receive do
      {^port, {:exit_status, status}} -> IO.puts("the node exited with #{status}")
    after
      10_000 -> exit(:node_did_not_exit)
    end
  end

  defp echo(_port, [], [], same), do: same

  defp echo(port, [id | sent], rest, same) do
    {:error, echoed, %{error_type: :unknown_verb}} = receive_term(port)
    if echoed !== id, do: IO.puts("sent #{inspect(id)}, got #{inspect(echoed)}")
    same = if echoed === id, do: same + 1, else: same

    case rest do
      [next | rest] ->
        send_request(port, next)
        echo(port, sent ++ [next], rest, same)

      [] ->
        echo(port, sent, [], same)
    end
  end

  defp send_request(port, verb \\ :no_such_verb, id),
    do: Port.command(port, RandomTerms.encode({verb, id, %{}}))

  # Every term here was made by this BEAM, and the node adds none of its own outside of its vocabulary.
  defp receive_term(port) do
    receive do
      {^port, {:data, frame}} ->
        case :erlang.binary_to_term(frame, [:safe]) do
          {:log, _level, _line, _metadata} -> receive_term(port)
          {:telemetry, _name, _measurements, _metadata} -> receive_term(port)
          term -> term
        end

      {^port, {:exit_status, status}} ->
        exit({:node_exited, status})
    after
      30_000 -> exit(:nothing_from_the_node)
    end
  end
end

[seed, count, python, data] = System.argv()
NodeEcho.run(String.to_integer(seed), String.to_integer(count), python, data)
