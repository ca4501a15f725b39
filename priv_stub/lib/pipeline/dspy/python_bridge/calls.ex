defmodule Pipeline.DSPy.PythonBridge.Calls do
  @moduledoc """
  The calls of Elixir functions that a node has asked for: those that run, each in a task of its own under
  `Pipeline.DSPy.FunctionSupervisor`, and those that wait because `:max_calls` run already.

  Functions may make requests, whose jobs call functions again. These must not wait for a place that the first ones
  hold, so `:max_calls` is for each depth of this by itself; how deep it goes is limited by the node.

  A value of the bridge's process, which passes on what its tasks, monitors and timers report. Each call is answered
  with one frame, or with none once its request is over.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge.Functions
  alias Pipeline.DSPy.PythonBridge.Nesting

  @supervisor Pipeline.DSPy.FunctionSupervisor

  defmodule Call do
    @moduledoc """
    One call: `call_id` is the node's, `request_id` that of the request whose job asks, `owner` the process that waits
    for this request, `depth` how many others wait for it in turn. `of_request` are those of `functions` that came with
    the request. `max_frame_bytes` bounds its answer. `timeout` is its
    own, in milliseconds. `task` and `timer` are set while it runs.
    """

    alias Pipeline.DSPy.PythonBridge.Requests.Request

    @enforce_keys [
      :call_id,
      :request_id,
      :owner,
      :functions,
      :name,
      :arguments,
      :max_frame_bytes
    ]
    defstruct @enforce_keys ++ [:task, :timer, :timeout, :started_at, of_request: %{}, depth: 0]

    @type t :: %__MODULE__{
            call_id: term,
            request_id: reference,
            owner: pid,
            functions: Functions.t(),
            of_request: Functions.t(),
            name: term,
            arguments: term,
            max_frame_bytes: pos_integer,
            depth: non_neg_integer,
            timeout: timeout | nil,
            task: Task.t() | nil,
            timer: reference | nil,
            started_at: integer | nil
          }

    @doc "A call that the job of this request makes at a bridge with these functions, whose node takes frames so long."
    @spec new(term, Request.t(), {term, term}, Functions.t(), pos_integer) :: t
    def new(call_id, %Request{} = request, {name, arguments}, functions, max_frame_bytes) do
      %__MODULE__{
        call_id: call_id,
        request_id: request.id,
        owner: request.owner,
        functions: Map.merge(functions, request.functions),
        of_request: request.functions,
        name: name,
        arguments: arguments,
        depth: request.depth,
        max_frame_bytes: max_frame_bytes
      }
    end
  end

  @enforce_keys [:max_running, :timeout]
  defstruct [:max_running, :timeout, running: %{}, running_at: %{}, waiting: %{}]

  @type t :: %__MODULE__{
          max_running: pos_integer,
          timeout: timeout,
          running: %{reference => Call.t()},
          running_at: %{(depth :: non_neg_integer) => pos_integer},
          waiting: %{(depth :: non_neg_integer) => :queue.queue(Call.t())}
        }

  @doc "No calls. Options: `:max_calls` at once, `:call_timeout` of each in milliseconds or `:infinity`."
  @spec new(keyword) :: t
  def new(opts), do: %__MODULE__{max_running: opts[:max_calls], timeout: opts[:call_timeout]}

  @doc "Takes a call: it runs at once, or as soon as another one has ended."
  @spec take(t, Call.t()) :: t
  def take(%__MODULE__{} = calls, %Call{} = call) do
    queue = Map.get(calls.waiting, call.depth, :queue.new())
    start(put_waiting(calls, call.depth, :queue.in(call, queue)), call.depth)
  end

  @doc "Whether a monitor or task reference is that of a call."
  @spec runs?(t, reference) :: boolean
  def runs?(%__MODULE__{running: running}, ref), do: is_map_key(running, ref)

  @doc "A call's task has sent its frame, which goes to the node."
  @spec finished(t, reference, binary) :: {binary | nil, t}
  def finished(%__MODULE__{} = calls, ref, frame) do
    {call, calls} = pop(calls, ref)
    if call, do: {frame, start(calls, call.depth)}, else: {nil, calls}
  end

  @doc "A call's task died without a word: it was killed, by somebody or through a link."
  @spec died(t, reference, term) :: {binary | nil, t}
  def died(%__MODULE__{} = calls, ref, reason) do
    fail(calls, ref, "its process ended: #{Exception.format_exit(reason)}")
  end

  @doc "A call has run for as long as it may: it is killed."
  @spec timed_out(t, reference) :: {binary | nil, t}
  def timed_out(%__MODULE__{} = calls, ref) do
    limit =
      case calls.running do
        %{^ref => %Call{timeout: nil}} -> "#{calls.timeout} ms (:call_timeout)"
        %{^ref => %Call{timeout: ms}} -> "#{ms} ms (its :timeout)"
        _gone -> "its time"
      end

    fail(calls, ref, "it gave nothing within #{limit}")
  end

  @doc "Ends the calls of requests that are over, those for which `in_flight?` is false. The node waits for none of them."
  @spec retain(t, (reference -> boolean)) :: t
  def retain(%__MODULE__{} = calls, in_flight?) do
    end_those(calls, &(not in_flight?.(&1.request_id)))
  end

  @doc "Ends a call that the node waits for no longer, though its request goes on."
  @spec release(t, call_id :: term) :: t
  def release(%__MODULE__{} = calls, call_id), do: end_those(calls, &(&1.call_id == call_id))

  defp end_those(calls, over?) do
    kept =
      Enum.reduce(calls.waiting, calls, fn {depth, queue}, calls ->
        put_waiting(calls, depth, :queue.filter(&(not over?.(&1)), queue))
      end)

    for({ref, call} <- calls.running, over?.(call), do: ref)
    |> Enum.reduce(kept, fn ref, calls ->
      {call, calls} = pop(calls, ref)
      kill(call)
      start(calls, call.depth)
    end)
  end

  @doc "How many calls run or wait."
  @spec count(t) :: non_neg_integer
  def count(%__MODULE__{} = calls) do
    waiting = for {_depth, queue} <- calls.waiting, do: :queue.len(queue)
    map_size(calls.running) + Enum.sum(waiting)
  end

  defp fail(calls, ref, text) do
    case pop(calls, ref) do
      {nil, calls} ->
        {nil, calls}

      {call, calls} ->
        kill(call)
        measure(call, 0)
        {MessageProtocol.encode_result(call.call_id, {:error, text}), start(calls, call.depth)}
    end
  end

  # Starts what waits at this depth, as far as there is room.
  defp start(calls, depth) do
    running = Map.get(calls.running_at, depth, 0)

    with true <- running < calls.max_running,
         %{^depth => queue} <- calls.waiting,
         {{:value, call}, queue} <- :queue.out(queue) do
      call = %{call | timeout: own_timeout(call), started_at: System.monotonic_time()}
      # Linked as well: a bridge that is killed takes its functions along.
      task = Task.Supervisor.async(@supervisor, fn -> run(call) end)
      call = %{call | task: task, timer: start_timer(task.ref, call.timeout || calls.timeout)}

      start(
        put_waiting(
          %{
            calls
            | running: Map.put(calls.running, task.ref, call),
              running_at: Map.put(calls.running_at, depth, running + 1)
          },
          depth,
          queue
        ),
        depth
      )
    else
      _no_room_or_none -> calls
    end
  end

  defp put_waiting(calls, depth, queue) do
    if :queue.is_empty(queue),
      do: %{calls | waiting: Map.delete(calls.waiting, depth)},
      else: %{calls | waiting: Map.put(calls.waiting, depth, queue)}
  end

  # Of a registered function; nil where the bridge's own holds.
  defp own_timeout(%Call{functions: functions, name: name}) do
    with :error <- Functions.given(functions, name),
         {:ok, entry} <- Functions.registered(name) do
      entry.timeout
    else
      _given_or_unknown -> nil
    end
  end

  defp start_timer(_ref, :infinity), do: nil
  defp start_timer(ref, ms), do: Process.send_after(self(), {:call_timed_out, ref}, ms)

  # In the task: the frame is made here, so that a large value costs its function and not the bridge.
  defp run(%Call{max_frame_bytes: limit} = call) do
    outcome = if here?(call), do: perform(call, node()), else: perform_there(call)
    measure(call, if(match?({:ok, _value}, outcome), do: 1, else: 0))
    frame = MessageProtocol.encode_result(call.call_id, outcome)

    if byte_size(frame) > limit do
      text = "its value makes a frame of #{byte_size(frame)} bytes, limit #{limit}"
      MessageProtocol.encode_result(call.call_id, {:error, text})
    else
      frame
    end
  end

  # Who sends a request from another BEAM node has its functions run there, where their processes and tables are. So has
  # who names one that is registered there only.
  defp here?(%Call{owner: owner}) when node(owner) == node(), do: true

  defp here?(%Call{} = call) do
    Functions.given(call.of_request, call.name) == :error and
      (Functions.given(call.functions, call.name) != :error or
         Functions.registered(call.name) != :error)
  end

  # Linked with this process, which is killed when the call is over; so it does not outlive it there either.
  defp perform_there(%Call{owner: owner} = call) do
    Process.put(:"$callers", [owner])
    # What runs and waits here is not needed there.
    call = %{call | functions: call.of_request, task: nil, timer: nil}

    {@supervisor, node(owner)}
    |> Task.Supervisor.async(__MODULE__, :perform, [call, node()])
    |> Task.await(:infinity)
  catch
    :exit, reason ->
      {:error, "it cannot run at #{node(owner)}: #{Exception.format_exit(reason)}"}
  end

  @doc false
  # In the process that runs the function, wherever that is. `bridge_node` is where its job's bridge is.
  @spec perform(Call.t(), node) :: {:ok, term} | {:error, String.t()}
  def perform(%Call{} = call, bridge_node) do
    Process.put(:"$callers", [call.owner])
    Nesting.enter(call.request_id, call.depth, bridge_node)
    Functions.call(call.functions, call.name, call.arguments)
  end

  defp measure(call, success) do
    duration = System.monotonic_time() - call.started_at

    Metrics.execute([:pipeline, :dspy, :callback], %{duration: duration, success: success}, %{
      name: call.name
    })
  end

  defp pop(calls, ref) do
    case Map.pop(calls.running, ref) do
      {nil, _running} ->
        {nil, calls}

      {call, running} ->
        forget(call)
        {call, %{calls | running: running, running_at: less(calls.running_at, call.depth)}}
    end
  end

  defp less(running_at, depth) do
    case running_at do
      %{^depth => 1} -> Map.delete(running_at, depth)
      %{^depth => count} -> %{running_at | depth => count - 1}
    end
  end

  defp forget(call) do
    if call.timer, do: Process.cancel_timer(call.timer)
    Process.demonitor(call.task.ref, [:flush])
  end

  defp kill(call) do
    Process.unlink(call.task.pid)
    Process.exit(call.task.pid, :kill)
  end
end
