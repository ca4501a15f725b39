defmodule Pipeline.DSPy.ClusterMemberTest do
  @moduledoc "What one BEAM node makes of what it hears of a cluster, without others and mostly without a Python node."

  use Pipeline.NodeCase

  alias Pipeline.DSPy.Cluster
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.Cluster.Server

  import ExUnit.CaptureLog

  doctest Pipeline.DSPy.Cluster
  doctest Pipeline.DSPy.Cluster.Member
  doctest Pipeline.DSPy.Cluster.Needs
  doctest Pipeline.DSPy.Cluster.Placement
  doctest Pipeline.DSPy.PythonBridge.Atoms

  setup context do
    name = :"cluster_#{System.unique_integer([:positive])}"
    unless context[:alone], do: start_supervised!({Cluster, name: name, interval: 50})
    %{name: name}
  end

  # A bridge that holds what it gets: its node is never ready.
  defp never_ready(opts \\ []) do
    start_bridge([python: script("exec cat >/dev/null"), handshake_timeout: 60_000] ++ opts)
  end

  # Speaks as a member does, from a process that has joined.
  defp speak(name, changes) do
    test = self()

    speaker =
      spawn_link(fn ->
        :ok = :pg.join(Server.scope(name), :members, self())
        map = self() |> Member.new(:some_target, 60_000) |> Member.to_map()
        send(Server.name(name), {Cluster, :member, Map.merge(map, changes)})
        send(test, :spoken)
        receive do: (:stop -> :ok)
      end)

    assert_receive :spoken
    # What it said has been read.
    :sys.get_state(Server.name(name))
    speaker
  end

  defp predict(cluster, opts \\ []) do
    opts = Keyword.merge([lm: :offline, timeout: 5_000], opts)
    PythonBridge.predict(cluster, "question -> answer", %{question: "?"}, opts)
  end

  @tag :alone
  test "a cluster that does not run here is a typed error, however it is used", %{name: name} do
    cluster = Cluster.new(name)
    assert {:error, %PythonError{error_type: :process_crashed} = error} = predict(cluster)
    assert error.context == %{reason: :noproc}
    ref = PythonBridge.async(cluster, :predict, %{})
    assert {:error, %PythonError{context: %{reason: :noproc}}} = PythonBridge.await(ref)

    assert {:error, %PythonError{context: %{reason: :no_member}}} =
             PythonBridge.health_check(cluster)

    assert {:error, %PythonError{context: %{reason: :noproc}}} = PythonBridge.await_ready(cluster)
    assert Cluster.members(name) == []
  end

  test "a cluster without members holds a request for a while, and then says so", %{name: name} do
    started = System.monotonic_time(:millisecond)
    assert {:error, %PythonError{} = error} = predict(Cluster.new(name, wait: 100))
    assert error.context == %{reason: :no_member, members: []}
    assert (System.monotonic_time(:millisecond) - started) in 100..1_000

    assert {:error, %PythonError{}} = predict(Cluster.new(name, wait: 60_000), timeout: 50)
    assert {:error, %PythonError{}} = predict(Cluster.new(name, wait: 0))
    ref = PythonBridge.async(Cluster.new(name), :predict, %{})
    assert {:error, %PythonError{context: %{reason: :no_member}}} = PythonBridge.await(ref)

    assert {:error, %PythonError{error_type: :timeout_error}} =
             PythonBridge.await_ready(Cluster.new(name), 50)
  end

  test "a request that waits for a first member goes there as soon as there is one", %{name: name} do
    bridge = start_bridge()
    waiting = Task.async(fn -> predict(Cluster.new(name, wait: 20_000), timeout: 20_000) end)
    eventually(fn -> :sys.get_state(Server.name(name)).requests.by_id != %{} end)
    stop_supervised!(Cluster)
    # One that stops says that it does, and who asked has an answer.
    assert {:error, %PythonError{context: %{reason: :no_member}}} = Task.await(waiting)

    start_supervised!({Cluster, name: name, target: bridge, interval: 50})
    assert {:ok, %{prediction: _}} = predict(Cluster.new(name, wait: 20_000), timeout: 20_000)
    assert [%{usable: true, ready: true, node: :nonode@nohost}] = Cluster.members(name)

    assert {:ok, %{members: [:nonode@nohost], limits: %{max_frame_bytes: _}}} =
             PythonBridge.await_ready(Cluster.new(name))

    assert {:ok, %{status: :stopped, unfinished: 0, members: %{nonode@nohost: {:ok, _}}}} =
             PythonBridge.shutdown(Cluster.new(name))

    assert Process.whereis(bridge) == nil
    eventually(fn -> match?([%{usable: false, ready: false}], Cluster.members(name)) end)
  end

  @tag :alone
  test "a member whose node is not ready is known, and not chosen", %{name: name} do
    bridge = never_ready()
    start_supervised!({Cluster, name: name, target: bridge, interval: 20})
    eventually(fn -> match?([%{ready: false, usable: false}], Cluster.members(name)) end)
    assert {:error, %PythonError{} = error} = predict(Cluster.new(name, wait: 50))
    assert error.context == %{reason: :no_member, members: [:nonode@nohost]}
  end

  test "a member that is refused at is not the last: another one is tried, whatever the verb", %{
    name: name
  } do
    full = never_ready(max_in_flight: 0)
    speak(name, %{target: full, ready: true})

    assert {:error, %PythonError{error_type: :overloaded} = error} = predict(Cluster.new(name))
    assert %{beam_node: :nonode@nohost, tried: [:nonode@nohost]} = error.context
    # Refused at once, though it might have waited.
    assert {:error, %PythonError{context: %{reason: :noproc}}} =
             (
               speak(name, %{target: :nobody_has_this_name, ready: true})
               predict(Cluster.new(name))
             )
  end

  test "a member of another version is named in a warning and not chosen", %{name: name} do
    said = capture_log(fn -> speak(name, %{ready: true, shape: 1}) end)
    assert said =~ "another version"
    assert [%{ready: true, usable: false}] = Cluster.members(name)
    assert capture_log(fn -> speak(name, %{ready: true, shape: 1}) end) == ""
  end

  test "a member that leaves or says nothing any more is not chosen", %{name: name} do
    speak(name, %{ready: true})
    assert [%{usable: true}] = Cluster.members(name)
    speak(name, %{ready: true, leaving: true})
    assert [%{usable: false}] = Cluster.members(name)
    speak(name, %{ready: true, interval: 1})
    eventually(fn -> match?([%{usable: false}], Cluster.members(name)) end)
  end

  test "a member that ends is forgotten, with what it held", %{name: name} do
    speaker = speak(name, %{ready: true, held: ["program:1"]})
    assert Directory.holders(name, ["program:1"]) == %{nonode@nohost: 1.0}
    send(speaker, :stop)
    eventually(fn -> Cluster.members(name) == [] end)
    assert Directory.holders(name, ["program:1"]) == %{}
  end

  test "a member that has started again is not forgotten with the one that it was", %{name: name} do
    before = speak(name, %{ready: true})
    speak(name, %{ready: true})
    monitor = Process.monitor(before)
    send(before, :stop)
    assert_receive {:DOWN, ^monitor, :process, _pid, _reason}
    # The end of the first was told before this is answered.
    eventually(fn -> map_size(:sys.get_state(Server.name(name)).peers) == 1 end)
    assert [%{usable: true}] = Cluster.members(name)
  end

  test "a member with another version is sent nothing, whatever is asked", %{name: name} do
    target = :"target_of_#{name}"
    Process.register(self(), target)

    capture_log(fn -> speak(name, %{ready: true, workers: 1, shape: 1, target: target}) end)

    cluster = Cluster.new(name, wait: 0)
    id = "program:" <> String.duplicate("0", 64)
    data = {:dataset, "sha256:" <> String.duplicate("0", 64)}
    quick = [timeout: 200, grace: 0]

    for answer <- [
          PythonBridge.health_check(cluster, quick),
          PythonBridge.cancel(cluster, make_ref()),
          PythonBridge.list_programs(cluster, quick),
          PythonBridge.delete_program(cluster, id, quick),
          PythonBridge.shutdown(cluster, timeout: 200)
        ] do
      assert {:error, %PythonError{error_type: :process_crashed} = error} = answer
      assert error.context == %{reason: :version, beam_node: :nonode@nohost}
    end

    assert {:error, %PythonError{error_type: :not_found}} =
             PythonBridge.get_program(cluster, id, quick)

    assert {:error, %PythonError{context: %{reason: :no_member}}} =
             PythonBridge.evaluate_pipeline(cluster, "question -> answer", data, quick)

    refute_received {:"$gen_cast", _request}
  end

  test "who asks all members and dies leaves nobody behind who waits for them", %{name: name} do
    target = :"target_of_#{name}"
    Process.register(self(), target)
    speak(name, %{ready: true, workers: 1, target: target})

    caller =
      spawn(fn ->
        ref = PythonBridge.async(Cluster.new(name), :health_check, %{}, timeout: :infinity)
        PythonBridge.await(ref)
      end)

    assert_receive {:"$gen_cast", {:submit, %{verb: :health_check, owner: asker}}}
    monitor = Process.monitor(asker)
    Process.exit(caller, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^asker, _reason}
  end

  @tag :alone
  test "to find out who has the data is within the request's own time", %{name: name} do
    bridge = never_ready()
    start_supervised!({Cluster, name: name, interval: 50})
    # It takes what it is asked, and says nothing to it.
    speak(name, %{ready: true, workers: 1, target: bridge})
    dataset = &{:dataset, "sha256:" <> String.duplicate(&1, 64)}
    started = System.monotonic_time(:millisecond)

    assert {:error, %PythonError{error_type: :timeout_error}} =
             PythonBridge.optimize_signature(
               Cluster.new(name),
               "question -> answer",
               dataset.("1"),
               validation_data: dataset.("2"),
               lm: :offline,
               timeout: 400,
               grace: 0
             )

    assert System.monotonic_time(:millisecond) - started < 800
  end

  test "what is no member's word is dropped", %{name: name} do
    server = Process.whereis(Server.name(name))
    stranger = self() |> Member.new(:target, 100) |> Member.to_map()

    # From one that has not joined; and such as nobody says.
    send(server, {Cluster, :member, Map.put(stranger, :ready, true)})
    for said <- [:nothing, %{}, %{target: nil}], do: send(server, {Cluster, :member, said})
    send(server, {Cluster, :hello, "nobody"})
    send(server, :anything)

    for wrong <- [
          %{ready: "yes"},
          %{workers: -1},
          %{busy: 1.0},
          %{interval: 0},
          %{info: []},
          %{held: ["program:1" | :end]},
          %{held: [String.duplicate("x", 200)]},
          %{held: List.duplicate("program:1", 1_001)}
        ] do
      speak(name, wrong)
    end

    assert Cluster.members(name) == []
    assert Process.whereis(Server.name(name)) == server
  end

  test "who only sends may leave and join, and finds nothing changed", %{name: name} do
    assert :ok = Cluster.leave(name)
    assert :ok = Cluster.join(name)
  end

  @tag :alone
  test "a member that cannot finish in time says what is left", %{name: name} do
    bridge = never_ready()
    start_supervised!({Cluster, name: name, target: bridge, interval: 20})
    assert {:error, %PythonError{error_type: :timeout_error} = error} = Cluster.leave(name, 100)
    assert error.context == %{running: 0, waiting: 0}
    assert [%{leaving: true}] = Cluster.members(name)
    assert :ok = Cluster.join(name)
    assert [%{leaving: false}] = Cluster.members(name)
  end

  @tag :alone
  test "a member that is full stays one, and says that it is full", %{name: name} do
    bridge = start_bridge(max_in_flight: 2)
    start_supervised!({Cluster, name: name, target: bridge, interval: 20})
    {:ok, _info} = PythonBridge.await_ready(Cluster.new(name), 20_000)

    # One may find the place taken by a question for the bridge's health.
    held? = fn ->
      ref = PythonBridge.async(bridge, :optimize_signature, slow_payload(), progress: false)
      match?({:error, %{error_type: :timeout_error}}, PythonBridge.await(ref, timeout: 100))
    end

    for _ <- 1..2, do: eventually(held?)
    heard_at = fn -> :sys.get_state(Server.name(name)).round end
    full_at = heard_at.()
    # It has been asked for its health meanwhile, more than once.
    eventually(fn -> heard_at.() > full_at + 5 end)
    assert [%{usable: true, ready: true}] = Cluster.members(name)
    assert {:error, %PythonError{error_type: :overloaded}} = predict(Cluster.new(name))
  end

  @tag :alone
  test "what a function asks is done where its job waits, also by a member that leaves", %{
    name: name
  } do
    bridge = start_bridge()
    start_supervised!({Cluster, name: name, target: bridge, interval: 20})
    {:ok, _info} = PythonBridge.await_ready(Cluster.new(name), 20_000)
    test = self()

    lm = fn _request ->
      send(test, {:called, self()})
      receive do: (:go_on -> :ok)
      {:ok, %{prediction: %{"answer" => answer}}} = predict(Cluster.new(name, wait: 0))
      Pipeline.ClusterNode.answer(answer)
    end

    running = Task.async(fn -> predict(Cluster.new(name), lm: lm, timeout: 10_000) end)
    assert_receive {:called, function}, 10_000
    leaving = Task.async(fn -> Cluster.leave(name, 10_000) end)
    eventually(fn -> match?([%{usable: false, leaving: true}], Cluster.members(name)) end)
    send(function, :go_on)
    assert {:ok, %{prediction: %{"answer" => _}}} = Task.await(running, 12_000)
    assert :ok = Task.await(leaving)
    # Nothing new, as ever.
    assert {:error, %PythonError{context: %{reason: :no_member}}} =
             predict(Cluster.new(name, wait: 0))
  end

  test "who waits for a member and dies is forgotten", %{name: name} do
    {caller, monitor} =
      spawn_monitor(fn -> PythonBridge.await_ready(Cluster.new(name), 60_000) end)

    requests = fn -> :sys.get_state(Server.name(name)).requests.by_id end
    eventually(fn -> requests.() != %{} end)
    Process.exit(caller, :kill)
    assert_receive {:DOWN, ^monitor, :process, _, :killed}
    eventually(fn -> requests.() == %{} end)
  end

  test "options that are wrong are refused", %{name: name} do
    assert_raise ArgumentError, ~r/unknown keys \[:taget\]/, fn ->
      Cluster.start_link(name: name, taget: :pool)
    end

    assert_raise ArgumentError, ~r/registered names/, fn ->
      Cluster.start_link(name: name, target: "pool")
    end

    assert_raise ArgumentError, ~r/:interval in milliseconds/, fn ->
      Cluster.start_link(name: name, interval: 0)
    end

    assert_raise ArgumentError, ~r/did you mean :attempts/, fn ->
      Cluster.new(name, attempt: 1)
    end

    assert_raise ArgumentError, ~r/expected :wait/, fn -> Cluster.new(name, wait: -1) end
    assert_raise ArgumentError, ~r/expected :attempts/, fn -> Cluster.new(name, attempts: 0) end
    server = Process.whereis(Server.name(name))
    assert_raise FunctionClauseError, fn -> Cluster.leave(name, :infinity) end
    assert Process.whereis(Server.name(name)) == server
  end
end
