defmodule Pipeline.DSPy.ConnectionPool.Lane do
  @moduledoc """
  What waits in one lane of a pool: higher priority first, and among equals who came first. A value; owns no timer.

      iex> alias Pipeline.DSPy.ConnectionPool.Lane
      iex> lane = Lane.new() |> Lane.push(:a, 0, "first") |> Lane.push(:b, 0, "second") |> Lane.push(:c, 5, "urgent")
      iex> {"second", lane} = Lane.delete(lane, :b)
      iex> {"urgent", lane} = Lane.pop(lane)
      iex> {Lane.waiting(lane), Lane.pop(lane) |> elem(0)}
      {1, "first"}
  """

  @start_mean_ms 1_000
  # Each answer counts for an eighth of the mean, so that it follows what has changed and forgets the one odd answer.
  @weight 0.125
  @retry_ms 100..60_000

  defstruct order: :gb_trees.empty(), places: %{}, next: 0, mean_ms: @start_mean_ms

  @typep place :: {integer, non_neg_integer}
  @type t :: %__MODULE__{
          order: :gb_trees.tree(place, {term, term}),
          places: %{term => place},
          next: non_neg_integer,
          mean_ms: number
        }

  @doc "A lane in which nobody waits."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "How many entries wait."
  @spec waiting(t) :: non_neg_integer
  def waiting(%__MODULE__{places: places}), do: map_size(places)

  @doc "Puts an entry behind all of its priority. An id must not wait already."
  @spec push(t, term, integer, term) :: t
  def push(%__MODULE__{} = lane, id, priority, entry) do
    place = {-priority, lane.next}

    %{
      lane
      | order: :gb_trees.insert(place, {id, entry}, lane.order),
        places: Map.put(lane.places, id, place),
        next: lane.next + 1
    }
  end

  @doc "Takes out whose turn it is; nil when nobody waits."
  @spec pop(t) :: {term | nil, t}
  def pop(%__MODULE__{places: places} = lane) when map_size(places) == 0, do: {nil, lane}

  def pop(%__MODULE__{} = lane) do
    {_place, {id, entry}, order} = :gb_trees.take_smallest(lane.order)
    {entry, %{lane | order: order, places: Map.delete(lane.places, id)}}
  end

  @doc "Takes out the entry with this id; nil when it does not wait."
  @spec delete(t, term) :: {term | nil, t}
  def delete(%__MODULE__{} = lane, id) do
    case Map.pop(lane.places, id) do
      {nil, _places} ->
        {nil, lane}

      {place, places} ->
        {{^id, entry}, order} = :gb_trees.take(place, lane.order)
        {entry, %{lane | order: order, places: places}}
    end
  end

  @doc "Learns how long a request of this lane has taken."
  @spec took(t, non_neg_integer) :: t
  def took(%__MODULE__{mean_ms: mean} = lane, ms) do
    %{lane | mean_ms: mean + @weight * (ms - mean)}
  end

  @doc "In how many milliseconds a slot may be free for one who comes now, with so many slots: 100 to 60000."
  @spec retry_after_ms(t, non_neg_integer) :: pos_integer
  def retry_after_ms(%__MODULE__{} = lane, slots) do
    expected = lane.mean_ms * (waiting(lane) + 1) / max(slots, 1)
    expected |> round() |> max(@retry_ms.first) |> min(@retry_ms.last)
  end
end
