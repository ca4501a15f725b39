defmodule Mix.Pipeline.DSPy do
  @moduledoc false
  # What the tasks of this library share.

  alias Pipeline.DSPy.Configuration
  alias Pipeline.DSPy.Options
  alias Pipeline.DSPy.PythonBridge.Options, as: BridgeOptions

  @doc "The switches of a task. Raises `Mix.Error` for an unknown one, with the nearest right name, and for arguments."
  @spec options!([String.t()], keyword) :: keyword
  def options!(arguments, switches) do
    {opts, []} = options!(arguments, switches, 0)
    opts
  end

  @doc "The same with at most `count` arguments, which are given beside the switches."
  @spec options!([String.t()], keyword, non_neg_integer) :: {keyword, [String.t()]}
  def options!(arguments, switches, count) do
    {opts, rest, wrong} = OptionParser.parse(arguments, strict: switches)

    case {wrong, Enum.drop(rest, count)} do
      {[], []} -> {opts, rest}
      {[{switch, value} | _], _} -> Mix.raise(wrong(switch, value, Keyword.keys(switches)))
      {[], [argument | _]} -> Mix.raise("unexpected argument: #{argument}")
    end
  end

  defp wrong(switch, value, names) do
    known = Enum.map(names, &("--" <> String.replace(to_string(&1), "_", "-")))

    cond do
      switch not in known -> "unknown option #{switch}#{hint(switch, known)}"
      value == nil -> "#{switch} needs a value"
      true -> "#{switch} cannot be #{inspect(value)}"
    end
  end

  defp hint(switch, known) do
    case Options.nearest(switch, known) do
      nil -> "; known are #{Enum.join(known, ", ")}"
      near -> "; did you mean #{near}?"
    end
  end

  @doc """
  The options of the first configured bridge, else of the first pool's bridges, without their name; raises `Mix.Error` for
  a wrong configuration.
  """
  @spec bridge_options() :: keyword
  def bridge_options do
    case Configuration.read(Application.get_all_env(:pipeline)) do
      {:ok, %{bridges: bridges, pools: pools}} ->
        (bridges ++ pools) |> List.first([]) |> of_bridge()

      {:error, message} ->
        Mix.raise(message)
    end
  end

  defp of_bridge(opts) do
    opts
    |> Keyword.take(Options.names(BridgeOptions.schema()))
    |> Keyword.drop([:name, :notify])
  end

  @doc "Runs a function with what bridges need, the configured functions too, but none of the bridges that the application is configured to start."
  @spec with_essentials((() -> result)) :: result when result: term
  def with_essentials(function) do
    started? = List.keymember?(Application.started_applications(), :pipeline, 0)
    if started?, do: function.(), else: with_supervisor(function)
  end

  defp with_supervisor(function) do
    :ok = Pipeline.Application.create_tables()

    {:ok, supervisor} =
      Supervisor.start_link(Pipeline.Application.essentials(), strategy: :one_for_one)

    try do
      function.()
    after
      Supervisor.stop(supervisor)
      Pipeline.Application.delete_tables()
    end
  end

  @doc "A collectable that shows each line it gets, as another program's output."
  @spec lines() :: Collectable.t()
  def lines, do: IO.stream(:stdio, :line)

  @doc "Ends the task with an exit code of 1, after what it has said."
  @spec fail!() :: no_return
  def fail!, do: exit({:shutdown, 1})
end
