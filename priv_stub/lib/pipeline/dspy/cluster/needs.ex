defmodule Pipeline.DSPy.Cluster.Needs do
  @moduledoc """
  What a request names that one member may hold and another may not, and what an answer says that its member holds now:
  ids of programs, datasets and trained models. Values only.
  """

  # Data itself is never walked, and of settings only the beginning: an id that is overlooked costs a round trip.
  @places [
            :program,
            :program_id,
            :signature,
            :teacher,
            :programs,
            :training_data,
            :validation_data,
            :data
          ] ++
            [:dataset, :inputs, :config, :lm, :prompt_lm, :teacher_lm, :model, :options, :members]
  @texts Map.new(@places, &{Atom.to_string(&1), &1})
  @max_depth 4
  @max_list 64

  @doc """
  The ids in a payload.

      iex> Pipeline.DSPy.Cluster.Needs.of(%{program: "program:ab", config: %{lm: "offline:cd"}, data: {:dataset, "sha256:ef"}})
      ["offline:cd", "program:ab", "sha256:ef"]
      iex> Pipeline.DSPy.Cluster.Needs.of(%{training_data: {:dataset, "sha256:ef", %{seed: 7, take: 0.8}}})
      ["sha256:ef"]
      iex> Pipeline.DSPy.Cluster.Needs.of(%{"signature" => "question -> answer", "input" => %{"program" => "program:ab"}})
      []
  """
  @spec of(term) :: [String.t()]
  def of(payload), do: payload |> walk(@max_depth) |> Enum.uniq() |> Enum.sort()

  @doc """
  The ids of what an answer has left at its member.

      iex> Pipeline.DSPy.Cluster.Needs.left_by(%{status: :success, program_id: "program:ab", model: nil})
      ["program:ab"]
  """
  @spec left_by(term) :: [String.t()]
  def left_by(%{} = result) when not is_struct(result) do
    for {_key, id} <- Map.take(result, [:program_id, :model, :dataset]), id?(id), do: id
  end

  def left_by(_other), do: []

  @doc """
  Whether an id is a dataset's.

      iex> Pipeline.DSPy.Cluster.Needs.dataset?("sha256:ef")
      true
  """
  @spec dataset?(String.t()) :: boolean
  def dataset?(id), do: match?("sha256:" <> _, id)

  @doc """
  The name of the transfer that a payload is a part of, nil for none.

      iex> Pipeline.DSPy.Cluster.Needs.transfer(%{transfer: "examples", chunk_index: 3})
      "examples"
  """
  @spec transfer(term) :: String.t() | nil
  def transfer(%{transfer: name}) when is_binary(name), do: name
  def transfer(%{"transfer" => name}) when is_binary(name), do: name
  def transfer(_other), do: nil

  defp walk(_term, 0), do: []

  defp walk(map, depth) when is_map(map) and not is_struct(map) do
    for {key, value} <- map, place?(key), id <- values(value, depth - 1), do: id
  end

  defp walk(_other, _depth), do: []

  # Below `programs` the keys are names of steps.
  defp values({kind, id}, _depth) when kind in [:program, :dataset], do: values(id, 1)
  defp values({:dataset, id, _view}, _depth), do: values(id, 1)
  defp values(map, depth) when is_map(map) and map_size(map) > @max_list, do: walk(map, depth)

  defp values(map, depth) when is_map(map) and not is_struct(map) do
    walk(map, depth) ++ for {key, id} <- map, not place?(key), id?(id), do: id
  end

  defp values(list, _depth) when is_list(list) do
    if List.improper?(list), do: [], else: list |> Enum.take(@max_list) |> Enum.filter(&id?/1)
  end

  defp values(value, _depth), do: if(id?(value), do: [value], else: [])

  defp place?(key) when is_atom(key), do: key in @places
  defp place?(key), do: is_map_key(@texts, key)

  defp id?("program:" <> _), do: true
  defp id?("sha256:" <> _), do: true
  defp id?("offline:" <> _), do: true
  defp id?(_other), do: false
end
