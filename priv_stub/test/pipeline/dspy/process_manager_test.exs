defmodule Pipeline.DSPy.ProcessManagerTest do
  use Pipeline.NodeCase

  test "options become arguments of serve, after the launcher" do
    opts = [
      python: "/bin/sh",
      workers: 3,
      data_dir: "/d",
      max_frame_bytes: 9,
      max_queue: 5,
      credit: 7,
      args: [:x]
    ]

    assert {:ok, %{args: [launcher | args]}} = ProcessManager.command(opts)

    assert Path.basename(launcher) == "dspy_bridge.py"
    assert File.regular?(launcher)

    assert Enum.join(args, " ") ==
             "--workers 3 --data /d --max-frame-bytes 9 --max-queue 5 --credit 7 x"
  end

  test "settings become arguments that the node reads" do
    settings = [
      spare_workers: 2,
      sandbox: :off,
      verb_limits: [train_model: 1, predict: 4],
      endpoint_limits: %{"openai" => 2},
      worker_cpus: [0, 1],
      nice: nil
    ]

    assert {:ok, %{args: [_launcher | args]}} =
             ProcessManager.command(python: "/bin/sh", settings: settings)

    assert args == [
             "--spare-workers=2",
             "--sandbox=off",
             "--verb-limits=predict=4,train_model=1",
             "--endpoint-limits=openai=2",
             "--worker-cpus=0,1"
           ]
  end

  test "a variable can be set and unset" do
    assert {:ok, %{env: env}} = ProcessManager.command(python: "/bin/sh", env: [A: "1", B: nil])
    assert env == [{~c"A", ~c"1"}, {~c"B", false}]
  end

  test "a Python that is not there is an error that says what to set" do
    assert {:error, %PythonError{error_type: :import_error} = error} =
             ProcessManager.command(python: "/no/such/python")

    assert error.message =~ "/no/such/python"
    assert error.message =~ "ERLBRIDGE_PYTHON"
  end

  test "a process that reads ends when its port is closed" do
    {:ok, process} = ProcessManager.start_python_process(python: script("exec cat"))
    assert ProcessManager.alive?(process)
    assert ProcessManager.stop(process) == :ok
    refute running?(process.os_pid)
  end

  test "a process that ignores its port is killed after the grace" do
    {:ok, process} = ProcessManager.start_python_process(python: script("exec sleep 60"))
    assert ProcessManager.stop(process, 50) == :ok
    refute running?(process.os_pid)
  end

  test "the grace is one of time, however slowly the process is looked at" do
    {:ok, process} = ProcessManager.start_python_process(python: script("exec sleep 60"))
    closed = Port.monitor(process.port)
    stop = Task.async(fn -> ProcessManager.stop(process, 1_000) end)
    assert_receive {:DOWN, ^closed, :port, _, _}
    true = :erlang.suspend_process(stop.pid)
    Process.sleep(1_000)
    true = :erlang.resume_process(stop.pid)
    resumed_at = System.monotonic_time(:millisecond)
    assert Task.await(stop) == :ok
    assert System.monotonic_time(:millisecond) - resumed_at < 600
  end

  test "a pid that another process has got is neither alive nor killed" do
    {:ok, process} = ProcessManager.start_python_process(python: script("exec sleep 60"))
    other = %{process | started_at: process.started_at - 1}

    refute ProcessManager.alive?(other)
    assert ProcessManager.stop(other, 0) == :ok
    assert ProcessManager.alive?(process)
    assert ProcessManager.stop(process, 0) == :ok
  end
end
