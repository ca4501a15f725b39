defmodule Pipeline.DSPy.PythonBridge.Exchange do
  @moduledoc """
  The requests of one bridge from the moment they come until each is answered: taken or refused, held until the node is
  ready, written, timed out or abandoned.

  A value of the bridge's process, which owns the timers and monitors that are set here and passes on what they report.
  Frames go to the node by its `Pipeline.DSPy.PythonBridge.Outgoing`; how the node starts and ends is the bridge's affair.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonBridge.Admission
  alias Pipeline.DSPy.PythonBridge.Collector
  alias Pipeline.DSPy.PythonBridge.Courier
  alias Pipeline.DSPy.PythonBridge.Outgoing
  alias Pipeline.DSPy.PythonBridge.Requests
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonBridge.RequestTelemetry
  alias Pipeline.DSPy.PythonError

  @default_max_frame_bytes 16 * 1024 * 1024
  @default_credit 256

  @enforce_keys [:tag, :limits]
  defstruct [
    :tag,
    :limits,
    :info,
    :pause,
    phase: :starting,
    requests: Requests.new(),
    waiting: :queue.new(),
    outgoing: Outgoing.new(),
    max_frame_bytes: 0
  ]

  @typedoc """
  `tag` is the first element of every message to a caller. `info` is what the node said of itself, nil until it is ready.
  `pause` is when a node will be started, by the monotonic clock in milliseconds, and the error for which it was not started
  at once; nil when nothing is waited for.
  `phase` is `:closing` from the moment that a shutdown is asked for, whether or not the node was ready.
  """
  @type t :: %__MODULE__{
          tag: atom,
          limits: keyword,
          info: map | nil,
          pause: {integer, PythonError.t()} | nil,
          phase: :starting | :ready | :closing,
          requests: Requests.t(),
          waiting: :queue.queue(reference),
          outgoing: Outgoing.t(),
          max_frame_bytes: non_neg_integer
        }

  @type outcome :: {:ok, term} | {:error, PythonError.t()}

  @doc "An exchange without requests, for a node that has yet to start. `limits` are those of `Admission.refusal/3`."
  @spec new(atom, keyword) :: t
  def new(tag, limits), do: %__MODULE__{tag: tag, limits: limits}

  @doc "No node is started for so long, because of what the last one did. A pause of 0 ms ends it."
  @spec pause(t, non_neg_integer, PythonError.t() | nil) :: t
  def pause(%__MODULE__{} = exchange, 0, _error), do: %{exchange | pause: nil}
  def pause(%__MODULE__{} = exchange, ms, error), do: %{exchange | pause: {now_ms() + ms, error}}

  @doc "The node is ready: what has waited for it is written."
  @spec ready(t, map) :: t
  def ready(%__MODULE__{} = exchange, info) do
    limits = Map.get(info, :limits, %{})

    flush_waiting(%{
      exchange
      | info: info,
        phase: if(exchange.phase == :starting, do: :ready, else: exchange.phase),
        max_frame_bytes: Map.get(limits, :max_frame_bytes, @default_max_frame_bytes),
        outgoing: Outgoing.ready(exchange.outgoing, Map.get(limits, :credit, @default_credit))
    })
  end

  # -- from callers

  @doc "Takes a request, or answers at once why it cannot be taken."
  @spec submit(t, Request.t()) :: t
  def submit(%__MODULE__{} = exchange, %Request{} = request) do
    request = RequestTelemetry.come(request)

    load = %{
      closing?: exchange.phase == :closing and not needed?(exchange, request),
      pause: with({until, error} <- exchange.pause, do: {max(until - now_ms(), 0), error}),
      in_flight: Requests.count(exchange.requests),
      unsent_bytes: exchange.outgoing.unsent_bytes
    }

    case Admission.refusal(request, load, exchange.limits) do
      nil ->
        accept(exchange, request)

      error ->
        send_outcome(exchange, request, {:error, error})
        exchange
    end
  end

  # What was taken may finish before the node goes, and with it what its functions ask for.
  defp needed?(exchange, %Request{parent: parent}) do
    match?({:ok, _parent}, Requests.fetch(exchange.requests, parent))
  end

  @doc "Nobody waits for this request any more: its work shall not go on."
  @spec abandon(t, reference) :: t
  def abandon(%__MODULE__{} = exchange, id) do
    case Requests.fetch(exchange.requests, id) do
      # It goes on without who asked for it, and keeps its timer: a node that does not end is to be ended.
      {:ok, %Request{verb: :shutdown}} ->
        exchange

      {:ok, request} ->
        RequestTelemetry.abandoned(request)
        {request, exchange} = take(exchange, id)
        release(request)
        call_back(exchange, request)

      :error ->
        exchange
    end
  end

  @doc "The same, of the request whose waiting process had this monitor."
  @spec abandon_monitored(t, reference) :: t
  def abandon_monitored(%__MODULE__{} = exchange, monitor) do
    abandon(exchange, Requests.monitored(exchange.requests, monitor))
  end

  @doc "The request with this id, while it is in flight."
  @spec fetch(t, term) :: {:ok, Request.t()} | :error
  def fetch(%__MODULE__{requests: requests}, id), do: Requests.fetch(requests, id)

  @doc "How many requests are in flight."
  @spec count(t) :: non_neg_integer
  def count(%__MODULE__{requests: requests}), do: Requests.count(requests)

  # -- to callers

  @doc "Passes an event on to the process that wants to hear of this request, if there is one."
  @spec pass_on(t, term, term) :: :ok
  def pass_on(%__MODULE__{} = exchange, id, {:data_chunk, chunk}) do
    with {:ok, %Request{collector: collector}} when collector != nil <-
           Requests.fetch(exchange.requests, id) do
      Collector.put(collector, chunk)
    end

    :ok
  end

  def pass_on(%__MODULE__{} = exchange, id, event) do
    with {:ok, request} <- Requests.fetch(exchange.requests, id),
         to when to != nil <- listener(request, event) do
      Courier.send_to(to, {exchange.tag, id, event})
    end

    :ok
  end

  defp listener(request, {:progress, _state}), do: request.progress_to
  defp listener(request, {:chunk, _piece}), do: request.stream_to

  @doc "Answers a request. Gives its verb as well: nil where it is not in flight any more."
  @spec answer(t, term, outcome) :: {atom, t}
  def answer(%__MODULE__{} = exchange, id, outcome) do
    case take(exchange, id) do
      # Timed out, cancelled with its caller, or the answer to a cancel of ours.
      {nil, exchange} ->
        {nil, exchange}

      {request, exchange} ->
        send_outcome(exchange, request, outcome)
        {request.verb, reopen(exchange, request, outcome)}
    end
  end

  # A node that refuses to shut down goes on, and so does its bridge.
  defp reopen(%{phase: :closing} = exchange, %Request{verb: :shutdown}, {:error, _error}),
    do: %{exchange | phase: :ready}

  defp reopen(exchange, _request, _outcome), do: exchange

  @doc "A request's answer comes in chunks: from now on they go to a process that puts it together."
  @spec collect(t, term, map) :: t
  def collect(%__MODULE__{} = exchange, id, about) do
    case Requests.fetch(exchange.requests, id) do
      {:ok, request} ->
        collector = Collector.start_link(exchange.tag, id, about)
        requests = Requests.put(exchange.requests, %{request | collector: collector})
        %{exchange | requests: requests}

      :error ->
        exchange
    end
  end

  @doc "Such an answer has gone to its caller."
  @spec collected(t, term, :ok | {:error, PythonError.t()}) :: t
  def collected(%__MODULE__{} = exchange, id, outcome) do
    case take(exchange, id) do
      {nil, exchange} ->
        exchange

      {request, exchange} ->
        release(request)

        RequestTelemetry.answered(
          request,
          if(outcome == :ok, do: {:ok, nil}, else: outcome),
          :told
        )

        exchange
    end
  end

  @doc "A process that put an answer together was ended from outside; `pid` may be any other's."
  @spec collector_ended(t, pid, term) :: t
  def collector_ended(%__MODULE__{} = exchange, pid, reason) do
    case Enum.find(Requests.all(exchange.requests), &(&1.collector == pid)) do
      nil ->
        exchange

      request ->
        {request, exchange} = take(exchange, request.id)
        why = "the process that put the answer together ended: #{Exception.format_exit(reason)}"
        error = PythonError.new(:transfer_error, why, context: %{reason: :collector})
        send_outcome(exchange, request, {:error, error})
        call_back(exchange, request)
    end
  end

  @doc "Answers every request with the same error: the node is gone, and with it what it would have said."
  @spec answer_all(t, PythonError.t()) :: t
  def answer_all(%__MODULE__{} = exchange, error) do
    exchange.requests
    |> Requests.all()
    |> Enum.each(&send_outcome(exchange, &1, {:error, error}, :lost))

    %{exchange | requests: Requests.new()}
  end

  @doc "Answers a request whose time is up, and has the node stop its work. Gives its verb as `answer/3` does."
  @spec time_out(t, reference) :: {atom, t}
  def time_out(%__MODULE__{} = exchange, id) do
    case take(exchange, id) do
      {nil, exchange} ->
        {nil, exchange}

      {request, exchange} ->
        message = "no answer to #{request.verb} within #{request.timeout} ms"
        context = %{deadline_ms: request.timeout}
        error = PythonError.new(:timeout_error, message, context: context)
        send_outcome(exchange, request, {:error, error})
        {request.verb, call_back(exchange, request)}
    end
  end

  # -- to the node

  @doc "Sends the node a frame."
  @spec write(t, binary) :: t
  def write(%__MODULE__{} = exchange, frame) do
    put_outgoing(exchange, Outgoing.write(exchange.outgoing, frame))
  end

  @doc "How frames go to the node is otherwise now: its port was opened or is closing, or has taken some."
  @spec put_outgoing(t, Outgoing.t()) :: t
  def put_outgoing(%__MODULE__{} = exchange, outgoing), do: %{exchange | outgoing: outgoing}

  # -- a request's way

  defp accept(exchange, request) do
    request = %{request | monitor: Courier.monitor(request.owner), timer: start_timer(request)}

    exchange = %{exchange | requests: Requests.put(exchange.requests, request)}
    exchange = if request.verb == :shutdown, do: %{exchange | phase: :closing}, else: exchange
    if exchange.info, do: dispatch(exchange, request), else: hold(exchange, request)
  end

  defp start_timer(%Request{timeout: :infinity}), do: nil

  defp start_timer(%Request{id: id, timeout: timeout, grace: grace}) do
    Process.send_after(self(), {:timed_out, id}, timeout + grace)
  end

  # Waiting bytes count as unsent, so that the same bound holds before the node is ready.
  defp hold(exchange, request) do
    %{
      exchange
      | waiting: :queue.in(request.id, exchange.waiting),
        outgoing: Outgoing.hold(exchange.outgoing, byte_size(request.frame || ""))
    }
  end

  # Takes a request out of the table, and out of the line with its bytes where it still waits for the node.
  defp take(exchange, id) do
    {request, requests} = Requests.pop(exchange.requests, id)
    exchange = %{exchange | requests: requests}
    {request, if(request && exchange.info == nil, do: let_go(exchange, request), else: exchange)}
  end

  defp let_go(exchange, request) do
    %{
      exchange
      | waiting: :queue.delete(request.id, exchange.waiting),
        outgoing: Outgoing.hold(exchange.outgoing, -byte_size(request.frame || ""))
    }
  end

  defp flush_waiting(exchange) do
    ids = :queue.to_list(exchange.waiting)

    Enum.reduce(ids, %{exchange | waiting: :queue.new()}, fn id, exchange ->
      case Requests.fetch(exchange.requests, id) do
        {:ok, request} -> dispatch(exchange, request)
        :error -> exchange
      end
    end)
  end

  # Only a node that is ready is dispatched to: that is the answer to :await_ready.
  defp dispatch(exchange, %Request{frame: nil} = request) do
    finish(exchange, request, {:ok, exchange.info})
  end

  defp dispatch(%{max_frame_bytes: limit} = exchange, %Request{frame: frame} = request)
       when byte_size(frame) > limit do
    # The node would have to give up the connection over it.
    message =
      "request of #{byte_size(frame)} bytes, limit #{limit}; send its data with " <>
        "Pipeline.DSPy.DataTransfer, or raise max_frame_bytes"

    error = PythonError.new(:serialization_error, message, context: %{limit: limit})
    finish(exchange, request, {:error, error})
  end

  defp dispatch(exchange, request) do
    requests = Requests.put(exchange.requests, %{request | frame: nil})
    write(%{exchange | requests: requests}, request.frame)
  end

  defp finish(exchange, request, outcome) do
    {_verb, exchange} = answer(exchange, request.id, outcome)
    exchange
  end

  # A shutdown is not called back: who asked for it ends the node in another way.
  defp call_back(exchange, %Request{verb: :shutdown}), do: exchange

  defp call_back(exchange, request) do
    if exchange.info && request.frame == nil && request.verb != :await_ready do
      write(exchange, MessageProtocol.encode(MessageProtocol.create_cancel_request(request.id)))
    else
      exchange
    end
  end

  defp now_ms, do: System.monotonic_time(:millisecond)

  defp send_outcome(exchange, request, outcome, how \\ :told) do
    # The watcher hears of it last: where it hears nothing, because the bridge was killed, it answers the caller itself.
    Courier.send_to(request.id, {exchange.tag, request.id, outcome})
    release(request)
    RequestTelemetry.answered(request, outcome, how)
  end

  # Every request ends here, once.
  defp release(request) do
    if request.collector, do: stop(request.collector)
    if request.watcher, do: send(request.watcher, {:request_over, request.id})
    if request.timer, do: Process.cancel_timer(request.timer)
    if request.monitor, do: Courier.demonitor(request.monitor)
  end

  defp stop(collector) do
    Process.unlink(collector)
    Process.exit(collector, :kill)
  end
end
