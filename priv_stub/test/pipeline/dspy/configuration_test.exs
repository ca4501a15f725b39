defmodule Pipeline.DSPy.ConfigurationTest do
  use ExUnit.Case, async: true

  alias Pipeline.DSPy.Configuration
  alias Pipeline.DSPy.Options
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Options, as: BridgeOptions

  doctest Configuration
  doctest Options

  describe "options" do
    test "of a bridge are refused before anything is started, with the nearest right name" do
      message =
        "Pipeline.DSPy.PythonBridge has no option :max_in_fligth; did you mean :max_in_flight?"

      assert_raise ArgumentError, message, fn -> PythonBridge.start_link(max_in_fligth: 5) end
      assert Process.whereis(PythonBridge) == nil
    end

    test "of a bridge under a supervisor keep the supervisor from starting, and say why" do
      Process.flag(:trap_exit, true)
      children = [{PythonBridge, name: :wrong, workers: 0}]

      assert {:error, {:shutdown, {:failed_to_start_child, :wrong, {:EXIT, {error, _stack}}}}} =
               Supervisor.start_link(children, strategy: :one_for_one)

      assert Exception.message(error) ==
               "expected :workers of Pipeline.DSPy.PythonBridge to be an integer of at least 1, or nil, got: 0"
    end

    test "are checked each by what it may be" do
      wrong = [
        name: "Bridge",
        python: "",
        data_dir: 'charlist',
        max_frame_bytes: -1,
        settings: [:no_pair],
        settings: %URI{},
        env: "A=b",
        args: ["a" | "b"],
        handshake_timeout: :infinity,
        health_interval: 0,
        functions: 5,
        call_timeout: 5_000_000_000,
        log_level: :loud,
        notify: self()
      ]

      for {name, value} <- Keyword.delete(wrong, :notify) do
        problem = BridgeOptions.problem([{name, value}])
        assert problem =~ "expected #{inspect(name)} of Pipeline.DSPy.PythonBridge to be"
      end

      right = [
        name: {:via, Registry, {R, 1}},
        max_frame_bytes: "16MiB",
        settings: %{spare_workers: 1},
        env: [{"A", nil}],
        args: ["--nice=5"],
        health_interval: nil,
        call_timeout: :infinity
      ]

      assert BridgeOptions.problem(right) == nil

      for listeners <- [self(), {self(), [:ready]}, [self(), {self(), [:down]}], nil, []] do
        assert BridgeOptions.problem(notify: listeners) == nil
      end

      assert BridgeOptions.problem(name: {:global, :bridge}) == nil

      assert BridgeOptions.problem(functions: %{score: 5}) =~
               ":functions to map names to functions"

      assert BridgeOptions.problem(notify: "me") =~
               "a pid, {pid, kinds} or a list of these, or nil, got: \"me\""

      assert BridgeOptions.problem(%{workers: 1}) =~ "to be a keyword list, got: %{workers: 1}"
      assert BridgeOptions.problem(colour: 1) =~ "has no option :colour; it has :name, :python, "
    end

    test "of every kind say what is expected" do
      kinds = [any: nil, boolean: 1, text: 1, list: 1, entries: 1, timeout: -1]

      for {kind, wrong} <- kinds do
        checked = Options.validate([it: wrong], [{:it, kind, nil, "a thing"}], "this")

        if kind == :any,
          do: assert({:ok, [it: nil]} = checked),
          else: assert({:error, "expected :it" <> _} = checked)
      end
    end

    test "stand in the documentation as they are in the list" do
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(PythonBridge)
      {_, _, _, %{"en" => text}, _} = List.keyfind(docs, {:function, :start_link, 1}, 0)

      for name <- Options.names(BridgeOptions.schema()),
          do: assert(text =~ "`#{inspect(name)}` - ")

      assert text =~
               "`:health_interval` - how often the node is asked how it is, in milliseconds; nil for never; `30000`."
    end
  end

  describe "config :pipeline" do
    test "is right when it is empty, and leaves the host's own keys alone" do
      assert {:ok, %{bridges: [], python: nil}} = Configuration.read([])
      assert {:ok, _settings} = Configuration.read(ecto_repos: [MyApp.Repo])
      assert Configuration.slips(ecto_repos: [MyApp.Repo]) == []
    end

    test "is refused with the entry that is wrong" do
      assert Configuration.read(bridges: [[name: MyApp.DSPy], [wrokers: 2]]) ==
               {:error,
                "config :pipeline, :bridges, entry 2: Pipeline.DSPy.PythonBridge has no option :wrokers; did you mean :workers?"}

      assert {:error, "config :pipeline, :bridges, entry 1: expected the options" <> _} =
               Configuration.read(bridges: [:bridge])

      assert {:error, "expected :bridges of config :pipeline to be a list, got: %{}"} =
               Configuration.read(bridges: %{})

      assert {:error, "expected :python of config :pipeline to be a text, or nil, got: :python3"} =
               Configuration.read(python: :python3)
    end
  end
end
