defmodule Pipeline.DSPy.OptimizationCacheTest do
  use ExUnit.Case, async: true

  import Pipeline.NodeCase, only: [eventually: 1]

  alias Pipeline.DSPy.OptimizationCache
  alias Pipeline.DSPy.OptimizationCache.Flights
  alias Pipeline.DSPy.OptimizationCache.Key
  alias Pipeline.DSPy.OptimizationCache.Server
  alias Pipeline.DSPy.PythonError

  doctest OptimizationCache
  doctest Flights
  doctest Key

  @moduletag timeout: 20_000

  @data [%{question: "1 + 1", answer: "2"}, %{question: "2 + 2", answer: "4"}]

  defp start_cache(opts \\ []) do
    name = :"cache_#{System.unique_integer([:positive])}"
    start_supervised!({OptimizationCache, [name: name] ++ opts})
    name
  end

  # Work that says who does it and goes on when it is told to.
  defp work(result) do
    test = self()

    fn left_ms ->
      send(test, {:working, self(), left_ms})

      receive do
        :go_on -> result
        {:instead, other} -> other
        :crash -> exit(:kaboom)
      end
    end
  end

  defp ask(cache, key, work, timeout \\ :infinity) do
    Task.Supervisor.async_nolink(supervisor(), fn ->
      OptimizationCache.fetch(cache, key, work, timeout)
    end)
  end

  defp supervisor, do: Pipeline.DSPy.FunctionSupervisor

  defp in_flight(cache, askers) do
    eventually(fn -> waiting(cache) == askers end)
  end

  # How many askers a cache knows of, the one that leads among them.
  defp waiting(cache), do: div(map_size(:sys.get_state(cache).monitors), 2)

  describe "what is kept" do
    test "is read in the caller's process, also while the cache's own does nothing" do
      cache = start_cache()
      :ok = OptimizationCache.store_optimization(cache, "key", %{answer: 42})
      :sys.suspend(cache)
      assert {:ok, %{answer: 42}} = OptimizationCache.get_optimization(cache, "key")

      assert {:ok, %{answer: 42}} =
               OptimizationCache.fetch(cache, "key", fn _left -> flunk("asked") end)

      :sys.resume(cache)
    end

    test "is marked as cached, with the cost that it had" do
      cache = start_cache()
      metrics = %{cost_usd: 0.25, lm_calls: 12, cached: false}
      work = fn _left -> {:ok, %{optimization_metrics: metrics}} end

      assert {:ok, %{optimization_metrics: ^metrics}} =
               OptimizationCache.fetch(cache, "key", work)

      cached = %{metrics | cached: true}
      assert {:ok, %{optimization_metrics: ^cached}} = OptimizationCache.fetch(cache, "key", work)
    end

    test "is gone after its time, and leaves no trace" do
      cache = start_cache(cache_ttl: 0.05)
      :ok = OptimizationCache.store_optimization(cache, "key", :result)
      eventually(fn -> OptimizationCache.get_optimization(cache, "key") == :not_found end)
      eventually(fn -> OptimizationCache.info(cache).size == 0 end)
      assert :ets.info(:sys.get_state(cache).by_expiry, :size) == 0
    end

    test "makes room for what comes: the oldest goes first, and what is stored again is new" do
      cache = start_cache(max_cache_size: 2)
      for key <- ["a", "b", "a", "c"], do: OptimizationCache.store_optimization(cache, key, key)
      assert OptimizationCache.info(cache) == %{size: 2, max_cache_size: 2, in_flight: 0}
      assert :not_found = OptimizationCache.get_optimization(cache, "b")
      assert {:ok, "a"} = OptimizationCache.get_optimization(cache, "a")
      assert {:ok, "c"} = OptimizationCache.get_optimization(cache, "c")
    end

    test "can be cleared" do
      cache = start_cache()
      :ok = OptimizationCache.store_optimization(cache, "key", :result)
      :ok = OptimizationCache.clear(cache)
      assert :not_found = OptimizationCache.get_optimization(cache, "key")
      assert OptimizationCache.info(cache).size == 0
    end

    test "is no failure" do
      cache = start_cache()

      assert {:error, :once} =
               OptimizationCache.fetch(cache, "key", fn _left -> {:error, :once} end)

      assert {:ok, :then} = OptimizationCache.fetch(cache, "key", fn _left -> {:ok, :then} end)
    end

    test "stays out of crash reports" do
      cache = start_cache()
      :ok = OptimizationCache.store_optimization(cache, "key", "a private result")
      {:status, _pid, _module, parts} = :sys.get_status(cache)
      refute inspect(parts, limit: :infinity) =~ "private"
    end
  end

  describe "one question of many callers" do
    test "is answered once" do
      cache = start_cache()
      tasks = for _ <- 1..100, do: ask(cache, "key", work({:ok, :answer}))
      assert_receive {:working, leader, :infinity}
      in_flight(cache, 100)
      send(leader, :go_on)
      assert Task.await_many(tasks) == List.duplicate({:ok, :answer}, 100)
      refute_received {:working, _another, _left}
      assert waiting(cache) == 0
    end

    test "goes to the next when the one that answers it dies" do
      cache = start_cache()
      first = ask(cache, "key", work({:ok, :never}))
      assert_receive {:working, leader, _left}
      second = ask(cache, "key", work({:ok, :second}))
      in_flight(cache, 2)
      Process.exit(leader, :kill)
      assert_receive {:working, heir, _left}
      assert heir == second.pid
      send(heir, :go_on)
      assert Task.await(second) == {:ok, :second}
      assert {:exit, :killed} = Task.yield(first)
    end

    test "goes to the next when it fails, in the order in which they came" do
      cache = start_cache()
      first = ask(cache, "key", work({:error, PythonError.new(:process_crashed, "gone")}))
      assert_receive {:working, leader, _left}

      [second, third] =
        for number <- 2..3 do
          task = ask(cache, "key", work({:ok, number}))
          in_flight(cache, number)
          task
        end

      send(leader, :go_on)
      assert {:error, %PythonError{error_type: :process_crashed}} = Task.await(first)
      assert_receive {:working, heir, _left}
      assert heir == second.pid
      send(heir, :go_on)
      assert {Task.await(second), Task.await(third)} == {{:ok, 2}, {:ok, 2}}
      refute_received {:working, _another, _left}
    end

    @tag :capture_log
    test "goes to the next when its work exits" do
      cache = start_cache()
      first = ask(cache, "key", work(:never))
      assert_receive {:working, leader, _left}
      second = ask(cache, "key", work({:ok, :second}))
      in_flight(cache, 2)
      send(leader, :crash)
      assert_receive {:working, heir, _left}
      send(heir, :go_on)
      assert {:exit, :kaboom} = Task.yield(first)
      assert Task.await(second) == {:ok, :second}
    end

    test "has one answer for all when the question itself is wrong" do
      cache = start_cache()
      error = PythonError.new(:validation_error, "no such optimizer")
      tasks = for _ <- 1..10, do: ask(cache, "key", work({:error, error}))
      assert_receive {:working, leader, _left}
      in_flight(cache, 10)
      send(leader, :go_on)
      assert Task.await_many(tasks) == List.duplicate({:error, error}, 10)
      refute_received {:working, _another, _left}
      assert OptimizationCache.info(cache).size == 0
    end

    test "leaves each caller its own time, the waiting included" do
      cache = start_cache()
      first = ask(cache, "key", work({:ok, :late}))
      assert_receive {:working, leader, _left}
      assert {:error, error} = OptimizationCache.fetch(cache, "key", fn _ -> flunk("led") end, 30)
      assert {error.error_type, error.context} == {:timeout_error, %{deadline_ms: 30}}

      waiting = ask(cache, "key", work({:ok, :waited}), 10_000)
      in_flight(cache, 2)
      send(leader, {:instead, {:error, :gave_up}})
      assert Task.await(first) == {:error, :gave_up}
      assert_receive {:working, heir, left_ms}
      assert left_ms < 10_000
      send(heir, :go_on)
      assert Task.await(waiting) == {:ok, :waited}
    end

    test "is not lost with one that was to lead and had just given up" do
      cache = start_cache()
      first = ask(cache, "key", work({:error, :failed}))
      assert_receive {:working, leader, _left}
      # It waits until it is nearly answered, and has no time left then.
      :sys.suspend(cache)
      second = ask(cache, "key", work({:ok, :never}), 50)
      assert {:error, %PythonError{error_type: :timeout_error}} = Task.await(second)
      :sys.resume(cache)
      send(leader, :go_on)
      assert Task.await(first) == {:error, :failed}
      third = ask(cache, "key", work({:ok, :third}))
      assert_receive {:working, heir, _left}
      assert heir == third.pid
      send(heir, :go_on)
      assert Task.await(third) == {:ok, :third}
      assert waiting(cache) == 0
    end

    test "leaves nothing in a mailbox" do
      cache = start_cache()
      first = ask(cache, "key", work({:ok, :late}))
      assert_receive {:working, leader, _left}

      assert {:error, _timeout} =
               OptimizationCache.fetch(cache, "key", fn _ -> flunk("led") end, 10)

      send(leader, :go_on)
      assert Task.await(first) == {:ok, :late}
      assert {:ok, :late} = OptimizationCache.get_optimization(cache, "key")
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  describe "a cache that is not running" do
    test "is passed over" do
      assert :not_found = OptimizationCache.get_optimization(:no_such_cache, "key")
      assert :ok = OptimizationCache.store_optimization(:no_such_cache, "key", :result)
      assert {:ok, 1} = OptimizationCache.fetch(:no_such_cache, "key", fn _left -> {:ok, 1} end)
    end

    test "is passed over by those whom it leaves behind" do
      cache = start_cache()
      first = ask(cache, "key", work({:ok, :first}))
      assert_receive {:working, leader, _left}
      second = ask(cache, "key", work({:ok, :second}))
      in_flight(cache, 2)
      :ok = stop_supervised(cache)
      assert_receive {:working, other, _left}
      assert other == second.pid
      for pid <- [leader, other], do: send(pid, :go_on)
      assert {Task.await(first), Task.await(second)} == {{:ok, :first}, {:ok, :second}}
    end

    test "says at its start what is wrong with its options" do
      for {opts, what} <- [
            {[max_cache_size: 0], ~r/:max_cache_size to be a positive integer, got 0/},
            {[cache_ttl: -1], ~r/:cache_ttl to be a positive number of seconds/},
            {[name: nil], ~r/:name to be an atom/},
            {[max_size: 3], ~r/max_size/}
          ] do
        assert_raise ArgumentError, what, fn -> OptimizationCache.start_link(opts) end
      end
    end
  end

  describe "a key" do
    defp key!(signature, data, opts) do
      {:ok, key} = OptimizationCache.key(signature, data, opts)
      key
    end

    test "is the same however names are spelled and maps are written, and however the request is made" do
      atoms =
        key!(%{input_fields: [:question], output_fields: [:answer]}, @data,
          lm: :offline,
          max_demos: 4
        )

      fields = %{"input_fields" => ["question"], "output_fields" => ["answer"]}
      data = for row <- @data, do: Map.new(row, fn {name, value} -> {to_string(name), value} end)
      config = %{"max_demos" => 4, "lm" => "offline"}

      assert key!(fields, data, config: config, timeout: 5, priority: 3, progress: self()) ==
               atoms
    end

    test "differs with everything that may change the result" do
      base = key!("a -> b", @data, lm: :offline)

      others = [
        key!("a -> c", @data, lm: :offline),
        key!("a -> b", Enum.reverse(@data), lm: :offline),
        key!("a -> b", tl(@data), lm: :offline),
        key!("a -> b", @data, lm: "openai/gpt-4o-mini"),
        key!("a -> b", @data, lm: :offline, seed: 1),
        key!("a -> b", @data, lm: :offline, seed: 1.0),
        key!("a -> b", @data, lm: :offline, seed: "1"),
        key!("a -> b", @data, lm: :offline, validation_data: @data)
      ]

      assert length(Enum.uniq([base | others])) == 9
    end

    test "holds no key of a model, and a new one is no new question" do
      lm = fn key -> [lm: %{model: "openai/x", api_key: key}] end
      assert key!("a -> b", @data, lm.("sk-1")) == key!("a -> b", @data, lm.("sk-2"))
      of_data = fn key -> [%{api_key: key}] end
      assert key!("a -> b", of_data.("1"), []) != key!("a -> b", of_data.("2"), [])

      [one, other] = for key <- ["sk-1", "sk-2"], do: %{config: %{lms: [%{"api_key" => key}]}}
      assert Key.exact("", one) == Key.exact("", other)
    end

    test "needs a version for each function, and refuses one in place" do
      named = [lm: {:call, :gateway}, metric: %{name: {:call, "judge"}}]

      versioned = fn versions ->
        OptimizationCache.key("a -> b", @data, [versions: versions] ++ named)
      end

      assert {:error, %PythonError{error_type: :validation_error} = error} = versioned.(judge: 1)

      assert error.message =~
               "config.lm: the function gateway has no version; say `versions: %{gateway: 1}`"

      {:ok, first} = versioned.(judge: 1, gateway: "a")
      assert {:ok, ^first} = versioned.(%{"gateway" => :a, "judge" => 1})
      assert {:ok, second} = versioned.(judge: 2, gateway: "a")
      assert second != first

      in_place = [lm: :offline, metric: fn _example, _prediction -> 1 end]
      assert {:error, error} = OptimizationCache.key("a -> b", @data, in_place)
      assert error.context.path == "config.metric"
    end

    test "is refused for what is no data, with its place" do
      for {value, path} <- [{self(), "training_data.row"}, {make_ref(), "training_data.row"}] do
        assert {:error, error} = OptimizationCache.key("a -> b", [%{row: value}])
        assert error.context.path == path
      end

      assert {:error, error} = OptimizationCache.key(%{"a" => 1, a: 1}, [])
      assert error.message =~ "signature: a key is there twice"
    end

    test "is made of dates, tuples and improper lists as well" do
      assert key!("a -> b", [%{on: ~D[2024-02-29], odd: [1 | {2, 3}]}], []) !=
               key!("a -> b", [%{on: ~D[2024-03-01], odd: [1 | {2, 3}]}], [])
    end

    test "names the atoms that an answer may use" do
      question = %{
        signature: "a -> b",
        training_data: [%{a: 1, b: [:x | {:y, nil}]}],
        config: %{lm: :offline}
      }

      assert Enum.sort(Key.atoms(question)) == [
               :a,
               :b,
               :config,
               :lm,
               :offline,
               :signature,
               :training_data,
               :x,
               :y
             ]
    end
  end

  test "a stray message to a cache changes nothing" do
    cache = start_cache()
    send(cache, :stray)
    send(cache, {:DOWN, make_ref(), :process, self(), :normal})
    :ok = Server.succeed(cache, make_ref(), :nobody_s)
    assert OptimizationCache.info(cache).size == 0
  end
end
