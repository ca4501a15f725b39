defmodule Pipeline.DSPy.Cluster.Supplies do
  @moduledoc """
  Finds what a member lacks at another one, and brings it there: by its content's hash, which is its name. Runs in the
  process of the caller that needs it.
  """

  alias Pipeline.DSPy.Cluster.Asking
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member
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
  Brings a program to a member. `:error` when no other one has it, or not in time.

  The member's node reckons the id anew from what it stores, so that a program can only arrive as what it is called.
  """
  @spec bring_program(atom, String.t(), Member.t(), timeout) :: :ok | :error
  def bring_program(cluster, id, %Member{} = to, timeout) do
    Directory.forget(cluster, to.node, id)
    started = System.monotonic_time()

    with {:ok, from, %{program: program}} <- get_program(cluster, id, timeout, [to.node]),
         left when left > 0 <- left(timeout, started),
         {:ok, %{program_id: ^id}} <-
           PythonBridge.put_program(Member.address(to), program, timeout: left) do
      Directory.hold(cluster, to.node, [id])
      duration = System.monotonic_time() - started
      metadata = %{cluster: cluster, id: id, from: from.node, to: to.node}
      Metrics.execute(@event, %{duration: duration}, metadata)
      :ok
    else
      _missing -> :error
    end
  end

  defp left(:infinity, _started), do: :infinity

  defp left(timeout, started) do
    elapsed = System.monotonic_time() - started
    timeout - System.convert_time_unit(elapsed, :native, :millisecond)
  end
end
