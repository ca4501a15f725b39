defmodule Pipeline.DSPy.BridgeEventsTest do
  @moduledoc "What a bridge makes of frames that a healthy node seldom or never sends: a script plays the node."

  use Pipeline.NodeCase

  import ExUnit.CaptureLog

  @info %{protocol: 1, limits: %{credit: 4, max_frame_bytes: 1_000}}

  # A node that says these frames at once and keeps what it hears in a file.
  defp start_scripted(messages, opts \\ []) do
    directory = tmp_dir("scripted-#{System.unique_integer([:positive])}")
    said = Path.join(directory, "said")
    heard = Path.join(directory, "heard")

    frames =
      for message <- messages, frame = frame(message), do: [<<byte_size(frame)::32>>, frame]

    File.write!(said, frames)

    bridge =
      start_bridge([python: script("cat #{said}; exec cat > #{heard}"), notify: self()] ++ opts)

    {bridge, heard}
  end

  defp frame(bytes) when is_binary(bytes), do: bytes
  defp frame(term), do: :erlang.term_to_binary(term)

  defp heard(path) do
    case File.read(path) do
      {:ok, bytes} ->
        for <<size::32, frame::binary-size(size) <- bytes>>, do: :erlang.binary_to_term(frame)

      {:error, :enoent} ->
        []
    end
  end

  test "credit is granted back in batches of half of it" do
    logs = for number <- 1..5, do: {:log, :info, "line #{number}", %{}}
    {_bridge, path} = start_scripted([{:ready, @info} | logs])

    assert eventually(fn -> length(heard(path)) >= 2 and heard(path) end) == [
             {:credit, 2},
             {:credit, 2}
           ]
  end

  test "the node's log goes to Logger at the level that is asked for, and to whom :notify names" do
    line = {:log, :debug, "from python", %{verb: "x"}}

    log =
      capture_log(fn ->
        start_scripted([{:ready, @info}, line], log_level: :warning)
        assert_receive {PythonBridge, _pid, ^line}, 5_000
      end)

    assert log =~ "[warning]"
    assert log =~ "Python node: from python"
  end

  test "a log line that is no text is shown, not trusted" do
    log =
      capture_log(fn ->
        start_scripted([{:ready, @info}, {:log, :error, <<255, 0>>, %{}}], log_level: :as_sent)
        assert_receive {PythonBridge, _pid, {:log, :error, _, _}}, 5_000
      end)

    assert log =~ "[error]"
    assert log =~ "<<255, 0>>"
  end

  # Python imports this in each process whose PYTHONPATH names its directory.
  @loud """
  import sys
  if "erlbridge.worker.forkserver" in sys.orig_argv:
      import logging
      import erlbridge.worker.main as worker
      run = worker.run
      def loud(*arguments):
          print("printed for the host")
          logging.getLogger("a.library").error("logged for the host")
          return run(*arguments)
      worker.run = loud
  """

  # A handler of Erlang's logger.
  def log(%{level: level, meta: %{python: python, bridge: bridge}}, %{config: %{to: to}}),
    do: send(to, {:logged, level, bridge, python})

  def log(_event, _config), do: :ok

  test "what a worker prints and logs during a job arrives in Logger with worker, job and logger" do
    directory = tmp_dir("loud")
    File.write!(Path.join(directory, "sitecustomize.py"), @loud)
    :ok = :logger.add_handler(:bridge_events, __MODULE__, %{config: %{to: self()}})
    on_exit(fn -> :logger.remove_handler(:bridge_events) end)

    log =
      capture_log(fn ->
        bridge = start_bridge(env: %{"PYTHONPATH" => directory}, log_level: :as_sent)

        assert {:ok, _result} =
                 PythonBridge.predict(bridge, "question -> answer", %{question: "?"}, lm: :offline)

        assert_receive {:logged, :info, ^bridge, %{worker: worker, job: job, logger: nil}}, 5_000

        assert_receive {:logged, :error, ^bridge,
                        %{worker: ^worker, job: ^job, logger: "a.library"}},
                       5_000

        assert job != nil
        send(self(), {:ran_on, worker})
      end)

    # The spare may boot first.
    assert_received {:ran_on, worker}
    assert log =~ "[info] Python worker #{worker}: printed for the host"
    assert log =~ "[error] Python worker #{worker}, a.library: logged for the host"
  end

  test "answers and progress of requests that nobody waits for are dropped" do
    stray = [{:ok, "unknown", 1}, {:error, 2, %{}}, {:progress, "unknown", %{done: 1}}]
    {bridge, _path} = start_scripted([{:ready, @info} | stray] ++ [{:log, :info, "last", %{}}])

    assert_receive {PythonBridge, pid, {:log, :info, "last", _}}, 5_000
    assert Process.whereis(bridge) == pid
  end

  test "a call for a request that is not in flight is answered with a refusal" do
    {_bridge, path} = start_scripted([{:ready, @info}, {:call, "c1", "r1", "name", []}])

    assert [{:result, "c1", {:error, reason}}] =
             eventually(fn -> heard(path) != [] and heard(path) end)

    assert is_binary(reason)
  end

  test "another protocol ends the bridge for good" do
    {bridge, _path} = start_scripted([{:ready, %{@info | protocol: 2}}])

    assert_receive {PythonBridge, _pid,
                    {:down, %PythonError{error_type: :internal_error} = error}},
                   5_000

    assert error.message =~ "protocol 2"
    eventually(fn -> Process.whereis(bridge) == nil end)
  end

  test "a frame with an unknown atom ends every request, and makes no atom" do
    name = "unknown_atom_of_a_node_#{System.unique_integer([:positive])}"
    bad = <<131, 119, byte_size(name)>> <> name
    # The script says it once a request has reached it.
    said = Path.join(tmp_dir("bad"), "said")
    ready = frame({:ready, @info})
    File.write!(said, [<<byte_size(ready)::32>>, ready])
    bad_file = said <> "-bad"
    File.write!(bad_file, [<<byte_size(bad)::32>>, bad])

    bridge =
      start_bridge(
        python: script("cat #{said}; head -c 1 >/dev/null; cat #{bad_file}; exec sleep 60")
      )

    assert {:error, %PythonError{error_type: :process_crashed, context: %{reason: :protocol}}} =
             PythonBridge.request(bridge, :predict, %{})

    assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
  end

  test "what a node says of itself before it ends is in the error" do
    fault = %{
      error_type: :frame_error,
      message: "frame of 17000000 bytes",
      recovery_strategy: :fatal
    }

    said = Path.join(tmp_dir("fault"), "said")
    frames = for message <- [{:ready, @info}, {:error, nil, fault}], do: frame(message)
    File.write!(said, for(frame <- frames, do: [<<byte_size(frame)::32>>, frame]))
    start_bridge(python: script("cat #{said}; exit 4"), notify: self())

    assert_receive {PythonBridge, _pid, {:down, error}}, 5_000

    assert %PythonError{error_type: :process_crashed, context: %{exit_code: 4, fault: fault}} =
             error

    assert fault.error_type == :frame_error
    assert error.message =~ "frame of 17000000 bytes"
  end

  test "workers that cannot start end the bridge for good" do
    bridge = start_bridge(python: script("exit 3"), notify: self())

    assert_receive {PythonBridge, _pid,
                    {:down, %PythonError{recovery_strategy: :fatal, retryable: false}}},
                   5_000

    eventually(fn -> Process.whereis(bridge) == nil end)
  end

  test "a request above the node's own limit is refused" do
    {bridge, _path} = start_scripted([{:ready, @info}])

    assert {:error, %PythonError{error_type: :serialization_error, context: %{limit: 1_000}}} =
             PythonBridge.request(bridge, :predict, %{input: String.duplicate("x", 1_000)})
  end

  test "a crash report holds no payload" do
    {bridge, _path} = start_scripted([{:ready, @info}])
    {:ok, _info} = PythonBridge.await_ready(bridge)
    ref = PythonBridge.async(bridge, :predict, %{secret: "hunter2"})
    {:status, _pid, _module, items} = :sys.get_status(bridge)
    refute inspect(items, limit: :infinity) =~ "hunter2"
    assert inspect(items, limit: :infinity) =~ "in_flight: 1"
    Process.demonitor(ref, [:flush])
  end
end
