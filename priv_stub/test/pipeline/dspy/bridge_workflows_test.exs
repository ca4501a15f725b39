defmodule Pipeline.DSPy.BridgeWorkflowsTest do
  @moduledoc "Workflows of pipeline_ex on the real node: loaded, run, their other steps executed here, written back."

  use Pipeline.NodeCase, async: true

  @yaml """
  workflow:
    name: triage
    dspy_config:
      optimization_enabled: true
      optimization: {strategy: labeled_few_shot}
    steps:
      - name: classify
        type: claude
        dspy_signature:
          input_fields: [subject, body]
          output_fields:
            - {name: category, type: string, schema: {enum: [account, billing, shipping, technical]}}
      - name: answer    # by this application
        type: gemini
        prompt:
          - {type: static, content: "Answer a ticket of"}
          - {type: previous_response, step: classify, extract: category}
  """

  setup_all do
    %{bridge: start_bridge()}
  end

  defp inputs do
    [%{subject: subject, body: body} | _rest] = Enum.drop(Tickets.read(), 70)
    %{subject: subject, body: body}
  end

  defp run(bridge, workflow, opts) do
    execute = fn step, context ->
      %{"by" => step["name"], "of" => context["steps"]["classify"]}
    end

    opts = Keyword.merge([lm: :offline, functions: %{"execute_step" => execute}], opts)
    PythonBridge.run_pipeline(bridge, workflow, inputs(), opts)
  end

  test "a workflow is loaded", %{bridge: bridge} do
    assert {:ok, %{status: :success, name: "triage", warnings: [], steps: steps}} =
             PythonBridge.load_workflow(bridge, @yaml, environment: :production)

    assert [
             %{name: "classify", kind: :dspy, inputs: ["subject", "body"], outputs: ["category"]},
             %{name: "answer", type: "gemini", kind: :other}
           ] = steps
  end

  test "everything that is wrong is told with its line", %{bridge: bridge} do
    broken =
      @yaml
      |> String.replace("extract: category", "extract: kind")
      |> String.replace("strategy: l", "strategy: ")

    assert {:error, %PythonError{error_type: :validation_error} = error} =
             PythonBridge.load_workflow(bridge, broken, file: "triage.yaml")

    assert [%{line: 5, path: "workflow.dspy_config.optimization.strategy"}, %{line: 17}] =
             error.context.errors

    assert Exception.message(error) =~ "2 errors in triage.yaml: line 5"
  end

  test "a workflow runs, its other steps here, and comes back with what was found", %{
    bridge: bridge
  } do
    training = %{"classify" => Enum.take(Tickets.read(), 24)}
    assert {:ok, result} = run(bridge, @yaml, training_data: training)

    assert [
             %{
               "name" => "classify",
               "success" => true,
               "dspy_optimization_applied" => true,
               "cached" => false
             },
             %{"name" => "answer", "success" => true, "dspy_optimization_applied" => false}
           ] = result.results

    category = result.outputs["classify"]
    assert %{"by" => "answer", "of" => ^category} = result.outputs["answer"]
    assert result.metrics.host_calls == 1

    assert result.optimized_yaml =~ "# by this application"
    assert {:ok, %{warnings: []}} = PythonBridge.load_workflow(bridge, result.optimized_yaml)
    assert {:ok, again} = run(bridge, result.optimized_yaml, [])
    assert again.outputs == result.outputs
    assert [%{"cached" => true}, _answer] = again.results
    assert again.metrics.lm_calls <= 1
  end

  test "a map with atoms runs, and comes back as one", %{bridge: bridge} do
    step = %{
      name: "classify",
      type: :claude,
      signature: Tickets.signature(),
      examples: Enum.take(Tickets.read(), 8),
      dspy_config: %{optimization_enabled: true}
    }

    workflow = %{workflow: %{name: "triage", steps: [step]}}
    assert {:ok, result} = run(bridge, workflow, optimizer: :labeled_few_shot)
    assert %{workflow: %{steps: [%{"dspy_optimized" => %{}} = found]}} = result.optimized_workflow
    assert found.examples == step.examples
    assert {:ok, %{results: [%{"cached" => true}]}} = run(bridge, result.optimized_workflow, [])
  end

  test "a host without `execute_step` hears which step it is", %{bridge: bridge} do
    assert {:error, %PythonError{error_type: :callback_error} = error} =
             run(bridge, @yaml, functions: %{})

    assert Exception.message(error) =~ "step `answer`"
    assert error.context.step == "answer"
    assert Map.keys(error.context.outputs) == ["classify"]
  end
end
