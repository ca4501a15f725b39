defmodule Pipeline.DSPy.CallbacksTest do
  @moduledoc "Functions that are registered by name: each kind of them on the real node, how they fail, when they end."

  use Pipeline.NodeCase

  import Pipeline.ScriptedModel

  alias Pipeline.DSPy.Callbacks
  alias Pipeline.Echo

  setup_all do
    bridge = start_bridge(workers: 1)
    await_idle(bridge)
    %{bridge: bridge}
  end

  defp register(name, given, opts) do
    :ok = Callbacks.register(name, given, opts)
    on_exit(fn -> Callbacks.unregister(name) end)
  end

  defp ask(bridge, opts, question \\ "why?") do
    PythonBridge.predict(bridge, "question -> answer", %{question: question, answer: nil}, opts)
  end

  describe "a function that is registered" do
    test "is found by name, behind a request's own and its bridge's", %{bridge: bridge} do
      register(:echo, Echo, kind: :lm)
      assert {:ok, %{prediction: %{answer: "echo"}}} = ask(bridge, lm: {:call, :echo})
      assert {:ok, %{prediction: %{answer: "echo"}}} = ask(bridge, lm: %{model: {:call, "echo"}})

      own = fn _request -> answer(answer: "own") end

      assert {:ok, %{prediction: %{answer: "own"}}} =
               ask(bridge, lm: {:call, :echo}, functions: [echo: own])
    end

    test "is a metric", %{bridge: bridge} do
      register(:echo, Echo, kind: :lm)
      register(:same, Echo, kind: :metric)

      data =
        for answer <- ["echo", "echo", "other"],
            do: %{question: "#{System.unique_integer()}", answer: answer}

      assert {:ok, %{score: score}} =
               PythonBridge.evaluate_pipeline(bridge, "question -> answer", data,
                 metric: {:call, :same},
                 lm: {:call, :echo}
               )

      assert_in_delta score, 2 / 3, 1.0e-9
    end

    test "is a tool of an agent, with its name, description and typed arguments", %{
      bridge: bridge
    } do
      test_process = self()

      register(
        :weather,
        fn arguments ->
          send(test_process, {:asked, arguments})
          if arguments.days > 2, do: {:error, "at most two days"}, else: "rain"
        end,
        kind: :tool,
        description: "The weather of the coming days.",
        args: [%{name: :city, description: "Where."}, %{name: :days, type: :integer}]
      )

      model = fn request ->
        send(test_process, {:prompt, List.first(request.messages).content})
        observed = request.messages |> List.last() |> Map.fetch!(:content)

        cond do
          "next_tool_name" not in wanted(request) ->
            answer(reasoning: "It said so.", answer: "rain")

          observed =~ "observation_1" ->
            answer(next_thought: "done", next_tool_name: "finish", next_tool_args: "{}")

          observed =~ "at most two days" ->
            look(2)

          observed =~ "observation_0" ->
            flunk("the agent does not read the failure: #{observed}")

          true ->
            look(3)
        end
      end

      assert {:ok, %{prediction: %{answer: "rain"} = prediction, metrics: %{host_calls: calls}}} =
               ask(bridge, lm: model, module: %{name: :react, tools: [Callbacks.tool(:weather)]})

      assert calls == 6
      assert_received {:asked, %{city: "Paris", days: 3}}
      assert_received {:asked, %{city: "Paris", days: 2}}
      assert_received {:prompt, prompt}
      assert prompt =~ "The weather of the coming days."
      assert prompt =~ "Where."
      assert inspect(prediction) =~ "at most two days"
    end

    defp look(days) do
      arguments = ~s({"city": "Paris", "days": #{days}})
      answer(next_thought: "look", next_tool_name: "weather", next_tool_args: arguments)
    end

    for module <- [:best_of_n, :refine] do
      test "is the reward of #{module}", %{bridge: bridge} do
        test_process = self()
        count = :counters.new(1, [])

        model = fn request ->
          if "advice" in wanted(request) do
            send(test_process, {:advised, request.messages})
            answer(discussion: "It is short.", advice: ~s({"self": "say more"}))
          else
            :counters.add(count, 1, 1)
            answer(answer: String.duplicate("x", :counters.get(count, 1)))
          end
        end

        register(
          :longer,
          fn inputs, prediction ->
            send(test_process, {:judged, inputs, prediction})

            %{
              score: min(String.length(prediction.answer) / 3, 1),
              feedback: "the longer the better"
            }
          end,
          kind: :reward
        )

        reward = %{name: {:call, :longer}, description: "Answers of three letters are best."}

        assert {:ok, %{prediction: %{answer: "xxx"}}} =
                 ask(bridge, lm: model, module: %{name: unquote(module), n: 5, reward: reward})

        assert_received {:judged, %{question: "why?"}, %{answer: "x"}}
        assert_received {:judged, _inputs, %{answer: "xxx"}}
        refute_received {:judged, _inputs, %{answer: "xxxx"}}

        if unquote(module) == :refine do
          assert_received {:advised, messages}

          assert inspect(messages, limit: :infinity, printable_limit: :infinity) =~
                   "Answers of three letters are best."
        end
      end
    end

    test "fails as a reward with its name and reason", %{bridge: bridge} do
      register(:picky, fn _inputs, _prediction -> 7 end, kind: :reward)
      module = %{name: :best_of_n, reward: {:call, :picky}}

      assert {:error, %PythonError{error_type: :callback_error} = error} =
               ask(bridge, lm: :offline, module: module)

      assert error.context.name == :picky
      assert error.message =~ "a number from 0 to 1"
    end

    test "does the steps of a workflow that are the host's", %{bridge: bridge} do
      register(
        :execute_step,
        fn step, context -> {:ok, "#{step["name"]} of #{inspect(context["inputs"])}"} end,
        kind: :step
      )

      workflow = %{
        "workflow" => %{
          "name" => "two",
          "steps" => [
            %{
              "name" => "fetch",
              "type" => "claude",
              "prompt" => [%{"type" => "static", "content" => "hi"}]
            }
          ]
        }
      }

      assert {:ok, %{outputs: %{"fetch" => "fetch of %{}"}}} =
               PythonBridge.run_pipeline(bridge, workflow, %{}, lm: :offline)
    end

    for {title, function, text} <- [
          {"raises", quote(do: fn _ -> raise ArgumentError, "no such model" end),
           "no such model"},
          {"throws", quote(do: fn _ -> throw(:ball) end), "it threw :ball"},
          {"exits", quote(do: fn _ -> exit(:enough) end), "it exited: :enough"},
          {"is killed", quote(do: fn _ -> Process.exit(self(), :kill) end), "its process ended"},
          {"takes too long", quote(do: fn _ -> Process.sleep(:infinity) end),
           "within 50 ms (its :timeout)"}
        ] do
      test "and #{title} is a :callback_error", %{bridge: bridge} do
        register(:bad, unquote(function), kind: :lm, timeout: 50, max_concurrency: 1)

        assert {:error, %PythonError{error_type: :callback_error} = error} =
                 ask(bridge, lm: {:call, :bad})

        assert error.message =~ unquote(text)
        assert error.context.name == :bad
      end
    end

    test "is called by hundreds at once, as many as its :max_concurrency lets through", %{
      bridge: bridge
    } do
      running = :counters.new(2, [])

      register(
        :narrow,
        fn request ->
          :counters.add(running, 1, 1)
          at_once = :counters.get(running, 1)
          if at_once > :counters.get(running, 2), do: :counters.put(running, 2, at_once)
          Process.sleep(1)
          :counters.sub(running, 1, 1)
          answer(answer: given(request, "question"))
        end,
        kind: :lm,
        max_concurrency: 3
      )

      questions = for n <- 1..200, do: %{question: "#{n}?"}

      assert {:ok, %{predictions: predictions}} =
               PythonBridge.predict(bridge, "question -> answer", questions,
                 lm: {:call, :narrow},
                 num_threads: 50
               )

      assert Enum.map(predictions, & &1.prediction["answer"]) ==
               Enum.map(questions, & &1.question)

      assert :counters.get(running, 2) == 3
    end

    test "is ended when its job gives up on it and goes on", %{bridge: bridge} do
      test_process = self()

      register(
        :slow,
        fn _arguments ->
          send(test_process, {:slow, self()})
          Process.sleep(:infinity)
        end,
        kind: :tool
      )

      model = fn request ->
        observed = request.messages |> List.last() |> Map.fetch!(:content)

        cond do
          "next_tool_name" not in wanted(request) ->
            send(test_process, {:answering, self()})
            receive(do: (:go_on -> answer(reasoning: "so", answer: "late")))

          observed =~ "observation_0" ->
            answer(next_thought: "done", next_tool_name: "finish", next_tool_args: "{}")

          true ->
            answer(next_thought: "look", next_tool_name: "slow", next_tool_args: "{}")
        end
      end

      request =
        Task.async(fn ->
          ask(bridge,
            lm: model,
            call_timeout_ms: 300,
            module: %{name: :react, tools: [Callbacks.tool(:slow)]}
          )
        end)

      assert_receive {:slow, function}, 10_000
      monitor = Process.monitor(function)
      assert_receive {:DOWN, ^monitor, :process, ^function, :killed}, 10_000
      assert_receive {:answering, model_process}, 10_000
      send(model_process, :go_on)
      assert {:ok, %{prediction: %{answer: "late"}}} = Task.await(request)
    end
  end

  test "an Elixir model drives a whole MIPROv2 run", %{bridge: bridge} do
    {train, rest} = Enum.split(Tickets.read(), 16)
    labels = Tickets.read() |> Enum.map(& &1.category) |> Enum.uniq()
    told = Map.new(Tickets.read(), &{&1.subject, &1.category})

    register(
      :my_model,
      fn request ->
        # It knows the tickets whose like it was shown, and proposes instructions when asked to.
        shown? = length(request.messages) > 2

        answer(
          for field <- wanted(request) do
            case field do
              "category" ->
                {field, if(shown?, do: told[given(request, "subject")], else: hd(labels))}

              "proposed_instruction" ->
                {field, "Say what the ticket is about."}

              _words ->
                {field, "Tickets of customers."}
            end
          end
        )
      end,
      kind: :lm
    )

    assert {:ok, result} =
             PythonBridge.optimize_signature(bridge, Tickets.signature(), train,
               validation_data: Enum.take(rest, 8),
               optimizer: :mipro_v2,
               options: %{auto: nil, num_candidates: 3, num_trials: 4, minibatch: false},
               metric: :exact_match,
               lm: {:call, :my_model}
             )

    metrics = result.optimization_metrics
    assert metrics.score_before < metrics.score_after
    assert metrics.score_after == 1.0
    assert metrics.host_calls == metrics.lm_calls
    assert metrics.lm_calls > 40
  end
end
