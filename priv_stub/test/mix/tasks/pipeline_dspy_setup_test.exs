defmodule Mix.Tasks.Pipeline.Dspy.SetupTest do
  use Pipeline.NodeCase, async: true

  import ExUnit.CaptureIO

  alias Mix.Tasks.Pipeline.Dspy.Setup
  alias Pipeline.DSPy.PythonEnvironment

  # A wheel that is installed without a network, and through which the very erlbridge of these tests is found.
  defp wheel(directory) do
    {paths, 0} =
      System.cmd(python(), ["-c", "import sys; print('\\n'.join(filter(None, sys.path)))"])

    root = Path.expand("../../../..", __DIR__)
    info = "erlbridge-9.9.9.dist-info"

    metadata =
      "Metadata-Version: 2.1\nName: erlbridge\nVersion: 9.9.9\nProvides-Extra: optimizers\n"

    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

    files = [
      {"erlbridge_of_the_tests.pth", root <> "\n" <> paths},
      {info <> "/METADATA", metadata},
      {info <> "/WHEEL", tags},
      {info <> "/RECORD", Enum.map_join(["erlbridge_of_the_tests.pth"], &"#{&1},,\n")}
    ]

    path = Path.join(directory, "erlbridge-9.9.9-py3-none-any.whl")
    entries = for {name, content} <- files, do: {String.to_charlist(name), content}
    {:ok, _path} = :zip.create(String.to_charlist(path), entries)
    path
  end

  test "a Python that bridges find already is left as it is" do
    said = capture_io(fn -> Setup.run([]) end)

    assert said =~
             ~r/\(Python 3\.\d+\.\d+, erlbridge 0\.\d+\.\d+, DSPy 3\.\S+\) is what bridges find: nothing to do/
  end

  # pip and venv are slow, and other tests run beside this one.
  @tag timeout: 120_000
  test "an environment is made and erlbridge installed; without a network and without wheels it says how" do
    directory = tmp_dir("setup")
    venv = Path.join(directory, "venv")
    empty = tmp_dir("no-wheels")
    made = ["--force", "--python", python(), "--venv", venv]

    # The real package, which needs others that are not there.
    error =
      assert_raise Mix.Error, fn ->
        capture_io(fn -> Setup.run(["--wheels", empty | made]) end)
      end

    assert error.message =~ "#{empty} must hold a wheel of everything that erlbridge needs"

    assert {:ok, %{erlbridge: nil, error: "No module named 'erlbridge'"}} =
             PythonEnvironment.probe(Path.join(venv, "bin/python"))

    said = capture_io(fn -> Setup.run(["--from", wheel(directory), "--wheels", empty | made]) end)
    assert said =~ "#{venv}/bin/python (Python 3."
    assert said =~ "config :pipeline, python: #{inspect(Path.join(venv, "bin/python"))}"

    bridge = start_bridge(python: Path.join(venv, "bin/python"))
    assert {:ok, %{protocol: 1}} = PythonBridge.await_ready(bridge)
  end

  test "what is not there is said, and what to do" do
    old = script("echo erlbridge-probe python 3.9.2")
    no_venv = script("echo erlbridge-probe python 3.12.1")
    directory = Path.join(tmp_dir("setup-errors"), "venv")

    for {arguments, message} <- [
          {["--from", "/no/such/checkout"], ~r/there is nothing at \/no\/such\/checkout/},
          {["--python", "/no/such/python"], ~r/there is no `\/no\/such\/python`/},
          {["--python", old],
           ~r/is Python 3\.9\.2, and 3\.11 is needed; install one, or say where it is with --python/},
          {["--python", no_venv, "--venv", directory],
           ~r/cannot make virtual environments; install its venv/},
          {["--form", "x"], ~r/unknown option --form; did you mean --from\?/},
          {["x"], ~r/unexpected argument: x/}
        ] do
      assert_raise Mix.Error, message, fn ->
        capture_io(fn -> Setup.run(["--force" | arguments]) end)
      end
    end

    assert {:ok, facts} = PythonEnvironment.find(nil)
    assert PythonEnvironment.new_enough?(facts)

    assert PythonEnvironment.install(script("exit 3"), "/no/such", extras: []) |> elem(1) =~
             "Where this machine has no network"
  end
end
