defmodule Pipeline.DSPy.RecoveryManager.Policy do
  @moduledoc """
  What happens after an attempt that failed: another one and when, the fallback, or the end. Decides; does nothing.

  | the error's strategy | with retries and time left | else |
  |---|---|---|
  | `:retry` | another attempt, after a pause; where the node is gone, once there is another | the fallback |
  | `:restart_process` | the same; where the fault may be the node's own, once it has shown that it is well, or another is | the fallback |
  | `:fallback` | the fallback | the fallback |
  | `:fatal` | the error | the error |

  An attempt that may have begun its work is repeated only where the work is idempotent. Where an error says that nothing
  was begun (`began?/1`), that does not matter.

      iex> alias Pipeline.DSPy.{PythonError, RecoveryManager.Policy}
      iex> crash = PythonError.new(:process_crashed, "killed", context: %{reason: :signal, worker: 1})
      iex> now = %{retries_left: 3, left_ms: 60_000, idempotent?: true, pause_ms: 100}
      iex> Policy.decide(crash, now)
      {:repeat, :at_once, 100}
      iex> Policy.decide(crash, %{now | idempotent?: false})
      {:fall_back, :not_idempotent}
      iex> Policy.decide(crash, %{now | retries_left: 0})
      {:fall_back, :max_retries}
      iex> Policy.decide(crash, %{now | left_ms: 100})
      {:fall_back, :deadline}
      iex> Policy.decide(PythonError.new(:validation_error, "payload: no signature"), now)
      {:stop, :fatal}
  """

  alias Pipeline.DSPy.PythonError

  # Reasons that say that no node had the request: nobody has the name, the node was not ready yet, the bridge waits
  # before it starts another, no slot of a pool came free in time, no member of a cluster is there.
  @not_begun [:noproc, :handshake, :restarting, :pool_queue, :no_member]

  @typedoc "`left_ms`: what is left of the budget. `pause_ms`: what chance makes of the pause before the next attempt."
  @type situation :: %{
          retries_left: non_neg_integer,
          left_ms: timeout,
          idempotent?: boolean,
          pause_ms: non_neg_integer
        }

  @typedoc """
  What the next attempt waits for after the pause: nothing, a node that is ready, or one that was seen to be well and is
  replaced if it is not. The reasons of an end are those in `context.recovery.stopped_by`.
  """
  @type decision ::
          {:repeat, :at_once | :when_ready | :when_well, pause_ms :: non_neg_integer}
          | {:fall_back, :strategy | :not_idempotent | :max_retries | :deadline}
          | {:stop, :fatal}

  @doc "What happens now."
  @spec decide(PythonError.t(), situation) :: decision
  def decide(%PythonError{recovery_strategy: :fatal}, _situation), do: {:stop, :fatal}
  def decide(%PythonError{recovery_strategy: :fallback}, _situation), do: {:fall_back, :strategy}

  def decide(%PythonError{recovery_strategy: strategy} = error, situation)
      when strategy in [:retry, :restart_process] do
    # The node knows best when it can take work again; chance on top spreads those who were told the same.
    pause_ms = (error.retry_after_ms || 0) + situation.pause_ms

    cond do
      began?(error) and not situation.idempotent? -> {:fall_back, :not_idempotent}
      situation.retries_left == 0 -> {:fall_back, :max_retries}
      # An atom, as :infinity is, is more than any number.
      situation.left_ms <= pause_ms -> {:fall_back, :deadline}
      true -> {:repeat, wait_for(error), pause_ms}
    end
  end

  # An exception in a worker says nothing against the node, which goes on with this worker or another.
  defp wait_for(%PythonError{error_type: :python_runtime_error}), do: :at_once
  defp wait_for(%PythonError{context: %{worker: _number}}), do: :at_once
  defp wait_for(%PythonError{recovery_strategy: :restart_process}), do: :when_well
  defp wait_for(error), do: if(node_gone?(error), do: :when_ready, else: :at_once)

  @doc """
  The longest pause before the retry of this number, from 1: twice as long each time, up to a longest. The pause itself
  is drawn from 0 to this, so that callers who failed together do not come back together.

      iex> alias Pipeline.DSPy.RecoveryManager.Policy
      iex> for retry <- 1..6, do: Policy.longest_pause_ms(retry, 100, 1_000)
      [100, 200, 400, 800, 1_000, 1_000]
  """
  @spec longest_pause_ms(pos_integer, non_neg_integer, non_neg_integer) :: non_neg_integer
  def longest_pause_ms(retry, base_ms, max_ms) do
    # The shift is bounded, so that no number of retries makes a huge integer.
    min(Bitwise.bsl(base_ms, min(retry - 1, 30)), max_ms)
  end

  @doc """
  Whether the work may have begun: false only where the error says that the request was turned away before.

      iex> alias Pipeline.DSPy.{PythonError, RecoveryManager.Policy}
      iex> Policy.began?(PythonError.new(:overloaded, "the queue is full"))
      false
      iex> Policy.began?(PythonError.new(:process_crashed, "no such bridge", context: %{reason: :noproc}))
      false
      iex> Policy.began?(PythonError.new(:timeout_error, "no answer within 500 ms"))
      true
  """
  @spec began?(PythonError.t()) :: boolean
  def began?(%PythonError{error_type: :overloaded}), do: false

  def began?(%PythonError{context: %{reason: reason}}) when reason in @not_begun, do: false

  def began?(%PythonError{}), do: true

  @doc """
  Whether it is the node, or the bridge before it, that is gone: a new attempt has to wait for the next one. A worker that
  died was replaced by its node.
  """
  @spec node_gone?(PythonError.t()) :: boolean
  def node_gone?(%PythonError{context: %{worker: _number}}), do: false

  def node_gone?(%PythonError{error_type: type}) when type in [:process_crashed, :shutting_down],
    do: true

  def node_gone?(%PythonError{context: context}), do: context[:reason] == :handshake

  @doc """
  Whether the error tells against its target, so that a circuit breaker counts it: the target is gone, or does not answer
  in time. One that answers, even that it has too much to do or that its model does not, is there.

      iex> alias Pipeline.DSPy.{PythonError, RecoveryManager.Policy}
      iex> for type <- [:timeout_error, :process_crashed, :overloaded, :validation_error] do
      ...>   Policy.counts?(PythonError.new(type, "-"))
      ...> end
      [true, true, false, false]
  """
  @spec counts?(PythonError.t()) :: boolean
  def counts?(%PythonError{context: %{reason: :pool_queue}}), do: false
  def counts?(%PythonError{error_type: :timeout_error}), do: true
  def counts?(%PythonError{} = error), do: node_gone?(error)
end
