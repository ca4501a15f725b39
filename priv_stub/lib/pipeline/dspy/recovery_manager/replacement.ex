defmodule Pipeline.DSPy.RecoveryManager.Replacement do
  @moduledoc """
  Waits until there is a node to ask again, and has one replaced that is there and does not answer.

  Runs in the process that waits, within the time that it is given. It is the supervisor that starts a bridge anew; between
  the end of one and the start of the next nobody has its name, which is why it is asked for again and again.
  """

  require Logger

  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError

  @look_again_ms 25
  # A node answers this by itself, whatever its workers do.
  @sign_of_life_ms 2_000
  # A bridge that is not there after so long is not coming, however much time there is.
  @longest_wait_ms 60_000

  @doc "Waits until the bridge's node is ready, for `left_ms` at most."
  @spec await(PythonBridge.bridge(), timeout) :: :ok | {:error, PythonError.t()}
  def await(bridge, left_ms), do: await_until(bridge, until(left_ms))

  @doc """
  The same, for a fault that may be the node's: one that shows no sign of life is given up, so that its supervisor starts
  another. A node that answers keeps its other callers' requests; and where there is less time than a node may take for
  that answer, its silence says nothing, and it is left alone.
  """
  @spec restart(PythonBridge.bridge(), PythonError.t(), timeout) ::
          :ok | {:error, PythonError.t()}
  def restart(bridge, _error, left_ms) when left_ms < @sign_of_life_ms, do: await(bridge, left_ms)

  def restart(bridge, error, left_ms) do
    until = until(left_ms)

    case PythonBridge.health_check(bridge, timeout: @sign_of_life_ms, grace: 0) do
      {:error, %PythonError{error_type: :timeout_error}} ->
        ask_for_restart(bridge, error)
        await_until(bridge, until)

      _alive_or_gone ->
        await_until(bridge, until)
    end
  end

  # A message and no call: the process may be one that knows nothing of this, such as a pool, which sees to its bridges.
  defp ask_for_restart(%_target{}, _error), do: :ok

  defp ask_for_restart(bridge, error) do
    with process when process != nil <- GenServer.whereis(bridge) do
      Logger.warning(
        "The node of #{inspect(bridge)} shows no sign of life and is to be restarted"
      )

      message = "the node was given up after #{Exception.message(error)}"

      send(
        process,
        {:give_up_node,
         PythonError.new(:process_crashed, message, context: %{reason: :unresponsive})}
      )
    end

    :ok
  end

  defp await_until(bridge, until) do
    case PythonBridge.await_ready(bridge, Deadline.left(until)) do
      {:ok, _info} ->
        :ok

      {:error, %PythonError{recovery_strategy: :fatal} = error} ->
        {:error, error}

      {:error, %PythonError{} = error} ->
        if Deadline.left(until) > @look_again_ms do
          Process.sleep(@look_again_ms)
          await_until(bridge, until)
        else
          {:error, error}
        end
    end
  end

  # :infinity, an atom, is more than any number.
  defp until(left_ms), do: Deadline.in_ms(min(left_ms, @longest_wait_ms))
end
