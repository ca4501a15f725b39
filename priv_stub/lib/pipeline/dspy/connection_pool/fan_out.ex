defmodule Pipeline.DSPy.ConnectionPool.FanOut do
  @moduledoc """
  One request to every bridge of a pool, and the one answer made of theirs. A value of the pool's process, which gets the
  bridges' answers; each of them comes, since a bridge answers in time or is known to be gone.
  """

  alias Pipeline.DSPy.ConnectionPool.Roster
  alias Pipeline.DSPy.ConnectionPool.Roster.Bridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonError

  @enforce_keys [:verb, :pending, :answers]
  defstruct [:verb, :pending, :answers, for: []]

  @typedoc "The verbs that are asked of all."
  @type verb :: :health_check | :capture | :shutdown

  @typedoc "`for` are the ids of the requests that the one answer goes to."
  @type t :: %__MODULE__{
          verb: verb,
          pending: %{reference => pos_integer},
          answers: %{pos_integer => {:ok, map} | {:error, PythonError.t()}},
          for: [reference]
        }

  @doc "Asks every bridge that is there; the others are answered for."
  @spec ask(verb, Roster.t(), map, timeout, [reference]) :: t
  def ask(verb, roster, payload, timeout, ids) do
    {there, gone} = roster |> Roster.all() |> Enum.split_with(& &1.pid)

    pending =
      Map.new(there, fn %Bridge{} = bridge ->
        {Caller.submit(bridge.pid, verb, payload, timeout: timeout, grace: 0), bridge.index}
      end)

    %__MODULE__{
      verb: verb,
      pending: pending,
      answers: Map.new(gone, &{&1.index, {:error, absent(&1)}}),
      for: ids
    }
  end

  @doc "Puts a bridge's answer to the others."
  @spec put(t, reference, {:ok, map} | {:error, PythonError.t()}) :: t
  def put(%__MODULE__{} = fan_out, ref, answer) do
    {index, pending} = Map.pop!(fan_out.pending, ref)
    %{fan_out | pending: pending, answers: Map.put(fan_out.answers, index, answer)}
  end

  @doc "Whether all have answered."
  @spec complete?(t) :: boolean
  def complete?(%__MODULE__{pending: pending}), do: pending == %{}

  @doc """
  What a pool with this status says of its health, once its bridges have answered.

  It has the keys of a bridge's own health that can be put together: `status`, `message`, `workers`, all of them, and
  `queue`, where what waits in the pool is counted in; and `pool`, its own numbers, and `bridges`, each one's answer or
  `%{status: :unavailable, error: …}`.
  """
  @spec health(t, map) :: map
  def health(%__MODULE__{answers: answers}, pool) do
    well = for {_index, {:ok, health}} <- answers, do: health
    waiting = pool.lanes |> Map.values() |> Enum.map(& &1.waiting) |> Enum.sum()

    %{
      status: status(well, map_size(answers)),
      message: "#{pool.ready} of #{pool.size} bridges are ready, #{waiting} requests wait",
      workers: Enum.flat_map(well, & &1.workers),
      queue: %{
        waiting: waiting + sum(well, :waiting),
        running: sum(well, :running),
        capacity: pool.max_queue_size
      },
      pool: pool,
      bridges: Map.new(answers, fn {index, answer} -> {index, shown(answer)} end)
    }
  end

  defp status([], _size), do: :degraded

  defp status(well, size) do
    states = Enum.map(well, & &1.status)

    cond do
      Enum.all?(states, &(&1 == :overloaded)) -> :overloaded
      length(well) < size or Enum.any?(states, &(&1 == :degraded)) -> :degraded
      true -> :healthy
    end
  end

  defp shown({:ok, health}), do: health
  defp shown({:error, error}), do: %{status: :unavailable, error: error}

  defp sum(well, key), do: well |> Enum.map(& &1.queue[key]) |> Enum.sum()

  @doc """
  How far the captures of all bridges are: `mode` is `:on` while any writes one, `count`, `bytes` and `lost` are those of all
  together, and `bridges` is each one's answer, with its `file`, or `%{status: :unavailable, error: …}`. The first error
  when none has another answer.
  """
  @spec capture(t) :: {:ok, map} | {:error, PythonError.t()}
  def capture(%__MODULE__{answers: answers}) do
    case for {_index, {:ok, told}} <- answers, do: told do
      [] ->
        {_index, error} = Enum.min(answers)
        error

      told ->
        total = fn key -> told |> Enum.map(&Map.get(&1, key, 0)) |> Enum.sum() end

        {:ok,
         %{
           status: :success,
           mode: if(Enum.any?(told, &(&1.mode == :on)), do: :on, else: :off),
           count: total.(:count),
           bytes: total.(:bytes),
           lost: total.(:lost),
           bridges: Map.new(answers, fn {index, answer} -> {index, shown(answer)} end)
         }}
    end
  end

  @doc "What remained unfinished when the bridges were shut down."
  @spec unfinished(t) :: non_neg_integer
  def unfinished(%__MODULE__{answers: answers}) do
    Enum.sum(for {_index, {:ok, %{unfinished: count}}} <- answers, do: count)
  end

  defp absent(%Bridge{status: {:failed, error}}), do: error

  defp absent(%Bridge{}) do
    PythonError.new(:process_crashed, "the bridge is being started", context: %{reason: :starting})
  end
end
