defmodule Pipeline.DSPy.IntegrationTest do
  @moduledoc "A whole pipeline: its DSPy step optimized at a real node, as the design of this library asks for it."

  use Pipeline.NodeCase

  # Its two assertions are the design's own, letter by letter. What the design leaves open stands in the application's
  # configuration, since `execute_pipeline/1` takes nothing else: which bridge, and which model.
  test "full pipeline execution with DSPy optimization" do
    bridge = start_bridge()
    put_env(Pipeline.Enhanced.Executor, bridge: bridge)
    put_env(:job_defaults, lm: :offline)
    config = create_dspy_pipeline_config()

    {:ok, result} = Pipeline.Enhanced.Executor.execute_pipeline(config)

    assert result["dspy_step"]["dspy_optimization_applied"] == true
    assert result["dspy_step"]["success"] == true
  end

  defp create_dspy_pipeline_config do
    [asked | examples] = Enum.take(Tickets.read(), 13)

    %{
      workflow: %{
        name: "dspy_enhanced_pipeline",
        dspy_config: %{optimization: %{enabled: true, strategy: "bootstrap_few_shot"}},
        steps: [
          %{
            name: "dspy_step",
            type: "dspy_claude",
            dspy_signature:
              Tickets.signature() |> template(:subject, asked) |> template(:body, asked),
            examples: examples
          }
        ]
      }
    }
  end

  # A pipeline of one argument has no inputs: its fields get texts of their own.
  defp template(signature, name, ticket) do
    fields =
      for field <- signature.input_fields do
        if field.name == name, do: Map.put(field, :template, ticket[name]), else: field
      end

    %{signature | input_fields: fields}
  end
end
