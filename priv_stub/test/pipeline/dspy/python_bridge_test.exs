defmodule Pipeline.DSPy.PythonBridgeTest do
  @moduledoc "What callers see of a node that is well. One node serves all of these tests."

  use Pipeline.NodeCase

  setup_all do
    %{bridge: start_bridge(workers: 2)}
  end

  # The two tests of the design, step by step, with its own bridge under its own name. Two expectations are written as
  # the wire says them: the design has `{:ok, :healthy}` where health_check gives a map with the status and all the rest,
  # and `result["status"] == "success"`, as JSON would have it, where a result has atoms. A second spelling of every
  # answer beside the first would be a second API; what the design wants to know is asked here of the one there is. And the
  # design waits in `init` for Python, where a bridge starts at once: until its workers are up a node is `:degraded`.
  test "python process starts and responds to health check" do
    {:ok, bridge} = start_default_bridge()

    assert {:ok, %{status: :healthy}} =
             once_booted(&Pipeline.DSPy.PythonBridge.health_check/1, bridge)
  end

  test "optimization request returns valid response" do
    {:ok, _bridge} = start_default_bridge()
    signature = create_test_signature()
    training_data = create_test_training_data()

    {:ok, result} = Pipeline.DSPy.PythonBridge.optimize_signature(signature, training_data)

    assert result.status == :success
    assert result.optimized_signature != nil
  end

  defp once_booted(health_check, bridge) do
    eventually(fn ->
      with {:ok, %{status: :degraded}} <- health_check.(bridge), do: nil
    end)
  end

  # `start_link()` and `optimize_signature/2` take no options: what they need is configured.
  defp start_default_bridge do
    put_env(:python, python())
    put_env(:job_defaults, lm: :offline)
    data_dir = tmp_dir("default-#{System.unique_integer([:positive])}")
    before = System.get_env("ERLBRIDGE_DATA")
    System.put_env("ERLBRIDGE_DATA", data_dir)

    on_exit(fn ->
      if before,
        do: System.put_env("ERLBRIDGE_DATA", before),
        else: System.delete_env("ERLBRIDGE_DATA")
    end)

    {:ok, bridge} = Pipeline.DSPy.PythonBridge.start_link()
    on_exit(fn -> eventually(fn -> not Process.alive?(bridge) end) end)
    {:ok, bridge}
  end

  defp create_test_signature, do: Tickets.signature()

  defp create_test_training_data, do: Enum.take(Tickets.read(), 12)

  describe "ready and health_check" do
    test "the node says what it is", %{bridge: bridge} do
      assert {:ok, info} = PythonBridge.await_ready(bridge)
      assert %{protocol: 1, workers: 2, codec: codec} = info
      assert codec in [:compiled, :pure]
      assert is_binary(info.version) and is_binary(info.python) and is_binary(info.dspy)
      assert running?(info.os_pid)
      assert :optimize_signature in info.verbs
    end

    test "health_check gives status, queue, workers, limits and versions", %{bridge: bridge} do
      assert {:ok, health} = PythonBridge.health_check(bridge)
      assert health.status in [:healthy, :degraded]
      assert is_binary(health.message)
      assert health.uptime_ms >= 0
      assert %{waiting: _, capacity: _} = health.queue
      assert [%{os_pid: _, state: _}, %{}, %{}] = health.workers
      assert %{max_frame_bytes: _, max_queue: _, credit: _} = health.limits
      assert is_map(health.versions)
    end
  end

  describe "jobs" do
    test "its frames are captured between on and off, without what is secret in them", %{
      bridge: bridge
    } do
      assert {:ok, %{mode: :off}} = PythonBridge.capture(bridge)

      assert {:ok, %{mode: :on, file: file}} =
               PythonBridge.capture(bridge, mode: :on, name: "bridge.ecap")

      assert {:error, _refused} = PythonBridge.request(bridge, :predict, %{password: "hushhush"})
      assert {:ok, %{mode: :off, file: ^file, lost: 0}} = PythonBridge.capture(bridge, mode: :off)

      captured = File.read!(file)
      assert captured =~ "predict" and captured =~ "password" and captured =~ "********"
      refute captured =~ "hushhush"
    end

    test "a signature is optimized, with progress, and the program evaluates and predicts", %{
      bridge: bridge
    } do
      test_process = self()
      {train, rest} = Enum.split(Tickets.read(), 32)

      assert {:ok, result} =
               PythonBridge.optimize_signature(bridge, Tickets.signature(), train,
                 validation_data: Enum.take(rest, 16),
                 optimizer: :bootstrap_few_shot,
                 metric: :exact_match,
                 lm: :offline,
                 progress: &send(test_process, {:heard, &1})
               )

      assert %{status: :success, program_id: "program:" <> _ = program} = result

      assert %{score_before: before, score_after: later, lm_calls: calls} =
               result.optimization_metrics

      assert 0.0 <= before and before < later and later <= 1.0
      assert calls > 0
      assert is_map(result.optimized_signature)

      assert_received {:heard, %{stage: stage, done: done}}
      assert is_atom(stage) and is_integer(done)

      assert {:ok, %{status: :success, score: score, results: results}} =
               PythonBridge.evaluate_pipeline(bridge, {:program, program}, rest,
                 metric: :exact_match,
                 lm: :offline
               )

      assert 0.0 <= score and score <= 1.0
      assert length(results) == length(rest)

      ticket = %{
        subject: "Refund",
        body: "I was charged twice for my invoice, please refund my card."
      }

      # The node makes no atom of its own: this request names no `category`, the one below does.
      assert {:ok, %{status: :success, prediction: %{"category" => category}}} =
               PythonBridge.predict(bridge, {:program, program}, ticket, lm: :offline)

      assert category == "billing"

      assert {:ok, %{prediction: %{category: ^category}}} =
               PythonBridge.predict(bridge, {:program, program}, ticket,
                 lm: :offline,
                 metric: %{name: :exact_match, field: :category}
               )

      assert {:ok, %{predictions: [_, _]}} =
               PythonBridge.predict(bridge, {:program, program}, [ticket, ticket], lm: :offline)
    end

    test "a model is trained, answers under its name, and teaches another", %{bridge: bridge} do
      {train, rest} = Enum.split(Tickets.read(), 32)
      held_out = Enum.take(rest, 12)
      test_process = self()

      assert {:ok, %{status: :success, model: model, program_id: program, metrics: metrics}} =
               PythonBridge.train_model(bridge, Tickets.signature(), train,
                 validation_data: held_out,
                 lm: :offline,
                 progress: &send(test_process, {:heard, &1.stage})
               )

      assert "offline:" <> _ = model
      assert %{training_examples: 32, trained_examples: learned, trained_tokens: nil} = metrics
      assert 0 < learned and learned < 32
      assert metrics.score_before < metrics.score_after
      assert_received {:heard, :training}

      assert {:ok, %{score: score}} =
               PythonBridge.evaluate_pipeline(bridge, {:program, program}, held_out, lm: model)

      assert score == metrics.score_after

      assert {:ok, %{metrics: %{trained_examples: taught}}} =
               PythonBridge.train_model(bridge, Tickets.signature(), train,
                 teacher: {:program, program},
                 teacher_lm: model,
                 lm: :offline
               )

      assert taught > learned

      assert {:error, %PythonError{error_type: :validation_error, context: %{path: path}}} =
               PythonBridge.train_model(bridge, Tickets.signature(), train,
                 lm: fn _request -> {:error, :unasked} end
               )

      assert path == "payload.config.lm"
    end

    test "the payload's keys may be binaries", %{bridge: bridge} do
      payload = %{
        "signature" => "question -> answer",
        "input" => %{"question" => "1 + 1"},
        "config" => %{"lm" => :offline}
      }

      assert {:ok, %{prediction: %{"answer" => answer}}} =
               PythonBridge.request(bridge, :predict, payload)

      assert is_binary(answer)
    end
  end

  describe "refusals" do
    test "an unknown verb", %{bridge: bridge} do
      assert {:error, %PythonError{error_type: :unknown_verb, recovery_strategy: :fatal}} =
               PythonBridge.request(bridge, :no_such_verb, %{})
    end

    test "a wrong payload names its place", %{bridge: bridge} do
      payload = put_in(slow_payload(), [:config, :optimizer], :bootstrap_fewshot)

      assert {:error, %PythonError{error_type: :validation_error} = error} =
               PythonBridge.optimize_signature(bridge, payload)

      assert error.context.path == "payload.config.optimizer"
      assert Exception.message(error) =~ "bootstrap_few_shot"
      refute error.retryable
    end

    test "a wrong example names its place", %{bridge: bridge} do
      data =
        List.replace_at(Enum.take(Tickets.read(), 4), 2, %{
          subject: "s",
          body: "b",
          category: "none such"
        })

      assert {:error, %PythonError{error_type: :validation_error, context: %{path: path}}} =
               PythonBridge.evaluate_pipeline(bridge, Tickets.signature(), data, lm: :offline)

      assert path == "payload.data[2].category"
    end

    test "a program that is not there", %{bridge: bridge} do
      id = "program:" <> String.duplicate("0", 64)

      assert {:error, %PythonError{error_type: :not_found}} =
               PythonBridge.predict(bridge, {:program, id}, %{a: "b"}, lm: :offline)
    end

    test "a request above the frame limit is refused before it is sent", %{bridge: bridge} do
      payload = %{input: :binary.copy("x", 17 * 1024 * 1024)}

      assert {:error, %PythonError{error_type: :serialization_error, context: %{limit: limit}}} =
               PythonBridge.request(bridge, :predict, payload)

      assert limit == 16 * 1024 * 1024
      assert {:ok, _health} = PythonBridge.health_check(bridge)
    end

    test "wrong options raise in the caller", %{bridge: bridge} do
      assert_raise ArgumentError, fn ->
        PythonBridge.request(bridge, :predict, %{}, no_option: 1)
      end

      assert_raise ArgumentError, fn ->
        PythonBridge.request(bridge, :predict, %{}, timeout: -1)
      end
    end

    test "a name that nobody holds" do
      for bridge <- [:no_bridge_here, {:global, :no_bridge_here}] do
        assert {:error, %PythonError{error_type: :process_crashed, context: %{reason: :noproc}}} =
                 PythonBridge.health_check(bridge)
      end
    end
  end

  describe "requests that end early" do
    test "a running job is cancelled", %{bridge: bridge} do
      await_idle(bridge)
      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload())
      assert_receive {PythonBridge, ^ref, {:progress, _}}, 20_000

      assert {:ok, %{status: :cancelling}} = PythonBridge.cancel(bridge, ref)

      assert {:error, %PythonError{error_type: :cancelled}} =
               PythonBridge.await(ref, timeout: 10_000)

      assert {:error, %PythonError{error_type: :not_found}} = PythonBridge.cancel(bridge, ref)
    end

    test "a caller that dies takes its job with it", %{bridge: bridge} do
      await_idle(bridge)
      test_process = self()

      {caller, monitor} =
        spawn_monitor(fn ->
          ref =
            PythonBridge.async(bridge, :optimize_signature, slow_payload(), progress: test_process)

          PythonBridge.await(ref)
        end)

      assert_receive {PythonBridge, _ref, {:progress, _}}, 20_000
      Process.exit(caller, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^caller, :killed}
      await_idle(bridge)
    end

    test "a deadline is answered in time and its late answer is dropped", %{bridge: bridge} do
      await_idle(bridge)
      started = System.monotonic_time(:millisecond)

      assert {:error, %PythonError{error_type: :timeout_error, retryable: true}} =
               PythonBridge.request(bridge, :optimize_signature, slow_payload(), timeout: 300)

      assert System.monotonic_time(:millisecond) - started < 3_000
      assert {:ok, %{status: _}} = PythonBridge.health_check(bridge)
      await_idle(bridge)
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  describe "many at once" do
    test "100 requests of 20 processes are each answered to their own caller", %{bridge: bridge} do
      await_idle(bridge)

      callers =
        for caller <- 1..20 do
          Task.async(fn ->
            refs =
              for number <- 1..5 do
                name = "optimizer_#{caller}_#{number}"
                payload = put_in(slow_payload(), [:config, :optimizer], name)
                {name, PythonBridge.async(bridge, :optimize_signature, payload)}
              end

            # The refusal quotes the name that this very request used.
            for {name, ref} <- Enum.reverse(refs) do
              assert {:error, %PythonError{error_type: :validation_error, message: message}} =
                       PythonBridge.await(ref, timeout: 10_000)

              assert message =~ "\"#{name}\""
            end

            Process.info(self(), :messages)
          end)
        end

      assert Task.await_many(callers) == List.duplicate({:messages, []}, 20)
    end

    test "40 predictions of 20 processes are each answered to their own caller", %{bridge: bridge} do
      tickets = Enum.take(Tickets.read(), 40)

      answers =
        tickets
        |> Task.async_stream(
          fn ticket ->
            input = Map.take(ticket, [:subject, :body])
            PythonBridge.predict(bridge, Tickets.signature(), input, lm: :offline)
          end,
          max_concurrency: 20,
          timeout: 30_000
        )
        |> Enum.map(fn {:ok, answer} -> answer end)

      assert Enum.all?(
               answers,
               &match?({:ok, %{status: :success, prediction: %{category: _}}}, &1)
             )
    end

    test "an 8 MB payload does not keep the bridge from answering", %{bridge: bridge} do
      await_idle(bridge)
      # The label is wrong, so that DSPy need not read eight million characters.
      data = [
        %{subject: "large", body: :binary.copy("x", 8 * 1024 * 1024), category: "none such"}
      ]

      payload = %{signature: Tickets.signature(), data: data, config: %{lm: :offline}}
      ref = PythonBridge.async(bridge, :evaluate_pipeline, payload)

      assert {:ok, %{status: _}} = PythonBridge.health_check(bridge)

      assert {:error,
              %PythonError{
                error_type: :validation_error,
                context: %{path: "payload.data[0].category"}
              }} = PythonBridge.await(ref, timeout: 20_000)
    end
  end
end
