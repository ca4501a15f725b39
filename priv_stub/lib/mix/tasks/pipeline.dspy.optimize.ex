defmodule Mix.Tasks.Pipeline.Dspy.Optimize do
  @shortdoc "Optimizes a workflow or a signature with DSPy"

  @moduledoc """
  Optimizes what a file describes, shows how far it is, and says what came of it.

      mix pipeline.dspy.optimize triage.yaml --lm openai/gpt-4o-mini
      mix pipeline.dspy.optimize triage.exs --lm offline

  A **workflow** of pipeline_ex, `.yaml` or `.yml`: each of its steps with a signature and examples is optimized as the workflow
  says, none is run, and the workflow is written to `triage.optimized.yaml` with what was found in place.

  An **Elixir script**, `.exs`: its last value is a map or keyword list with `:signature`, `:training_data`, and options of
  `Pipeline.DSPy.PythonBridge.optimize_signature/4`. The program that was found is kept by the node under the id that is printed.

      [
        signature: "question -> answer",
        training_data: [%{question: "1 + 1", answer: "2"}, %{question: "2 + 2", answer: "4"}],
        optimizer: :bootstrap_few_shot,
        metric: :exact_match
      ]

  The node is that of the first bridge of `config :pipeline, :bridges`, or one with the default options. On a terminal one line
  shows the progress; elsewhere each stage gets a line when it is over. The exit code is 1 when it failed.

  Ctrl-C, twice, ends it: nothing goes on running, and since answers of models are kept in the node's data directory, the same
  command goes on from what was paid for.

  ## Options

    * `--lm MODEL` - the model, such as `openai/gpt-4o-mini`, or `offline` to try it out; needed unless the file says which.
    * `--optimizer NAME`, `--metric NAME`, `--seed N` - win over what the file says.
    * `--environment NAME` - that of the workflow.
    * `--out FILE` - where the workflow goes, or the program as a term (`:erlang.binary_to_term/1` reads it).
    * `--timeout SECONDS` - ends it after this time.
    * `--python PATH`, `--data DIR`, `--workers N` - the node's, instead of what is configured.
  """

  use Mix.Task

  alias Mix.Pipeline.DSPy, as: Support
  alias Pipeline.DSPy.ProgressLine
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Scoped
  alias Pipeline.DSPy.PythonError

  @switches [
    lm: :string,
    optimizer: :string,
    metric: :string,
    seed: :integer,
    environment: :string,
    out: :string,
    timeout: :integer,
    python: :string,
    data: :string,
    workers: :integer
  ]

  @impl true
  def run(arguments) do
    {opts, rest} = Support.options!(arguments, @switches, 1)
    file = List.first(rest) || Mix.raise("say which file: mix pipeline.dspy.optimize FILE")
    Mix.Task.run("app.config")
    job = job(file, opts)
    Support.with_essentials(fn -> Scoped.run(bridge_options(opts), &optimize(&1, job, opts)) end)
  end

  defp bridge_options(opts) do
    given = [
      python: opts[:python],
      data_dir: opts[:data],
      workers: opts[:workers],
      log_level: :none
    ]

    Keyword.merge(
      Support.bridge_options(),
      Enum.reject(given, fn {_name, value} -> value == nil end)
    )
  end

  # -- what the file asks for: the verb, its arguments and options, and where its outcome goes unless --out says

  defp job(file, opts) do
    unless File.regular?(file), do: Mix.raise("there is no file #{file}")

    case Path.extname(file) do
      yaml when yaml in [".yaml", ".yml"] ->
        workflow(file, yaml, opts)

      ".exs" ->
        script(file, opts)

      other ->
        Mix.raise(
          "#{file} ends with #{inspect(other)}; expected a workflow (.yaml, .yml) or a script (.exs)"
        )
    end
  end

  defp workflow(file, extension, opts) do
    asked = [file: Path.basename(file), environment: opts[:environment], optimize_only: true]
    asked = Enum.reject(asked, fn {_name, value} -> value == nil end)
    out = opts[:out] || Path.rootname(file) <> ".optimized" <> extension
    {:run_pipeline, [File.read!(file), %{}], asked ++ configuration([], opts), out}
  end

  defp script(file, opts) do
    {said, _binding} = Code.eval_file(file)

    unless is_map(said) or Keyword.keyword?(said),
      do: Mix.raise("#{file} gives no map and no keyword list")

    {arguments, said} = said |> Enum.to_list() |> Keyword.split([:signature, :training_data])

    for name <- [:signature, :training_data], arguments[name] == nil do
      Mix.raise("#{file} gives no #{inspect(name)}")
    end

    asked = [arguments[:signature], arguments[:training_data]]
    {:optimize_signature, asked, configuration(said, opts), opts[:out]}
  end

  defp configuration(said, opts) do
    timeout =
      if seconds = opts[:timeout],
        do: seconds * 1_000,
        else: Keyword.get(said, :timeout, :infinity)

    given = Keyword.take(opts, [:lm, :optimizer, :metric, :seed])
    given = if given[:lm] == "offline", do: Keyword.put(given, :lm, :offline), else: given
    config = said |> Keyword.merge(given) |> Keyword.put(:timeout, timeout)

    if config[:lm] == nil and (config[:config] || %{})[:lm] == nil do
      Mix.raise("say which model: --lm openai/gpt-4o-mini, say, or --lm offline to try it out")
    end

    config
  end

  # -- running it

  defp optimize(bridge, {verb, arguments, asked, out}, opts) do
    line = ProgressLine.new()

    if line.live?,
      do: Mix.shell().info("Ctrl-C twice stops it; what models answered until then is kept.")

    {answer, line} =
      bridge
      |> PythonBridge.stream(verb, arguments, asked)
      |> Enum.reduce({nil, line}, fn
        {:progress, state}, {answer, line} -> {answer, drawn(line, state)}
        {:chunk, _piece}, kept -> kept
        answer, {nil, line} -> {answer, line}
      end)

    case answer do
      {:ok, result} ->
        IO.write(ProgressLine.finish(line, :ok, now()))
        conclude(verb, result, bridge, out, opts)

      {:error, error} ->
        IO.write(ProgressLine.finish(line, :error, now()))
        failed(error)
    end
  end

  defp drawn(line, state) do
    {text, line} = ProgressLine.update(line, state, now())
    IO.write(text)
    line
  end

  defp now, do: System.monotonic_time(:millisecond)

  # -- what came of it

  defp conclude(:optimize_signature, result, bridge, out, opts) do
    metrics = result.optimization_metrics
    warn(result.warnings)
    scores("score", metrics.score_before, metrics.score_after)
    Mix.shell().info("program  #{result.program_id}, kept in #{kept_in(opts)}")

    if out do
      {:ok, %{program: program}} = PythonBridge.get_program(bridge, result.program_id)
      write(out, :erlang.term_to_binary(program))
    end
  end

  defp conclude(:run_pipeline, result, _bridge, out, opts) do
    warn(for warning <- result.warnings, do: placed(warning))
    steps = for step <- result.results, step["kind"] == "dspy", do: step

    for %{"program_id" => id} = step when id != nil <- steps do
      if step["cached"],
        do: Mix.shell().info("#{step["name"]}  optimized before: #{id}"),
        else: scores(step["name"], step["score_before"], step["score_after"])

      Mix.shell().info("program  #{id}, kept in #{kept_in(opts)}")
    end

    if Enum.any?(steps, & &1["dspy_optimization_applied"]),
      do: write(out, result.optimized_yaml),
      else:
        Mix.shell().info(
          "Nothing was optimized: no step has a signature, examples and optimization_enabled."
        )
  end

  defp scores(name, before, later) do
    Mix.shell().info(
      "#{name}  #{ProgressLine.score(before)} before, #{ProgressLine.score(later)} after"
    )
  end

  defp kept_in(opts), do: bridge_options(opts)[:data_dir] || "the node's data directory"

  defp write(path, content) do
    File.write!(path, content)
    Mix.shell().info("written  #{path}")
  end

  defp warn(warnings),
    do: for(warning <- warnings, do: Mix.shell().info([:yellow, "warning  ", :reset, warning]))

  @spec failed(PythonError.t()) :: no_return
  defp failed(%PythonError{} = error) do
    Mix.shell().error(Exception.message(error))
    for found <- List.wrap(error.context[:errors]), do: Mix.shell().error("  " <> placed(found))
    Support.fail!()
  end

  defp placed(%{line: nil, path: path, message: message}), do: "#{path}: #{message}"
  defp placed(%{line: line, message: message}), do: "line #{line}: #{message}"
end
