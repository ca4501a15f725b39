defmodule Pipeline.DSPy.Cluster.Supplies do
  @moduledoc """
  Finds what a member lacks at another one, and brings it there: by its content's hash, which is its name. Runs in the
  process of the caller that needs it.
  """

  alias Pipeline.DSPy.Cluster.Asking
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.DataTransfer
  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge

  @event [:pipeline, :dspy, :cluster, :supply]
  # A member that has not given a program by then is not worth waiting for.
  @ask_timeout_ms 5_000

  @doc "A stored program, of whichever member gives it first: those that are known to hold it are asked before others."
  @spec get_program(atom, String.t(), timeout, [node]) :: {:ok, Member.t(), map} | :error
  def get_program(cluster, id, timeout, except \\ []) do
    until = Deadline.in_ms(timeout)
    known = Directory.holders(cluster, [id])

    {holders, others} = cluster |> givers(except) |> Enum.split_with(&is_map_key(known, &1.node))

    with :error <- ask(cluster, holders, id, timeout),
         do: ask(cluster, others, id, Deadline.left(until))
  end

  defp givers(cluster, except) do
    now = Directory.now()
    Enum.filter(Directory.members(cluster), &(Member.gives?(&1, now) and &1.node not in except))
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
  Notes who holds these, of those that nobody is known to hold, by asking all. The timeout is for all of them.
  """
  @spec locate(atom, [String.t()], timeout) :: :ok
  def locate(cluster, ids, timeout) do
    until = Deadline.in_ms(timeout)

    for id <- ids,
        Directory.holders(cluster, [id]) == %{},
        do: find(cluster, id, Deadline.left(until), [])

    :ok
  end

  defp find(cluster, "program:" <> _ = id, timeout, except) do
    with {:ok, member, _result} <- get_program(cluster, id, timeout, except), do: {:ok, member}
  end

  defp find(cluster, "sha256:" <> _ = id, timeout, except) do
    payload = %{dataset: id, limit: 0}
    timeout = min(timeout, @ask_timeout_ms)

    with {:ok, member, _about} <-
           Asking.first(givers(cluster, except), :get_dataset, payload, timeout) do
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

    with {:ok, from} <- copy(cluster, id, to, Deadline.in_ms(timeout)) do
      Directory.hold(cluster, to.node, [id])
      duration = System.monotonic_time() - started
      metadata = %{cluster: cluster, id: id, from: from.node, to: to.node}
      Metrics.execute(@event, %{duration: duration}, metadata)
      :ok
    end
  end

  defp copy(cluster, "program:" <> _ = id, to, until) do
    with {:ok, from, %{program: program}} <-
           get_program(cluster, id, Deadline.left(until), [to.node]),
         {:ok, %{program_id: ^id}} <-
           PythonBridge.put_program(Member.address(to), program, timeout: Deadline.left(until)) do
      {:ok, from}
    else
      _missing -> :error
    end
  end

  defp copy(cluster, "sha256:" <> _ = id, to, until) do
    with {:ok, from} <- find(cluster, id, Deadline.left(until), [to.node]),
         {:ok, {:ok, _dataset}} <-
           within(until, fn ->
             DataTransfer.copy(Member.address(from), id, Member.address(to),
               timeout: Deadline.left(until)
             )
           end) do
      {:ok, from}
    else
      _missing -> :error
    end
  end

  defp copy(_cluster, _id, _to, _until), do: :error

  # A part that a member has been asked for comes, or its node goes down: one that hangs would be waited for until then.
  defp within(until, copy) do
    task = Task.async(copy)
    Task.yield(task, Deadline.left(until)) || Task.shutdown(task, :brutal_kill)
  end
end
