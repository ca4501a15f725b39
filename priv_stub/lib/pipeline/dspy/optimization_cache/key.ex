defmodule Pipeline.DSPy.OptimizationCache.Key do
  @moduledoc """
  What makes two optimizations the same: a hash of signature, data and configuration in one normal form.

  In it, names are binaries, maps have no order, lists have, functions are a name and a version, and keys of models are
  left out. A value; asks nobody.
  """

  alias Pipeline.DSPy.PythonError

  @typedoc "Signature, `training_data`, `validation_data` and `config`, as the node gets them."
  @type question :: map

  # As many as the node takes.
  @max_atoms 10_000
  @exact_digits 16

  @doc """
  The key of a question: 64 hexadecimal digits. `versions` are those of the functions that it names, by name.

      iex> alias Pipeline.DSPy.OptimizationCache.Key
      iex> question = %{signature: "a -> b", config: %{metric: {:call, :judge}}}
      iex> {:ok, old} = Key.new(question, %{judge: 1})
      iex> Key.new(question, %{"judge" => 2}) == {:ok, old}
      false
      iex> {:error, error} = Key.new(%{config: %{lm: fn _request -> "hi" end}}, %{})
      iex> error.message
      "config.lm: a function in place has no name by which its result could be found again; name it {:call, name}, give it under :functions, and its version under :versions"
  """
  @spec new(question, map | keyword) :: {:ok, String.t()} | {:error, PythonError.t()}
  def new(question, versions) do
    versions = Map.new(versions, fn {name, version} -> {to_string(name), version} end)
    {:ok, hex(normal(question, [], versions))}
  catch
    {:refused, path, why} ->
      place = path |> Enum.reverse() |> Enum.join(".")
      {:error, PythonError.new(:validation_error, "#{place}: #{why}", context: %{path: place})}
  end

  @doc """
  The key by which the node knows the question. It holds how the question is spelled too, since the node answers with
  the atoms that it was asked with.
  """
  @spec exact(String.t(), question) :: String.t()
  def exact(key, question) do
    spelled = question |> Map.update(:config, %{}, &without_keys/1) |> hex()
    key <> "-" <> binary_part(spelled, 0, @exact_digits)
  end

  @doc "The atoms that a question uses: an answer to it may use them too."
  @spec atoms(question) :: [atom]
  def atoms(question) do
    question |> collect(MapSet.new()) |> Enum.take(@max_atoms)
  end

  # -- the normal form

  defp normal(value, _path, _versions) when value in [nil, true, false], do: value
  defp normal(value, _path, _versions) when is_atom(value), do: Atom.to_string(value)
  defp normal(value, _path, _versions) when is_binary(value) or is_number(value), do: value

  defp normal(%_struct{} = struct, path, versions) do
    struct
    |> Map.from_struct()
    |> Map.put("__struct__", struct.__struct__)
    |> normal(path, versions)
  end

  defp normal(map, path, versions) when is_map(map) do
    pairs =
      for {key, value} <- map, not secret?(key, path) do
        name = if is_atom(key), do: Atom.to_string(key), else: normal(key, path, versions)
        {name, normal(value, [label(key) | path], versions)}
      end

    normal = Map.new(pairs)

    if map_size(normal) < length(pairs),
      do: refuse(path, "a key is there twice, as an atom and as a binary"),
      else: normal
  end

  defp normal({:call, name}, path, versions) when is_atom(name) or is_binary(name) do
    case Map.fetch(versions, to_string(name)) do
      {:ok, version} ->
        {"call", to_string(name), normal(version, path, versions)}

      :error ->
        refuse(
          path,
          "the function #{name} has no version; say `versions: %{#{name}: 1}` and change it with the function"
        )
    end
  end

  defp normal(tuple, path, versions) when is_tuple(tuple) do
    tuple |> Tuple.to_list() |> normal(path, versions) |> List.to_tuple()
  end

  defp normal([head | tail], path, versions) do
    [normal(head, path, versions) | normal(tail, path, versions)]
  end

  defp normal([], _path, _versions), do: []

  defp normal(function, path, _versions) when is_function(function) do
    refuse(
      path,
      "a function in place has no name by which its result could be found again; " <>
        "name it {:call, name}, give it under :functions, and its version under :versions"
    )
  end

  defp normal(other, path, _versions) do
    refuse(path, "no key can be made of #{inspect(other, limit: 5)}")
  end

  defp refuse(path, why), do: throw({:refused, path, why})

  defp label(key) when is_atom(key) or is_binary(key) or is_number(key), do: to_string(key)
  defp label(key), do: inspect(key, limit: 5)

  # A field of the data may have this name as well.
  defp secret?(key, path), do: key in [:api_key, "api_key"] and List.last(path) == "config"

  defp without_keys(%_struct{} = struct), do: struct

  defp without_keys(map) when is_map(map) do
    for {key, value} <- map, key not in [:api_key, "api_key"], into: %{} do
      {key, without_keys(value)}
    end
  end

  defp without_keys([head | tail]), do: [without_keys(head) | without_keys(tail)]
  defp without_keys(other), do: other

  # -- the atoms

  defp collect(value, found) when value in [nil, true, false], do: found
  defp collect(atom, found) when is_atom(atom), do: MapSet.put(found, atom)

  defp collect(map, found) when is_map(map) do
    map
    |> Map.to_list()
    |> Enum.reduce(found, fn {key, value}, found -> collect(value, collect(key, found)) end)
  end

  defp collect([head | tail], found), do: collect(tail, collect(head, found))

  defp collect(tuple, found) when is_tuple(tuple) do
    tuple |> Tuple.to_list() |> collect(found)
  end

  defp collect(_other, found), do: found

  defp hex(term) do
    encoded = :erlang.term_to_binary(term, [:deterministic, minor_version: 2])
    Base.encode16(:crypto.hash(:sha256, encoded), case: :lower)
  end
end
