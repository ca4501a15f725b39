defmodule Pipeline.DSPy.DataTransfer.Resumption do
  @moduledoc """
  Whether a transfer can go on after an error, and waiting until it can. Runs in the process that transfers.
  """

  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError

  @first_pause_ms 50
  @longest_pause_ms 2_000

  @doc """
  Waits until a bridge may be asked again after this error, for at most `within_ms` milliseconds; then, or when waiting is
  of no use, gives the error back. Pauses get longer with `attempt`, how often this was of no use before.
  """
  @spec await(PythonBridge.bridge(), PythonError.t(), non_neg_integer, non_neg_integer) ::
          :ok | {:error, PythonError.t()}
  def await(bridge, %PythonError{} = error, within_ms, attempt) do
    if passes?(error) and not gone?(bridge, error) do
      pause_ms = min(Bitwise.bsl(@first_pause_ms, attempt), @longest_pause_ms)
      look(bridge, error, Deadline.in_ms(within_ms), pause_ms)
    else
      {:error, error}
    end
  end

  defp look(bridge, error, until, pause_ms) do
    left_ms = Deadline.left(until)

    if left_ms == 0 do
      {:error, error}
    else
      Process.sleep(min(max(pause_ms, error.retry_after_ms || 0), left_ms))

      case PythonBridge.await_ready(bridge, max(Deadline.left(until), 1)) do
        {:ok, _info} ->
          :ok

        {:error, next} ->
          if passes?(next) and not gone?(bridge, next),
            do: look(bridge, next, until, min(2 * pause_ms, @longest_pause_ms)),
            else: {:error, next}
      end
    end
  end

  # The lock of a node that was killed is free a moment later; a gap is asked about.
  defp passes?(%PythonError{error_type: :transfer_error, context: %{reason: reason}}) do
    reason in [:busy, :gap]
  end

  defp passes?(%PythonError{error_type: type, recovery_strategy: strategy}) do
    strategy != :fatal and type in [:process_crashed, :shutting_down, :timeout_error, :overloaded]
  end

  # A pid never comes back, a name may.
  defp gone?(bridge, error), do: is_pid(bridge) and Map.get(error.context, :reason) == :noproc
end
