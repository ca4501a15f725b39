defmodule Pipeline.DSPy.TraceparentTest do
  # A module of OpenTelemetry's name is there while its tests run, for every caller.
  use ExUnit.Case, async: false

  alias Pipeline.DSPy.PythonBridge.Caller

  @ours "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
  @given "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

  # The meta of a request, as the bridge, which is the test itself, gets it.
  defp meta(opts) do
    Caller.submit(self(), :health_check, %{}, [timeout: :infinity] ++ opts)
    assert_receive {:"$gen_cast", {:submit, request}}
    request.frame |> IO.iodata_to_binary() |> :erlang.binary_to_term() |> elem(3)
  end

  defp with_propagator(headers) do
    contents = quote do: def(inject(carrier), do: unquote(headers) ++ carrier)
    Module.create(:otel_propagator_text_map, contents, Macro.Env.location(__ENV__))

    on_exit(fn ->
      :code.purge(:otel_propagator_text_map)
      :code.delete(:otel_propagator_text_map)
    end)
  end

  test "without OpenTelemetry a request names the span that its option names, or none" do
    refute Map.has_key?(meta([]), :traceparent)
    assert meta(traceparent: @given).traceparent == @given
  end

  test "with OpenTelemetry it names the caller's span, unless an option names another" do
    with_propagator([{"tracestate", "a=b"}, {"traceparent", @ours}])
    assert meta([]).traceparent == @ours
    assert meta(traceparent: @given).traceparent == @given
  end

  test "outside of a span it names none" do
    with_propagator([])
    refute Map.has_key?(meta([]), :traceparent)
  end
end
