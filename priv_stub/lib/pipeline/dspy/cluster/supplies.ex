defmodule Pipeline.DSPy.Cluster.Supplies do
  @moduledoc """
  Finds what a member lacks at another one, and brings it there: by its content's hash, which is its name. Runs in the
  process of the caller that needs it.
  """

  alias Pipeline.DSPy.Cluster.Asking
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.DataTransfer
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge

  @event [:pipeline, :dspy, :cluster, :supply]
  # A member that has not given a program by then is not worth waiting for.
  @ask_timeout_ms 5_000

  @doc "A stored program, of whichever member gives it first: those that are known to hold it are asked before others."
  @spec get_program(atom, String.t(), timeout, [node]) :: {:ok, Member.t(), map} | :error
  def get_program(cluster, id, timeout, except \\ []) do
    known = Directory.holders(cluster, [id])

    {holders, others} =
      cluster
      |> Directory.members()
      # Who leaves, and gets no new work, may still give what it has.
      |> Enum.filter(&(&1.ready and &1.node not in except))
      |> Enum.split_with(&is_map_key(known, &1.node))

    with :error <- ask(cluster, holders, id, timeout), do: ask(cluster, others, id, timeout)
  end

  defp ask(cluster, members, id, timeout) do
    # Integers are less than atoms.
    timeout = min(timeout, @ask_timeout_ms)

    case Asking.first(members, :get_program, %{program_id: id}, timeout) do
      {:ok, member, %{program_id: ^id} = result} ->
        Directory.hold(cluster, member.node, [id])
        {:ok, member, result}

      _nobody ->
        for member <- members, do: Directory.forget(cluster, member.node, id)
        :error
    end
  end

  @doc """
  Notes who holds these, of those that nobody is known to hold, by asking all.
  """
  @spec locate(atom, [String.t()], timeout) :: :ok
  def locate(cluster, ids, timeout) do
    for id <- ids, Directory.holders(cluster, [id]) == %{}, do: find(cluster, id, timeout, [])
    :ok
  end

  defp find(cluster, "program:" <> _ = id, timeout, except) do
    with {:ok, member, _result} <- get_program(cluster, id, timeout, except), do: {:ok, member}
  end

  defp find(cluster, "sha256:" <> _ = id, timeout, except) do
    members = Enum.filter(Directory.members(cluster), &(&1.ready and &1.node not in except))
    payload = %{dataset: id, limit: 0}

    with {:ok, member, _about} <-
           Asking.first(members, :get_dataset, payload, min(timeout, @ask_timeout_ms)) do
      Directory.hold(cluster, member.node, [id])
      {:ok, member}
    end
  end

  # A trained model; nobody can be asked for it.
  defp find(_cluster, _id, _timeout, _except), do: :error

  @doc """
  Brings a program or a dataset to a member. `:error` when no other one has it, or not in time.

  The member's node reckons the id anew from what it stores, so that nothing arrives but what is called so.
  """
  @spec bring(atom, String.t(), Member.t(), timeout) :: :ok | :error
  def bring(cluster, id, %Member{} = to, timeout) do
    Directory.forget(cluster, to.node, id)
    started = System.monotonic_time()

    with {:ok, from} <- copy(cluster, id, to, timeout, started) do
      Directory.hold(cluster, to.node, [id])
      duration = System.monotonic_time() - started
      metadata = %{cluster: cluster, id: id, from: from.node, to: to.node}
      Metrics.execute(@event, %{duration: duration}, metadata)
      :ok
    end
  end

  defp copy(cluster, "program:" <> _ = id, to, timeout, started) do
    with {:ok, from, %{program: program}} <- get_program(cluster, id, timeout, [to.node]),
         {:ok, %{program_id: ^id}} <-
           PythonBridge.put_program(Member.address(to), program, timeout: left(timeout, started)) do
      {:ok, from}
    else
      _missing -> :error
    end
  end

  defp copy(cluster, "sha256:" <> _ = id, to, timeout, started) do
    with {:ok, from} <- find(cluster, id, timeout, [to.node]),
         opts = [timeout: left(timeout, started)],
         {:ok, _dataset} <-
           DataTransfer.copy(Member.address(from), id, Member.address(to), opts) do
      {:ok, from}
    else
      _missing -> :error
    end
  end

  defp copy(_cluster, _id, _to, _timeout, _started), do: :error

  defp left(:infinity, _started), do: :infinity

  defp left(timeout, started) do
    elapsed = System.monotonic_time() - started
    max(timeout - System.convert_time_unit(elapsed, :native, :millisecond), 0)
  end
end
