defmodule Pipeline.DSPy.BridgeProgramsTest do
  @moduledoc "The programs that a node keeps, and predictions that are heard while they are written."

  use Pipeline.NodeCase, async: true

  setup_all do
    bridge = start_bridge()

    {:ok, optimized} =
      PythonBridge.optimize_signature(bridge, Tickets.signature(), Enum.take(Tickets.read(), 4),
        optimizer: :labeled_few_shot,
        lm: :offline
      )

    %{bridge: bridge, program_id: optimized.program_id, program: optimized.program}
  end

  @question %{question: "what is a port"}
  @config [lm: :offline, module: :chain_of_thought]

  describe "programs" do
    test "are listed, given, deleted and put back under the same id", context do
      %{bridge: bridge, program_id: id, program: program} = context

      assert {:ok, %{status: :success, programs: [entry], next: nil}} =
               PythonBridge.list_programs(bridge)

      assert %{program_id: ^id, name: "SupportTicket", module: "predict"} = entry
      assert %{scores: %{score_after: score}, bytes: bytes, stored_at_ms: stored_at} = entry
      assert is_float(score) and bytes > 0
      assert abs(System.os_time(:millisecond) - stored_at) < 60_000

      assert {:ok, %{program_id: ^id, program: ^program}} = PythonBridge.get_program(bridge, id)
      assert {:ok, %{status: :success}} = PythonBridge.delete_program(bridge, id)

      assert {:error, %PythonError{error_type: :not_found}} = PythonBridge.get_program(bridge, id)

      # Through the format in which a host would keep it.
      kept = program |> :erlang.term_to_binary() |> :erlang.binary_to_term([:safe])
      assert {:ok, %{program_id: ^id}} = PythonBridge.put_program(bridge, kept)
      assert {:ok, %{programs: [%{program_id: ^id}]}} = PythonBridge.list_programs(bridge)
    end

    test "have no report when nobody asked for one", %{bridge: bridge, program_id: id} do
      assert {:error, %PythonError{error_type: :not_found, context: %{program_id: ^id}}} =
               PythonBridge.get_report(bridge, id)
    end

    test "come in pages", %{bridge: bridge, program: program} do
      named = put_in(program, [:signature, :name], "Another")
      {:ok, %{program_id: another}} = PythonBridge.put_program(bridge, named)

      assert {:ok, %{programs: [%{program_id: ^another}], next: next}} =
               PythonBridge.list_programs(bridge, limit: 1)

      assert {:ok, %{programs: [%{program_id: id}], next: nil}} =
               PythonBridge.list_programs(bridge, limit: 1, after: next)

      assert id != another
      assert {:ok, _} = PythonBridge.delete_program(bridge, another)
    end

    test "are refused with the place of what does not belong there",
         %{bridge: bridge} = context do
      wrong = Map.put(context.program, :lm, %{api_base: "http://evil"})

      assert {:error, %PythonError{error_type: :validation_error, message: message}} =
               PythonBridge.put_program(bridge, wrong)

      assert message =~ "unknown key `lm`"
    end
  end

  describe "a streamed prediction" do
    test "is heard by a function, piece by piece, before its answer", %{bridge: bridge} do
      test_process = self()
      hear = &send(test_process, {:heard, &1})
      opts = [stream_to: hear] ++ @config

      assert {:ok, %{prediction: prediction}} =
               PythonBridge.predict(bridge, "question -> answer", @question, opts)

      pieces = received([])
      assert length(pieces) > 5
      assert joined(pieces) == prediction
      assert Enum.count(pieces, & &1.is_last) == 2
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "comes as messages to the caller of async", %{bridge: bridge} do
      payload = %{
        signature: "question -> answer",
        input: @question,
        stream: true,
        config: Map.new(@config)
      }

      ref = PythonBridge.async(bridge, :predict, payload, progress: false)
      assert_receive {PythonBridge, ^ref, {:chunk, %{field: "reasoning", is_last: false}}}, 20_000
      assert_receive {PythonBridge, ^ref, {:chunk, %{field: "answer", is_last: true}}}, 20_000
      assert {:ok, %{prediction: %{"answer" => "what is a port"}}} = PythonBridge.await(ref)
    end

    test "comes as messages to another process", %{bridge: bridge} do
      listener = self()

      task =
        Task.async(fn ->
          opts = [stream_to: listener] ++ @config
          PythonBridge.predict(bridge, "question -> answer", @question, opts)
        end)

      assert {:ok, %{status: :success}} = Task.await(task, 20_000)
      assert_received {PythonBridge, _ref, {:chunk, %{text: _}}}
    end

    test "of a list of inputs is refused", %{bridge: bridge} do
      opts = [stream_to: self()] ++ @config

      assert {:error, %PythonError{error_type: :validation_error, context: context}} =
               PythonBridge.predict(bridge, "question -> answer", [@question], opts)

      assert context.path == "payload.stream"
    end

    test "ends when its function raises, and leaves no message", %{bridge: bridge} do
      opts = [stream_to: fn _piece -> raise "enough" end] ++ @config

      assert_raise RuntimeError, "enough", fn ->
        PythonBridge.predict(bridge, "question -> answer", @question, opts)
      end

      await_idle(bridge)
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  defp received(pieces) do
    receive do
      {:heard, piece} -> received([piece | pieces])
    after
      0 -> Enum.reverse(pieces)
    end
  end

  defp joined(pieces) do
    pieces
    |> Enum.group_by(& &1.field, & &1.text)
    |> Map.new(fn {field, texts} -> {field, Enum.join(texts)} end)
  end
end
