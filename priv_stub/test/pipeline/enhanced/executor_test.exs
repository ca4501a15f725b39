defmodule Pipeline.Enhanced.ExecutorTest do
  @moduledoc "Workflows run with the application's providers and a real node, which serves all of these tests."

  use Pipeline.NodeCase

  import ExUnit.CaptureLog

  alias Pipeline.Enhanced.Executor

  @yaml """
  workflow:
    name: triage
    dspy_config:
      optimization_enabled: true
      optimization: {strategy: labeled_few_shot}
    steps:
      - name: classify
        type: dspy_claude
        dspy_signature:
          input_fields: [subject, body]
          output_fields:
            - {name: category, type: string, schema: {enum: [account, billing, shipping, technical]}}
      - name: answer
        type: gemini
        gemini_options: {tone: kind}
        prompt:
          - {type: static, content: "To the {{inputs.subject}} team of"}
          - {type: previous_response, step: classify, extract: category}
          - {type: file, path: rules/tone.txt}
      - name: check
        type: echo
        prompt: "Is this well said: {{steps.answer.text}}"
  """

  setup_all do
    %{bridge: start_bridge(functions: %{"broken" => fn _request -> raise "no model today" end})}
  end

  setup do
    dir = tmp_dir("workflow-#{System.unique_integer([:positive])}")
    File.mkdir_p!(Path.join(dir, "rules"))
    File.write!(Path.join(dir, "rules/tone.txt"), "Never say {{steps.classify}}.")
    %{dir: dir}
  end

  defp gemini(prompt, options) do
    send(
      options["context"]["inputs"]["test"] |> Base.decode64!() |> :erlang.binary_to_term(),
      {:asked, prompt, options}
    )

    {:ok, %{text: "Dear customer"}}
  end

  defp inputs do
    [%{subject: subject, body: body} | _rest] = Enum.drop(Tickets.read(), 70)
    %{subject: subject, body: body, test: self() |> :erlang.term_to_binary() |> Base.encode64()}
  end

  defp run(workflow, bridge, opts) do
    defaults = [
      bridge: bridge,
      lm: :offline,
      inputs: inputs(),
      providers: [gemini: &gemini/2, echo: fn prompt, _options -> {:ok, prompt} end],
      training_data: %{"classify" => Enum.take(Tickets.read(), 24)}
    ]

    Executor.execute_pipeline(workflow, Keyword.merge(defaults, opts))
  end

  defp one_step(step) do
    %{workflow: %{name: "one", steps: [Map.merge(%{name: "ask", type: "dspy_claude"}, step)]}}
  end

  test "a file of YAML runs: DSPy's step optimized, the others by providers, each fed by those before it",
       %{
         bridge: bridge,
         dir: dir
       } do
    path = Path.join(dir, "triage.yaml")
    File.write!(path, @yaml)
    test = self()

    assert {:ok, result} = run(path, bridge, report: &send(test, {:report, &1}))

    assert %{"success" => true, "dspy_optimization_applied" => true, "type" => "dspy_claude"} =
             result["classify"]

    category = result["classify"]["output"]["category"]
    assert %{"success" => true, "dspy_optimization_applied" => false} = result["answer"]
    assert result["answer"]["output"] == %{"text" => "Dear customer"}
    assert result["check"]["output"] == "Is this well said: Dear customer"

    subject = inputs().subject

    assert_received {:asked, prompt, options}
    assert prompt == "To the #{subject} team of\n#{category}\nNever say {{steps.classify}}."
    assert %{"gemini_options" => %{"tone" => "kind"}, "name" => "answer"} = options
    assert %{"workflow" => "triage", "previous" => "classify"} = options["context"]
    refute is_map_key(options, "prompt")

    assert_received {:report, %{optimized_yaml: optimized, metrics: %{host_calls: 2}}}
    again = Path.join(dir, "again.yml")
    File.write!(again, optimized)
    assert {:ok, %{"classify" => %{"cached" => true}}} = run(again, bridge, training_data: %{})
  end

  test "a second run of the same workflow uses the programs of the first, for `cache_ttl` seconds, while the node has them",
       %{
         bridge: bridge
       } do
    step = %{signature: Tickets.signature(), examples: Enum.take(Tickets.read(), 8)}
    enabled = %{optimization_enabled: true, optimization: %{strategy: "labeled_few_shot"}}

    workflow = fn settings ->
      put_in(one_step(step), [:workflow, :dspy_config], Map.merge(enabled, settings))
    end

    opts = [training_data: %{}, seed: System.unique_integer([:positive])]
    hour = workflow.(%{python_bridge: %{cache_ttl: 3600}})

    assert {:ok, %{"ask" => %{"cached" => false, "program_id" => program}}} =
             run(hour, bridge, opts)

    again = [inputs: Map.put(inputs(), :body, "another"), metric: :exact_match]

    assert {:ok, %{"ask" => %{"cached" => true, "program_id" => ^program}}} =
             run(hour, bridge, opts ++ Keyword.take(again, [:inputs]))

    assert {:ok, %{"ask" => %{"cached" => false}}} =
             run(hour, bridge, opts ++ Keyword.take(again, [:metric]))

    assert {:ok, _deleted} = PythonBridge.delete_program(bridge, program)
    assert {:ok, %{"ask" => %{"cached" => false, "success" => true}}} = run(hour, bridge, opts)

    for settings <- [%{python_bridge: %{cache_ttl: 0}}, %{cache_enabled: false}], _time <- 1..2 do
      assert {:ok, %{"ask" => %{"cached" => false}}} = run(workflow.(settings), bridge, opts)
    end
  end

  test "the workflow of the examples runs as it stands, and says what of the bridge is not its own",
       %{
         bridge: bridge
       } do
    path = Path.expand("../../../examples/dspy_enhanced_pipeline.yaml", __DIR__)
    code = ~s[query("SELECT * FROM carts WHERE id = " + id)]

    log =
      capture_log(fn ->
        assert {:ok, %{"analyze_code" => step}} =
                 run(path, bridge, inputs: %{code: code}, training_data: %{})

        assert %{"success" => true, "dspy_optimization_applied" => true} = step
        assert step["output"]["concern"] == "injection"
      end)

    assert log =~ "dspy_config.python_bridge.pool_size of a workflow changes nothing here"
    assert log =~ "dspy_enhanced_pipeline.yaml, line 22: workflow.steps[0].type: "
  end

  test "`timeout` of the workflow is the run's budget, and the caller's own wins over it", %{
    bridge: bridge
  } do
    slow = fn _prompt, _options ->
      Process.sleep(:infinity)
    end

    workflow = %{
      workflow: %{
        name: "slow",
        dspy_config: %{python_bridge: %{timeout: 300}},
        steps: [%{name: "wait", type: "slow", prompt: "x"}]
      }
    }

    opts = [providers: [slow: slow], training_data: %{}]
    assert {:error, %PythonError{error_type: :timeout_error}} = run(workflow, bridge, opts)
    answered = [providers: [slow: fn prompt, _options -> {:ok, prompt} end], timeout: 20_000]
    assert {:ok, %{"wait" => _}} = run(workflow, bridge, answered ++ [training_data: %{}])

    assert {:error, %PythonError{error_type: :timeout_error}} =
             run(workflow, bridge, opts ++ [timeout: 50])
  end

  # Kills the worker that asks it, the first time; then it answers.
  defp fatal_model(bridge) do
    calls = :counters.new(1, [])

    fn _request ->
      :counters.add(calls, 1, 1)

      if :counters.get(calls, 1) == 1 do
        {:ok, %{workers: workers}} = PythonBridge.health_check(bridge)
        %{os_pid: os_pid} = Enum.find(workers, &(&1.state == :busy))
        signal("KILL", os_pid)
        Process.sleep(:infinity)
      end

      "[[ ## category ## ]]\nbilling\n\n[[ ## completed ## ]]"
    end
  end

  test "`max_retries` repeats what DSPy could not do, and nothing that the application has done itself",
       %{
         bridge: bridge
       } do
    classify = %{name: "ask", type: "dspy_claude", signature: "subject -> category"}
    count = %{name: "count", type: "count", prompt: "x"}
    test = self()
    counted = [count: fn prompt, _options -> {:ok, send(test, {:counted, prompt}) && prompt} end]

    workflow = fn steps ->
      %{workflow: %{name: "w", dspy_config: %{python_bridge: %{max_retries: 2}}, steps: steps}}
    end

    opts = [training_data: %{}, providers: counted, lm: fatal_model(bridge)]

    assert {:ok, %{"ask" => %{"output" => %{"category" => "billing"}}}} =
             run(workflow.([classify, count]), bridge, opts)

    opts = Keyword.put(opts, :lm, fatal_model(bridge))

    assert {:error, %PythonError{error_type: :process_crashed}} =
             run(workflow.([count, classify]), bridge, opts)

    opts = Keyword.merge(opts, lm: fatal_model(bridge), max_retries: 0)

    assert {:error, %PythonError{error_type: :process_crashed}} =
             run(workflow.([classify]), bridge, opts)

    assert_received {:counted, "x"}
    assert_received {:counted, "x"}
    refute_received {:counted, "x"}
  end

  test "a step of DSPy's that fails is answered by the provider of its type, if the workflow says so",
       %{
         bridge: bridge
       } do
    claude = fn prompt, options ->
      {:ok, %{"text" => "billing", "prompt" => prompt, "keys" => Map.keys(options)}}
    end

    step = %{
      signature: "subject, body -> category",
      dspy_config: %{fallback_strategy: "traditional"}
    }

    opts = [lm: {:call, "broken"}, providers: [claude: claude], training_data: %{}]

    assert {:ok, %{"ask" => result}} = run(one_step(step), bridge, opts)

    assert %{"success" => true, "fallback_used" => true, "dspy_optimization_applied" => false} =
             result

    assert result["error"] =~ "no model today"
    assert %{"category" => "billing", "prompt" => prompt, "keys" => keys} = result["output"]
    assert prompt =~ "subject: #{inputs().subject}"
    assert keys == ["context", "name", "type"]

    by_text = [providers: [claude: fn _prompt, _options -> {:ok, "technical"} end]]
    assert {:ok, %{"ask" => result}} = run(one_step(step), bridge, Keyword.merge(opts, by_text))
    assert result["output"] == %{"category" => "technical"}

    without = %{step | dspy_config: %{fallback_strategy: "none"}}

    assert {:error, %PythonError{error_type: :callback_error} = error} =
             run(one_step(without), bridge, opts)

    assert error.context.step == "ask"
  end

  test "a type that nobody executes is an error before anything is asked of a model", %{
    bridge: bridge
  } do
    step = %{type: "gemni", prompt: "hi"}

    assert {:error, %PythonError{error_type: :validation_error} = error} =
             run(one_step(step), bridge, [])

    assert error.message =~ "step `ask`: nobody executes steps of type `gemni`"
    assert error.message =~ "registered are: echo, gemini"
    assert error.context == %{step: "ask", types: ["gemni"]}
  end

  test "what a provider refuses, raises or gives instead of an answer fails its step by name", %{
    bridge: bridge
  } do
    for {provider, text} <- [
          {fn _prompt, _options -> {:error, :quota} end, ":quota"},
          {fn _prompt, _options -> raise "oh no" end, "oh no"},
          {fn _prompt, _options -> :hm end, "the provider gave :hm"}
        ] do
      opts = [providers: [gemini: provider], training_data: %{}]
      step = %{type: "gemini", prompt: "hi"}

      assert {:error, %PythonError{error_type: :callback_error} = error} =
               run(one_step(step), bridge, opts)

      assert error.message =~ "step `ask`"
      assert error.message =~ text
    end
  end

  test "a prompt that cannot be filled in is never asked", %{bridge: bridge} do
    step = %{type: "gemini", prompt: "For {{item}}"}
    assert {:error, error} = run(one_step(step), bridge, training_data: %{})

    assert error.message =~
             "its prompt cannot be filled in: workflow.steps[0].prompt: expected `item`"

    refute_received {:asked, _prompt, _options}
  end

  test "files outside of the workflow's directory are never read", %{bridge: bridge, dir: dir} do
    step = %{type: "echo", prompt: [%{type: "file", path: "../secret"}]}
    assert {:error, error} = run(one_step(step), bridge, base_dir: dir, training_data: %{})
    assert error.message =~ "it leads out of the workflow's directory"

    assert {:error, error} = run(one_step(step), bridge, training_data: %{})
    assert error.message =~ "give one as :base_dir"

    assert {:error, error} = run(one_step(step), bridge, base_dir: false, training_data: %{})
    assert error.message =~ "the request holds no text of the file `../secret`"
  end

  test "everything that is wrong with a workflow is told at once, with its lines", %{
    bridge: bridge
  } do
    broken =
      @yaml
      |> String.replace("name: classify", "nam: classify")
      |> String.replace("strategy: l", "strategy: ")

    assert {:error, %PythonError{error_type: :validation_error} = error} = run(broken, bridge, [])
    assert length(error.context.errors) > 1
    assert {:error, %PythonError{error_type: :validation_error}} = run("nowhere.yaml", bridge, [])
    assert {:error, %PythonError{error_type: :validation_error}} = run(": :", bridge, [])
  end

  test "no text of a workflow or a provider becomes an atom", %{bridge: bridge} do
    names =
      for part <- ["step", "type", "key", "given"],
          do: "#{part}_#{System.unique_integer([:positive])}_x"

    [name, type, key, given] = names
    yaml = "steps: [{name: #{name}, type: #{type}, #{key}: 1, prompt: hi}]"
    provider = fn prompt, _options -> {:ok, %{given => prompt}} end

    assert {:ok, %{^name => step}} =
             run(yaml, bridge, providers: %{type => provider}, training_data: %{})

    assert step["output"] == %{given => "hi"}
    for text <- names, do: assert_raise(ArgumentError, fn -> String.to_existing_atom(text) end)
  end

  test "a bridge that is not there is an error like any other" do
    assert {:error, %PythonError{error_type: :process_crashed}} =
             run(@yaml, :no_such_bridge, base_dir: false)
  end

  describe "with the application's own Pipeline.Executor" do
    setup do
      Code.compile_string("""
      defmodule Pipeline.Executor do
        def execute_step(step, context), do: {:ok, [step["type"], step["prompt"], context["prompt"], context["inputs"]["a"]]}
      end
      """)

      on_exit(fn ->
        :code.purge(Pipeline.Executor)
        :code.delete(Pipeline.Executor)
      end)
    end

    test "it executes the steps that have no provider, as they stand in the workflow", %{
      bridge: bridge
    } do
      step = %{type: "set_variable", prompt: "{{a}}!"}
      opts = [inputs: %{a: 1}, training_data: %{}]
      assert {:ok, %{"ask" => result}} = run(one_step(step), bridge, opts)
      assert result["output"] == ["set_variable", "{{a}}!", "1!", 1]
    end
  end
end
