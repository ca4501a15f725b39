defmodule Pipeline.DSPy.CallbacksRegistryTest do
  @moduledoc "What may be registered, and how many calls are let in at once: without any node."

  use Pipeline.NodeCase

  alias Pipeline.DSPy.Callbacks
  alias Pipeline.DSPy.Callbacks.Gate
  alias Pipeline.Echo

  doctest Callbacks

  defp register(name, given, opts) do
    :ok = Callbacks.register(name, given, opts)
    on_exit(fn -> Callbacks.unregister(name) end)
  end

  describe "the registry" do
    test "takes functions, captures, modules and their functions, of the arity of their kind" do
      register(:one, &Echo.complete/1, kind: :lm)
      register(:two, Echo, kind: :lm, timeout: 10, max_concurrency: 2)
      register("three", {Echo, :score}, kind: :metric)
      register(:four, {Echo, :complete}, [])

      assert [%{name: "four"}, %{name: "one"}, %{name: "three"}, %{name: "two"}] =
               Callbacks.list()

      assert {:ok, %{timeout: 10, max_concurrency: 2, kind: :lm, function: function}} =
               Callbacks.fetch("two")

      assert function == (&Echo.complete/1)
    end

    test "says what is wrong with the rest" do
      for {given, opts, text} <- [
            {Echo, [], "expected a :kind beside the module"},
            {Echo, [kind: :tool], "expected #{inspect(Echo)}.call/1"},
            {{Echo, :compleet}, [], "with one arity, or a :kind"},
            {NoSuchModule, [kind: :lm], "cannot load NoSuchModule"},
            {fn -> 1 end, [kind: :lm],
             "expected a function of 1 arguments for the :lm bad, got one of 0"},
            {fn -> 1 end, [kind: :llm], "expected :kind to be one of :lm, :metric, :reward"},
            {fn -> 1 end, [timeout: 0], "expected :timeout to be milliseconds"},
            {fn -> 1 end, [max_concurrency: 0], "expected :max_concurrency"},
            {fn -> 1 end, [time_out: 1], "unknown keys [:time_out]"},
            {"no function", [], "expected a function, {module, function_name} or a module"}
          ] do
        error = assert_raise ArgumentError, fn -> Callbacks.register(:bad, given, opts) end
        assert error.message =~ text
      end

      assert_raise ArgumentError, ~r/expected a function's name/, fn ->
        Callbacks.register("", &to_string/1)
      end

      assert_raise ArgumentError, ~r/no tool is registered/, fn -> Callbacks.tool(:bad) end
      register(:lm, Echo, kind: :lm)
      assert_raise ArgumentError, ~r/registered as :lm/, fn -> Callbacks.tool(:lm) end
      assert Callbacks.fetch(:bad) == :error
    end

    test "is filled from a configuration, and refuses a name that is there twice" do
      configured = [
        echo: {Echo, kind: :lm},
        same: {{Echo, :score}, kind: :metric},
        plain: {Echo, :score}
      ]

      assert :ok = Callbacks.register_all(configured)

      assert Enum.map(Callbacks.list(), &{&1.name, &1.kind}) == [
               {"echo", :lm},
               {"plain", nil},
               {"same", :metric}
             ]

      assert_raise ArgumentError, ":echo is registered already", fn ->
        Callbacks.register_all(configured)
      end

      for {name, _spec} <- configured, do: Callbacks.unregister(name)
    end
  end

  describe "the gate" do
    test "lets the next one in when one dies inside, and forgets one that dies waiting" do
      gate = start_supervised!({Gate, []})
      test_process = self()

      enter = fn name ->
        spawn(fn ->
          Gate.pass(gate, :lane, 1, fn ->
            send(test_process, {:inside, name})
            receive(do: (:leave -> :ok))
          end)
        end)
      end

      first = enter.(:first)
      assert_receive {:inside, :first}
      second = enter.(:second)
      eventually(fn -> Process.info(second, :status) == {:status, :waiting} end)
      :sys.get_state(gate)
      third = enter.(:third)
      eventually(fn -> map_size(:sys.get_state(gate).tickets) == 3 end)
      Process.exit(second, :kill)
      eventually(fn -> map_size(:sys.get_state(gate).tickets) == 2 end)
      Process.exit(first, :kill)
      assert_receive {:inside, :third}
      refute_received {:inside, :second}
      send(third, :leave)
      eventually(fn -> :sys.get_state(gate) == %{lanes: %{}, tickets: %{}} end)
    end
  end
end
