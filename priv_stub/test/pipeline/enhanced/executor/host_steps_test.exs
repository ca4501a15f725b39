defmodule Pipeline.Enhanced.Executor.HostStepsTest do
  @moduledoc "Steps that the application executes, without a node."

  use ExUnit.Case, async: true

  alias Pipeline.Enhanced.Executor.HostSteps
  alias Pipeline.Providers

  @context %{"prompt" => "hi", "prompt_problem" => nil, "steps" => %{}}

  defp steps(provider, outputs \\ ["category"]) do
    plan = [
      %{name: "ask", type: "dspy_claude", kind: :dspy, outputs: outputs},
      %{name: "say", type: "claude", kind: :other, outputs: []}
    ]

    {:ok, steps} = HostSteps.new(Providers.new(claude: provider), plan)
    steps
  end

  defp ask(response, outputs \\ ["category"]) do
    provider = fn _prompt, _options -> {:ok, response} end
    step = %{"name" => "ask", "type" => "dspy_claude", "signature" => "a -> category"}
    HostSteps.execute(steps(provider, outputs), step, @context)
  end

  test "a provider's text becomes the one output that the steps after a fallback ask for" do
    assert ask("billing") == {:ok, %{"category" => "billing"}}
    assert ask(%{"text" => "billing"}) == {:ok, %{"text" => "billing", "category" => "billing"}}
    assert ask(%{text: "billing"}) == {:ok, %{:text => "billing", "category" => "billing"}}

    assert ask(%{"category" => "billing", "text" => "x"}) ==
             {:ok, %{"category" => "billing", "text" => "x"}}
  end

  test "what has several outputs, or no text, is left as it is" do
    assert ask("billing", ["category", "urgency"]) == {:ok, "billing"}
    assert ask(%{"score" => 1}) == {:ok, %{"score" => 1}}
    assert ask([1]) == {:ok, [1]}
  end

  test "a provider gets what the step says, and of a step of DSPy's nothing that would ask DSPy again" do
    test = self()
    provider = fn prompt, options -> {:ok, send(test, {prompt, options}) && "ok"} end

    step = %{
      "name" => "ask",
      "type" => "dspy_claude",
      "prompt" => [],
      "dspy_signature" => "a -> b",
      "dspy_optimization" => true,
      "dspy_config" => %{},
      "examples" => [],
      "claude_options" => %{"max_turns" => 1}
    }

    HostSteps.execute(steps(provider), step, @context)

    assert_received {"hi",
                     %{"claude_options" => %{"max_turns" => 1}, "context" => @context} = options}

    assert Enum.sort(Map.keys(options)) == ["claude_options", "context", "name", "type"]

    other = %{"name" => "say", "type" => "claude", "prompt" => "hi", "examples" => [1]}
    assert {:ok, "ok"} = HostSteps.execute(steps(provider), other, @context)
    assert_received {"hi", %{"examples" => [1]}}
  end

  test "a type without a provider is an error, of a workflow as of a step that falls back" do
    plan = [%{name: "a", type: "gemini", kind: :other, outputs: []}]
    assert {:error, error} = HostSteps.new(%{}, plan)
    assert error.message =~ "step `a`: nobody executes steps of type `gemini`"
    assert error.message =~ "(none is registered)"

    step = %{"name" => "ask", "type" => "dspy_gemini", "signature" => "a -> b"}
    assert {:error, text} = HostSteps.execute(steps(fn _, _ -> {:ok, ""} end), step, @context)
    assert text =~ "(registered are: claude)"
  end

  test "whether a step was begun is known" do
    steps = steps(fn _prompt, _options -> {:error, :no} end)
    assert HostSteps.untouched?(steps)

    assert {:error, :no} =
             HostSteps.execute(steps, %{"name" => "say", "type" => "claude"}, @context)

    refute HostSteps.untouched?(steps)
  end
end
