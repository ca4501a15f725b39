defmodule Pipeline.DSPy.PythonBridge.Requests do
  @moduledoc """
  The requests in flight of one bridge: found by id, and by the monitor of the process that waits for them.

  A value; knows no port and sends nothing.
  """

  defmodule Request do
    @moduledoc """
    One request between a caller and the node.

    `id` is the alias and monitor that the caller made: the answer is sent to it. `frame` is the encoded request, nil
    once it is written (and for `:await_ready`, which the bridge answers itself); its last `metadata_bytes` are the
    request's metadata. `affinity` is what it is best sent after, where there are several bridges; `signature_hash`, of
    an optimization, what metrics call that which is optimized. `progress_to` and
    `stream_to`, which hear of its events, are pids or aliases. `timeout` and `grace` are milliseconds. `functions` are those that its job
    may call besides the bridge's own. `watcher` is who handed the request on, if somebody stands between caller and
    bridge: it gets `{:request_over, id}` once, however the request ends, but nothing from a bridge that is killed.
    `atoms` are those in the payload of a request from another BEAM node: with it they come into being here, so that the
    answer, which may use them, can be read.
    `parent` is the request whose function makes this one, `depth` how many wait for it in turn (`Nesting`).
    `collector` is the process that puts the answer together once it has begun to come in chunks.
    """

    alias Pipeline.DSPy.Affinity

    @enforce_keys [:id, :owner, :verb]
    defstruct [
      :id,
      :owner,
      :verb,
      :frame,
      :metadata_bytes,
      :affinity,
      :signature_hash,
      :progress_to,
      :stream_to,
      :monitor,
      :timer,
      :started_at,
      :watcher,
      :collector,
      timeout: :infinity,
      grace: 0,
      functions: %{},
      atoms: [],
      parent: nil,
      depth: 0
    ]

    @type t :: %__MODULE__{
            id: reference,
            owner: pid,
            verb: atom,
            frame: binary | nil,
            metadata_bytes: pos_integer | nil,
            affinity: Affinity.t() | nil,
            signature_hash: String.t() | nil,
            progress_to: pid | reference | nil,
            stream_to: pid | reference | nil,
            monitor: reference | nil,
            timer: reference | nil,
            started_at: integer | nil,
            watcher: pid | nil,
            collector: pid | nil,
            timeout: timeout,
            grace: non_neg_integer,
            functions: %{String.t() => function},
            atoms: [atom],
            parent: reference | nil,
            depth: non_neg_integer
          }
  end

  defstruct by_id: %{}, by_monitor: %{}

  @type t :: %__MODULE__{
          by_id: %{reference => Request.t()},
          by_monitor: %{reference => reference}
        }

  @doc "None."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "How many there are."
  @spec count(t) :: non_neg_integer
  def count(%__MODULE__{by_id: by_id}), do: map_size(by_id)

  @doc "All of them, in no order."
  @spec all(t) :: [Request.t()]
  def all(%__MODULE__{by_id: by_id}), do: Map.values(by_id)

  @doc "Adds a request, or puts another state of it in its place."
  @spec put(t, Request.t()) :: t
  def put(%__MODULE__{} = requests, %Request{} = request) do
    %{
      requests
      | by_id: Map.put(requests.by_id, request.id, request),
        by_monitor: Map.put(requests.by_monitor, request.monitor, request.id)
    }
  end

  @doc "The request with this id."
  @spec fetch(t, term) :: {:ok, Request.t()} | :error
  def fetch(%__MODULE__{by_id: by_id}, id), do: Map.fetch(by_id, id)

  @doc "Takes a request out; nil when there is none with this id."
  @spec pop(t, term) :: {Request.t() | nil, t}
  def pop(%__MODULE__{} = requests, id) do
    case Map.pop(requests.by_id, id) do
      {nil, _by_id} ->
        {nil, requests}

      {request, by_id} ->
        by_monitor = Map.delete(requests.by_monitor, request.monitor)
        {request, %{requests | by_id: by_id, by_monitor: by_monitor}}
    end
  end

  @doc "Takes out the request whose waiting process has this monitor."
  @spec pop_monitored(t, reference) :: {Request.t() | nil, t}
  def pop_monitored(%__MODULE__{} = requests, monitor) do
    pop(requests, monitored(requests, monitor))
  end

  @doc "The id of the request whose waiting process has this monitor, nil for none."
  @spec monitored(t, reference) :: reference | nil
  def monitored(%__MODULE__{by_monitor: by_monitor}, monitor), do: Map.get(by_monitor, monitor)
end
