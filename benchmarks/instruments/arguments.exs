# What the benchmarks in Elixir take: `--write` or `--short`, flags of their own, and whole numbers from 1 on. What cannot
# be used ends them with how they are used, a sentence and the code 2, as argparse ends those in Python.

defmodule Bench.Arguments do
  # Gives the flags that were given, and a number for each that there may be, nil where it was not given. `taken` is a map
  # of the benchmark's `name`, its own `flags` and how its `numbers` are called.
  def read(arguments, taken) do
    {flags, numbers} = Enum.split_with(arguments, &String.starts_with?(&1, "-"))

    if Enum.any?(flags, &(&1 in ["-h", "--help"])) do
      IO.puts(usage(taken))
      System.halt(0)
    end

    unknown = Enum.reject(flags, &(&1 in ["--write", "--short" | taken.flags]))
    unknown = unknown ++ Enum.drop(numbers, length(taken.numbers))

    if unknown != [],
      do: refuse(taken, "unrecognized arguments: #{Enum.join(unknown, " ")}")

    if "--write" in flags and "--short" in flags,
      do: refuse(taken, "argument --short: not allowed with argument --write")

    given = for {text, name} <- Enum.zip(numbers, taken.numbers), do: number(taken, name, text)
    {flags, given ++ List.duplicate(nil, length(taken.numbers) - length(given))}
  end

  # Where a section of docs/benchmarks.md would be replaced by less than it is to have.
  def refuse_part(_taken, _flags, false), do: :ok

  def refuse_part(taken, flags, what) do
    if "--write" in flags,
      do: refuse(taken, "--write replaces the whole section, which takes #{what}")
  end

  def refuse(taken, sentence) do
    IO.puts(:stderr, "#{usage(taken)}\n#{taken.name}: error: #{sentence}")
    System.halt(2)
  end

  defp number(taken, name, text) do
    case text =~ ~r/\A[0-9]{1,9}\z/ && String.to_integer(text) do
      number when is_integer(number) and number > 0 ->
        number

      _none ->
        refuse(
          taken,
          "argument #{name}: a whole number from 1 on is wanted, not #{inspect(text)}"
        )
    end
  end

  defp usage(taken) do
    own = for flag <- taken.flags, do: " [#{flag}]"
    numbers = for number <- taken.numbers, do: " [#{number}"
    closed = for _number <- taken.numbers, do: "]"
    "usage: #{taken.name} [-h] [--write | --short]#{own}#{numbers}#{closed}"
  end
end
