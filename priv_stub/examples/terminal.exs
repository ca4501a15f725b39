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
  def unicode?, do: :io.getopts(:standard_io)[:encoding] in [:unicode, :utf8]
  def percent(nil), do: "-"
  def percent(score), do: :erlang.float_to_binary(score * 100.0, decimals: 1) <> " %"
  def seconds(ms), do: :erlang.float_to_binary(ms / 1000, decimals: 1) <> " s"
end

defmodule Demo.Bar do
  @moduledoc "Where an optimization is: writes what the library's progress line says."

  alias Pipeline.DSPy.ProgressLine

  def new, do: ProgressLine.new()

  def update(line, state) do
    {text, line} = ProgressLine.update(line, state, now())
    IO.write(text)
    line
  end

  def finish(line, metrics) do
    last = %{stage: :finishing, best_score: metrics.score_after, lm_calls: metrics.lm_calls}
    line |> update(last) |> ProgressLine.finish(:ok, now()) |> IO.write()
  end

  def fail(line), do: line |> ProgressLine.finish(:error, now()) |> IO.write()

  defp now, do: System.monotonic_time(:millisecond)
end
