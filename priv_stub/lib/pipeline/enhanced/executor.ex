defmodule Pipeline.Enhanced.Executor do
  @moduledoc """
  Runs the workflows of pipeline_ex: DSPy's steps at a Python node, all others by the application's own providers.

      config :pipeline, :providers, gemini: MyApp.Gemini

      {:ok, result} =
        Pipeline.Enhanced.Executor.execute_pipeline("workflows/triage.yaml",
          bridge: MyApp.DSPy, lm: "openai/gpt-4o-mini", inputs: %{subject: "…", body: "…"})

      result["classify"]["success"]                     #=> true
      result["classify"]["dspy_optimization_applied"]   #=> true
      result["classify"]["output"]                      #=> %{"category" => "billing"}

  The node parses the YAML, fills in prompts and runs the steps in order; `docs/workflows.md` says what a workflow may
  hold. A step with a signature is DSPy's, whatever its type (`dspy_claude`, `claude`, …): it is optimized where the
  workflow says so and has examples. Any other step goes to the provider that the application has registered for its type
  (`Pipeline.Providers`), with the step's prompt, its parts and references filled in; where there is none, to the
  application's `Pipeline.Executor.execute_step/2`, if it has one. Outputs of steps are in the prompts of later ones, as
  the workflow says. That every step has somebody who executes it is known before anything is paid for.

  A step of DSPy's that fails is answered in the same way, by the provider of its type without the `dspy_`, where its
  `fallback_strategy` is `traditional`; otherwise the run ends with its error, whose `context` has `step`, the `outputs`
  so far, and the `programs` that were found.

  ## Options

    * `:bridge` - a bridge, a pool or a cluster; `Pipeline.DSPy.PythonBridge` unless given.
    * `:inputs` - the workflow's inputs, a map.
    * `:providers` - a map or keyword list of providers by type of step, over those that are configured.
    * `:base_dir` - where the files lie that prompts name: the directory of the YAML file unless given. No path leads out
      of it. `false` reads none.
    * `:max_retries` - how often the run is tried again after an error that says so (`Pipeline.DSPy.RecoveryManager`), as long as
      no step of the application's own was begun: what happened outside of DSPy is not repeated. It is what the workflow says unless
      given, and 0 where it says nothing.
    * `:report` - a function that gets the node's whole answer after a run that went well: `:optimized_yaml` (or
      `:optimized_workflow`), the workflow with what was found in place, `:outputs`, `:metrics` and `:warnings`.
    * `:versions` - of the Elixir functions that the configuration names, so that their results may be kept.
    * those of `Pipeline.DSPy.PythonBridge.run_pipeline/4`: `:environment`, `:signatures`, `:training_data`, `:programs`, the job's
      configuration (`:lm`, `:metric`, …, which wins over what the workflow says), and the options of every request.
      `:timeout` is one budget for the whole run.

  What is the same for every run stands in the application's configuration:

      config :pipeline, Pipeline.Enhanced.Executor, bridge: MyApp.DSPy, lm: "openai/gpt-4o-mini"

  The programs that a run has found answer the next run of the same workflow too, while the application's
  `Pipeline.DSPy.OptimizationCache` knows them: `Pipeline.Enhanced.Executor.Programs`.

  A workflow is data: it names no model, no Elixir function and no file outside of its directory, and none of its text
  becomes an atom. What it says of the bridge itself: `Pipeline.Enhanced.Executor.BridgeSettings`.

  A provider runs within `:call_timeout` of the bridge, 60 seconds; raise it there for steps that take longer.
  """

  require Logger

  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.RecoveryManager
  alias Pipeline.Enhanced.Executor.BridgeSettings
  alias Pipeline.Enhanced.Executor.Files
  alias Pipeline.Enhanced.Executor.HostSteps
  alias Pipeline.Enhanced.Executor.Programs
  alias Pipeline.Enhanced.Executor.Source
  alias Pipeline.Providers

  @typedoc """
  A map, YAML text, or a YAML file: a path that ends in `.yaml` or `.yml`. Where it comes from somebody else, say which of
  them it is: `{:yaml, text}` or `{:file, path}`.
  """
  @type workflow :: map | String.t() | {:yaml, String.t()} | {:file, Path.t()}

  @typedoc """
  By step: `"success"`, `"dspy_optimization_applied"`, `"output"`, `"fallback_used"`, `"error"` (why it fell back),
  `"cached"`, `"program_id"`, `"score_before"`, `"score_after"`, `"metrics"`, `"kind"` (`"dspy"` or `"other"`), `"type"`, `"name"`.
  """
  @type result :: %{String.t() => map}

  @default_timeout_ms 600_000
  @loading_timeout_ms 30_000
  @own_options [:bridge, :inputs, :providers, :base_dir, :max_retries, :report, :versions]
  @workflow_options [:environment, :signatures]

  @doc "Runs a workflow and gives what became of each step, by its name. Default timeout: 600000 ms."
  @spec execute_pipeline(workflow, keyword) :: {:ok, result} | {:error, PythonError.t()}
  def execute_pipeline(workflow, opts \\ []) do
    began = now_ms()
    opts = Keyword.merge(Application.get_env(:pipeline, __MODULE__, []), opts)
    {own, opts} = Keyword.split(opts, @own_options)
    own = Keyword.merge([bridge: PythonBridge, inputs: %{}, providers: [], versions: %{}], own)
    providers = Providers.new(own[:providers])

    with {:ok, source} <- Source.read(workflow),
         {:ok, plan} <- load(own[:bridge], source, opts),
         {:ok, steps} <- HostSteps.new(providers, plan.steps),
         {:ok, files} <- Files.read(plan.files, Keyword.get(own, :base_dir, source.dir)) do
      settings = BridgeSettings.read(plan.settings)
      timeout = opts[:timeout] || settings.timeout || @default_timeout_ms
      retries = own[:max_retries] || settings.max_retries || 0
      key = Programs.key(source.workflow, plan.settings, [{:versions, own[:versions]} | opts])
      known = Programs.known(key, settings.cache_ttl)
      opts = run_options(opts, source, steps, files)
      attempt = &run(own, source, known, Keyword.put(opts, :timeout, &1))

      with {:ok, answer} <- repeat(attempt, retries, steps, own[:bridge], left_ms(timeout, began)) do
        Programs.keep(key, answer.results)
        Enum.each(answer.warnings, &warn(&1, source))
        if own[:report], do: own[:report].(answer)
        {:ok, Map.new(answer.results, &{&1["name"], &1})}
      end
    end
  end

  defp load(bridge, source, opts) do
    timeout = min(Keyword.get(opts, :timeout, @loading_timeout_ms), @loading_timeout_ms)

    opts =
      opts
      |> Keyword.take([:priority, :source, :trace, :grace | @workflow_options])
      |> Keyword.put(:timeout, timeout)
      |> put_file(source)

    PythonBridge.load_workflow(bridge, source.workflow, opts)
  end

  defp run_options(opts, source, steps, files) do
    execute = fn step, context -> HostSteps.execute(steps, step, context) end
    functions = by_text(opts[:functions] || %{})

    opts
    |> Keyword.merge(files: files, functions: Map.put(functions, "execute_step", execute))
    |> put_file(source)
  end

  defp repeat(attempt, 0, _steps, _bridge, left_ms), do: attempt.(left_ms)

  defp repeat(attempt, retries, steps, bridge, left_ms) do
    # What the application itself has done is not done twice: once a step of its own was begun, an error is final.
    careful = fn left_ms ->
      with {:error, error} <- attempt.(left_ms) do
        if HostSteps.untouched?(steps), do: {:error, error}, else: {:ok, {:final, error}}
      end
    end

    # DSPy's work may be done twice: who sets the number of retries has said so.
    opts = [bridge: bridge, verb: :run_pipeline, idempotent: true, fallback: false]

    with {:ok, {:final, error}} <-
           RecoveryManager.run(careful, [timeout: left_ms, max_retries: retries] ++ opts) do
      {:error, error}
    end
  end

  defp run(own, source, known, opts) do
    programs = by_text(opts[:programs] || %{})
    ask = &PythonBridge.run_pipeline(own[:bridge], source.workflow, own[:inputs], &1)

    with {:error, %PythonError{error_type: :not_found}} when known != %{} <-
           ask.(Keyword.put(opts, :programs, Map.merge(known, programs))) do
      # A program that the cache knows is gone from the node, which says so before it does anything.
      ask.(Keyword.put(opts, :programs, programs))
    end
  end

  defp by_text(named), do: Map.new(named, fn {name, value} -> {to_string(name), value} end)

  defp put_file(opts, %Source{file: nil}), do: opts
  defp put_file(opts, %Source{file: file}), do: Keyword.put_new(opts, :file, file)

  defp warn(%{path: path, line: line, message: message}, source) do
    place = if line, do: "#{source.file || "the workflow"}, line #{line}", else: "the workflow"
    Logger.warning("#{place}: #{if path == "", do: "", else: path <> ": "}#{message}")
  end

  defp left_ms(:infinity, _began), do: :infinity
  defp left_ms(timeout, began), do: max(timeout - (now_ms() - began), 0)

  defp now_ms, do: System.monotonic_time(:millisecond)
end
