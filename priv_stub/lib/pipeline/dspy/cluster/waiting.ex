defmodule Pipeline.DSPy.Cluster.Waiting do
  @moduledoc """
  Who waits at a BEAM node for its cluster to have a member that is ready: the requests of `:await_ready`, the one verb that
  a cluster's process answers itself.

  Functions over the `Pipeline.DSPy.PythonBridge.Requests` of that process, which gets `{:timed_out, id}` for one whose time
  is up, and the `:DOWN` of one whose caller dies.
  """

  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Requests
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError

  @doc "One more waits; its caller and its time are watched."
  @spec add(Requests.t(), Request.t()) :: Requests.t()
  def add(requests, %Request{} = request) do
    request = %{request | monitor: Process.monitor(request.owner), timer: start_timer(request)}
    Requests.put(requests, request)
  end

  defp start_timer(%Request{timeout: :infinity}), do: nil

  defp start_timer(%Request{id: id, timeout: timeout, grace: grace}) do
    Process.send_after(self(), {:timed_out, id}, timeout + grace)
  end

  @doc "Answers them all as soon as a member of this cluster can be sent to: with what its node says, and who else is there."
  @spec answer_when_ready(Requests.t(), atom) :: Requests.t()
  def answer_when_ready(requests, cluster) do
    with true <- Requests.count(requests) > 0,
         {:ok, usable} <- Directory.usable(cluster),
         [first | _] = members <- for({member, _placed} <- usable, member.info, do: member) do
      own = %{
        members: for(member <- members, do: member.node),
        workers: Enum.sum(for member <- members, do: member.workers)
      }

      answer_all(requests, {:ok, Map.merge(first.info, own)})
    else
      _nobody -> requests
    end
  end

  @doc "Answers them all."
  @spec answer_all(Requests.t(), PythonBridge.answer()) :: Requests.t()
  def answer_all(requests, outcome) do
    for request <- Requests.all(requests), do: answer(request, outcome)
    Requests.new()
  end

  @doc "The time of one is up."
  @spec time_out(Requests.t(), reference) :: Requests.t()
  def time_out(requests, id) do
    {request, requests} = Requests.pop(requests, id)

    if request do
      message = "no member of the cluster was ready within #{request.timeout} ms"
      error = PythonError.new(:timeout_error, message, context: %{deadline_ms: request.timeout})
      answer(request, {:error, error})
    end

    requests
  end

  @doc "One is waited for no more."
  @spec drop(Requests.t(), reference) :: Requests.t()
  def drop(requests, id), do: dropped(Requests.pop(requests, id))

  @doc "The same, of the one whose caller had this monitor; another's changes nothing."
  @spec drop_monitored(Requests.t(), reference) :: Requests.t()
  def drop_monitored(requests, monitor), do: dropped(Requests.pop_monitored(requests, monitor))

  defp dropped({nil, requests}), do: requests

  defp dropped({request, requests}) do
    release(request)
    requests
  end

  defp answer(request, outcome) do
    release(request)
    send(request.id, {PythonBridge, request.id, outcome})
  end

  defp release(request) do
    if request.timer, do: Process.cancel_timer(request.timer)
    Process.demonitor(request.monitor, [:flush])
  end
end
