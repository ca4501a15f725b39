defmodule Pipeline.DSPy.BridgeNestingTest do
  @moduledoc """
  Functions that DSPy calls and that use the very bridge which waits for them: on a node of one worker, where both would
  wait for each other.
  """

  use Pipeline.NodeCase, async: true

  import Pipeline.ScriptedModel

  alias Pipeline.DSPy.PythonBridge.Nesting

  doctest Nesting

  @signature "question -> answer"

  setup_all do
    settings = [spare_workers: 0, nested_workers: 3, max_queue: 1]
    bridge = start_bridge(workers: 1, max_calls: 1, settings: settings)
    await_idle(bridge)
    %{bridge: bridge}
  end

  defp echo(request), do: answer(answer: given(request, "question"))

  defp ask(bridge, question, opts) do
    PythonBridge.predict(bridge, @signature, %{question: question, answer: nil}, opts)
  end

  # A model that asks another one, which asks another one, so many times.
  defp deep(_bridge, 0), do: &echo/1

  defp deep(bridge, depth), do: asking(bridge, deep(bridge, depth - 1))

  defp asking(bridge, lm) do
    fn request ->
      with {:ok, %{prediction: %{answer: text}}} <-
             ask(bridge, given(request, "question"), lm: lm, timeout: 20_000),
           do: {:ok, answer(answer: text)}
    end
  end

  test "a metric may predict with the bridge that evaluates, though its only worker is taken", %{
    bridge: bridge
  } do
    judge = fn example, _prediction ->
      {:ok, %{prediction: %{answer: verdict}}} = ask(bridge, example.question, lm: &echo/1)
      verdict == example.question
    end

    data = for n <- 1..6, do: %{question: "#{n}?", answer: ""}

    assert {:ok, %{score: 1.0}} =
             PythonBridge.evaluate_pipeline(bridge, @signature, data,
               metric: judge,
               lm: :offline,
               num_threads: 4
             )
  end

  test "tasks of a function are known as well", %{bridge: bridge} do
    model = fn _request ->
      answers =
        1..3
        |> Task.async_stream(fn n ->
          {:ok, %{prediction: %{answer: text}}} = ask(bridge, "#{n}", lm: &echo/1)
          text
        end)
        |> Enum.map(fn {:ok, text} -> text end)

      answer(answer: Enum.join(answers, "+"))
    end

    assert {:ok, %{prediction: %{answer: "1+2+3"}}} = ask(bridge, "?", lm: model)
  end

  test "requests within requests go as deep as nested_workers, and deeper ones are refused at once",
       %{bridge: bridge} do
    assert {:ok, %{prediction: %{answer: "deep?"}}} = ask(bridge, "deep?", lm: deep(bridge, 3))

    {us, refused} =
      :timer.tc(fn -> ask(bridge, "too deep?", lm: deep(bridge, 4), timeout: 25_000) end)

    assert {:error, %PythonError{error_type: :callback_error, message: message}} = refused
    assert message =~ "none would end"
    assert message =~ "nested_workers, which is 3"
    assert us < 20_000_000
  end

  test "an optimization in a function of an optimization works, and the workers it needed go", %{
    bridge: bridge
  } do
    train = for n <- 1..2, do: %{question: "#{n}?", answer: "#{n}?"}

    judge = fn example, prediction ->
      {:ok, %{status: :success}} =
        PythonBridge.optimize_signature(bridge, @signature, train,
          optimizer: :labeled_few_shot,
          metric: fn _example, _prediction -> true end,
          lm: :offline
        )

      example.answer == prediction.answer
    end

    assert {:ok, %{score: score}} =
             PythonBridge.evaluate_pipeline(bridge, @signature, train, metric: judge, lm: &echo/1)

    assert score == 1.0

    eventually(fn ->
      {:ok, health} = PythonBridge.health_check(bridge)
      length(health.workers) == 1 and health.restarts == 0
    end)
  end

  test "nested requests do not wait behind others, nor take their places", %{bridge: bridge} do
    test_process = self()

    model = fn _request ->
      send(test_process, {:in_call, self()})
      receive(do: (:go_on -> :ok))
      {:ok, %{prediction: %{answer: text}}} = ask(bridge, "within", lm: &echo/1)
      answer(answer: text)
    end

    first = Task.async(fn -> ask(bridge, "?", lm: model) end)
    assert_receive {:in_call, function}, 10_000
    waiting = Task.async(fn -> ask(bridge, "behind", lm: &echo/1) end)

    eventually(fn ->
      {:ok, health} = PythonBridge.health_check(bridge)
      health.queue.waiting == 1
    end)

    # The queue is full now, for others.
    assert {:error, %PythonError{error_type: :overloaded}} = ask(bridge, "more", lm: :offline)
    send(function, :go_on)
    assert {:ok, %{prediction: %{answer: "within"}}} = Task.await(first)
    assert {:ok, %{prediction: %{answer: "behind"}}} = Task.await(waiting)
  end

  test "a request that is given up takes along what its functions have asked", %{bridge: bridge} do
    test_process = self()

    inner = fn _request ->
      send(test_process, {:inner, self()})
      Process.sleep(:infinity)
    end

    outer = fn _request -> ask(bridge, "inner", lm: inner) end
    caller = spawn(fn -> ask(bridge, "outer", lm: outer) end)
    assert_receive {:inner, function}, 10_000
    monitor = Process.monitor(function)
    Process.exit(caller, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^function, :killed}, 10_000
    await_idle(bridge)
    assert {:ok, %{prediction: %{answer: "again"}}} = ask(bridge, "again", lm: &echo/1)
  end

  test "a job that may finish before a shutdown gets what its functions need for that" do
    bridge = start_bridge(workers: 1, settings: [spare_workers: 0])
    test_process = self()

    model = fn request ->
      send(test_process, {:in_call, self()})
      receive(do: (:go_on -> asking(bridge, &echo/1).(request)))
    end

    request = Task.async(fn -> ask(bridge, "last", lm: model) end)
    assert_receive {:in_call, function}, 20_000
    shutdown = Task.async(fn -> PythonBridge.shutdown(bridge, grace_ms: 20_000) end)
    assert_closing(bridge)
    send(function, :go_on)
    assert {:ok, %{prediction: %{answer: "last"}}} = Task.await(request)
    assert {:ok, %{status: :stopped, unfinished: 0}} = Task.await(shutdown)
  end

  defp assert_closing(bridge) do
    eventually(fn ->
      match?(
        {:error, %PythonError{error_type: :shutting_down}},
        PythonBridge.health_check(bridge)
      )
    end)
  end

  test "two bridges whose functions use each other do not wait for each other", %{bridge: bridge} do
    other = start_bridge(workers: 1, settings: [spare_workers: 0])

    to_first = asking(bridge, &echo/1)

    assert {:ok, %{prediction: %{answer: "there and back"}}} =
             ask(bridge, "there and back", lm: asking(other, to_first))
  end
end
