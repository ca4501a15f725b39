defmodule Pipeline.DSPy.RecoveryManager.Circuit do
  @moduledoc """
  A circuit breaker: lets work through while it goes well, and after so many failures in a row nothing for a while; then
  one piece of work to try. Arithmetic on the times that it is given, in milliseconds.

  Closed, it counts failures in a row:

      iex> alias Pipeline.DSPy.RecoveryManager.Circuit
      iex> settings = %{threshold: 2, cooldown_ms: 1_000, max_cooldown_ms: 3_000}
      iex> circuit = Circuit.failed(Circuit.new(), 0, settings)
      iex> {circuit.state, circuit.failures}
      {:closed, 1}
      iex> Circuit.succeeded(circuit) == Circuit.new()
      true

  Open, it refuses and says for how long:

      iex> alias Pipeline.DSPy.RecoveryManager.Circuit
      iex> settings = %{threshold: 2, cooldown_ms: 1_000, max_cooldown_ms: 3_000}
      iex> open = Circuit.new() |> Circuit.failed(0, settings) |> Circuit.failed(10, settings)
      iex> Circuit.admit(open, 510, settings)
      {:refuse, 500}

  Half-open, it lets one try and refuses the rest. A failure of that one opens it again, for twice as long, up to a
  longest:

      iex> alias Pipeline.DSPy.RecoveryManager.Circuit
      iex> settings = %{threshold: 2, cooldown_ms: 1_000, max_cooldown_ms: 3_000}
      iex> open = Circuit.new() |> Circuit.failed(0, settings) |> Circuit.failed(0, settings)
      iex> {:admit, trying} = Circuit.admit(open, 1_000, settings)
      iex> {trying.state, Circuit.admit(trying, 1_400, settings)}
      {:half_open, {:refuse, 600}}
      iex> again = Circuit.failed(trying, 1_500, settings)
      iex> Circuit.admit(again, 1_500, settings)
      {:refuse, 2_000}
      iex> Circuit.succeeded(trying).state
      :closed

  One that was let try and is never heard of again holds its place only as long as the circuit was open before:

      iex> alias Pipeline.DSPy.RecoveryManager.Circuit
      iex> settings = %{threshold: 1, cooldown_ms: 1_000, max_cooldown_ms: 3_000}
      iex> {:admit, lost} = Circuit.new() |> Circuit.failed(0, settings) |> Circuit.admit(1_000, settings)
      iex> {:admit, another} = Circuit.admit(lost, 2_000, settings)
      iex> another.state
      :half_open
  """

  defstruct state: :closed, failures: 0, until_ms: 0, cooldown_ms: 0

  @typedoc "`until_ms`: until when an open one refuses everything, and a half-open one all but the one that tries."
  @type t :: %__MODULE__{
          state: :closed | :open | :half_open,
          failures: non_neg_integer,
          until_ms: integer,
          cooldown_ms: non_neg_integer
        }

  @typedoc "`threshold`: failures in a row that open it. `cooldown_ms`: for how long, the first time."
  @type settings :: %{
          threshold: pos_integer,
          cooldown_ms: non_neg_integer,
          max_cooldown_ms: non_neg_integer
        }

  @doc "One that is closed and has counted nothing."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Whether a piece of work may go through now; else in how many milliseconds it might."
  @spec admit(t, integer, settings) :: {:admit, t} | {:refuse, pos_integer}
  def admit(%__MODULE__{state: :closed} = circuit, _now, _settings), do: {:admit, circuit}

  def admit(%__MODULE__{until_ms: until} = circuit, now, settings) when now >= until do
    cooldown_ms = max(circuit.cooldown_ms, settings.cooldown_ms)
    {:admit, %{circuit | state: :half_open, until_ms: now + cooldown_ms}}
  end

  def admit(%__MODULE__{until_ms: until}, now, _settings), do: {:refuse, until - now}

  @doc "Work that went through went well."
  @spec succeeded(t) :: t
  def succeeded(%__MODULE__{}), do: new()

  @doc "Work that went through failed."
  @spec failed(t, integer, settings) :: t
  def failed(%__MODULE__{state: :closed} = circuit, now, settings) do
    circuit = %{circuit | failures: circuit.failures + 1}

    if circuit.failures < settings.threshold,
      do: circuit,
      else: open(circuit, now, settings.cooldown_ms)
  end

  def failed(%__MODULE__{state: :half_open} = circuit, now, settings) do
    cooldown_ms = min(circuit.cooldown_ms * 2, settings.max_cooldown_ms)
    open(%{circuit | failures: circuit.failures + 1}, now, cooldown_ms)
  end

  # It was let through before the others failed, and says nothing new.
  def failed(%__MODULE__{state: :open} = circuit, _now, _settings), do: circuit

  defp open(circuit, now, cooldown_ms) do
    %{circuit | state: :open, until_ms: now + cooldown_ms, cooldown_ms: cooldown_ms}
  end
end
