defmodule Pipeline.Enhanced.Executor.Files do
  @moduledoc """
  The texts of files that a workflow's prompts name (`{type: file, path: …}`).

  A workflow may come from somebody else, so a path must lead to a regular file below one directory: not out of it by
  `..`, not from the root, not through a symbolic link that points outside. A file that is not there, not text, or too
  long is an error before anything is asked of a model.
  """

  alias Pipeline.DSPy.PythonError

  # No prompt of a workflow is longer than 4 MiB; all of them travel in one frame of 16 MiB with the rest.
  @max_bytes 4 * 1024 * 1024
  @max_total_bytes 8 * 1024 * 1024

  @doc """
  The texts by path. `dir` is the directory that they must lie in; with nil there are no files to be had, and `false`
  says that none shall be read: then each prompt does without, as `docs/workflows.md` says.
  """
  @spec read([String.t()], Path.t() | nil | false) ::
          {:ok, %{String.t() => String.t()}} | {:error, PythonError.t()}
  def read([], _dir), do: {:ok, %{}}
  def read(_paths, false), do: {:ok, %{}}

  def read([path | _rest], nil) do
    refused(path, "a workflow that is no file has no directory; give one as :base_dir, or false")
  end

  def read(paths, dir) do
    dir = Path.expand(dir)

    paths
    |> Enum.reduce_while({%{}, 0}, fn path, {texts, bytes} ->
      with {:ok, text} <- read_one(path, dir),
           total when total <= @max_total_bytes <- bytes + byte_size(text) do
        {:cont, {Map.put(texts, path, text), total}}
      else
        {:error, error} ->
          {:halt, {:error, error}}

        _too_much ->
          {:halt,
           refused(path, "with it the files have more than #{@max_total_bytes} bytes altogether")}
      end
    end)
    |> case do
      {:error, error} -> {:error, error}
      {texts, _bytes} -> {:ok, texts}
    end
  end

  defp read_one(path, dir) do
    with {:ok, inside} <- inside(path, dir),
         {:ok, %File.Stat{type: :regular, size: size}} when size <= @max_bytes <-
           File.stat(inside),
         {:ok, text} <- File.read(inside),
         true <- String.valid?(text) do
      {:ok, text}
    else
      :outside -> refused(path, "it leads out of the workflow's directory")
      {:ok, %File.Stat{type: :regular}} -> refused(path, "it has more than #{@max_bytes} bytes")
      {:ok, %File.Stat{}} -> refused(path, "it is no regular file")
      {:error, reason} -> refused(path, :file.format_error(reason))
      false -> refused(path, "it is not text in UTF-8")
    end
  end

  # Follows symbolic links, which Path.safe_relative_to/2 does not.
  defp inside(path, dir) do
    with false <- path == "" or String.contains?(path, "\0"),
         relative when relative != :unsafe <- :filelib.safe_relative_path(path, dir) do
      {:ok, Path.join(dir, relative)}
    else
      _unsafe -> :outside
    end
  end

  defp refused(path, why) do
    message = "the prompt's file #{inspect(path, printable_limit: 200)} cannot be used: #{why}"
    {:error, PythonError.new(:validation_error, message, context: %{file: path})}
  end
end
