defmodule Pipeline.DSPy.PythonBridge.NodeLife do
  @moduledoc """
  The life of a bridge's node, from the opening of its port to its end: how long it took to be ready and was so, what it
  said before it ended, and what of that is remembered for the next one (`Pipeline.DSPy.PythonBridge.Restarts`).

  A value of the bridge's process, which owns the port and gets `:handshake_timeout`, and `:settled` once the node has been
  well for long enough.
  """

  require Logger

  alias Pipeline.DSPy.ProcessManager
  alias Pipeline.DSPy.PythonBridge.NodeFault
  alias Pipeline.DSPy.PythonBridge.Restarts
  alias Pipeline.DSPy.PythonBridge.Telemetry
  alias Pipeline.DSPy.PythonError

  @enforce_keys [:options, :key]
  defstruct [:options, :key, :process, :handshake_timer, :fault, :opened_at, :ready_at]

  @typedoc """
  `process` is nil until there is one. `fault` is what the node complained of without saying whose it is: if it ends over
  that, it says why. Times are monotonic, in native units.
  """
  @type t :: %__MODULE__{
          options: keyword,
          key: Restarts.key(),
          process: ProcessManager.t() | nil,
          handshake_timer: reference | nil,
          fault: PythonError.t() | nil,
          opened_at: integer | nil,
          ready_at: integer | nil
        }

  @doc "The node of the bridge that the calling process is; it has yet to be started."
  @spec new(keyword) :: t
  def new(options), do: %__MODULE__{options: options, key: Restarts.key(options)}

  @doc "How many milliseconds to wait before it is started, and the error for which that is."
  @spec pause(t) :: {non_neg_integer, PythonError.t() | nil}
  def pause(%__MODULE__{} = life), do: Restarts.pause(life.key, life.options)

  @doc "Opens its port. A node that cannot be started has begun nonetheless, and its end is `down/2`."
  @spec open(t) :: {:ok, t} | {:error, PythonError.t(), t}
  def open(%__MODULE__{} = life) do
    life = %{life | opened_at: now()}

    case ProcessManager.start_python_process(life.options) do
      {:ok, process} ->
        timer = Process.send_after(self(), :handshake_timeout, life.options[:handshake_timeout])
        {:ok, %{life | process: process, handshake_timer: timer}}

      {:error, error} ->
        {:error, error, life}
    end
  end

  @doc "It is ready."
  @spec ready(t) :: t
  def ready(%__MODULE__{} = life) do
    Process.cancel_timer(life.handshake_timer)
    Process.send_after(self(), :settled, life.options[:healthy_after])
    life = %{life | ready_at: now()}
    Telemetry.up(name(life), life.ready_at - life.opened_at)
    life
  end

  @doc "It has been well for long enough: what came before does not count any more."
  @spec settled(t) :: :ok
  def settled(%__MODULE__{} = life), do: Restarts.forget(life.key)

  @doc "It complains of something that nobody in particular has asked."
  @spec complained(t, PythonError.t()) :: t
  def complained(%__MODULE__{} = life, fault) do
    Logger.warning("Python node: #{Exception.message(fault)}")
    %{life | fault: fault}
  end

  @doc "It has ended, or must; gives why, as far as it is known."
  @spec down(t, PythonError.t()) :: PythonError.t()
  def down(%__MODULE__{} = life, error) do
    error = NodeFault.after_fault(error, life.fault)
    uptime = if life.ready_at, do: now() - life.ready_at, else: 0
    failures = Restarts.node_ended(life.key, error, uptime, life.options)
    Telemetry.down(name(life), error, uptime, failures)
    error
  end

  @doc "Its bridge ends, for this reason: so does the node, and this waits for it."
  @spec stop(t, term) :: :ok
  def stop(%__MODULE__{process: process} = life, reason) do
    Restarts.bridge_ended(life.key, reason)

    with %ProcessManager{} <- process,
         {:error, :still_alive} <- ProcessManager.stop(process, life.options[:stop_timeout]) do
      Logger.error("Python node #{process.os_pid} is still there after SIGKILL")
    end

    :ok
  end

  @doc "What its bridge is called in telemetry: by its name, or by its pid."
  @spec name(t) :: term
  def name(%__MODULE__{} = life), do: life.options[:name] || self()

  defp now, do: System.monotonic_time()
end
