defmodule Pipeline.DSPy.PythonBridge.Backoff do
  @moduledoc """
  How long a bridge waits before it starts another node, after so many of them ended soon after their start. Arithmetic.

  The first wait is short, since one such end may be an accident; each further one is five times as long, up to a
  longest. Chance takes up to 15 % off, so that bridges which failed together do not come back together.

      iex> alias Pipeline.DSPy.PythonBridge.Backoff
      iex> for failures <- 0..6, do: Backoff.delay_ms(failures, 200, 30_000, 0.0)
      [0, 200, 1_000, 5_000, 25_000, 30_000, 30_000]
      iex> Backoff.delay_ms(3, 200, 30_000, 1.0)
      4_250

  A supervisor gives up after the fourth restart within 5 seconds, unless it is told otherwise. With the waits that are
  the defaults the fourth restart comes later than that, whatever chance takes off:

      iex> alias Pipeline.DSPy.PythonBridge.Backoff
      iex> Enum.sum(for failures <- 1..3, do: Backoff.delay_ms(failures, 200, 30_000, 1.0))
      5_270
  """

  @factor 5
  @jitter 0.15
  # No wait grows any further long before this.
  @most_failures 40

  @doc "Milliseconds to wait after `failures` ends in a row. `chance` is from 0 to 1."
  @spec delay_ms(non_neg_integer, non_neg_integer, non_neg_integer, float) :: non_neg_integer
  def delay_ms(0, _first_ms, _most_ms, _chance), do: 0

  def delay_ms(failures, first_ms, most_ms, chance) do
    whole_ms = min(first_ms * @factor ** (min(failures, @most_failures) - 1), most_ms)
    round(whole_ms * (1 - @jitter * chance))
  end
end
