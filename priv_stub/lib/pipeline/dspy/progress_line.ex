defmodule Pipeline.DSPy.ProgressLine do
  @moduledoc """
  How far an optimization is, as text: one line that is drawn over where there is a terminal, else a line for each stage that
  is over. A value; it writes nothing and knows no clock.

      iex> alias Pipeline.DSPy.ProgressLine
      iex> line = ProgressLine.new(now: 0, live?: false, unicode?: false)
      iex> {"", line} = ProgressLine.update(line, %{stage: :baseline, done: 5, total: 10, score: 0.25, lm_calls: 5}, 900)
      iex> {text, _line} = ProgressLine.update(line, %{stage: :searching, done: 0, total: 8, lm_calls: 10}, 1_500)
      iex> IO.iodata_to_binary(text)
      "#.......................   6 %  baseline      best       -  LM calls    5  1.5 s\\n"
  """

  @enforce_keys [:started_at, :live?, :unicode?, :colour?]
  defstruct @enforce_keys ++ [percent: 0, state: %{}]

  @type t :: %__MODULE__{
          started_at: integer,
          live?: boolean,
          unicode?: boolean,
          colour?: boolean,
          percent: 0..100,
          state: map
        }

  @width 24
  @clear "\r\e[2K"

  # Each stage has its part of the bar, whether or not an optimizer has that stage.
  @parts %{
    starting: {0, 2},
    baseline: {2, 10},
    bootstrapping: {10, 20},
    proposing: {20, 30},
    searching: {30, 90},
    training: {30, 90},
    evaluating: {90, 98},
    finishing: {98, 100}
  }

  @doc """
  A line that begins `:now`, in milliseconds. `:live?` is whether it may be drawn over, `:unicode?` whether the terminal shows
  more than ASCII, `:colour?` whether its bar is coloured; all are found out unless given.
  """
  @spec new(keyword) :: t
  def new(opts \\ []) do
    live? = Keyword.get_lazy(opts, :live?, &IO.ANSI.enabled?/0)

    %__MODULE__{
      started_at: Keyword.get_lazy(opts, :now, fn -> System.monotonic_time(:millisecond) end),
      live?: live?,
      unicode?: Keyword.get_lazy(opts, :unicode?, &unicode?/0),
      colour?:
        Keyword.get_lazy(opts, :colour?, fn -> live? and System.get_env("NO_COLOR", "") == "" end)
    }
  end

  defp unicode?, do: :io.getopts(:standard_io)[:encoding] in [:unicode, :utf8]

  @doc "Takes a state as `:progress` events tell it. Gives what to write for it, which may be nothing."
  @spec update(t, map, integer) :: {iodata, t}
  def update(%__MODULE__{} = line, %{stage: stage} = state, now) do
    over =
      if not line.live? and Map.get(line.state, :stage, stage) != stage,
        do: [drawn(line, now), ?\n],
        else: ""

    # A workflow begins again with each of its steps.
    again? = stage == :executing
    known = Map.filter(state, fn {_key, value} -> value != nil end)

    line = %{
      line
      | percent: if(again?, do: 0, else: max(line.percent, percent(state))),
        state: if(again?, do: known, else: Map.merge(line.state, known))
    }

    {if(line.live?, do: [@clear, drawn(line, now)], else: over), line}
  end

  @doc "Ends the line, after which others may be written. One that never began is left out."
  @spec finish(t, :ok | :error, integer) :: iodata
  def finish(%__MODULE__{state: none}, :error, _now) when none == %{}, do: ""

  def finish(%__MODULE__{live?: true} = line, outcome, now),
    do: [@clear, last(line, outcome, now), ?\n]

  def finish(%__MODULE__{} = line, outcome, now), do: [last(line, outcome, now), ?\n]

  defp last(line, :error, now), do: drawn(line, now)

  defp last(line, :ok, now),
    do: drawn(%{line | percent: 100, state: Map.put(line.state, :stage, :done)}, now)

  defp percent(state) do
    {from, to} = Map.get(@parts, state.stage, {0, 0})
    total = state[:total]
    share = if total in [nil, 0], do: 0.0, else: min((state[:done] || 0) / total, 1.0)
    round(from + share * (to - from))
  end

  defp drawn(line, now) do
    stage =
      line.state |> Map.get(:stage, :starting) |> Atom.to_string() |> String.pad_trailing(13)

    best = line.state |> Map.get(:best_score) |> score() |> String.pad_leading(7)
    calls = line.state |> Map.get(:lm_calls, 0) |> to_string() |> String.pad_leading(4)
    time = seconds(now - line.started_at) |> String.pad_leading(7)
    percent = line.percent |> to_string() |> String.pad_leading(3)
    about = if message = line.state[:message], do: ["  ", message], else: ""
    [bar(line), " ", percent, " %  ", stage, " best ", best, "  LM calls ", calls, time, about]
  end

  defp bar(line) do
    {full, empty} = if line.unicode?, do: {"█", "░"}, else: {"#", "."}
    count = div(line.percent * @width, 100)
    done = String.duplicate(full, count)
    left = String.duplicate(empty, @width - count)
    IO.ANSI.format_fragment([:green, done, :reset, :faint, left, :reset], line.colour?)
  end

  @doc """
  A score as text.

      iex> {Pipeline.DSPy.ProgressLine.score(0.625), Pipeline.DSPy.ProgressLine.score(nil)}
      {"62.5 %", "-"}
  """
  @spec score(number | nil) :: String.t()
  def score(nil), do: "-"
  def score(score), do: :erlang.float_to_binary(score * 100.0, decimals: 1) <> " %"

  defp seconds(ms), do: :erlang.float_to_binary(ms / 1_000, decimals: 1) <> " s"
end
