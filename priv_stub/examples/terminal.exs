# How examples/demo.exs shows what it does: colours, facts and a progress bar. Loaded by it, not run.

defmodule Demo.Terminal do
  @moduledoc "Colours and redrawing where there is a terminal, plain lines where there is none."

  def live?, do: IO.ANSI.enabled?()

  def colour(text, colour) do
    if live?() and System.get_env("NO_COLOR") in [nil, ""] do
      IO.iodata_to_binary([apply(IO.ANSI, colour, []), text, IO.ANSI.reset()])
    else
      text
    end
  end

  def heading(text), do: IO.puts("\n" <> colour(text, :bright))
  def fact(name, text), do: IO.puts("  #{colour(String.pad_trailing(name, 12), :faint)}#{text}")
  def redraw(line), do: IO.write("\r\e[2K" <> line)

  def unicode?, do: :io.getopts(:standard_io)[:encoding] in [:unicode, :utf8]
  def percent(nil), do: "-"
  def percent(score), do: :erlang.float_to_binary(score * 100.0, decimals: 1) <> " %"
  def seconds(ms), do: :erlang.float_to_binary(ms / 1000, decimals: 1) <> " s"
end

defmodule Demo.Bar do
  @moduledoc "Where an optimization is. Each stage has its part of the bar, whether or not an optimizer has that stage."

  alias Demo.Terminal

  defstruct [:started_at, :shown, percent: 0, state: %{}]

  @width 24
  @parts %{
    starting: {0, 2},
    baseline: {2, 10},
    bootstrapping: {10, 20},
    proposing: {20, 30},
    searching: {30, 90},
    evaluating: {90, 98},
    finishing: {98, 100}
  }

  def new, do: %__MODULE__{started_at: now()}

  def update(bar, state) do
    bar = if Terminal.live?(), do: bar, else: finish_stage(bar, state.stage)
    percent = max(bar.percent, percent(state))
    kept = Map.merge(bar.state, Map.filter(state, fn {_key, value} -> value != nil end))
    bar = %{bar | percent: percent, state: kept}
    if Terminal.live?(), do: Terminal.redraw(line(bar))
    bar
  end

  def finish(bar, metrics) do
    bar = if Terminal.live?(), do: bar, else: finish_stage(bar, nil)
    last = %{stage: :done, best_score: metrics.score_after, lm_calls: metrics.lm_calls}
    bar = %{bar | percent: 100, state: last}
    if Terminal.live?(), do: Terminal.redraw(line(bar) <> "\n"), else: IO.puts(line(bar))
  end

  def fail(_bar), do: if(Terminal.live?(), do: IO.puts(""))

  # Without a terminal: one line for each stage, once it is over.
  defp finish_stage(%{state: %{stage: stage}} = bar, next) when stage != next do
    IO.puts(line(bar))
    bar
  end

  defp finish_stage(bar, _next), do: bar

  defp percent(state) do
    {from, to} = Map.get(@parts, state.stage, {0, 0})
    share = if state.total in [nil, 0], do: 0.0, else: min(state.done / state.total, 1.0)
    round(from + share * (to - from))
  end

  defp line(bar) do
    stage = bar.state |> Map.get(:stage, :starting) |> Atom.to_string() |> String.pad_trailing(13)
    best = bar.state |> Map.get(:best_score) |> Terminal.percent() |> String.pad_leading(7)
    calls = bar.state |> Map.get(:lm_calls, 0) |> to_string() |> String.pad_leading(4)
    time = Terminal.seconds(now() - bar.started_at)
    percent = bar.percent |> to_string() |> String.pad_leading(3)
    "  #{drawn(bar.percent)} #{percent} %  #{stage} best #{best}  LM calls #{calls}  #{time}"
  end

  defp drawn(percent) do
    {full, empty} = if Terminal.unicode?(), do: {"█", "░"}, else: {"#", "."}
    count = div(percent * @width, 100)

    Terminal.colour(String.duplicate(full, count), :green) <>
      Terminal.colour(String.duplicate(empty, @width - count), :faint)
  end

  defp now, do: System.monotonic_time(:millisecond)
end
