defmodule Pipeline.DSPy.PythonBridge.Calls do
  @moduledoc """
  The calls of Elixir functions that a node has asked for: those that run, each in a task of its own under
  `Pipeline.DSPy.FunctionSupervisor`, and those that wait because `:max_calls` run already.

  A value of the bridge's process, which passes on what its tasks, monitors and timers report. Each call is answered
  with one frame, or with none once its request is over.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonBridge.Functions

  @supervisor Pipeline.DSPy.FunctionSupervisor

  defmodule Call do
    @moduledoc """
    One call: `call_id` is the node's, `request_id` that of the request whose job asks, `owner` the process that waits
    for this request. `max_frame_bytes` bounds its answer. `task` and `timer` are set while it runs.
    """

    @enforce_keys [
      :call_id,
      :request_id,
      :owner,
      :functions,
      :name,
      :arguments,
      :max_frame_bytes
    ]
    defstruct @enforce_keys ++ [:task, :timer]

    @type t :: %__MODULE__{
            call_id: term,
            request_id: reference,
            owner: pid,
            functions: Functions.t(),
            name: term,
            arguments: term,
            max_frame_bytes: pos_integer,
            task: Task.t() | nil,
            timer: reference | nil
          }
  end

  @enforce_keys [:max_running, :timeout]
  defstruct [:max_running, :timeout, running: %{}, waiting: :queue.new()]

  @type t :: %__MODULE__{
          max_running: pos_integer,
          timeout: timeout,
          running: %{reference => Call.t()},
          waiting: :queue.queue(Call.t())
        }

  @doc "No calls. Options: `:max_calls` at once, `:call_timeout` of each in milliseconds or `:infinity`."
  @spec new(keyword) :: t
  def new(opts), do: %__MODULE__{max_running: opts[:max_calls], timeout: opts[:call_timeout]}

  @doc "Takes a call: it runs at once, or as soon as another one has ended."
  @spec take(t, Call.t()) :: t
  def take(%__MODULE__{} = calls, %Call{} = call) do
    start(%{calls | waiting: :queue.in(call, calls.waiting)})
  end

  @doc "Whether a monitor or task reference is that of a call."
  @spec runs?(t, reference) :: boolean
  def runs?(%__MODULE__{running: running}, ref), do: is_map_key(running, ref)

  @doc "A call's task has sent its frame, which goes to the node."
  @spec finished(t, reference, binary) :: {binary | nil, t}
  def finished(%__MODULE__{} = calls, ref, frame) do
    {call, calls} = pop(calls, ref)
    {call && frame, start(calls)}
  end

  @doc "A call's task died without a word: it was killed, by somebody or through a link."
  @spec died(t, reference, term) :: {binary | nil, t}
  def died(%__MODULE__{} = calls, ref, reason) do
    fail(calls, ref, "its process ended: #{Exception.format_exit(reason)}")
  end

  @doc "A call has run for as long as it may: it is killed."
  @spec timed_out(t, reference) :: {binary | nil, t}
  def timed_out(%__MODULE__{} = calls, ref) do
    fail(calls, ref, "it gave nothing within #{calls.timeout} ms (:call_timeout)")
  end

  @doc "Ends the calls of requests that are over, those for which `in_flight?` is false. The node waits for none of them."
  @spec retain(t, (reference -> boolean)) :: t
  def retain(%__MODULE__{} = calls, in_flight?) do
    over = for {ref, call} <- calls.running, not in_flight?.(call.request_id), do: ref
    waiting = :queue.filter(&in_flight?.(&1.request_id), calls.waiting)

    over
    |> Enum.reduce(%{calls | waiting: waiting}, fn ref, calls ->
      {call, calls} = pop(calls, ref)
      kill(call)
      calls
    end)
    |> start()
  end

  @doc "How many calls run or wait."
  @spec count(t) :: non_neg_integer
  def count(%__MODULE__{} = calls), do: map_size(calls.running) + :queue.len(calls.waiting)

  defp fail(calls, ref, text) do
    case pop(calls, ref) do
      {nil, calls} ->
        {nil, calls}

      {call, calls} ->
        kill(call)
        {MessageProtocol.encode_result(call.call_id, {:error, text}), start(calls)}
    end
  end

  defp start(%__MODULE__{running: running, max_running: max} = calls)
       when map_size(running) >= max,
       do: calls

  defp start(calls) do
    case :queue.out(calls.waiting) do
      {:empty, _waiting} ->
        calls

      {{:value, call}, waiting} ->
        # Linked as well: a bridge that is killed takes its functions along.
        task = Task.Supervisor.async(@supervisor, fn -> run(call) end)
        call = %{call | task: task, timer: start_timer(task.ref, calls.timeout)}
        start(%{calls | waiting: waiting, running: Map.put(calls.running, task.ref, call)})
    end
  end

  defp start_timer(_ref, :infinity), do: nil
  defp start_timer(ref, ms), do: Process.send_after(self(), {:call_timed_out, ref}, ms)

  # In the task: the frame is made here, so that a large value costs its function and not the bridge.
  defp run(%Call{max_frame_bytes: limit} = call) do
    Process.put(:"$callers", [call.owner])
    outcome = Functions.call(call.functions, call.name, call.arguments)
    frame = MessageProtocol.encode_result(call.call_id, outcome)

    if byte_size(frame) > limit do
      text = "its value makes a frame of #{byte_size(frame)} bytes, limit #{limit}"
      MessageProtocol.encode_result(call.call_id, {:error, text})
    else
      frame
    end
  end

  defp pop(calls, ref) do
    {call, running} = Map.pop(calls.running, ref)
    if call, do: release(call)
    {call, %{calls | running: running}}
  end

  defp release(call) do
    if call.timer, do: Process.cancel_timer(call.timer)
    Process.demonitor(call.task.ref, [:flush])
  end

  defp kill(call) do
    Process.unlink(call.task.pid)
    Process.exit(call.task.pid, :kill)
  end
end
