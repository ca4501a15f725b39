# The BEAM's own codec: `elixir beam.exs file ...` prints, per file, the median microseconds of one binary_to_term and of
# one term_to_binary of the term in it. Each round runs in a process of its own, so that none pays for another's garbage.

defmodule Beam do
  def median_us(fun) do
    {once, _} = :timer.tc(fn -> fun.() end)
    repeat = max(1, div(20_000, max(once, 1)))

    samples =
      for _ <- 1..11 do
        task = Task.async(fn -> :timer.tc(fn -> times(fun, repeat) end) end)
        {us, _} = Task.await(task, :infinity)
        us / repeat
      end

    Enum.at(Enum.sort(samples), 5)
  end

  defp times(_, 0), do: :ok

  defp times(fun, n) do
    fun.()
    times(fun, n - 1)
  end
end

for path <- System.argv() do
  data = File.read!(path)
  term = :erlang.binary_to_term(data)
  decode = Beam.median_us(fn -> :erlang.binary_to_term(data) end)
  encode = Beam.median_us(fn -> :erlang.term_to_binary(term) end)
  IO.puts("#{Path.basename(path)} #{decode} #{encode}")
end
