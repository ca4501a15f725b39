defmodule Pipeline.DSPy.ConnectionPool.Bridges do
  @moduledoc """
  The supervisor of a pool's bridges. The pool is told of each start, the first and every other, and of what the node
  says of itself and of its end.
  """

  alias Pipeline.DSPy.PythonBridge

  # That one fault takes down all bridges at once is no storm: each may be restarted as often as a bridge of its own.
  @restarts_each 3
  @restart_seconds 5

  @doc """
  Starts so many bridges, linked to the calling process, which gets `{:bridge_started, index, pid}` of each and those
  messages of `:notify` that tell of `:ready` and `:down`.
  """
  @spec start_link(pos_integer, keyword) :: {:ok, pid} | {:error, term}
  def start_link(size, options) do
    {:ok, supervisor} =
      DynamicSupervisor.start_link(
        strategy: :one_for_one,
        max_restarts: @restarts_each * size,
        max_seconds: @restart_seconds
      )

    Enum.reduce_while(1..size, {:ok, supervisor}, fn index, started ->
      case DynamicSupervisor.start_child(supervisor, child_spec(self(), index, options)) do
        {:ok, _bridge} -> {:cont, started}
        {:error, reason} -> {:halt, {:error, reason}}
      end
    end)
  end

  @doc "Stops the supervisor and with it the bridges, all at once. Waits for their nodes' ends."
  @spec stop(pid) :: :ok
  def stop(supervisor) do
    DynamicSupervisor.stop(supervisor, :shutdown)
  catch
    # It is gone, and that is why the pool stops.
    :exit, _reason -> :ok
  end

  @doc false
  @spec start_bridge(pid, pos_integer, keyword) :: GenServer.on_start()
  def start_bridge(pool, index, options) do
    with {:ok, bridge} <- PythonBridge.start_link(options) do
      send(pool, {:bridge_started, index, bridge})
      {:ok, bridge}
    end
  end

  defp child_spec(pool, index, options) do
    {name, options} = Keyword.pop(options, :name)
    notify = [{pool, [:ready, :down]} | List.wrap(options[:notify])]
    options = Keyword.merge(options, name: bridge_name(name, index), notify: notify)

    options
    |> PythonBridge.child_spec()
    |> Map.put(:start, {__MODULE__, :start_bridge, [pool, index, options]})
  end

  # As many names as the pool has bridges, and all from the name that the application gave it.
  defp bridge_name(name, index) when is_atom(name) and name != nil do
    Module.concat(name, "Bridge#{index}")
  end

  defp bridge_name(_none_or_elsewhere, _index), do: nil
end
