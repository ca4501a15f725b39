defmodule Pipeline.DSPy.Cluster.Server do
  @moduledoc """
  The process by which a BEAM node takes part in a cluster. It looks after the bridge or pool of its own node, tells the
  others of it, and writes down what they tell, for callers to read. No request passes through it.

  Who is there is `:pg`'s to know; that one is gone, a monitor's. What members say is sent without waiting: a node that
  takes nothing in, or is not connected, misses it and hears the next.
  """

  use GenServer

  require Logger

  alias Pipeline.DSPy.Cluster
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.Cluster.Waiting
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonBridge.Requests
  alias Pipeline.DSPy.PythonBridge.Requests.Request
  alias Pipeline.DSPy.PythonError

  @group :members
  @event [:pipeline, :dspy, :cluster, :member]
  # Health is asked for in every interval, what is stored in every so many of them.
  @rounds_per_listing 5
  @listed 100
  @probe_timeout_ms 5_000
  # While somebody waits for the target to have nothing left.
  @draining_interval_ms 50

  defmodule State do
    @moduledoc false

    @enforce_keys [:cluster, :interval]
    defstruct [
      :cluster,
      :interval,
      :self,
      :probe,
      :listing,
      :asking,
      :target_monitor,
      :timer,
      round: 0,
      idle_rounds: 0,
      peers: %{},
      strangers: MapSet.new(),
      draining: [],
      requests: Requests.new()
    ]
  end

  @doc "The name of a cluster's process on this BEAM node."
  @spec name(atom) :: atom
  def name(cluster), do: Module.concat(cluster, Server)

  @doc "The `:pg` scope of a cluster."
  @spec scope(atom) :: atom
  def scope(cluster), do: Module.concat(cluster, Scope)

  @doc "Takes part in a cluster. Options: `:name`, `:target` and `:interval`, those of `Pipeline.DSPy.Cluster.start_link/1`, which checks them."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts), do: GenServer.start_link(__MODULE__, opts, name: name(opts[:name]))

  # -- life

  @impl true
  def init(opts) do
    Process.flag(:trap_exit, true)
    cluster = opts[:name]
    Directory.create(cluster)
    :ok = :pg.join(scope(cluster), @group, self())
    own = if opts[:target], do: Member.new(self(), opts[:target], opts[:interval])
    state = %State{cluster: cluster, interval: opts[:interval], self: own}
    broadcast(state, {Cluster, :hello, self()})
    {:ok, state, {:continue, :round}}
  end

  @impl true
  def handle_continue(:round, state) do
    state = if state.self, do: put_self(state, state.self), else: state
    {:noreply, take_round(state)}
  end

  @impl true
  def terminate(_reason, state) do
    if state.self, do: tell(%{state.self | leaving: true}, state)
    error = PythonError.new(:shutting_down, "the cluster is stopped on this BEAM node")
    Waiting.answer_all(state.requests, {:error, error})
    :ok
  end

  # -- on this BEAM node

  @impl true
  def handle_call({:drain, _timeout}, _from, %State{self: nil} = state), do: {:reply, :ok, state}

  def handle_call({:drain, timeout}, from, state) do
    timer = Process.send_after(self(), {:drain_over, from}, timeout)
    state = %{state | draining: [{from, timer} | state.draining], idle_rounds: 0}
    {:noreply, state |> put_self(%{state.self | leaving: true}) |> next_round(0)}
  end

  def handle_call(:join, _from, %State{self: nil} = state), do: {:reply, :ok, state}

  def handle_call(:join, _from, state) do
    {:reply, :ok, put_self(state, %{state.self | leaving: false})}
  end

  # The one request that it takes itself: to be told when there is a member.
  @impl true
  def handle_cast({:submit, %Request{verb: :await_ready} = request}, state) do
    {:noreply, answer_waiting(%{state | requests: Waiting.add(state.requests, request)})}
  end

  def handle_cast({:abandon, id}, state) do
    {:noreply, %{state | requests: Waiting.drop(state.requests, id)}}
  end

  @impl true
  def handle_info(:round, state), do: {:noreply, take_round(state)}

  # -- what its own target says

  def handle_info({PythonBridge, probe, answer}, %State{probe: probe} = state) do
    {:noreply, probed(answer, %{state | probe: nil})}
  end

  def handle_info({PythonBridge, listing, answer}, %State{listing: listing} = state) do
    state = %{state | listing: nil}

    case answer do
      {:ok, %{programs: programs}} ->
        held = for %{program_id: id} <- programs, do: id
        tell_and_put(%{state | self: %{state.self | held: held}})

      {:error, _error} ->
        {:noreply, state}
    end
  end

  def handle_info({PythonBridge, asking, answer}, %State{asking: asking} = state) do
    state = %{state | asking: nil}

    case answer do
      {:ok, info} -> {:noreply, put_self(state, %{state.self | info: info})}
      {:error, _error} -> {:noreply, state}
    end
  end

  def handle_info({:DOWN, probe, :process, _pid, _reason}, %State{probe: probe} = state) do
    {:noreply, probed({:error, :down}, %{state | probe: nil})}
  end

  def handle_info({:DOWN, listing, :process, _pid, _reason}, %State{listing: listing} = state) do
    {:noreply, %{state | listing: nil}}
  end

  def handle_info({:DOWN, asking, :process, _pid, _reason}, %State{asking: asking} = state) do
    {:noreply, %{state | asking: nil}}
  end

  def handle_info({:DOWN, monitor, :process, _, _}, %State{target_monitor: monitor} = state) do
    # Another node may be behind it when it comes back.
    state = %{state | self: %{state.self | info: nil}}
    {:noreply, probed({:error, :down}, %{state | target_monitor: nil})}
  end

  # -- what others say

  def handle_info({Cluster, :hello, pid}, state) when is_pid(pid) do
    if state.self, do: send_to(pid, {Cluster, :member, Member.to_map(state.self)})
    {:noreply, state}
  end

  def handle_info({Cluster, :member, map}, state) do
    with {:ok, member} <- Member.from_map(map, Directory.now()),
         # What it says came before the news of its end.
         true <- member.server in pids(state) do
      {:noreply, state |> watch(member) |> heard(member) |> answer_waiting()}
    else
      _no_member -> {:noreply, state}
    end
  end

  def handle_info({:DOWN, monitor, :process, pid, _reason}, state) do
    case Map.pop(state.peers, monitor) do
      {nil, _peers} ->
        {:noreply, %{state | requests: Waiting.drop_monitored(state.requests, monitor)}}

      {^pid, peers} ->
        # One that was started again may have spoken before this.
        with %Member{server: ^pid} <- known(state, node(pid)) do
          changed(state, node(pid), :gone)
          Directory.delete(state.cluster, node(pid))
        end

        {:noreply, %{state | peers: peers}}
    end
  end

  # -- time

  def handle_info({:timed_out, id}, state) do
    {:noreply, %{state | requests: Waiting.time_out(state.requests, id)}}
  end

  def handle_info({:drain_over, from}, state) do
    message =
      "its bridge or pool still has work: #{state.self.busy} run, #{state.self.waiting} wait"

    context = %{running: state.self.busy, waiting: state.self.waiting}
    GenServer.reply(from, {:error, PythonError.new(:timeout_error, message, context: context)})
    {:noreply, %{state | draining: List.keydelete(state.draining, from, 0)}}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # -- its own target

  defp take_round(%State{self: nil} = state), do: next_round(state, state.interval)

  defp take_round(state) do
    interval = if state.draining == [], do: state.interval, else: @draining_interval_ms
    state |> watch_target() |> probe() |> ask_info() |> list() |> next_round(interval)
  end

  defp next_round(state, interval) do
    if state.timer, do: Process.cancel_timer(state.timer)
    %{state | timer: Process.send_after(self(), :round, interval), round: state.round + 1}
  end

  defp watch_target(%State{target_monitor: nil} = state) do
    %{state | target_monitor: Process.monitor(state.self.target)}
  end

  defp watch_target(state), do: state

  # One question at a time; its answer is told to the others. A target that does not answer is no reason to be silent:
  # that would look as if the BEAM node hung.
  defp probe(%State{probe: nil} = state), do: %{state | probe: ask(state, :health_check, %{})}
  defp probe(state), do: put_self(state, state.self)

  defp ask_info(%State{asking: nil, self: %Member{info: nil}} = state) do
    %{state | asking: ask(state, :await_ready, nil)}
  end

  defp ask_info(state), do: state

  defp list(%State{listing: nil, round: round} = state)
       when rem(round, @rounds_per_listing) == 0 do
    %{state | listing: ask(state, :list_programs, %{limit: @listed})}
  end

  defp list(state), do: state

  defp ask(state, verb, payload) do
    Caller.submit(state.self.target, verb, payload, timeout: @probe_timeout_ms, grace: 0)
  end

  defp probed({:ok, health}, state) do
    state = put_self(state, Member.put_health(state.self, health))
    idle = if Member.idle?(state.self), do: state.idle_rounds + 1, else: 0
    drained(%{state | idle_rounds: idle})
  end

  # Too full for one question more, but there. Its load is what it was.
  defp probed({:error, %PythonError{error_type: :overloaded}}, state) do
    put_self(%{state | idle_rounds: 0}, state.self)
  end

  defp probed({:error, _error}, state) do
    put_self(state, %{state.self | ready: false, busy: 0, waiting: 0})
  end

  # Idle once may have been before the others knew that this member leaves.
  defp drained(%State{idle_rounds: idle} = state) when idle < 2, do: state

  defp drained(state) do
    for {from, timer} <- state.draining do
      Process.cancel_timer(timer)
      GenServer.reply(from, :ok)
    end

    %{state | draining: []}
  end

  defp tell_and_put(state) do
    state = put_self(state, state.self)
    # Told once; those who come later ask with their hello, and hear of the next listing.
    {:noreply, %{state | self: %{state.self | held: nil}}}
  end

  defp put_self(state, member) do
    tell(member, state)
    member = %{member | heard_at: Directory.now()}
    %{state | self: member} |> heard(member) |> answer_waiting()
  end

  # -- others

  defp tell(member, state), do: broadcast(state, {Cluster, :member, Member.to_map(member)})

  defp broadcast(state, message) do
    for pid <- pids(state), pid != self(), do: send_to(pid, message)
  end

  defp send_to(pid, message), do: :erlang.send(pid, message, [:nosuspend, :noconnect])

  defp pids(state), do: :pg.get_members(scope(state.cluster), @group)

  defp watch(state, member) do
    if member.server in Map.values(state.peers) do
      state
    else
      %{state | peers: Map.put(state.peers, Process.monitor(member.server), member.server)}
    end
  end

  defp heard(state, member) do
    before = known(state, member.node)
    Directory.put(state.cluster, member)
    now = condition(member)
    if before == nil or condition(before) != now, do: changed(state, member.node, now)
    if Member.speaks?(member), do: state, else: warn_once(state, member.node)
  end

  defp known(state, node) do
    Enum.find(Directory.members(state.cluster), &(&1.node == node))
  end

  defp condition(%Member{leaving: true}), do: :leaving
  defp condition(%Member{ready: true}), do: :ready
  defp condition(%Member{}), do: :not_ready

  defp changed(state, node, condition) do
    {:ok, usable} = Directory.usable(state.cluster)
    metadata = %{cluster: state.cluster, node: node, condition: condition}
    Metrics.execute(@event, %{usable: length(usable)}, metadata)
  end

  defp warn_once(%State{strangers: strangers} = state, node) do
    unless node in strangers do
      Logger.warning(
        "#{node} is a member of #{inspect(state.cluster)} with another version of :pipeline; it gets no requests from here"
      )
    end

    %{state | strangers: MapSet.put(strangers, node)}
  end

  defp answer_waiting(state) do
    %{state | requests: Waiting.answer_when_ready(state.requests, state.cluster)}
  end
end
