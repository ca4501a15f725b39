defmodule Pipeline.DSPy.PythonBridge.Nesting do
  @moduledoc """
  Who asks from within what: a function that DSPy calls may use a bridge itself, and such a request names the one whose
  job waits for the function, its parent. The node runs it beside that job instead of behind it.

  The process of a function knows its parent, and so do the processes that it starts with `Task`: by their `$callers`.
  """

  @key :"$pipeline_dspy_call"

  @typedoc """
  `parent` is the id of the request whose job waits. `depth` counts such jobs: 1 in a function that a job calls which
  nobody waits for but its own caller. `node` is the BEAM node of the bridge that has the parent: only there is a place
  lent.
  """
  @type t :: %{parent: reference, depth: pos_integer, node: node}

  @doc """
  From now on this process works for a call of this request, which itself was made at this depth and runs at this BEAM
  node's bridge.
  """
  @spec enter(reference, non_neg_integer, node) :: :ok
  def enter(request_id, depth, node \\ node()) do
    Process.put(@key, %{parent: request_id, depth: depth + 1, node: node})
    :ok
  end

  @doc """
  The call that this process works for, nil for none.

      iex> alias Pipeline.DSPy.PythonBridge.Nesting
      iex> Nesting.current()
      nil
      iex> request = make_ref()
      iex> Nesting.enter(request, 0)
      iex> Task.await(Task.async(&Nesting.current/0)) == %{parent: request, depth: 1, node: node()}
      true
  """
  @spec current() :: t | nil
  def current do
    Process.get(@key) || :"$callers" |> Process.get([]) |> Enum.find_value(&known_of/1)
  end

  defp known_of(pid) when node(pid) == node() do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary) do
      with {@key, call} <- List.keyfind(dictionary, @key, 0), do: call
    end
  end

  defp known_of(_elsewhere), do: nil

  @doc "How deep a request is that this process makes: 0 unless it works for a call."
  @spec depth(t | nil) :: non_neg_integer
  def depth(nil), do: 0
  def depth(%{depth: depth}), do: depth
end
