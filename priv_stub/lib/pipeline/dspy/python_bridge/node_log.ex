defmodule Pipeline.DSPy.PythonBridge.NodeLog do
  @moduledoc """
  A node's log lines as lines of Logger, with what Python said about them as the metadata `python`: a map of `worker` (its
  number; nil for the node itself), `job` (the id of the request that it worked on, or nil) and `logger` (the name of the one
  of Python's logging that spoke; nil for what was printed). Beside it stands `bridge`, the bridge's name or pid, as in every
  line that a bridge logs.

  What comes from Python is data: its text is never formatted, and its metadata stays a map under that one key.
  """

  require Logger

  @levels [:debug, :info, :warning, :error]

  @typedoc "The level that every line gets, or the line's own, or no line at all."
  @type level :: :debug | :info | :warning | :error | :as_sent | :none

  @doc "Writes one line that the node sent at `sent_level`. A level that Logger does not know counts as `:info`."
  @spec write(level, atom, binary, map) :: :ok
  def write(:none, _sent_level, _text, _metadata), do: :ok

  def write(level, sent_level, text, metadata) do
    level = if level == :as_sent, do: sent_level, else: level
    level = if level in @levels, do: level, else: :info
    Logger.log(level, [speaker(metadata), ": ", shown(text)], python: metadata)
  end

  defp speaker(%{worker: worker, logger: logger}) when is_integer(worker) and is_binary(logger),
    do: ["Python worker #{worker}, ", shown(logger)]

  defp speaker(%{worker: worker}) when is_integer(worker), do: "Python worker #{worker}"
  defp speaker(_metadata), do: "Python node"

  defp shown(text), do: if(String.valid?(text), do: text, else: inspect(text, limit: 200))
end
