defmodule Pipeline.DSPy.PythonBridge.Listeners do
  @moduledoc """
  Who hears what becomes of a bridge's node: the pids of the option `:notify`, each alone, for everything, or as
  `{pid, kinds}`, for events of these kinds.
  """

  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Courier

  @doc "Tells them of an event, a tuple whose first element is its kind, as a message from the bridge that calls this."
  @spec tell(keyword, tuple) :: :ok
  def tell(options, event) do
    for to <- List.wrap(options[:notify]), {pid, kinds} = listener(to) do
      if kinds == :all or elem(event, 0) in kinds,
        do: Courier.send_to(pid, {PythonBridge, self(), event})
    end

    :ok
  end

  defp listener({pid, kinds}) when is_pid(pid) and is_list(kinds), do: {pid, kinds}
  defp listener(pid) when is_pid(pid), do: {pid, :all}
end
