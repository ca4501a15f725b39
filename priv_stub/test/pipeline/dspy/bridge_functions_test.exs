defmodule Pipeline.DSPy.BridgeFunctionsTest do
  @moduledoc "Elixir functions that DSPy calls, on the real node: what they decide, how they fail, when they end."

  use Pipeline.NodeCase, async: true

  alias Pipeline.DSPy.PythonBridge.Functions

  doctest Functions

  setup_all do
    functions = %{echo: &__MODULE__.echo/1, same: &__MODULE__.same/2}
    %{bridge: start_bridge(workers: 2, functions: functions)}
  end

  def same(example, prediction), do: example.category == prediction.category

  @doc "A model that answers with the question, a little later for some than for others."
  def echo(%{messages: messages}) do
    %{role: "user", content: content} = List.last(messages)
    [_before, rest] = String.split(content, "[[ ## question ## ]]\n", parts: 2)
    [question | _after] = String.split(rest, "\n", parts: 2)
    Process.sleep(:erlang.phash2(question, 5))
    %{text: answer(question), input_tokens: 10, output_tokens: 2, cost_usd: 0.001}
  end

  def answer(text), do: "[[ ## answer ## ]]\n#{text}\n\n[[ ## completed ## ]]"

  defp ask(bridge, opts, question \\ "why?") do
    PythonBridge.predict(bridge, "question -> answer", %{question: question, answer: nil}, opts)
  end

  describe "functions that work" do
    test "an Elixir metric drives an optimization", %{bridge: bridge} do
      {train, rest} = Enum.split(Tickets.read(), 24)
      test_process = self()

      metric = fn example, prediction ->
        send(test_process, {:judged, self(), Process.get(:"$callers")})

        %{
          score: if(same(example, prediction), do: 1, else: 0),
          feedback: "for the one who reflects"
        }
      end

      assert {:ok, result} =
               PythonBridge.optimize_signature(bridge, Tickets.signature(), train,
                 validation_data: Enum.take(rest, 8),
                 optimizer: :bootstrap_few_shot,
                 metric: metric,
                 lm: :offline
               )

      metrics = result.optimization_metrics
      assert metrics.score_before < metrics.score_after
      assert metrics.host_calls > 16
      assert_received {:judged, judge, [^test_process]}
      assert judge != test_process
    end

    test "a metric of the bridge is named", %{bridge: bridge} do
      assert {:ok, %{score: score, results: results}} =
               PythonBridge.evaluate_pipeline(
                 bridge,
                 Tickets.signature(),
                 Enum.take(Tickets.read(), 8),
                 metric: {:call, :same},
                 lm: :offline
               )

      right = Enum.count(results, &(&1.example.category == &1.prediction.category))
      assert_in_delta score, right / 8, 1.0e-9
    end

    test "an Elixir model answers, and says what it used", %{bridge: bridge} do
      assert {:ok, %{prediction: %{answer: "why?"}, metrics: metrics}} =
               ask(bridge, lm: {:call, :echo})

      assert %{input_tokens: 10, output_tokens: 2, cost_usd: 0.001, lm_calls: 1} = metrics
    end

    test "a request's own function goes before the bridge's, and may be wrapped in :ok", %{
      bridge: bridge
    } do
      own = fn _request -> {:ok, answer("mine")} end

      assert {:ok, %{prediction: %{answer: "mine"}}} =
               ask(bridge, lm: %{model: {:call, "echo"}}, functions: [echo: own])

      assert {:ok, %{prediction: %{answer: "mine"}}} = ask(bridge, lm: own)
    end

    test "200 concurrent calls each get their own value", %{bridge: bridge} do
      inputs = for caller <- 1..2, do: for(n <- 1..100, do: %{question: "#{caller} asks #{n}"})

      answers =
        Task.async_stream(inputs, fn questions ->
          PythonBridge.predict(bridge, "question -> answer", questions,
            lm: {:call, :echo},
            num_threads: 100
          )
        end)

      for {{:ok, answer}, questions} <- Enum.zip(answers, inputs) do
        assert {:ok, %{predictions: predictions}} = answer

        assert Enum.map(predictions, & &1.prediction["answer"]) ==
                 Enum.map(questions, & &1.question)
      end
    end
  end

  describe "functions that fail" do
    for {title, function, text} <- [
          {"raises", quote(do: fn _ -> raise ArgumentError, "no such model" end),
           "no such model"},
          {"gives an error", quote(do: fn _ -> {:error, :quota} end), ":quota"},
          {"gives an exception", quote(do: fn _ -> {:error, %KeyError{key: :a, term: 1}} end),
           "key :a not found"},
          {"throws", quote(do: fn _ -> throw(:ball) end), "it threw :ball"},
          {"exits", quote(do: fn _ -> exit(:enough) end), "it exited: :enough"},
          {"is killed", quote(do: fn _ -> Process.exit(self(), :kill) end), "its process ended"},
          {"takes other arguments", quote(do: fn -> "hi" end), "called with 1 arguments"},
          {"gives no text", quote(do: fn _ -> self() end), "a value that cannot be used"},
          {"gives too much", quote(do: fn _ -> :binary.copy("x", 17_000_000) end),
           "limit 16777216"}
        ] do
      test "a model that #{title} is a :callback_error", %{bridge: bridge} do
        assert {:error, %PythonError{error_type: :callback_error} = error} =
                 ask(bridge, lm: unquote(function))

        assert error.message =~ unquote(text)
        assert error.context.name == "config.lm"
        assert error.recovery_strategy == :fallback
      end
    end

    test "a name that nobody gave is refused with those that there are", %{bridge: bridge} do
      assert {:error, %PythonError{error_type: :callback_error, message: message}} =
               ask(bridge, lm: {:call, :ecoh})

      assert message =~ "no function :ecoh"
      assert message =~ "there are: echo, same"
    end

    test "a call that takes too long is ended by either side" do
      bridge = start_bridge(call_timeout: 50)
      test_process = self()

      slow = fn _request ->
        send(test_process, {:slow, self()})
        Process.sleep(:infinity)
      end

      assert {:error, %PythonError{error_type: :callback_error, message: message}} =
               ask(bridge, lm: slow)

      assert message =~ "within 50 ms (:call_timeout)"

      assert {:error, %PythonError{error_type: :callback_error, message: message}} =
               ask(bridge, lm: slow, call_timeout_ms: 10)

      assert message =~ "within 10 ms (config.call_timeout_ms)"

      # On a busy machine, one may be ended before it has begun.
      for function <- begun(), do: eventually(fn -> not Process.alive?(function) end)
    end

    test "a caller that dies takes its functions along", %{bridge: bridge} do
      await_idle(bridge)
      test_process = self()

      caller =
        spawn(fn ->
          ask(bridge,
            lm: fn _request ->
              send(test_process, {:running, self()})
              Process.sleep(:infinity)
            end
          )
        end)

      assert_receive {:running, function}, 10_000
      monitor = Process.monitor(function)
      Process.exit(caller, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^function, :killed}, 5_000
      await_idle(bridge)
    end

    test "functions that are none raise in the caller", %{bridge: bridge} do
      assert_raise ArgumentError, fn -> ask(bridge, lm: :offline, functions: %{score: 1}) end
      assert_raise ArgumentError, fn -> PythonBridge.start_link(functions: [:score]) end
    end
  end

  test "calls beyond :max_calls wait for their turn" do
    bridge = start_bridge(max_calls: 2)
    running = :counters.new(2, [])

    model = fn _request ->
      :counters.add(running, 1, 1)
      at_once = :counters.get(running, 1)
      if at_once > :counters.get(running, 2), do: :counters.put(running, 2, at_once)
      Process.sleep(3)
      :counters.sub(running, 1, 1)
      answer("x")
    end

    questions = for n <- 1..20, do: %{question: "#{n}"}

    assert {:ok, %{predictions: predictions}} =
             PythonBridge.predict(bridge, "question -> answer", questions,
               lm: model,
               num_threads: 20
             )

    assert length(predictions) == 20
    assert :counters.get(running, 2) == 2
  end

  # The functions that have told that they run.
  defp begun do
    receive do
      {:slow, function} -> [function | begun()]
    after
      0 -> []
    end
  end
end
