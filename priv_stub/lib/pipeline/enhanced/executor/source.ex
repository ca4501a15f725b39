defmodule Pipeline.Enhanced.Executor.Source do
  @moduledoc """
  A workflow as it was given: a map, YAML text, or a file of YAML, read but not understood. The node parses it.
  """

  alias Pipeline.DSPy.PythonError

  # The node refuses longer ones; reading them first would cost memory for nothing.
  @max_bytes 1024 * 1024

  @enforce_keys [:workflow]
  defstruct [:workflow, :file, :dir]

  @typedoc "`file` is what to call it in messages, `dir` where the files lie that it names."
  @type t :: %__MODULE__{workflow: map | String.t(), file: String.t() | nil, dir: Path.t() | nil}

  @doc """
  Reads a workflow. A binary of one line that ends in `.yaml` or `.yml` is a file's path, as is `{:file, path}`; any
  other binary is YAML. Text that comes from somebody else goes in as `{:yaml, text}`, which is never taken for a path.

      iex> alias Pipeline.Enhanced.Executor.Source
      iex> {:ok, source} = Source.read("steps: []")
      iex> {source.workflow, source.file}
      {"steps: []", nil}
      iex> {:error, error} = Source.read("nowhere.yaml")
      iex> error.message
      "cannot read nowhere.yaml: no such file or directory"
  """
  @spec read(map | String.t() | {:yaml, String.t()} | {:file, Path.t()}) ::
          {:ok, t} | {:error, PythonError.t()}
  def read(workflow) when is_map(workflow), do: {:ok, %__MODULE__{workflow: workflow}}
  def read({:yaml, text}) when is_binary(text), do: {:ok, %__MODULE__{workflow: text}}
  def read({:file, path}) when is_binary(path), do: read_file(path)

  def read(text) when is_binary(text) do
    if String.ends_with?(text, [".yaml", ".yml"]) and not String.contains?(text, ["\n", "\0"]),
      do: read_file(text),
      else: {:ok, %__MODULE__{workflow: text}}
  end

  defp read_file(path) do
    with {:ok, %File.Stat{type: :regular, size: size}} when size <= @max_bytes <- File.stat(path),
         {:ok, text} <- File.read(path) do
      {:ok,
       %__MODULE__{
         workflow: text,
         file: Path.basename(path),
         dir: path |> Path.expand() |> Path.dirname()
       }}
    else
      {:ok, %File.Stat{type: :regular, size: size}} ->
        refused(path, "it has #{size} bytes, limit #{@max_bytes}")

      {:ok, %File.Stat{}} ->
        refused(path, "it is no regular file")

      {:error, reason} ->
        refused(path, :file.format_error(reason))
    end
  end

  defp refused(path, why) do
    message = "cannot read #{path}: #{why}"
    {:error, PythonError.new(:validation_error, message, context: %{file: path})}
  end
end
