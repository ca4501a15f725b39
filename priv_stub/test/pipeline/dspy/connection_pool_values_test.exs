defmodule Pipeline.DSPy.ConnectionPoolValuesTest do
  @moduledoc "What a pool decides by, without any process: its lanes, its roster of bridges, what is read in a frame."

  use ExUnit.Case, async: true

  alias Pipeline.DSPy.Affinity
  alias Pipeline.DSPy.Configuration
  alias Pipeline.DSPy.ConnectionPool
  alias Pipeline.DSPy.ConnectionPool.Envelope
  alias Pipeline.DSPy.ConnectionPool.FanOut
  alias Pipeline.DSPy.ConnectionPool.Lane
  alias Pipeline.DSPy.ConnectionPool.Roster
  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError

  doctest Affinity
  doctest Lane
  doctest Pipeline.DSPy.ConnectionPool.Options

  defp roster(size, workers) do
    slots = %{quick: workers, long: max(workers - 1, 1), instant: 100}

    Enum.reduce(1..size, Roster.new(size, workers, slots), fn index, roster ->
      pid = spawn(fn -> :ok end)
      roster |> Roster.started(index, pid) |> Roster.ready(pid, %{})
    end)
  end

  # Takes slots of a lane until there is none, and gives the bridges that they were of.
  defp take_all(roster, lane, taken \\ []) do
    case Roster.choose(roster, lane, nil) do
      {:ok, bridge} ->
        take_all(Roster.take(roster, bridge.index, lane), lane, [bridge.index | taken])

      :none ->
        {Enum.sort(taken), roster}
    end
  end

  describe "a configured pool" do
    test "is read beside the bridges" do
      {:ok, settings} = Configuration.read(bridges: [[name: A]], pools: [[name: B, pool_size: 2]])

      assert settings.pools == [[name: B, pool_size: 2]]
    end

    test "that is wrong is named by its place, as is a name that a bridge has" do
      for {pool, said} <- [
            {[pol_size: 2], "has no option :pol_size; did you mean :pool_size?"},
            {[name: A], "the name A is taken by another entry"},
            {:no_options,
             "expected the options of Pipeline.DSPy.ConnectionPool to be a keyword list"}
          ] do
        assert {:error, "config :pipeline, :pools, entry 1: " <> message} =
                 Configuration.read(bridges: [[name: A]], pools: [pool])

        assert message =~ said
      end
    end
  end

  describe "a lane" do
    test "keeps the order of coming within each priority, whatever is taken out between" do
      entries = for n <- 1..200, do: {n, rem(n * 7, 5) - 2}

      lane =
        Enum.reduce(entries, Lane.new(), fn {n, priority}, lane ->
          Lane.push(lane, n, priority, {n, priority})
        end)

      {gone, left} = Enum.split_with(entries, fn {n, _priority} -> rem(n, 3) == 0 end)

      lane =
        Enum.reduce(gone, lane, fn {n, _priority} = entry, lane ->
          assert {^entry, lane} = Lane.delete(lane, n)
          assert {nil, ^lane} = Lane.delete(lane, n)
          lane
        end)

      assert Lane.waiting(lane) == length(left)
      assert drain(lane) == Enum.sort_by(left, fn {_n, priority} -> -priority end)
    end

    defp drain(lane) do
      case Lane.pop(lane) do
        {nil, _lane} -> []
        {entry, lane} -> [entry | drain(lane)]
      end
    end

    test "says when to come again by how long its requests take, and never at once or after more than a minute" do
      lane = Lane.new()
      assert Lane.retry_after_ms(lane, 4) == 250
      fast = Enum.reduce(1..100, lane, fn _, lane -> Lane.took(lane, 1) end)
      assert Lane.retry_after_ms(fast, 1) == 100
      slow = Enum.reduce(1..100, lane, fn _, lane -> Lane.took(lane, 600_000) end)
      assert Lane.retry_after_ms(slow, 0) == 60_000
    end
  end

  describe "a roster" do
    test "spreads work evenly over its bridges" do
      assert {[1, 1, 2, 2, 3, 3], _roster} = take_all(roster(3, 2), :quick)
    end

    test "leaves quick work a worker at every bridge, however much long work there is" do
      assert {[1, 2, 3], full} = take_all(roster(3, 2), :long)
      assert {[1, 1, 2, 2, 3, 3], _roster} = take_all(full, :quick)
    end

    test "leaves quick work a bridge where each has but one worker" do
      assert {[1, 2], full} = take_all(roster(3, 1), :long)
      assert {[3], _roster} = take_all(full, :quick)
    end

    test "has its only worker do long work too, and nothing else meanwhile" do
      assert {[1], full} = take_all(roster(1, 1), :long)
      assert {[], _roster} = take_all(full, :quick)
      assert {:ok, _bridge} = Roster.choose(full, :instant, nil)
    end

    test "sends the same program to the same bridge, and moves only what was at a bridge that is gone" do
      roster = roster(4, 2)
      programs = for n <- 1..200, do: {:program, "program:#{n}"}

      at = fn roster ->
        Map.new(programs, &{&1, elem(Roster.choose(roster, :quick, &1), 1).index})
      end

      before = at.(roster)
      assert before == at.(roster)
      assert before |> Map.values() |> Enum.uniq() |> Enum.sort() == [1, 2, 3, 4]

      later = at.(Roster.down(roster, 2, nil))
      for {program, index} <- before, index != 2, do: assert(later[program] == index)
      refute 2 in Map.values(later)
    end

    test "leaves a transfer where it is, whatever else comes and goes, until that bridge loses its node" do
      choose = fn roster, name ->
        {:ok, %{index: index}} = Roster.choose(roster, :instant, {:transfer, name})
        {index, Roster.take(roster, index, :instant, {:transfer, name})}
      end

      {home, roster} = choose.(roster(3, 1), "examples")
      # Beyond the slots too, and however many others are sent meanwhile.
      roster =
        Enum.reduce(1..1_500, roster, fn number, roster ->
          {index, roster} = choose.(roster, "another #{number}")
          {^home, roster} = choose.(Roster.give_back(roster, index, :instant), "examples")
          roster
        end)

      assert map_size(roster.homes) + map_size(roster.older_homes) <= 2_000
      %{pid: pid} = Roster.fetch!(roster, home)
      {next, roster} = roster |> Roster.leaving(pid) |> choose.("examples")
      refute next == home
      roster = roster |> Roster.down(home, nil) |> Roster.started(home, self())
      assert {^next, _roster} = roster |> Roster.ready(self(), %{}) |> choose.("examples")
    end

    test "counts the slots of bridges that are starting, and not those of bridges that are gone for good" do
      error = PythonError.new(:import_error, "no Python")
      roster = Roster.down(roster(3, 2), 1, nil)
      assert {Roster.slots(roster, :quick), Roster.awaited_slots(roster, :quick)} == {6, 2}
      roster = Roster.down(roster, 1, error)
      assert {Roster.slots(roster, :quick), Roster.awaited_slots(roster, :quick)} == {4, 0}
      assert Roster.hopeless(roster) == nil
      roster = roster |> Roster.down(2, error) |> Roster.down(3, error)
      assert Roster.hopeless(roster) == error
    end
  end

  describe "an envelope" do
    defp request(verb, payload, meta \\ []) do
      message = MessageProtocol.create_request(verb, payload, [{:message_id, make_ref()} | meta])

      %Request{
        id: make_ref(),
        owner: self(),
        verb: verb,
        timeout: 5_000,
        frame: MessageProtocol.encode(message),
        metadata_bytes: MessageProtocol.metadata_bytes(message)
      }
    end

    test "shows the priority that the node would take, and 0 for all else" do
      for {given, read} <- [{5, 5}, {-10, -10}, {11, 0}, {"high", 0}, {nil, 0}] do
        assert Envelope.priority(request(:predict, %{}, priority: given)) == read
      end

      assert Envelope.priority(%Request{id: make_ref(), owner: self(), verb: :await_ready}) == 0
    end

    test "is shortened for the node as well, and leaves the rest as it was" do
      payload = %{input: %{question: :binary.copy("x", 100_000)}}
      request = request(:predict, payload, deadline_ms: 5_000, priority: 3)
      assert Envelope.shortened(request, 5_000) == request
      shortened = Envelope.shortened(request, 70_000)
      assert shortened.timeout == 70_000
      {:predict, id, ^payload, meta} = :erlang.binary_to_term(shortened.frame)
      {:predict, ^id, ^payload, before} = :erlang.binary_to_term(request.frame)
      assert meta == %{before | deadline_ms: 70_000}
    end

    test "says which request a cancel names, and how long a shutdown waits" do
      assert Envelope.cancelled_id(request(:cancel, %{id: 7})) == 7
      assert Envelope.cancelled_id(request(:cancel, %{"id" => 7})) == 7
      assert Envelope.cancelled_id(request(:cancel, [:id])) == nil

      for {payload, grace} <- [
            {%{}, {:ok, 10_000}},
            {%{mode: :drain, grace_ms: 0}, {:ok, 0}},
            {%{"mode" => :now}, {:ok, 0}},
            {%{mode: :later}, :error},
            {%{grace_ms: 1.5}, :error},
            {:no_map, {:ok, 10_000}}
          ] do
        assert Envelope.grace_ms(request(:shutdown, payload)) == grace
      end
    end
  end

  describe "an affinity" do
    test "is a dataset before a program, and nothing that the request brings along itself" do
      dataset = {:dataset, "sha256:00"}

      for {payload, affinity} <- [
            {%{training_data: dataset, program: "program:00"}, dataset},
            {%{signature: "program:00"}, {:program, "program:00"}},
            {%{"program_id" => "program:00"}, {:program, "program:00"}},
            {%{"transfer" => "examples", "chunk_index" => 0}, {:transfer, "examples"}},
            {%{data: Tuple.append(dataset, %{take: 5})}, dataset},
            {%{program: %{format: 1}, training_data: [%{q: 1}]}, nil},
            {%URI{}, nil},
            {nil, nil}
          ] do
        assert Affinity.of(payload) == affinity
      end
    end
  end

  describe "a pool's health" do
    defp health(answers) do
      answers =
        answers |> Enum.with_index(1) |> Map.new(fn {answer, index} -> {index, answer} end)

      lanes = %{quick: %{waiting: 2}, long: %{waiting: 1}}
      pool = %{lanes: lanes, ready: 1, size: map_size(answers), max_queue_size: 10}
      FanOut.health(%FanOut{verb: :health_check, pending: %{}, answers: answers}, pool)
    end

    defp of(status) do
      {:ok, %{status: status, workers: [%{state: :idle}], queue: %{waiting: 1, running: 1}}}
    end

    test "is that of its bridges together" do
      gone = {:error, PythonError.new(:process_crashed, "gone")}

      assert %{status: :healthy, queue: %{waiting: 5, running: 2}} =
               health([of(:healthy), of(:healthy)])

      assert health([of(:healthy), of(:overloaded)]).status == :healthy
      assert health([of(:overloaded), of(:overloaded)]).status == :overloaded
      assert health([of(:healthy), of(:degraded)]).status == :degraded
      assert health([gone, gone]).status == :degraded

      assert %{status: :degraded, workers: [_one], bridges: bridges} =
               health([of(:healthy), gone])

      assert %{2 => %{status: :unavailable, error: %PythonError{}}} = bridges
    end
  end

  describe "options" do
    test "that are unknown or out of range raise in the caller" do
      for wrong <- [[pool_size: 0], [max_queue_size: -1], [lanes: [long: 0]], [stop_timeout: 0.5]] do
        assert_raise ArgumentError, fn -> ConnectionPool.start_link(wrong) end
      end
    end

    test "that are misspelt are told the nearest right name, be they the pool's, a lane's or a bridge's" do
      for {wrong, right} <- [pol_size: :pool_size, log_levle: :log_level] do
        assert_raise ArgumentError, ~r/did you mean #{inspect(right)}/, fn ->
          ConnectionPool.start_link([{wrong, 1}])
        end
      end

      assert_raise ArgumentError, ~r/did you mean :quick/, fn ->
        ConnectionPool.start_link(lanes: [quik: 1])
      end
    end
  end
end
