defmodule Pipeline.DSPy.PythonBridge.Restarts do
  @moduledoc """
  How often the nodes of a bridge ended soon after their start, remembered from one bridge process to the next.

  A table of the application `:pipeline`, so that it outlives the bridges. Where that application does not run, nothing is
  remembered, and no bridge waits.
  """

  alias Pipeline.DSPy.PythonBridge.Backoff
  alias Pipeline.DSPy.PythonError

  @table __MODULE__
  # What nobody asked about for so long belongs to a bridge that is not there any more.
  @forgotten_after_ms 600_000

  @typedoc "Which bridge: its name, or what else stays the same when it is started again."
  @type key :: term

  @doc "Makes the table, which belongs to the calling process."
  @spec create_table() :: :ok
  def create_table do
    :ets.new(@table, [:named_table, :public, read_concurrency: true])
    :ok
  end

  @doc "The key of the bridge that this process is, or will be again when its supervisor has restarted it."
  @spec key(keyword) :: key
  def key(options) do
    parent = :"$ancestors" |> Process.get([]) |> List.first()
    options[:name] || {parent, :erlang.phash2(options)}
  end

  @doc "How many milliseconds a bridge waits before it starts a node, and the error for which it does."
  @spec pause(key, keyword) :: {non_neg_integer, PythonError.t() | nil}
  def pause(key, options) do
    {failures, error} = failures(key)
    [first_ms, most_ms] = for name <- [:restart_delay, :max_restart_delay], do: options[name]
    {Backoff.delay_ms(failures, first_ms, most_ms, :rand.uniform()), error}
  end

  @doc """
  Notes how a node ended that had been ready for `uptime`, in native units. Gives how many ended too soon in a row.
  """
  @spec node_ended(key, PythonError.t(), non_neg_integer, keyword) :: non_neg_integer
  def node_ended(key, error, uptime, options) do
    if System.convert_time_unit(uptime, :native, :millisecond) < options[:healthy_after] do
      failed(key, error)
    else
      forget(key)
      0
    end
  end

  defp failures(key) do
    case there?() && :ets.lookup(@table, key) do
      [{^key, count, _at, error}] -> {count, error}
      _none -> {0, nil}
    end
  end

  defp failed(key, error) do
    {before, _error} = failures(key)

    if there?() do
      now = System.monotonic_time(:millisecond)
      :ets.insert(@table, {key, before + 1, now, error})
      long_ago = now - @forgotten_after_ms
      :ets.select_delete(@table, [{{:_, :_, :"$1", :_}, [{:<, :"$1", long_ago}], [true]}])
    end

    before + 1
  end

  @doc "A bridge ends, for a reason that its supervisor will see. One that is stopped on purpose starts afresh."
  @spec bridge_ended(key, term) :: :ok
  def bridge_ended(key, reason) do
    if on_purpose?(reason), do: forget(key), else: :ok
  end

  defp on_purpose?({:shutdown, {:node_down, _error}}), do: false
  defp on_purpose?({:shutdown, _reason}), do: true
  defp on_purpose?(reason), do: reason in [:normal, :shutdown]

  @doc "Forgets all of that: a node has been well for long enough."
  @spec forget(key) :: :ok
  def forget(key) do
    if there?(), do: :ets.delete(@table, key)
    :ok
  end

  defp there?, do: :ets.whereis(@table) != :undefined
end
