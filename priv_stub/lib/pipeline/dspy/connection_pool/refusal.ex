defmodule Pipeline.DSPy.ConnectionPool.Refusal do
  @moduledoc """
  The errors that a pool itself answers with. Knows numbers; does nothing.
  """

  alias Pipeline.DSPy.ConnectionPool.Lane
  alias Pipeline.DSPy.ConnectionPool.Roster
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Verbs

  @doc "The queue of a lane is full."
  @spec exhausted(Verbs.lane(), Lane.t(), Roster.t(), non_neg_integer) :: PythonError.t()
  def exhausted(name, lane, roster, limit) do
    slots = Roster.slots(roster, name)

    context = %{
      reason: :pool_exhausted,
      lane: name,
      waiting: Lane.waiting(lane),
      limit: limit,
      running: Roster.used(roster, name),
      slots: slots,
      ready: Roster.count_ready(roster),
      size: Roster.size(roster)
    }

    message =
      "#{context.running} of #{slots} slots for #{name} work are taken and #{context.waiting} requests wait, limit " <>
        "#{limit} (:max_queue_size); send less at once, or give the pool more bridges or workers"

    retry_after_ms = Lane.retry_after_ms(lane, slots)
    PythonError.new(:overloaded, message, context: context, retry_after_ms: retry_after_ms)
  end

  @doc "A request's time was up before a slot was free for it."
  @spec timeout(Request.t()) :: PythonError.t()
  def timeout(%Request{verb: verb, timeout: ms}) do
    message = "no bridge was free for #{verb} within #{ms} ms"
    PythonError.new(:timeout_error, message, context: %{reason: :pool_queue, deadline_ms: ms})
  end

  @doc "Somebody has cancelled it before it had a slot."
  @spec cancelled() :: PythonError.t()
  def cancelled, do: PythonError.new(:cancelled, "cancelled while it waited for a bridge")

  @doc "The pool takes nothing more, or ends."
  @spec shutting_down() :: PythonError.t()
  def shutting_down, do: PythonError.new(:shutting_down, "the pool is shutting down")

  @doc "There is nothing to cancel."
  @spec not_found() :: PythonError.t()
  def not_found do
    PythonError.new(:not_found, "no request with this id is in flight, and none waits")
  end

  @doc "A shutdown whose mode or grace is none."
  @spec bad_shutdown() :: PythonError.t()
  def bad_shutdown do
    message = "expected `mode` :drain or :now, and `grace_ms` to be a whole number from 0 on"
    PythonError.new(:validation_error, message, context: %{path: "payload"})
  end

  @doc "Bridges ended more often than their supervisor puts up with; the last node that said why said this."
  @spec restarts(PythonError.t() | nil) :: PythonError.t()
  def restarts(nil) do
    message = "the pool's bridges ended again and again"
    PythonError.new(:process_crashed, message, context: %{reason: :restarts})
  end

  def restarts(%PythonError{} = fault), do: fault

  @doc "Another bridge runs in the place of the one that had the request."
  @spec replaced() :: PythonError.t()
  def replaced do
    PythonError.new(:process_crashed, "the bridge ended", context: %{reason: :bridge})
  end
end
