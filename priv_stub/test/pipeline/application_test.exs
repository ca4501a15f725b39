defmodule Pipeline.ApplicationTest do
  use Pipeline.NodeCase

  test "no bridge is started unasked" do
    children = for {id, _pid, _, _} <- Supervisor.which_children(Pipeline.Supervisor), do: id
    assert Pipeline.DSPy.FunctionSupervisor in children
    refute PythonBridge in children
  end

  test "configured bridges are started with the application, and end with it" do
    options = [
      name: :configured_bridge,
      python: python(),
      workers: 1,
      data_dir: tmp_dir("configured")
    ]

    restart_with([options])
    on_exit(fn -> restart_with([]) end)

    assert {:ok, %{os_pid: os_pid}} = PythonBridge.await_ready(:configured_bridge)
    restart_with([])
    eventually(fn -> not running?(os_pid) end)
  end

  test "a wrong configuration keeps the application from starting, and says what is wrong" do
    Application.stop(:pipeline)
    Application.put_env(:pipeline, :bridges, [[wrokers: 2]])
    on_exit(fn -> restart_with([]) end)

    assert {:error, {:bad_return, {_mfa, {:EXIT, {%ArgumentError{message: message}, _stack}}}}} =
             Application.start(:pipeline)

    assert message ==
             "config :pipeline, :bridges, entry 1: Pipeline.DSPy.PythonBridge has no option :wrokers; did you mean :workers?"
  end

  defp restart_with(bridges) do
    Application.stop(:pipeline)
    Application.put_env(:pipeline, :bridges, bridges)
    :ok = Application.start(:pipeline)
  end
end
