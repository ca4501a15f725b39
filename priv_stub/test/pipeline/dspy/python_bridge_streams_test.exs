defmodule Pipeline.DSPy.PythonBridgeStreamsTest do
  @moduledoc "Requests as streams, in tasks, and as references. One node serves all of these tests."

  use Pipeline.NodeCase

  alias Pipeline.DSPy.PythonBridge.Arguments
  alias Pipeline.DSPy.PythonBridge.Caller

  doctest Arguments

  @question ["question -> answer", %{question: "1 + 1"}]

  defmodule Twin do
    @moduledoc "The smallest target: it stands for one bridge."
    @behaviour Pipeline.DSPy.Target

    defstruct [:bridge]

    @impl true
    def request(twin, verb, payload, opts), do: Caller.request(twin.bridge, verb, payload, opts)

    @impl true
    def submit(twin, verb, payload, opts), do: Caller.submit(twin.bridge, verb, payload, opts)
  end

  setup_all do
    %{bridge: start_bridge(workers: 2)}
  end

  defp slow_arguments, do: [slow_payload().signature, slow_payload().training_data]

  describe "a stream" do
    test "tells how far a job is, and ends with its answer", %{bridge: bridge} do
      events =
        bridge
        |> PythonBridge.stream(
          :optimize_signature,
          [Tickets.signature(), Enum.take(Tickets.read(), 12)],
          optimizer: :labeled_few_shot,
          lm: :offline
        )
        |> Enum.to_list()

      assert {told, [{:ok, %{status: :success}}]} = Enum.split(events, -1)
      assert [{:progress, %{stage: :baseline}} | _] = told
      assert Enum.all?(told, &match?({:progress, %{}}, &1))
    end

    test "gives the text of a prediction while it is written", %{bridge: bridge} do
      events = bridge |> PythonBridge.stream(:predict, @question, lm: :offline) |> Enum.to_list()
      assert {:ok, %{prediction: %{"answer" => answer}}} = List.last(events)
      assert Enum.map_join(for({:chunk, %{text: text}} <- events, do: text), & &1) == answer
    end

    test "sends nothing before it is run, and a request of its own for each run", %{
      bridge: bridge
    } do
      stream = PythonBridge.stream(bridge, :health_check, %{})
      assert %{exchange: %{requests: %{by_id: none}}} = :sys.get_state(bridge)
      assert none == %{}
      assert [{:ok, %{uptime_ms: first}}] = Enum.to_list(stream)
      assert [{:ok, %{uptime_ms: second}}] = Enum.to_list(stream)
      assert second >= first
    end

    test "that is left early has the request cancelled, and leaves no message", %{bridge: bridge} do
      stream = PythonBridge.stream(bridge, :optimize_signature, slow_payload())
      assert [{:progress, _state}] = Enum.take(stream, 1)
      assert %{exchange: %{requests: %{by_id: none}}} = :sys.get_state(bridge)
      assert none == %{}
      await_idle(bridge)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "that is left early is cancelled by way of a struct as well", %{bridge: bridge} do
      opts = slow_config()

      stream =
        PythonBridge.stream(%Twin{bridge: bridge}, :optimize_signature, slow_arguments(), opts)

      assert [{:progress, _state}] = Enum.take(stream, 1)
      await_idle(bridge)
      eventually(fn -> :sys.get_state(bridge).exchange.requests.by_id == %{} end)
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "whose reader raises or dies has the request cancelled", %{bridge: bridge} do
      stream = PythonBridge.stream(bridge, :optimize_signature, slow_payload())
      assert_raise RuntimeError, fn -> Enum.each(stream, fn _event -> raise "enough" end) end
      await_idle(bridge)

      test_process = self()
      reader = spawn(fn -> Enum.each(stream, &send(test_process, &1)) end)
      assert_receive {:progress, _state}, 20_000
      Process.exit(reader, :kill)
      await_idle(bridge)
    end

    test "of a bridge that is not there is its error" do
      assert [{:error, %PythonError{error_type: :process_crashed, context: %{reason: :noproc}}}] =
               :no_such_bridge |> PythonBridge.stream(:health_check, %{}) |> Enum.to_list()
    end

    test "without events is the answer alone", %{bridge: bridge} do
      opts = [lm: :offline, progress: false, stream_to: false]

      assert [{:ok, _result}] =
               bridge |> PythonBridge.stream(:predict, @question, opts) |> Enum.to_list()
    end
  end

  describe "a task" do
    test "waits for a verb, and its end ends the work", %{bridge: bridge} do
      test_process = self()
      progress = fn _state -> send(test_process, :heard) end

      task =
        Task.async(fn ->
          PythonBridge.request(bridge, :optimize_signature, slow_payload(), progress: progress)
        end)

      assert_receive :heard, 20_000
      assert Task.yield(task, 0) == nil
      assert Task.shutdown(task, :brutal_kill) == nil
      await_idle(bridge)
    end

    test "for each of many inputs gives the answers in their order", %{bridge: bridge} do
      answers =
        1..4
        |> Task.async_stream(fn number ->
          PythonBridge.predict(bridge, "question -> answer", %{question: "#{number} + 1"},
            lm: :offline
          )
        end)
        |> Enum.map(fn {:ok, {:ok, %{prediction: %{"answer" => answer}}}} -> answer end)

      assert length(answers) == 4
    end
  end

  describe "a reference" do
    test "is awaited again after a time that was too short", %{bridge: bridge} do
      ref =
        PythonBridge.async(bridge, :predict, @question, lm: %{model: :offline, latency_ms: 300})

      assert {:error, %PythonError{error_type: :timeout_error}} =
               PythonBridge.await(ref, timeout: 10)

      assert {:ok, %{prediction: _}} = PythonBridge.await(ref)
    end

    test "is made of a verb's arguments and options as of its payload", %{bridge: bridge} do
      ref = PythonBridge.async(bridge, :list_programs, [], limit: 1)
      assert {:ok, %{programs: programs}} = PythonBridge.await(ref)
      assert length(programs) <= 1
    end
  end

  describe "what is wrong is said at once" do
    test "an option of a request, with the nearest right name", %{bridge: bridge} do
      message = "a request has no option :time_out; did you mean :timeout?"

      assert_raise ArgumentError, message, fn ->
        PythonBridge.health_check(bridge, time_out: 5_000)
      end

      stream = PythonBridge.stream(bridge, :health_check, %{}, time_out: 5_000)
      assert_raise ArgumentError, message, fn -> Enum.to_list(stream) end
    end

    test "arguments that a verb does not take", %{bridge: bridge} do
      assert_raise ArgumentError, ~r/:predict does not take 1 arguments/, fn ->
        PythonBridge.stream(bridge, :predict, ["question -> answer"])
      end
    end

    test "whom events go to", %{bridge: bridge} do
      assert_raise ArgumentError, ~r/expected :progress to be a pid or false, got "me"/, fn ->
        PythonBridge.async(bridge, :health_check, %{}, progress: "me")
      end
    end
  end

  describe "a request that is not waited for at once" do
    test "async gives progress and then the answer as messages", %{bridge: bridge} do
      payload = %{slow_payload() | config: %{optimizer: :bootstrap_few_shot, lm: :offline}}
      ref = PythonBridge.async(bridge, :optimize_signature, payload)

      assert_receive {PythonBridge, ^ref, {:progress, %{stage: _}}}, 20_000
      assert_receive {PythonBridge, ^ref, {:ok, %{status: :success}}}, 20_000
      refute_received {:DOWN, ^ref, :process, _, _}
    end

    test "awaiting may time out and go on", %{bridge: bridge} do
      await_idle(bridge)
      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload())

      assert {:error, %PythonError{error_type: :timeout_error}} =
               PythonBridge.await(ref, timeout: 1)

      assert {:ok, _} = PythonBridge.cancel(bridge, ref)
      assert {:error, %PythonError{error_type: :cancelled}} = PythonBridge.await(ref)
    end

    test "a progress function that raises ends the job and leaves no message", %{bridge: bridge} do
      await_idle(bridge)

      assert_raise RuntimeError, "enough", fn ->
        PythonBridge.request(bridge, :optimize_signature, slow_payload(),
          progress: fn _ -> raise "enough" end
        )
      end

      await_idle(bridge)
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end
end
