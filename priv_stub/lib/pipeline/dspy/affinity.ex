defmodule Pipeline.DSPy.Affinity do
  @moduledoc """
  What a request is best sent after: the stored program or dataset that it works on. Where that has been used before, it
  need not be read, sent or compiled again. Or the transfer that it is a part of, which has one place until it is over.
  Knows payloads; does not know where anything is.
  """

  @type t :: {:program | :dataset | :transfer, id :: String.t()}

  # In the order of what costs most to have twice; each key also as a text, as payloads may have it.
  @transfer_keys [{:transfer, "transfer"}]
  @dataset_keys for key <- [:training_data, :data, :validation_data], do: {key, "#{key}"}
  @program_keys for key <- [:program, :program_id, :signature, :teacher], do: {key, "#{key}"}

  @doc """
  The transfer, dataset or program that a payload names; nil where it brings all that it needs.

      iex> Pipeline.DSPy.Affinity.of(%{program: "program:1f", input: %{question: "1 + 1"}})
      {:program, "program:1f"}
      iex> Pipeline.DSPy.Affinity.of(%{"signature" => "q -> a", "training_data" => {:dataset, "sha256:9c"}})
      {:dataset, "sha256:9c"}
      iex> Pipeline.DSPy.Affinity.of(%{data: {:dataset, "sha256:9c", %{seed: 7, take: 0.1}}})
      {:dataset, "sha256:9c"}
      iex> Pipeline.DSPy.Affinity.of(%{transfer: "examples", chunk_index: 3})
      {:transfer, "examples"}
      iex> Pipeline.DSPy.Affinity.of(%{signature: "q -> a", input: %{q: "1 + 1"}})
      nil
  """
  @spec of(term) :: t | nil
  def of(payload) when payload == %{}, do: nil

  def of(payload) when is_map(payload) and not is_struct(payload) do
    named(payload, @transfer_keys, &transfer/1) || named(payload, @dataset_keys, &dataset/1) ||
      named(payload, @program_keys, &program/1)
  end

  def of(_no_payload), do: nil

  defp named(payload, keys, id) do
    Enum.find_value(keys, fn {key, text} -> id.(payload[key] || payload[text]) end)
  end

  defp transfer(name) when is_binary(name), do: {:transfer, name}
  defp transfer(_no_name), do: nil

  defp dataset({:dataset, id}) when is_binary(id), do: {:dataset, id}
  defp dataset({:dataset, id, _view}) when is_binary(id), do: {:dataset, id}
  defp dataset(_rows), do: nil

  defp program("program:" <> _digits = id), do: {:program, id}
  defp program(_program_itself), do: nil
end
