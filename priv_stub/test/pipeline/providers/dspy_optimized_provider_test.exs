defmodule Pipeline.Providers.DSPyOptimizedProviderTest do
  @moduledoc "Prompts answered by an optimized program, or by the application's own provider."

  use Pipeline.NodeCase

  import ExUnit.CaptureLog

  alias Pipeline.Providers.DSPyOptimizedProvider

  setup_all do
    %{bridge: start_bridge(functions: %{"broken" => fn _request -> raise "no model today" end})}
  end

  setup %{bridge: bridge} do
    put_env(DSPyOptimizedProvider, bridge: bridge, lm: :offline, traditional: &traditional/2)
  end

  defp traditional(prompt, options),
    do: {:ok, %{"by" => "tradition", "prompt" => prompt, "keys" => Map.keys(options)}}

  defp options(more \\ %{}) do
    examples =
      for ticket <- Enum.take(Tickets.read(), 16),
          do: Map.new(ticket, fn {k, v} -> {to_string(k), v} end)

    Map.merge(
      %{
        "dspy_optimization" => true,
        "dspy_signature" => %{
          "input_fields" => ["subject", %{"name" => "body"}],
          "output_fields" => [
            %{"name" => "category", "enum" => ["account", "billing", "shipping", "technical"]}
          ]
        },
        "examples" => examples,
        "inputs" => %{"subject" => "Charged twice"},
        "dspy_config" => %{"evaluation_mode" => "labeled_few_shot"}
      },
      more
    )
  end

  test "a query is answered by a program that was optimized for it" do
    assert {:ok, answer} =
             DSPyOptimizedProvider.query(
               "I was charged twice for my invoice, please refund me",
               options()
             )

    assert %{
             "success" => true,
             "dspy_optimization_applied" => true,
             "program_id" => "program:" <> _
           } = answer

    assert answer["text"] == "billing"
    assert answer["output"] == %{"category" => "billing"}
  end

  test "the same query is optimized once, and anew when the node has lost its program", %{
    bridge: bridge
  } do
    optimized = fn ->
      {:ok, %{programs: programs}} = PythonBridge.list_programs(bridge)
      programs |> Enum.map(& &1.program_id) |> Enum.sort()
    end

    given = options(%{seed: System.unique_integer([:positive])})
    assert {:ok, %{"program_id" => program}} = DSPyOptimizedProvider.query("a refund", given)
    {:ok, _deleted} = PythonBridge.delete_program(bridge, program)
    before = optimized.()

    # The cache knows a program that is gone: this one is optimized once more.
    assert {:ok, %{"program_id" => ^program}} = DSPyOptimizedProvider.query("a parcel", given)
    assert optimized.() == Enum.sort([program | before])
    assert {:ok, %{"program_id" => ^program}} = DSPyOptimizedProvider.query("a parcel", given)
  end

  test "a function without a version is no obstacle: its query is optimized each time" do
    metric = fn example, prediction -> example["category"] == prediction["category"] end
    search = %{"evaluation_mode" => "bootstrap_few_shot"}
    given = options(%{"dspy_config" => search, metric: metric})

    assert {:ok, %{"dspy_optimization_applied" => true}} =
             DSPyOptimizedProvider.query("a refund", given)
  end

  test "without examples the signature answers as it is, and says so" do
    log =
      capture_log(fn ->
        assert {:ok, answer} =
                 DSPyOptimizedProvider.query("a refund", options(%{"examples" => []}))

        assert %{"dspy_optimization_applied" => false, "program_id" => nil} = answer
      end)

    assert log =~ "there are no examples"
  end

  test "without the switch the traditional provider answers, and no node is asked" do
    for switch <- [false, nil, "true"] do
      given = %{"dspy_optimization" => switch, "temperature" => 0, bridge: :no_such_bridge}
      assert {:ok, answer} = DSPyOptimizedProvider.query("hi", given)

      assert answer == %{
               "by" => "tradition",
               "prompt" => "hi",
               "keys" => ["dspy_optimization", "temperature"]
             }
    end
  end

  test "a failure is a warning and the traditional provider's answer" do
    for {more, text} <- [
          {%{lm: {:call, "broken"}}, "no model today"},
          {%{bridge: :no_such_bridge}, "no bridge runs under this name"},
          {%{timeout: 0}, "timeout_error"},
          {%{"dspy_signature" => nil}, "expected `dspy_signature`"},
          {%{"dspy_signature" => %{"input_fields" => ["..."]}}, "field name `...`"},
          {%{"dspy_config" => %{"evaluation_mode" => "no_such"}}, "no_such"},
          {%{"inputs" => %{}}, "nothing gives the others of `subject`, `body`"},
          {%{"inputs" => []}, "expected `inputs`, a map"},
          {%{"examples" => "all"}, "expected `examples`, a list"}
        ] do
      log =
        capture_log(fn ->
          assert {:ok, %{"by" => "tradition"}} = DSPyOptimizedProvider.query("hi", options(more))
        end)

      assert log =~ "[warning] DSPy optimization failed, falling back"
      assert log =~ text
    end
  end

  test "where nobody falls back, the error is the answer" do
    none = options(%{"dspy_config" => %{"fallback_strategy" => "none"}, lm: {:call, "broken"}})

    assert {:error, %PythonError{error_type: :callback_error}} =
             DSPyOptimizedProvider.query("hi", none)

    alone = options(%{traditional: nil, lm: {:call, "broken"}})

    assert {:error, %PythonError{error_type: :callback_error}} =
             DSPyOptimizedProvider.query("hi", alone)

    assert {:error, %PythonError{error_type: :validation_error}} =
             DSPyOptimizedProvider.query("hi", %{traditional: nil})
  end

  test "text from a file chooses no model, no bridge and no provider" do
    hostile = %{
      "lm" => %{"model" => "openai/x", "api_base" => "http://127.0.0.1:1"},
      "bridge" => "no_such_bridge",
      "traditional" => "Elixir.System",
      "dspy_config" => %{
        "evaluation_mode" => "labeled_few_shot",
        "lm" => "openai/x",
        "evaluation_metric" => %{"name" => "judge"}
      }
    }

    assert {:ok, %{"dspy_optimization_applied" => true}} =
             DSPyOptimizedProvider.query("a refund", options(hostile))
  end

  test "it is a provider like any other: of steps without a signature of their own", %{
    bridge: bridge
  } do
    step =
      Map.merge(
        %{"name" => "ask", "type" => "optimized", "prompt" => "I was charged twice"},
        options()
      )

    # A step with `dspy_signature` is the node's; this one is for the provider alone.
    {signature, step} = Map.pop!(step, "dspy_signature")

    query = fn prompt, options ->
      DSPyOptimizedProvider.query(prompt, Map.put(options, "dspy_signature", signature))
    end

    workflow = %{"workflow" => %{"name" => "w", "steps" => [step]}}

    # Its request needs a worker beside the one that runs the workflow.
    wide = start_bridge(workers: 2)
    put_env(DSPyOptimizedProvider, bridge: bridge, lm: :offline)

    assert {:ok,
            %{"ask" => %{"output" => %{"text" => "billing", "dspy_optimization_applied" => true}}}} =
             Pipeline.Enhanced.Executor.execute_pipeline(workflow,
               bridge: wide,
               lm: :offline,
               providers: [optimized: query]
             )
  end
end
