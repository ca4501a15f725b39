defmodule Pipeline.DSPy.PythonBridge.Workflows do
  @moduledoc """
  The verbs of pipeline_ex's workflows. They are functions of `Pipeline.DSPy.PythonBridge` too, where their options have
  defaults.
  """

  alias Pipeline.DSPy.PythonBridge

  @doc """
  Reads a workflow, YAML text or a map, and says what it is; see `docs/workflows.md`. Default timeout: 30000 ms.

  Options: those of every request, `:file` (what to call it in messages), `:environment`, and `:signatures`, a map of
  what signatures that are only names stand for.

      PythonBridge.load_workflow(bridge, File.read!("triage.yaml"), file: "triage.yaml", environment: :production)
      #=> {:ok, %{status: :success, name: "triage", steps: [%{name: "classify", kind: :dspy, …}], warnings: []}}

  An error's `context.errors` lists everything that is wrong, each with `:path`, `:line` and `:message`.
  """
  @spec load_workflow(PythonBridge.bridge(), String.t() | map, keyword) :: PythonBridge.answer()
  def load_workflow(bridge, workflow, opts) do
    PythonBridge.request(bridge, :load_workflow, [workflow], opts)
  end

  @doc """
  Runs a workflow's steps in order with these inputs. Default timeout: 600000 ms.

  Steps with a signature are DSPy's: optimized where the workflow says so, then predicted. The others are executed here,
  by the function `execute_step` of the bridge or the request, which gets the step and
  `%{"workflow" => name, "inputs" => map, "steps" => outputs_so_far, "previous" => name_or_nil}`.

  Options: those of every request, those of `load_workflow/3`, `:training_data` and `:programs` (maps by step),
  `:optimize_only` (true to optimize its DSPy steps and run none, for which no inputs are needed), and the
  job's configuration as in `Pipeline.DSPy.PythonBridge.optimize_signature/4`, which wins over what the workflow says.

      PythonBridge.run_pipeline(bridge, yaml, %{subject: "…", body: "…"},
        lm: "openai/gpt-4o-mini",
        functions: %{"execute_step" => fn step, context -> MyApp.Steps.run(step, context) end}
      )
      #=> {:ok, %{outputs: %{"classify" => %{"category" => "billing"}}, results: […], optimized_yaml: "…", metrics: %{…}}}
  """
  @spec run_pipeline(PythonBridge.bridge(), String.t() | map, map, keyword) ::
          PythonBridge.answer()
  def run_pipeline(bridge, workflow, inputs, opts) do
    PythonBridge.request(bridge, :run_pipeline, [workflow, inputs], opts)
  end
end
