defmodule Pipeline.DSPy.RecoveryManager.Circuits do
  @moduledoc """
  The circuit breakers of this BEAM node, one for each strategy and target, in a table of the application `:pipeline`.

  Looking is a read; a change is made only where nobody else made one since. A circuit that counts no failure takes no
  room. Where the application does not run, everything is let through.
  """

  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.RecoveryManager.Circuit

  @table __MODULE__
  # A circuit that nobody touched for so long belongs to a target that nobody asks any more.
  @forgotten_after_ms 600_000

  @typedoc "What is guarded: a strategy at a target, which may be any term."
  @type key :: {strategy :: atom, target :: term}

  @doc "Makes the table, which belongs to the calling process."
  @spec create_table() :: :ok
  def create_table do
    :ets.new(@table, [:named_table, :public, read_concurrency: true])
    :ok
  end

  @doc "Whether a piece of work may go through now; else in how many milliseconds it might."
  @spec admit(key, Circuit.settings()) :: :admit | {:refuse, pos_integer}
  def admit(key, settings) do
    case lookup(key) do
      # As it is for a target that is well: no write at all.
      nil ->
        :admit

      %Circuit{} = circuit ->
        case Circuit.admit(circuit, now_ms(), settings) do
          {:admit, ^circuit} ->
            :admit

          {:admit, changed} ->
            if swap(key, circuit, changed), do: :admit, else: admit(key, settings)

          {:refuse, ms} ->
            {:refuse, ms}
        end
    end
  end

  @doc "Work that went through went well."
  @spec succeeded(key) :: :ok
  def succeeded(key) do
    case lookup(key) do
      nil -> :ok
      circuit -> if swap(key, circuit, Circuit.succeeded(circuit)), do: :ok, else: succeeded(key)
    end
  end

  @doc "Work that went through failed."
  @spec failed(key, Circuit.settings()) :: :ok
  def failed(key, settings) do
    circuit = lookup(key)
    changed = Circuit.failed(circuit || Circuit.new(), now_ms(), settings)
    if swap(key, circuit, changed), do: :ok, else: failed(key, settings)
  end

  @doc "The state of a circuit: closed where nothing is known of it."
  @spec state(key) :: :closed | :open | :half_open
  def state(key), do: (lookup(key) || Circuit.new()).state

  @doc """
  Closes a circuit by hand.

      iex> alias Pipeline.DSPy.RecoveryManager.Circuits
      iex> key = {:retry, make_ref()}
      iex> Circuits.failed(key, %{threshold: 1, cooldown_ms: 60_000, max_cooldown_ms: 60_000})
      iex> {Circuits.state(key), Circuits.reset(key), Circuits.state(key)}
      {:open, :ok, :closed}
  """
  @spec reset(key) :: :ok
  def reset(key) do
    if there?(), do: :ets.delete(@table, row_key(key))
    :ok
  end

  # -- the table: {key as bytes, circuit, when it was changed}

  # A target may be a term that means something in a match specification; its bytes mean nothing there.
  defp row_key(key), do: :erlang.term_to_binary(key)

  defp lookup(key) do
    case there?() && :ets.lookup(@table, row_key(key)) do
      [{_key, circuit, _at}] -> circuit
      _none -> nil
    end
  end

  # Whether it was still as it was looked up.
  defp swap(key, was, becomes) do
    done? = not there?() or put(row_key(key), was, becomes)

    if done? and becomes.state != (was || Circuit.new()).state do
      {strategy, target} = key
      metadata = %{strategy: strategy, target: target, state: becomes.state}
      Metrics.execute([:pipeline, :dspy, :circuit], %{failures: becomes.failures}, metadata)
    end

    done?
  end

  defp put(_row_key, same, same), do: true

  defp put(row_key, nil, becomes) do
    now = now_ms()
    sweep(now)
    :ets.insert_new(@table, {row_key, becomes, now})
  end

  defp put(row_key, was, %Circuit{state: :closed, failures: 0}) do
    1 == :ets.select_delete(@table, [{{row_key, :"$1", :_}, [same(was)], [true]}])
  end

  defp put(row_key, was, becomes) do
    row = {:const, {row_key, becomes, now_ms()}}
    1 == :ets.select_replace(@table, [{{row_key, :"$1", :_}, [same(was)], [row]}])
  end

  defp same(was), do: {:"=:=", :"$1", {:const, was}}

  defp sweep(now) do
    long_ago = now - @forgotten_after_ms
    :ets.select_delete(@table, [{{:_, :_, :"$1"}, [{:<, :"$1", long_ago}], [true]}])
  end

  defp there?, do: :ets.whereis(@table) != :undefined
  defp now_ms, do: System.monotonic_time(:millisecond)
end
