defmodule Pipeline.DSPy.Affinity do
  @moduledoc """
  What a request is best sent after: the stored program or dataset that it works on. Where that has been used before, it
  need not be read, sent or compiled again. Knows payloads; does not know where anything is.
  """

  @type t :: {:program | :dataset, id :: String.t()}

  # In the order of what costs most to have twice.
  @dataset_keys [:training_data, :data, :validation_data]
  @program_keys [:program, :program_id, :signature, :teacher]

  @doc """
  The program or dataset that a payload names; nil where it brings all that it needs.

      iex> Pipeline.DSPy.Affinity.of(%{program: "program:1f", input: %{question: "1 + 1"}})
      {:program, "program:1f"}
      iex> Pipeline.DSPy.Affinity.of(%{"signature" => "q -> a", "training_data" => {:dataset, "sha256:9c"}})
      {:dataset, "sha256:9c"}
      iex> Pipeline.DSPy.Affinity.of(%{signature: "q -> a", input: %{q: "1 + 1"}})
      nil
  """
  @spec of(term) :: t | nil
  def of(payload) when is_map(payload) and not is_struct(payload) do
    named(payload, @dataset_keys, &dataset/1) || named(payload, @program_keys, &program/1)
  end

  def of(_no_payload), do: nil

  defp named(payload, keys, id), do: Enum.find_value(keys, &id.(value(payload, &1)))

  defp value(payload, key), do: Map.get(payload, key) || Map.get(payload, Atom.to_string(key))

  defp dataset({:dataset, id}) when is_binary(id), do: {:dataset, id}
  defp dataset({:dataset, id, _view}) when is_binary(id), do: {:dataset, id}
  defp dataset(_rows), do: nil

  defp program("program:" <> _digits = id), do: {:program, id}
  defp program(_program_itself), do: nil
end
