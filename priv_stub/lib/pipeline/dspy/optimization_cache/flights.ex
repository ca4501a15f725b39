defmodule Pipeline.DSPy.OptimizationCache.Flights do
  @moduledoc """
  Who answers which question, and who waits for that. Each asker has a token, which is used once.

  A value; knows no process and sends nothing.

      iex> alias Pipeline.DSPy.OptimizationCache.Flights
      iex> {:lead, flights} = Flights.join(Flights.new(), "key", :first)
      iex> {:wait, flights} = Flights.join(flights, "key", :second)
      iex> {:second, flights} = Flights.leave(flights, :first)
      iex> {"key", [], flights} = Flights.land(flights, :second)
      iex> Flights.count(flights)
      0
  """

  defstruct by_key: %{}, by_token: %{}

  @type token :: term
  @type t :: %__MODULE__{
          by_key: %{term => {leader :: token, waiting :: [token]}},
          by_token: %{token => term}
        }

  @doc "No question is being answered."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "How many questions are being answered."
  @spec count(t) :: non_neg_integer
  def count(%__MODULE__{by_key: by_key}), do: map_size(by_key)

  @doc "Who asks first leads; the others wait."
  @spec join(t, term, token) :: {:lead | :wait, t}
  def join(%__MODULE__{} = flights, key, token) do
    flights = %{flights | by_token: Map.put(flights.by_token, token, key)}

    case flights.by_key do
      # The newest first: a hundred who wait for hours cost nothing.
      %{^key => {leader, waiting}} -> {:wait, put(flights, key, {leader, [token | waiting]})}
      %{} -> {:lead, put(flights, key, {token, []})}
    end
  end

  @doc "An asker goes. Gives who leads in its place, the one that has waited longest, when it led and others wait."
  @spec leave(t, token) :: {token | nil, t}
  def leave(%__MODULE__{} = flights, token) do
    {key, by_token} = Map.pop(flights.by_token, token)
    flights = %{flights | by_token: by_token}

    case flights.by_key do
      %{^key => {^token, []}} ->
        {nil, %{flights | by_key: Map.delete(flights.by_key, key)}}

      %{^key => {^token, waiting}} ->
        {waiting, [heir]} = Enum.split(waiting, -1)
        {heir, put(flights, key, {heir, waiting})}

      %{^key => {leader, waiting}} ->
        {nil, put(flights, key, {leader, List.delete(waiting, token)})}

      %{} ->
        {nil, flights}
    end
  end

  @doc "The question that this one leads in is answered: gives it, and who waits. nil and nobody when it does not lead."
  @spec land(t, token) :: {term, [token], t}
  def land(%__MODULE__{} = flights, token) do
    key = Map.get(flights.by_token, token)

    case flights.by_key do
      %{^key => {^token, waiting}} ->
        by_token = Map.drop(flights.by_token, [token | waiting])

        {key, Enum.reverse(waiting),
         %{flights | by_key: Map.delete(flights.by_key, key), by_token: by_token}}

      %{} ->
        {nil, [], flights}
    end
  end

  defp put(flights, key, flight), do: %{flights | by_key: Map.put(flights.by_key, key, flight)}
end
