defmodule Pipeline.DSPy.RecoveryManagerTest do
  use ExUnit.Case, async: true

  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.RecoveryManager
  alias Pipeline.DSPy.RecoveryManager.Policy
  alias Pipeline.DSPy.RecoveryManager.Run

  doctest RecoveryManager
  doctest RecoveryManager.Fallback
  doctest RecoveryManager.Outcome
  doctest RecoveryManager.Policy

  # What happens after each attempt of work that fails with this error every time: of idempotent work and of other.
  # `again` is another attempt at once, `ready` one when there is a node again, `fallback` and `stop` the end.
  @table %{
    timeout_error: {~w(again again again fallback)a, ~w(fallback)a},
    process_crashed: {~w(ready ready ready fallback)a, ~w(fallback)a},
    shutting_down: {~w(ready ready ready fallback)a, ~w(fallback)a},
    storage_error: {~w(again again again fallback)a, ~w(fallback)a},
    # It was turned away before it began.
    overloaded: {~w(again again again fallback)a, ~w(again again again fallback)a},
    python_runtime_error: {~w(again again again fallback)a, ~w(fallback)a},
    dspy_optimization_error: {~w(fallback)a, ~w(fallback)a},
    cancelled: {~w(fallback)a, ~w(fallback)a},
    budget_exceeded: {~w(fallback)a, ~w(fallback)a},
    callback_error: {~w(fallback)a, ~w(fallback)a},
    serialization_error: {~w(stop)a, ~w(stop)a},
    validation_error: {~w(stop)a, ~w(stop)a},
    import_error: {~w(stop)a, ~w(stop)a},
    # One that may pass says :retry itself; see below.
    lm_error: {~w(stop)a, ~w(stop)a},
    not_found: {~w(stop)a, ~w(stop)a},
    duplicate_id: {~w(stop)a, ~w(stop)a},
    unknown_verb: {~w(stop)a, ~w(stop)a},
    transfer_error: {~w(stop)a, ~w(stop)a},
    frame_error: {~w(stop)a, ~w(stop)a},
    internal_error: {~w(stop)a, ~w(stop)a}
  }

  test "each type of error has a row in the table" do
    assert Enum.sort(Map.keys(@table)) == Enum.sort(Map.keys(PythonError.strategies()))
  end

  for {type, _strategy} <- PythonError.strategies(),
      {idempotent?, column} <- [{true, 0}, {false, 1}] do
    @type_of_error type
    @idempotent idempotent?
    @column column

    test "#{type}, each attempt, #{if idempotent?, do: "idempotent", else: "not idempotent"}" do
      rows = Map.fetch!(@table, @type_of_error) |> elem(@column)
      error = PythonError.new(@type_of_error, "it failed")

      for {row, number} <- Enum.with_index(rows) do
        now = %{retries_left: 3 - number, left_ms: 60_000, idempotent?: @idempotent, pause_ms: 5}

        expected =
          case Policy.decide(error, now) do
            {:repeat, :at_once, 5} -> :again
            {:repeat, :when_ready, 5} -> :ready
            {:fall_back, _reason} -> :fallback
            {:stop, :fatal} -> :stop
          end

        assert {number, row} == {number, expected}
      end

      # And the same when it is done.
      {outcome, attempts} =
        counted({:error, error},
          idempotent: @idempotent,
          fallback: fn _error -> {:ok, :fallback} end
        )

      assert attempts == length(rows)

      case List.last(rows) do
        :fallback -> assert outcome == {:ok, :fallback}
        :stop -> assert {:error, %PythonError{error_type: @type_of_error}} = outcome
      end
    end
  end

  test "a model's error that may pass is retried, and others are not" do
    passing = PythonError.new(:lm_error, "rate limit", recovery_strategy: :retry)
    assert {{:error, _error}, 4} = counted({:error, passing}, idempotent: true)
    assert {{:error, _error}, 1} = counted({:error, passing}, idempotent: false)

    assert {{:error, _error}, 1} =
             counted({:error, PythonError.new(:lm_error, "no key")}, idempotent: true)
  end

  test "work that may have begun is not repeated unless the caller says so, and the error says why" do
    crash = {:error, PythonError.new(:timeout_error, "too late")}
    assert {{:error, error}, 1} = counted(crash, verb: :predict)
    assert error.context.recovery == %{attempts: 1, stopped_by: :not_idempotent}
    assert {{:error, error}, 4} = counted(crash, verb: :predict, idempotent: true)
    assert error.context.recovery == %{attempts: 4, stopped_by: :max_retries}
    assert {_outcome, 4} = counted(crash, verb: :predict, idempotency_key: "k")
    assert {_outcome, 4} = counted(crash, verb: :get_program)
    assert {_outcome, 1} = counted(crash, verb: :get_program, idempotent: false)
  end

  test "there is one budget, of which each attempt gets what is left" do
    test = self()

    operation = fn timeout ->
      send(test, {:timeout, timeout})
      Process.sleep(20)
      {:error, PythonError.new(:timeout_error, "too late")}
    end

    assert {:error, error} =
             RecoveryManager.run(operation, idempotent: true, timeout: 10_000, backoff: 1)

    assert error.context.recovery.attempts == 4
    timeouts = for _attempt <- 1..4, do: assert_received({:timeout, timeout}) && timeout(timeout)
    assert hd(timeouts) <= 10_000
    assert timeouts == Enum.sort(timeouts, :desc)
    assert List.last(timeouts) <= 10_000 - 60
  end

  defp timeout({:timeout, timeout}), do: timeout
  defp timeout(timeout), do: timeout

  test "one attempt can be given less than the whole budget" do
    operation = fn timeout -> {:ok, timeout} end
    assert RecoveryManager.run(operation, timeout: 10_000, attempt_timeout: 500) == {:ok, 500}
    assert RecoveryManager.run(operation, timeout: :infinity) == {:ok, :infinity}
    assert {:ok, 5_000} = RecoveryManager.run(operation, verb: :health_check)
  end

  test "a pause that would take the rest of the budget is not made" do
    error = PythonError.new(:overloaded, "full", retry_after_ms: 60_000)
    started = System.monotonic_time(:millisecond)
    assert {{:error, error}, 1} = counted({:error, error}, timeout: 5_000)
    assert System.monotonic_time(:millisecond) - started < 2_000
    assert error.context.recovery == %{attempts: 1, stopped_by: :deadline}
    assert error.retry_after_ms == 60_000
  end

  test "retry_after_ms is waited for" do
    error = PythonError.new(:overloaded, "full", retry_after_ms: 60)
    started = System.monotonic_time(:millisecond)
    assert {{:error, _error}, 2} = counted({:error, error}, max_retries: 1, backoff: 0)
    assert System.monotonic_time(:millisecond) - started >= 60
  end

  test "the pauses are drawn anew each time, from nothing to twice as much as before" do
    test = self()
    id = make_ref()
    event = [:pipeline, :dspy, :recovery]

    tell = fn _event, measurements, metadata, _config ->
      if metadata.target == id, do: send(test, {metadata.action, measurements.pause_ms})
    end

    :ok = Pipeline.DSPy.Metrics.Handlers.attach(id, event, tell, nil)
    error = {:error, PythonError.new(:overloaded, "full")}
    for _run <- 1..20, do: counted(error, backoff: 4, max_backoff: 8, target: id, breaker: false)
    Pipeline.DSPy.Metrics.detach(id)
    pauses = for _run <- 1..20, _retry <- 1..3, do: receive(do: ({:retry, pause} -> pause))
    [first, second, third] = pauses |> Enum.chunk_every(3) |> Enum.zip_with(& &1)
    assert Enum.max(first) <= 4
    assert Enum.max(second) <= 8
    assert Enum.max(third) <= 8
    assert length(Enum.uniq(third)) > 2
  end

  test "what the work raises or exits with is an error, and what it throws goes through" do
    assert {:error, %PythonError{error_type: :internal_error} = error} =
             RecoveryManager.run(fn -> raise "oops" end)

    assert {error.message, error.context.exception} == {"oops", RuntimeError}
    assert error.traceback =~ "recovery_manager_test.exs"

    exit = fn -> exit({:noproc, {GenServer, :call, [:a, :b, 5_000]}}) end
    assert {:error, error} = RecoveryManager.run(exit, backoff: 1)
    assert error.context.recovery == %{attempts: 4, stopped_by: :max_retries}
    assert catch_throw(RecoveryManager.run(fn -> throw(:ball) end)) == :ball
  end

  describe "the fallback" do
    defmodule Traditional do
      def execute_step(step, context), do: {:ok, {step, context}}
    end

    @failed {:error, PythonError.new(:dspy_optimization_error, "no demo was good enough")}

    test "is a function of the error, one of step and context, or a module" do
      assert {{:ok, "no demo was good enough"}, 1} =
               counted(@failed, fallback: &{:ok, &1.message})

      given = [step: %{"name" => "s"}, pipeline_context: %{a: 1}]
      expected = {:ok, {%{"name" => "s"}, %{a: 1}}}
      assert {^expected, 1} = counted(@failed, [fallback: Traditional] ++ given)
      assert {^expected, 1} = counted(@failed, [fallback: &Traditional.execute_step/2] ++ given)
      assert {{:ok, :bare}, 1} = counted(@failed, fallback: fn _error -> :bare end)
    end

    test "that fails gives its own error, and the first one in its context" do
      assert {{:error, error}, 1} = counted(@failed, fallback: fn _error -> raise "and this" end)
      assert error.message == "and this"
      assert error.context.fell_back_from.error_type == :dspy_optimization_error
      assert error.context.fell_back_from.context.recovery.stopped_by == :strategy
    end

    test "is none where none is given, and the error comes as it is" do
      assert {{:error, %PythonError{error_type: :dspy_optimization_error}}, 1} =
               counted(@failed, [])
    end

    test "that is none is refused before anything is done" do
      for wrong <- [String, "text", fn -> 1 end] do
        assert_raise ArgumentError, fn -> RecoveryManager.run(fn -> 1 end, fallback: wrong) end
      end
    end
  end

  describe "a circuit breaker" do
    @breaker [threshold: 2, cooldown_ms: 60_000]
    @late {:error, PythonError.new(:timeout_error, "too late")}

    test "that is open answers at once, says when to come again, and lets nothing through" do
      opts = [target: make_ref(), breaker: @breaker]
      assert {{:error, %PythonError{error_type: :timeout_error}}, 1} = counted(@late, opts)
      assert {{:error, %PythonError{error_type: :timeout_error}}, 1} = counted(@late, opts)

      assert {{:error, %PythonError{error_type: :overloaded} = error}, 0} = counted(@late, opts)
      assert error.context.reason == :circuit_open
      assert error.context.recovery == %{attempts: 0, stopped_by: :circuit_open}
      assert error.retry_after_ms in 1..60_000

      # Another target has one of its own, and the fallback is there at once.
      assert {{:ok, 1}, 1} = counted({:ok, 1}, Keyword.put(opts, :target, make_ref()))
      assert {{:ok, 2}, 0} = counted(@late, [fallback: fn _error -> {:ok, 2} end] ++ opts)
    end

    test "that opens during a run ends it with the last error" do
      opts = [target: make_ref(), breaker: @breaker, idempotent: true]

      assert {{:error, %PythonError{error_type: :timeout_error} = error}, 2} =
               counted(@late, opts)

      assert error.context.recovery == %{attempts: 2, stopped_by: :circuit_open}
      assert error.retry_after_ms > 0
    end

    test "lets one try after its pause, and closes when that goes well" do
      opts = [target: make_ref(), breaker: [threshold: 1, cooldown_ms: 1]]
      assert {{:error, _error}, 1} = counted(@late, opts)
      Process.sleep(2)
      assert {{:ok, 1}, 1} = counted({:ok, 1}, opts)
      assert RecoveryManager.Circuits.state({:retry, opts[:target]}) == :closed
    end

    test "counts no error of the work itself, and no refusal" do
      opts = [target: make_ref(), breaker: [threshold: 1], max_retries: 0]

      for type <- [
            :validation_error,
            :dspy_optimization_error,
            :overloaded,
            :python_runtime_error
          ] do
        assert {{:error, %PythonError{error_type: ^type}}, 1} =
                 counted({:error, PythonError.new(type, "-")}, opts)
      end
    end

    test "of restarts counts attempts that end in the same, and then there are no more of them" do
      opts = [target: make_ref(), breaker: @breaker, idempotent: true]
      failed = {:error, PythonError.new(:python_runtime_error, "KeyError: 'x'")}
      assert {{:error, error}, 3} = counted(failed, opts)
      assert error.context.recovery.stopped_by == :circuit_open

      assert {{:error, %PythonError{error_type: :python_runtime_error}}, 1} =
               counted(failed, opts)

      # What needs no restart goes on.
      assert {{:ok, 1}, 1} = counted({:ok, 1}, opts)
    end

    test "of a fallback keeps it from being called in vain" do
      opts = [target: make_ref(), breaker: @breaker, fallback: fn _error -> {:error, :enospc} end]
      failed = {:error, PythonError.new(:cancelled, "as asked")}

      for _time <- 1..2,
          do: assert({{:error, %{error_type: :storage_error}}, 1} = counted(failed, opts))

      assert {{:error, %PythonError{error_type: :cancelled} = error}, 1} = counted(failed, opts)
      assert error.retry_after_ms > 0
    end
  end

  describe "execute_recovery_strategy" do
    @error PythonError.new(:timeout_error, "too late")

    test "does what the strategy says, whatever the error's own" do
      context = %{
        operation: fn -> {:ok, :again} end,
        retry_count: 0,
        idempotent: true,
        backoff: 1
      }

      assert RecoveryManager.execute_recovery_strategy(:retry, @error, context) == {:ok, :again}

      assert RecoveryManager.execute_recovery_strategy(:restart_process, @error, context) ==
               {:ok, :again}

      assert {:error, error} = RecoveryManager.execute_recovery_strategy(:fatal, @error, context)
      assert error.context.recovery == %{attempts: 1, stopped_by: :fatal}
      falling = Map.put(context, :fallback, fn _error -> {:ok, :traditional} end)

      assert RecoveryManager.execute_recovery_strategy(:fallback, @error, falling) ==
               {:ok, :traditional}
    end

    test "falls back when there were as many retries as there may be" do
      test = self()

      context = %{
        operation: fn -> send(test, :tried) && {:ok, :again} end,
        retry_count: 3,
        idempotent: true,
        step: %{"name" => "s"},
        pipeline_context: %{},
        fallback: fn step, _context -> {:ok, step["name"]} end
      }

      assert RecoveryManager.execute_recovery_strategy(:retry, @error, context) == {:ok, "s"}
      refute_received :tried
    end
  end

  test "options that are none, and values that cannot be, are refused" do
    for opts <- [
          [retries: 3],
          [max_retries: -1],
          [timeout: "soon"],
          [backoff: 1.5],
          [target: 1, breaker: [threshold: 0]],
          [target: 1, breaker: [limit: 1]]
        ] do
      assert_raise ArgumentError, fn -> Run.new(fn -> 1 end, opts) end
    end

    assert_raise ArgumentError, fn -> RecoveryManager.run(fn _a, _b -> 1 end) end
  end

  # What a run gives whose work always comes to the same, and how often it was tried.
  defp counted(outcome, opts) do
    attempts = :counters.new(1, [])

    operation = fn _timeout ->
      :counters.add(attempts, 1, 1)
      outcome
    end

    result = RecoveryManager.run(operation, Keyword.put_new(opts, :backoff, 1))
    {result, :counters.get(attempts, 1)}
  end
end
