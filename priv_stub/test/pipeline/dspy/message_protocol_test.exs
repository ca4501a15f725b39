defmodule Pipeline.DSPy.MessageProtocolTest do
  use ExUnit.Case, async: true

  alias Pipeline.DSPy.MessageProtocol

  doctest MessageProtocol
  doctest Pipeline.DSPy.PythonError
  doctest Pipeline.DSPy.ProcessManager
  doctest Pipeline.DSPy.PythonBridge.NodeFault

  defp decode(term), do: term |> :erlang.term_to_binary() |> MessageProtocol.decode()

  test "a request has a fresh id, the time and who sent it" do
    one = MessageProtocol.create_health_check_request()
    two = MessageProtocol.create_health_check_request()

    assert one.message_id != two.message_id
    assert %DateTime{} = one.timestamp
    assert %{source: "pipeline_ex", version: "1.0.0"} = one.metadata
  end

  test "encode gives the verb, the id, the payload and the metadata" do
    request =
      MessageProtocol.create_optimization_request("a -> b", [%{a: 1, b: 2}], %{lm: :offline},
        message_id: {:any, "term"},
        deadline_ms: 500,
        validation_data: [%{a: 3, b: 4}]
      )

    assert {:optimize_signature, {:any, "term"}, payload, %{deadline_ms: 500}} =
             request |> MessageProtocol.encode() |> :erlang.binary_to_term()

    assert payload == %{
             signature: "a -> b",
             training_data: [%{a: 1, b: 2}],
             validation_data: [%{a: 3, b: 4}],
             config: %{lm: :offline}
           }
  end

  test "each verb has its payload" do
    alias MessageProtocol, as: M

    assert M.create_evaluation_request({:program, "p"}, [%{a: 1}], %{lm: :offline}, metric: :f1).payload ==
             %{program: "p", data: [%{a: 1}], config: %{lm: :offline}, metric: :f1}

    assert M.create_prediction_request("a -> b", %{a: 1}, %{}).payload ==
             %{signature: "a -> b", input: %{a: 1}, config: %{}}

    assert M.create_prediction_request("a -> b", [%{a: 1}], %{}).payload ==
             %{signature: "a -> b", inputs: [%{a: 1}], config: %{}}

    assert M.create_cancel_request(7).payload == %{id: 7}
    assert M.create_shutdown_request().payload == %{mode: :drain}
    assert M.create_shutdown_request(:now, 5).payload == %{mode: :now, grace_ms: 5}
  end

  test "decode tells the node's messages apart" do
    assert decode({:ready, %{protocol: 1}}) == {:ok, {:ready, %{protocol: 1}}}
    assert decode({:ok, 1, 2}) == {:ok, {:answer, 1, {:ok, 2}}}
    assert decode({:error, nil, %{}}) == {:ok, {:answer, nil, {:error, %{}}}}
    assert decode({:progress, 1, %{done: 2}}) == {:ok, {:event, 1, {:progress, %{done: 2}}}}
    assert decode({:chunk, 1, %{}}) == {:ok, {:event, 1, {:chunk, %{}}}}
    assert decode({:log, :info, "text", %{}}) == {:ok, {:log, :info, "text", %{}}}

    assert decode({:telemetry, [:pipeline, :dspy, :job], %{count: 1}, %{}}) ==
             {:ok, {:telemetry, [:pipeline, :dspy, :job], %{count: 1}, %{}}}

    assert decode({:call, 1, 2, "name", []}) == {:ok, {:call, 1, 2, "name", []}}
  end

  test "what is no message is an error with the term" do
    for term <- [
          [],
          {:ready, 1},
          {:log, "info", "text", %{}},
          {:telemetry, [:other], %{}, %{}},
          {:ok, 1}
        ] do
      assert decode(term) == {:error, {:unknown_message, term}}
    end
  end

  test "a frame with an unknown atom is refused and makes no atom" do
    name = "never_seen_atom_of_this_test_" <> "#{System.unique_integer([:positive])}"
    frame = <<131, 119, byte_size(name)>> <> name

    assert MessageProtocol.decode(frame) == {:error, :not_a_safe_term}
    assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
  end

  test "a compressed frame that claims gigabytes is refused unread" do
    assert MessageProtocol.decode(<<131, 80, 0xFFFFFFFF::32, 0>>) == {:error, :too_large}
  end
end
