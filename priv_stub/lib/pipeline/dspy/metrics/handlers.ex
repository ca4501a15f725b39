defmodule Pipeline.DSPy.Metrics.Handlers do
  @moduledoc """
  The handlers of events where the host has no telemetry: a table of the application `:pipeline`, read by whoever emits.

  Rows are `{{:id, id}, event}` and `{{event, id}, function, config}`, so that an id is taken once and the handlers of an
  event lie together.
  """

  require Logger

  @table __MODULE__

  @type event :: [atom]
  @type handler :: (event, map, map, config :: term -> term)

  @doc "Makes the table, which belongs to the calling process."
  @spec create_table() :: :ok
  def create_table do
    :ets.new(@table, [:named_table, :public, :ordered_set, read_concurrency: true])
    :ok
  end

  @doc "Has a function run for each event of this name."
  @spec attach(term, event, handler, term) :: :ok | {:error, :already_exists}
  def attach(id, event, fun, config) do
    # Both rows or none.
    if :ets.insert_new(@table, [{{:id, id}, event}, {{event, id}, fun, config}]),
      do: :ok,
      else: {:error, :already_exists}
  end

  @doc "Has it run no more."
  @spec detach(term) :: :ok | {:error, :not_found}
  def detach(id) do
    case there?() && :ets.take(@table, {:id, id}) do
      [{_id, event}] ->
        :ets.delete(@table, {event, id})
        :ok

      _none ->
        {:error, :not_found}
    end
  end

  @doc "Runs the handlers of an event in the calling process. One that raises is detached, so that it does so once."
  @spec run(event, map, map) :: :ok
  def run(event, measurements, metadata) do
    if there?() do
      for [id, fun, config] <- :ets.match(@table, {{event, :"$1"}, :"$2", :"$3"}) do
        run_one(id, fun, [event, measurements, metadata, config])
      end
    end

    :ok
  end

  defp run_one(id, fun, arguments) do
    apply(fun, arguments)
  catch
    kind, reason ->
      detach(id)
      shown = Exception.format(kind, reason, __STACKTRACE__)

      Logger.error(
        "The handler #{inspect(id)} of #{inspect(hd(arguments))} failed and is detached: #{shown}"
      )
  end

  defp there?, do: :ets.whereis(@table) != :undefined
end
