defmodule Pipeline.DSPy.PythonBridge.Atoms do
  @moduledoc """
  The atoms in a term. A node answers with atoms that the request used, and a bridge reads answers with `[:safe]`: on
  another BEAM node than the caller's it must be told of them first.
  """

  @doc """
  Each atom once, in no order.

      iex> alias Pipeline.DSPy.PythonBridge.Atoms
      iex> Enum.sort(Atoms.of(%{name: "x", fields: [{:text, :other} | :end], text: 1.0}))
      [:end, :fields, :name, :other, :text]
  """
  @spec of(term) :: [atom]
  def of(term), do: term |> walk(%{}) |> Map.keys()

  defp walk(atom, found) when is_atom(atom), do: Map.put(found, atom, true)
  defp walk([head | tail], found), do: walk(tail, walk(head, found))
  defp walk([], found), do: found
  defp walk(tuple, found) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> walk(found)

  defp walk(map, found) when is_map(map) do
    :maps.fold(fn key, value, found -> walk(value, walk(key, found)) end, found, map)
  end

  defp walk(_other, found), do: found
end
