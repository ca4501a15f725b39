defmodule Pipeline.DSPy.PythonBridge.NodeFault do
  @moduledoc """
  How a node ended, or did not begin, as the error that its callers get. Knows exit codes; does nothing.

      iex> alias Pipeline.DSPy.PythonBridge.NodeFault
      iex> NodeFault.exit_status(137, true).context
      %{reason: :signal, signal: 9}
      iex> NodeFault.exit_status(2, false).recovery_strategy
      :fatal
      iex> NodeFault.exit_status(70, true).message
      "the node ended with exit code 70, a fault of its own; its stderr says which"
  """

  alias Pipeline.DSPy.PythonError

  @cannot_start 2
  @workers_cannot_start 3
  @framing_lost 4
  @fault 70

  @doc "The error for an exit status, of a node that was ready or had yet to be."
  @spec exit_status(non_neg_integer, boolean) :: PythonError.t()
  def exit_status(@cannot_start, false) do
    message =
      "the node ended with exit code 2 before it was ready: this Python has no erlbridge, or the bridge's options " <>
        "are wrong; its stderr says which"

    context = %{reason: :configuration, exit_code: @cannot_start}
    PythonError.new(:import_error, message, context: context)
  end

  def exit_status(@workers_cannot_start, _ready?) do
    message = "the node ended with exit code 3: no worker can start"
    crashed(message, %{reason: :exit, exit_code: @workers_cannot_start}, :fatal)
  end

  def exit_status(@framing_lost, _ready?) do
    message = "the node ended with exit code 4: it lost the framing of what it read"
    crashed(message, %{reason: :protocol, exit_code: @framing_lost})
  end

  def exit_status(@fault, _ready?) do
    message = "the node ended with exit code 70, a fault of its own; its stderr says which"
    crashed(message, %{reason: :exit, exit_code: @fault})
  end

  # So ends a program that was ended by a signal, and a guardian whose node was.
  def exit_status(code, _ready?) when code > 128 do
    crashed("the node was ended by signal #{code - 128}", %{reason: :signal, signal: code - 128})
  end

  def exit_status(code, _ready?) do
    crashed("the node ended with exit code #{code}", %{reason: :exit, exit_code: code})
  end

  @doc "The port closed and gave no exit status."
  @spec port_closed(term) :: PythonError.t()
  def port_closed(reason) do
    crashed("the node's port closed: #{inspect(reason)}", %{reason: :port_closed})
  end

  @doc "The node was not ready in time."
  @spec handshake(non_neg_integer) :: PythonError.t()
  def handshake(timeout_ms) do
    message = "the node was not ready within #{timeout_ms} ms; its stderr may say why"
    PythonError.new(:timeout_error, message, context: %{reason: :handshake})
  end

  @doc "The node has shown no sign of life for so long: it is stopped or stuck."
  @spec wedged(non_neg_integer) :: PythonError.t()
  def wedged(silent_ms) do
    message = "the node has shown no sign of life for #{silent_ms} ms and is killed"
    crashed(message, %{reason: :wedged})
  end

  @doc "The bridge waits before it starts another node, and for longer than the request may."
  @spec restarting(non_neg_integer, PythonError.t()) :: PythonError.t()
  def restarting(left_ms, fault) do
    message = "the node is started again in #{left_ms} ms, after #{Exception.message(fault)}"
    context = %{reason: :restarting, fault: fault}
    PythonError.new(:process_crashed, message, context: context, retry_after_ms: left_ms)
  end

  @doc "The node speaks another version of the wire contract."
  @spec protocol(term, pos_integer) :: PythonError.t()
  def protocol(theirs, ours) do
    message =
      "the node speaks protocol #{inspect(theirs, limit: 5)}, this bridge #{ours}; install matching versions"

    PythonError.new(:internal_error, message, context: %{reason: :protocol})
  end

  @doc "The node sent something that is no message."
  @spec unreadable(binary, term) :: PythonError.t()
  def unreadable(frame, reason) do
    shown = inspect(reason, limit: 5, printable_limit: 100)
    message = "the node sent a frame of #{byte_size(frame)} bytes that cannot be read: #{shown}"
    crashed(message, %{reason: :protocol})
  end

  @doc "Adds what the node said about itself before it ended, if it said anything."
  @spec after_fault(PythonError.t(), PythonError.t() | nil) :: PythonError.t()
  def after_fault(error, nil), do: error

  def after_fault(error, fault) do
    message = "#{error.message}, after #{Exception.message(fault)}"
    %{error | message: message, context: Map.put(error.context, :fault, fault)}
  end

  defp crashed(message, context, strategy \\ :retry) do
    PythonError.new(:process_crashed, message, context: context, recovery_strategy: strategy)
  end
end
