defmodule Mix.Tasks.Pipeline.Dspy.DoctorTest do
  use Pipeline.NodeCase, async: true

  import ExUnit.CaptureIO

  alias Mix.Tasks.Pipeline.Dspy.Doctor, as: Task
  alias Pipeline.DSPy.Doctor

  defp findings(opts), do: opts |> Doctor.findings() |> Enum.to_list()

  # A Python that says this of itself.
  defp python_of(facts) do
    script(
      Enum.map_join(facts, "\n", fn {name, value} -> "echo 'erlbridge-probe #{name} #{value}'" end)
    )
  end

  test "everything from the versions to a job of a node is looked at, with the settings of the configured bridge" do
    data = tmp_dir("doctor")

    options = [
      name: :never_started,
      workers: 1,
      data_dir: data,
      settings: [sandbox: "off"],
      python: python()
    ]

    found = findings(environment: [bridges: [options], brigdes: []])
    assert [] = for({:failed, _, _, _} = failed <- found, do: failed)

    for name <- ~w(elixir configuration python erlbridge codec data dspy worker start job health) do
      assert Enum.any?(found, &match?({:ok, ^name, _, _}, &1)),
             "#{name} is not ok in #{inspect(found)}"
    end

    assert {:ok, "data", there, nil} = List.keyfind(found, "data", 1)
    assert there =~ data
    # A warning has what to do with it.
    assert {:warning, "sandbox", "off by configuration", "set `sandbox`" <> _} =
             List.keyfind(found, "sandbox", 1)

    assert {:warning, "configuration", slip, nil} = List.keyfind(found, "configuration", 1)
    assert slip =~ "did you mean :bridges?"
    assert Process.whereis(:never_started) == nil
  end

  test "a setting that the node refuses is told of each bridge that has it" do
    options = [python: python(), settings: [wrokers: 1]]
    found = findings(environment: [bridges: [[{:name, :a} | options], [{:name, :b} | options]]])

    assert {:failed, "bridge 1, settings", text, "exit code 2"} =
             List.keyfind(found, "bridge 1, settings", 1)

    assert text =~ "unrecognized arguments: --wrokers=1"

    assert {:failed, "bridge 2, start", "import_error: " <> _, _} =
             List.keyfind(found, "bridge 2, start", 1)
  end

  test "what is missing ends with what to do, and with exit code 1" do
    said =
      capture_io(fn ->
        assert catch_exit(Task.run(["--python", "/no/such/python"])) == {:shutdown, 1}
      end)

    assert said =~ ~r/^.*ok.* elixir: #{Regex.escape(System.version())}/

    assert said =~
             ~r/failed.* python: there is no `\/no\/such\/python`\n +run `mix pipeline.dspy.setup`/

    refute said =~ "erlbridge:"
    assert_raise Mix.Error, ~r/did you mean --python\?/, fn -> Task.run(["--pyhton", "x"]) end
  end

  test "each Python that cannot do is told apart" do
    bare = script(~s(exec "#{python()}" -S -E "$@"))

    for {python, name, says} <- [
          {bare, "erlbridge", "not in this Python: No module named 'erlbridge'"},
          {python_of(python: "3.9.2"), "python", "3.9.2"},
          {python_of(python: "3.12.1", erlbridge: "0.9.0", protocol: 2, dspy: "3"), "erlbridge",
           "0.9.0, protocol 2"},
          {python_of(
             python: "3.12.1",
             erlbridge: "0.9.0",
             protocol: 1,
             error: "No package metadata"
           ), "dspy", "not in this Python: No package metadata"},
          {script("echo hello"), "python", "is no Python: hello"},
          {script("echo broken; exit 5"), "python", "ended with exit code 5: broken"}
        ] do
      assert {:failed, ^name, found, advice} =
               List.last(findings(python: python, environment: []))

      assert found =~ says
      assert advice =~ "mix pipeline.dspy.setup"
    end
  end

  test "a wrong configuration is told, and the rest is looked at with the defaults" do
    found = findings(python: "/no/such/python", environment: [bridges: [[wrokers: 1]]])
    assert {:failed, "configuration", message, _advice} = List.keyfind(found, "configuration", 1)
    assert message =~ "did you mean :workers?"
    assert {:failed, "python", _, _} = List.last(found)
  end
end
