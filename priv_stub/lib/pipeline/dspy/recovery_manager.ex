defmodule Pipeline.DSPy.RecoveryManager do
  @moduledoc """
  Does work that may fail, and what its errors ask for: another attempt, a wait for a new node, the fallback, or the end.

      alias Pipeline.DSPy.{PythonBridge, RecoveryManager}

      RecoveryManager.run(
        fn timeout -> PythonBridge.predict(MyApp.DSPy, {:program, id}, input, timeout: timeout) end,
        bridge: MyApp.DSPy,
        verb: :predict,
        idempotent: true,
        timeout: 30_000,
        fallback: fn _error -> {:ok, MyApp.answer_without_dspy(input)} end
      )

  It works in the calling process, and gives `{:ok, result}` or `{:error, %Pipeline.DSPy.PythonError{}}`; what the function
  raises is an error as well (`Pipeline.DSPy.ErrorHandler`).

      iex> alias Pipeline.DSPy.{PythonError, RecoveryManager}
      iex> attempts = :counters.new(1, [])
      iex> flaky = fn _timeout ->
      ...>   :counters.add(attempts, 1, 1)
      ...>   if :counters.get(attempts, 1) < 3,
      ...>     do: {:error, PythonError.new(:timeout_error, "too late")},
      ...>     else: {:ok, "at last"}
      ...> end
      iex> RecoveryManager.run(flaky, idempotent: true, backoff: 1)
      {:ok, "at last"}

  ## What happens

  `Pipeline.DSPy.RecoveryManager.Policy` says what each error asks for. Between two attempts there is a pause: what
  `retry_after_ms` of the error says, and on top of it a random time up to `:backoff`, twice as much with each retry
  (at most `:max_backoff`). There is *one* budget for all of it: the function is given what is left, and where a pause
  would take the rest, there is none and the error comes at once.

  Work that may have begun is not repeated unless it is idempotent: because its verb is
  (`Pipeline.DSPy.Verbs.idempotent?/2`), because the caller says so, or because it has an `:idempotency_key`. What was
  turned away before it began is repeated in any case.

  An error that ends the run says why in `context.recovery`: `%{attempts: n, stopped_by: reason}`, where the reason is
  `:fatal`, `:strategy` (there is only the fallback), `:not_idempotent`, `:max_retries`, `:deadline` or `:circuit_open`.

  ## The fallback

  A function of the error; or one of a step and the pipeline's context, or a module with such an `execute_step/2`, which
  get `:step` and `:pipeline_context`. Where the option is not given, `config :pipeline, :fallback` is taken, and else
  `Pipeline.Executor`, when that module is there and a `:step` is given. An error of the fallback has the one that led to
  it in `context.fell_back_from`.

  ## Circuit breakers

  For each target there is a circuit for each strategy (`Pipeline.DSPy.RecoveryManager.Circuit`), shared by all processes
  of this BEAM node. While one is open, what it guards is refused at once:

    * `:retry` guards every attempt, and counts those whose target was gone or did not answer in time. A run that it
      refuses ends with an `:overloaded` error, `context.reason` `:circuit_open`, and `retry_after_ms`; or with its fallback.
    * `:restart_process` guards attempts after an error of that strategy, and counts those that end in another.
    * `:fallback` guards the fallback and counts its errors.
  """

  require Logger

  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.RecoveryManager.Circuits
  alias Pipeline.DSPy.RecoveryManager.Fallback
  alias Pipeline.DSPy.RecoveryManager.Outcome
  alias Pipeline.DSPy.RecoveryManager.Policy
  alias Pipeline.DSPy.RecoveryManager.Replacement
  alias Pipeline.DSPy.RecoveryManager.Run

  @event [:pipeline, :dspy, :recovery]

  @doc """
  Runs a function of one argument, the time in milliseconds that it has, until it succeeds or there is nothing more to do.
  A function without arguments knows nothing of the time: it must keep to a timeout of its own.

  Options:

    * `:verb` - what it asks for, which says whether it is idempotent and what the default of `:timeout` is.
    * `:idempotent` - whether it may be done twice; `:idempotency_key`, when it has one.
    * `:timeout` - the budget, in milliseconds or `:infinity`. `:attempt_timeout` - the most that one attempt has of it
      (`:infinity`): with the whole of it, nothing is left after an attempt that did not end in time.
    * `:max_retries` - 3. `:backoff`, 100 ms, and `:max_backoff`, 10000 ms - see above.
    * `:bridge` - whose node is waited for when it is gone.
    * `:target` - what the circuit breakers belong to, any term; the bridge by default. Without either there are none.
    * `:breaker` - `false`, or of `[threshold: 5, cooldown_ms: 10_000, max_cooldown_ms: 60_000]` what is to be other.
    * `:fallback`, `:step`, `:pipeline_context` - see above.
    * `:retry_count` - how many retries there have been already, 0.

  Raises `ArgumentError` for other options and values.
  """
  @spec run((() -> term) | (timeout -> term), keyword) :: Outcome.t()
  def run(operation, opts \\ []), do: operation |> Run.new(opts) |> attempt(nil)

  @doc """
  Does what a strategy says about an error. The context has the work as `:operation`, and the options of `run/2`: how
  often it was retried as `:retry_count`, for the fallback `:step` and `:pipeline_context`.

      iex> alias Pipeline.DSPy.{ErrorHandler, RecoveryManager}
      iex> error_data = %{"error_type" => "DSPyOptimizationError", "message" => "no demo was good enough"}
      iex> {strategy, error} = ErrorHandler.handle_python_error(error_data)
      iex> context = %{
      ...>   operation: fn -> {:error, error} end,
      ...>   retry_count: 0,
      ...>   step: %{"name" => "classify"},
      ...>   pipeline_context: %{},
      ...>   fallback: fn step, _pipeline_context -> {:ok, step["name"] <> ", without DSPy"} end
      ...> }
      iex> RecoveryManager.execute_recovery_strategy(strategy, error, context)
      {:ok, "classify, without DSPy"}
  """
  @spec execute_recovery_strategy(PythonError.recovery_strategy(), PythonError.t(), map) ::
          Outcome.t()
  def execute_recovery_strategy(
        strategy,
        %PythonError{} = error,
        %{operation: operation} = context
      )
      when strategy in [:retry, :fallback, :restart_process, :fatal] do
    run = Run.new(operation, context |> Map.delete(:operation) |> Map.to_list())
    # The one whose error this is.
    run = %{run | attempts: run.attempts + 1}
    recover(%{error | recovery_strategy: strategy, retryable: strategy == :retry}, run)
  end

  # -- an attempt

  defp attempt(run, last_error) do
    case admit(run, :retry) do
      :admit ->
        timeout = min(Run.left_ms(run), run.attempt_timeout)
        outcome = Outcome.of(fn -> run.operation.(timeout) end)
        note(run, outcome)

        with {:error, error} <- outcome do
          recover(error, %{run | attempts: run.attempts + 1, restarting?: false})
        end

      {:refuse, ms} when last_error == nil ->
        shown = inspect(run.target, limit: 10, printable_limit: 200)
        message = "#{shown} has failed too often and is asked again in #{ms} ms at the earliest"
        context = %{reason: :circuit_open, strategy: :retry}
        error = PythonError.new(:overloaded, message, context: context, retry_after_ms: ms)
        fall_back(error, :circuit_open, run)

      {:refuse, ms} ->
        fall_back(%{last_error | retry_after_ms: ms}, :circuit_open, run)
    end
  end

  # What an attempt tells the circuits that it went through.
  defp note(run, outcome) do
    {ill?, again?} =
      case outcome do
        {:ok, _result} -> {false, false}
        {:error, error} -> {Policy.counts?(error), error.recovery_strategy == :restart_process}
      end

    tell(run, :retry, not ill?)
    if run.restarting?, do: tell(run, :restart_process, not again?)
  end

  # -- after an attempt that failed

  defp recover(error, run) do
    longest_ms = Policy.longest_pause_ms(run.retry_count + 1, run.backoff, run.max_backoff)

    situation = %{
      retries_left: max(run.max_retries - run.retry_count, 0),
      left_ms: Run.left_ms(run),
      idempotent?: run.idempotent?,
      pause_ms: :rand.uniform(longest_ms + 1) - 1
    }

    case Policy.decide(error, situation) do
      {:repeat, wait_for, pause_ms} -> repeat(error, wait_for, pause_ms, run)
      {:fall_back, reason} -> fall_back(error, reason, run)
      {:stop, :fatal} -> stop(error, :fatal, run)
    end
  end

  defp repeat(error, wait_for, pause_ms, run) do
    strategy = error.recovery_strategy

    case if(strategy == :restart_process, do: admit(run, strategy), else: :admit) do
      :admit ->
        number = run.retry_count + 1

        Logger.warning(
          "Retrying Python operation, attempt #{number + 1}: #{Exception.message(error)}"
        )

        emit(strategy, nil, error, pause_ms, run)
        Process.sleep(pause_ms)
        run = %{run | retry_count: number, restarting?: strategy == :restart_process}

        case wait(wait_for, error, run) do
          :ok ->
            attempt(run, error)

          {:error, unavailable} ->
            if run.restarting?, do: tell(run, :restart_process, false)
            no_node(unavailable, run)
        end

      {:refuse, ms} ->
        fall_back(%{error | retry_after_ms: ms}, :circuit_open, run)
    end
  end

  defp wait(:at_once, _error, _run), do: :ok
  defp wait(_for_a_node, _error, %Run{bridge: nil}), do: :ok
  defp wait(:when_ready, _error, run), do: Replacement.await(run.bridge, Run.left_ms(run))
  defp wait(:when_well, error, run), do: Replacement.restart(run.bridge, error, Run.left_ms(run))

  defp no_node(%PythonError{recovery_strategy: :fatal} = error, run), do: stop(error, :fatal, run)
  defp no_node(error, run), do: fall_back(error, :deadline, run)

  # -- the end

  defp fall_back(error, reason, %Run{fallback: :none} = run), do: stop(error, reason, run)

  defp fall_back(error, reason, %Run{fallback: {:ok, fallback}} = run) do
    error = explained(error, reason, run)

    case admit(run, :fallback) do
      :admit ->
        Logger.warning(
          "Falling back to traditional execution (#{reason}): #{Exception.message(error)}"
        )

        emit(:fallback, reason, error, 0, run)
        outcome = Fallback.run(fallback, error)
        tell(run, :fallback, match?({:ok, _}, outcome))

        with {:error, second} <- outcome do
          {:error, %{second | context: Map.put(second.context, :fell_back_from, error)}}
        end

      {:refuse, ms} ->
        {:error, %{error | retry_after_ms: error.retry_after_ms || ms}}
    end
  end

  defp stop(error, reason, run) do
    Logger.error("Python operation failed for good (#{reason}): #{Exception.message(error)}")
    emit(:stop, reason, error, 0, run)
    {:error, explained(error, reason, run)}
  end

  defp explained(error, reason, run) do
    recovery = %{attempts: run.attempts, stopped_by: reason}
    %{error | context: Map.put(error.context, :recovery, recovery)}
  end

  defp emit(action, stopped_by, error, pause_ms, run) do
    measurements = %{attempts: run.attempts, pause_ms: pause_ms}

    metadata = %{
      action: action,
      stopped_by: stopped_by,
      error_type: error.error_type,
      operation: run.verb,
      target: run.target
    }

    Metrics.execute(@event, measurements, metadata)
  end

  # -- circuits

  defp admit(%Run{breaker: nil}, _strategy), do: :admit
  defp admit(run, strategy), do: Circuits.admit({strategy, run.target}, run.breaker)

  defp tell(%Run{breaker: nil}, _strategy, _well?), do: :ok
  defp tell(run, strategy, true), do: Circuits.succeeded({strategy, run.target})
  defp tell(run, strategy, false), do: Circuits.failed({strategy, run.target}, run.breaker)
end
