defmodule Pipeline.DSPy.Deadline do
  @moduledoc """
  One budget for several steps: a span of milliseconds becomes a point in time once, and each step gets what is left.

      iex> alias Pipeline.DSPy.Deadline
      iex> Deadline.left(Deadline.in_ms(:infinity))
      :infinity
      iex> Deadline.left(Deadline.in_ms(60_000)) in 59_000..60_000
      true
      iex> Deadline.left(Deadline.in_ms(-5))
      0
  """

  @typedoc "Milliseconds of the BEAM's monotonic time."
  @type t :: integer | :infinity

  @doc "The point in time after so many milliseconds."
  @spec in_ms(integer | :infinity) :: t
  def in_ms(:infinity), do: :infinity
  def in_ms(span_ms), do: now() + span_ms

  @doc "How many milliseconds are left until then, 0 when it has passed."
  @spec left(t) :: timeout
  def left(:infinity), do: :infinity
  def left(deadline), do: max(deadline - now(), 0)

  defp now, do: System.monotonic_time(:millisecond)
end
