defmodule Pipeline.DSPy.PythonBridge.Health do
  @moduledoc """
  Whether a node shows signs of life: a question that is asked at intervals, and how many of these passed in silence.

  A value of the bridge's process, which gets `:health` after each interval. Whatever the node says is a sign of life. So is
  what it reads, as long as the question has yet to be written: it waits behind other requests then, which may be large.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonBridge.Exchange

  @enforce_keys [:interval_ms, :most_missed]
  defstruct [:interval_ms, :most_missed, :question, :asked_at, missed: 0, ahead_bytes: 0]

  @typedoc """
  `question` is the id of the request that is not answered yet, nil for none; `ahead_bytes` how much has yet to be
  written until it is; `missed` how many intervals passed without a sign.
  """
  @type t :: %__MODULE__{
          interval_ms: pos_integer | nil,
          most_missed: pos_integer,
          question: reference | nil,
          asked_at: integer | nil,
          missed: non_neg_integer,
          ahead_bytes: integer
        }

  @doc "Options: `:health_interval` in milliseconds, nil for never, and `:health_misses`."
  @spec new(keyword) :: t
  def new(options) do
    %__MODULE__{interval_ms: options[:health_interval], most_missed: options[:health_misses]}
  end

  @doc "Has the calling process get `:health` after one interval."
  @spec plan(t) :: :ok
  def plan(%__MODULE__{interval_ms: nil}), do: :ok

  def plan(%__MODULE__{interval_ms: interval_ms}) do
    Process.send_after(self(), :health, interval_ms)
    :ok
  end

  @doc """
  An interval has passed: what to do now. The node is given up at the end of the last interval that it may miss.

      iex> alias Pipeline.DSPy.PythonBridge.Health
      iex> health = Health.new(health_interval: 1_000, health_misses: 2)
      iex> {:ask, health} = Health.tick(health)
      iex> {:wait, health} = Health.tick(%{health | question: make_ref()})
      iex> {:wedged, silent} = Health.tick(health)
      iex> Health.silent_ms(silent)
      2_000
      iex> {:wait, health} = health |> Health.heard() |> Health.tick()
      iex> health.missed
      1
  """
  @spec tick(t) :: {:ask | :wait | :wedged, t}
  def tick(%__MODULE__{question: nil} = health), do: {:ask, health}

  def tick(%__MODULE__{} = health) do
    health = %{health | missed: health.missed + 1}
    {if(health.missed < health.most_missed, do: :wait, else: :wedged), health}
  end

  @doc "For how long nothing was heard, in whole intervals."
  @spec silent_ms(t) :: non_neg_integer
  def silent_ms(%__MODULE__{} = health), do: health.missed * health.interval_ms

  @doc "Asks the node, and plans the next look."
  @spec ask(t, Exchange.t(), integer) :: {t, Exchange.t()}
  def ask(%__MODULE__{} = health, exchange, now) do
    question = make_ref()
    request = MessageProtocol.create_health_check_request(message_id: question)
    exchange = Exchange.write(exchange, MessageProtocol.encode(request))
    plan(health)
    ahead_bytes = exchange.outgoing.unsent_bytes
    {%{health | question: question, asked_at: now, ahead_bytes: ahead_bytes, missed: 0}, exchange}
  end

  @doc "The node said something."
  @spec heard(t) :: t
  def heard(%__MODULE__{missed: 0} = health), do: health
  def heard(%__MODULE__{} = health), do: %{health | missed: 0}

  @doc "So many bytes were written to the node."
  @spec written(t, non_neg_integer) :: t
  def written(%__MODULE__{ahead_bytes: ahead} = health, bytes) when ahead > 0 do
    heard(%{health | ahead_bytes: ahead - bytes})
  end

  def written(health, _bytes), do: health

  @doc "Whether this is the id of the question; then how many intervals it has taken, and how long in native units."
  @spec answered(t, term, integer) :: {:ok, {non_neg_integer, integer}, t} | :error
  def answered(%__MODULE__{question: id} = health, id, now) when id != nil do
    taken = {health.missed, now - health.asked_at}
    {:ok, taken, %{health | question: nil, asked_at: nil, missed: 0, ahead_bytes: 0}}
  end

  def answered(_health, _id, _now), do: :error
end
