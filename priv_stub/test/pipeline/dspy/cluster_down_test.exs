defmodule Pipeline.DSPy.ClusterDownTest do
  @moduledoc "A cluster of BEAM nodes of which one is killed, or hangs."

  use Pipeline.ClusterCase

  @requests 60
  @at_once 24
  @killed_after 12

  setup_all do
    directory = tmp_dir("cluster-down")
    nodes = start_beam_nodes([:a, :b, :c, :idle, :asker], directory)
    on_exit(fn -> stop_beam_nodes(nodes) end)
    for label <- [:a, :b, :c], do: serve(nodes[label], bridge(Path.join(directory, "#{label}")))
    # A bridge that holds what it gets, since its node never is ready: no member that is chosen.
    slow = script(directory, "exec cat >/dev/null")

    serve(
      nodes.idle,
      bridge(Path.join(directory, "idle"), python: slow, handshake_timeout: 60_000)
    )

    serve(nodes.asker)
    Map.put(nodes, :directory, directory)
  end

  defp script(directory, body) do
    path = Path.join(directory, "python")
    File.write!(path, "#!/bin/sh\n#{body}\n")
    File.chmod!(path, 0o755)
    path
  end

  test "a member that is killed under load costs no answer, and no result of what may be repeated",
       %{asker: asker, a: a, b: b, c: c} do
    await_members(asker, [a, b, c])
    :ok = call(asker, ClusterNode, :count_attempts, [])
    load = Task.async(fn -> call(asker, ClusterNode, :load, [@requests, @at_once], 25_000) end)
    eventually(fn -> call(asker, ClusterNode, :answered, []) >= @killed_after end)
    # Of these one at least may be repeated, by any odds.
    eventually(fn -> call(c, ClusterNode, :in_flight, []) >= 6 end)
    signal("KILL", c.os_pid)
    outcomes = Task.await(load, 25_000)

    assert Enum.map(outcomes, & &1.number) == Enum.to_list(1..@requests)
    # One answer each, and nothing that came late.
    for outcome <- outcomes, do: assert(outcome.left_over == {:messages, []})

    {repeatable, others} = Enum.split_with(outcomes, & &1.idempotent)
    for outcome <- repeatable, do: assert({:ok, %{prediction: _}} = outcome.answer)

    for %{answer: {:error, error}} <- others do
      assert %PythonError{error_type: :process_crashed, retryable: true} = error
      assert %{reason: :nodedown, beam_node: node} = error.context
      assert node == c.node
    end

    retried = call(asker, :ets, :lookup, [:attempts, 2])
    IO.puts("\n" <> table(repeatable, others, [a: a, b: b, c: c], retried))

    answering = for %{answer: {:ok, result}} <- outcomes, do: result.prediction["answer"]
    answering = Enum.uniq(answering) -- ["#{c.node}"]

    assert Enum.sort(answering) ==
             Enum.sort(for n <- [a, b], do: "#{n.node}")

    assert [{2, count}] = retried
    assert count > 0
    await_members(asker, [a, b])
  end

  test "a BEAM node that hangs costs no more than the request's own time, and one that dies is known at once",
       %{asker: asker, idle: idle} do
    there = ClusterNode.at(idle.node)
    health = &call(asker, ClusterNode, :ask, [there, :health_check, [[timeout: &1, grace: 0]]])
    waits = Task.async(fn -> {health.(20_000), now()} end)
    # It has come there: what is asked behind it is answered, if only with a refusal to wait.
    assert {:error, %PythonError{error_type: :timeout_error}} = health.(1)

    signal("STOP", idle.os_pid)
    started = now()
    assert {:error, %PythonError{error_type: :timeout_error} = error} = health.(200)
    assert error.context == %{reason: :silent, deadline_ms: 200}
    assert now() - started < 2_000

    streamed = [there, [timeout: 200, grace: 0]]
    assert [{:error, ^error}] = call(asker, ClusterNode, :stream_health, streamed, 10_000)

    signal("KILL", idle.os_pid)
    killed = now()
    assert {{:error, %PythonError{error_type: :process_crashed} = error}, at} = Task.await(waits)
    assert error.context.reason == :nodedown
    assert at - killed < 1_000
  end

  test "a member that gives nothing of its dataset is waited for no longer than the request may take",
       %{asker: asker, a: a} = nodes do
    %{mute: mute} = start_beam_nodes([:mute], nodes.directory)
    on_exit(fn -> stop_beam_nodes(%{mute: mute}) end)
    true = call(mute, :net_kernel, :connect_node, [asker.node])
    :ok = call(mute, ClusterNode, :serve_mute, [])
    eventually(fn -> mute.node in call(asker, ClusterNode, :usable, []) end)

    started = now()

    assert :error =
             call(asker, ClusterNode, :bring, [
               "sha256:" <> String.duplicate("0", 64),
               a.node,
               500
             ])

    assert (now() - started) in 400..3_000
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp table(repeatable, others, nodes, retried) do
    rows =
      for {name, outcomes, retried} <- [
            {"idempotent: true", repeatable, with([{2, count}] <- retried, do: count)},
            {"idempotent: false", others, 0}
          ] do
        by_node = for {_label, %{node: node}} <- nodes, do: Enum.count(outcomes, &at?(&1, node))
        lost = Enum.count(outcomes, &match?({:error, _}, &1.answer))
        [name, length(outcomes), length(outcomes) - lost] ++ by_node ++ [lost, retried]
      end

    header =
      ["requests", "sent", "results"] ++
        Enum.map(nodes, fn {label, _} -> "at #{label}" end) ++ [":nodedown", "sent again"]

    "#{@requests} requests, #{@at_once} at once; member c killed after #{@killed_after} answers\n" <>
      Enum.map_join([header | rows], "\n", &("| " <> Enum.join(&1, " | ") <> " |"))
  end

  defp at?(%{answer: {:ok, %{prediction: %{"answer" => answer}}}}, node), do: answer == "#{node}"
  defp at?(_outcome, _node), do: false
end
