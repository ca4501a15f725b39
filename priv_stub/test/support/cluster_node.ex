defmodule Pipeline.ClusterNode do
  @moduledoc "What a test has the BEAM nodes of a cluster do: functions of a test's own module are not there."

  alias Pipeline.DSPy.Cluster
  alias Pipeline.DSPy.Cluster.Directory
  alias Pipeline.DSPy.Cluster.Supplies
  alias Pipeline.DSPy.DataTransfer
  alias Pipeline.DSPy.Metrics
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonBridge.Requests.Request

  @cluster Pipeline.TestCluster
  @target Pipeline.TestBridge
  @interval_ms 100

  # -- taking part

  @doc "Starts the application with a bridge (`{module, options}`; nil for none), and takes part in the cluster."
  def serve(target) do
    {:ok, _} = Application.ensure_all_started(:pipeline)
    with {module, options} <- target, do: start({module, Keyword.put(options, :name, @target)})
    start({Cluster, name: @cluster, target: target && @target, interval: @interval_ms})
    :ok
  end

  defp start(child) do
    {:ok, pid} = Supervisor.start_child(Pipeline.Supervisor, child)
    pid
  end

  def stop_cluster do
    :ok = Supervisor.terminate_child(Pipeline.Supervisor, Cluster)
  end

  def at(node), do: {@target, node}
  def cluster(options \\ []), do: Cluster.new(@cluster, options)
  def members, do: Cluster.members(@cluster)
  def leave(timeout), do: Cluster.leave(@cluster, timeout)
  def join, do: Cluster.join(@cluster)

  def usable, do: Enum.sort(for %{usable: true, node: node} <- members(), do: node)

  # -- asking

  @doc "Calls a function of `PythonBridge` with the cluster as its first argument."
  def ask(function, arguments), do: ask(cluster(), function, arguments)
  def ask(bridge, function, arguments), do: apply(PythonBridge, function, [bridge | arguments])

  @doc "Takes part with a target that says it has any dataset, and then gives nothing of it."
  def serve_mute do
    {:ok, _} = Application.ensure_all_started(:pipeline)
    pid = spawn(fn -> mute(0) end)
    Process.register(pid, @target)
    start({Cluster, name: @cluster, target: @target, interval: @interval_ms})
    :ok
  end

  # To be found, and to be asked for its size.
  @asked_before_parts 2

  defp mute(asked) do
    receive do
      {:"$gen_cast", {:submit, %Request{id: id, verb: :health_check}}} ->
        send(id, {PythonBridge, id, {:ok, %{workers: [], queue: %{}}}})
        mute(asked)

      {:"$gen_cast", {:submit, %Request{id: id, verb: :get_dataset}}}
      when asked < @asked_before_parts ->
        dataset = "sha256:" <> String.duplicate("0", 64)
        send(id, {PythonBridge, id, {:ok, %{dataset: dataset, examples: 1, bytes: 100}}})
        mute(asked + 1)

      _other ->
        mute(asked)
    end
  end

  @doc "A model that waits for a while and then answers with the BEAM node it runs on."
  def where(_request) do
    receive do
    after
      50 -> answer(node())
    end
  end

  @doc "A model that says more than a megabyte."
  def large(_request), do: answer(String.duplicate("word ", 300_000))

  @doc "Notes the events of this name that are emitted here; `noted/1` gives them, the latest first."
  def listen(event), do: Metrics.attach({__MODULE__, event}, event, &__MODULE__.note/4, nil)

  @doc false
  def note(event, measurements, metadata, nil) do
    :persistent_term.put({__MODULE__, event}, [{measurements, metadata} | noted(event)])
  end

  def noted(event), do: :persistent_term.get({__MODULE__, event}, [])

  @doc "How many requests the bridge of this BEAM node has."
  def in_flight, do: map_size(:sys.get_state(@target).exchange.requests.by_id)

  @doc "The BEAM nodes that it could not send something to at once."
  def busy do
    {:dictionary, dictionary} = Process.info(Process.whereis(@target), :dictionary)
    for {{PythonBridge.Courier, :busy, node}, true} <- dictionary, do: node
  end

  def answer(text), do: "[[ ## answer ## ]]\n#{text}\n\n[[ ## completed ## ]]"

  @doc "Where an own function of a request runs, and for whom."
  def own_function(bridge) do
    asker = self()

    lm = fn _request ->
      send(asker, {:called_at, node(), Process.get(:"$callers")})
      answer("mine")
    end

    {:ok, %{prediction: %{"answer" => "mine"}}} =
      PythonBridge.predict(bridge, "question -> answer", %{question: "?"}, lm: lm, cache: false)

    receive do
      {:called_at, node, callers} -> {node, asker in callers}
    end
  end

  @doc "A function that asks the cluster itself, whose job has the only worker of its node."
  def nested(bridge) do
    lm = fn _request ->
      {:ok, %{prediction: %{"answer" => inner}}} =
        PythonBridge.predict(cluster(), "question -> answer", %{question: "?"},
          lm: {:call, :where}
        )

      answer(inner)
    end

    PythonBridge.predict(bridge, "question -> answer", %{question: "?"}, lm: lm, timeout: 10_000)
  end

  @doc "An optimization through the cluster: its answer, and the progress that came before."
  def optimize(payload, function \\ :progress) do
    ref = PythonBridge.async(cluster(), :optimize_signature, payload)
    {Caller.await(ref, [{function, &send(self(), {:heard, &1})}]), heard([])}
  end

  @doc "A streamed prediction: its answer, and the text of its chunks."
  def stream do
    asker = self()

    answer =
      PythonBridge.predict(cluster(), "question -> answer", %{question: "1 + 1"},
        lm: :offline,
        stream_to: &send(asker, {:heard, &1})
      )

    {answer, heard([]) |> Enum.map_join(& &1.text)}
  end

  defp heard(found) do
    receive do
      {:heard, state} -> heard([state | found])
    after
      0 -> Enum.reverse(found)
    end
  end

  @doc "What a stream of a health check at this bridge gives."
  def stream_health(bridge, opts),
    do: bridge |> PythonBridge.stream(:health_check, [], opts) |> Enum.to_list()

  @doc "Starts a job, waits for its first progress, and has the cluster cancel it."
  def cancel(payload) do
    ref = PythonBridge.async(cluster(), :optimize_signature, payload)

    receive do
      {PythonBridge, ^ref, {:progress, _state}} -> :ok
    end

    {PythonBridge.cancel(cluster(), ref), PythonBridge.await(ref)}
  end

  def cancel_unknown, do: PythonBridge.cancel(cluster(), make_ref())

  @doc "Sends a request without the cluster's further care, and waits for its answer."
  def once(verb, payload),
    do: cluster() |> PythonBridge.async(verb, payload) |> PythonBridge.await()

  @doc "Has the cluster bring a dataset or program to the member on a node."
  def bring(id, node, timeout) do
    to = Enum.find(Directory.members(@cluster), &(&1.node == node))
    Supplies.bring(@cluster, id, to, timeout)
  end

  def fetch(dataset) do
    with {:ok, examples} <- DataTransfer.fetch(cluster(), dataset),
         do: {:ok, Enum.to_list(examples)}
  end

  @doc "Examples that are another dataset for each number."
  def rows(number), do: for(row <- 1..500, do: %{question: "#{number}.#{row}", answer: "#{row}"})

  @doc "Sends so many datasets at once through the cluster."
  def transfer_many(count) do
    1..count
    |> Task.async_stream(&DataTransfer.transfer_large_dataset(rows(&1), cluster()),
      max_concurrency: count,
      timeout: 20_000
    )
    |> Enum.map(fn {:ok, answer} -> answer end)
  end

  @doc "Sends a job and stays, in a process of its own."
  def hold(bridge, verb, payload, opts \\ []) do
    spawn(fn -> bridge |> PythonBridge.async(verb, payload, opts) |> PythonBridge.await() end)
  end

  # -- under load

  @doc "Stands in for the application `:telemetry`, on this BEAM node only: counts what goes to which member."
  def count_attempts do
    :ets.new(:attempts, [:named_table, :public])
    :ets.give_away(:attempts, Process.whereis(Pipeline.Supervisor), nil)

    Module.create(
      :telemetry,
      quote do
        def execute([:pipeline, :dspy, :cluster], %{attempt: attempt}, %{operation: :predict}) do
          :ets.update_counter(:attempts, attempt, 1, {attempt, 0})
        end

        def execute(_name, _measurements, _metadata), do: :ok
      end,
      Macro.Env.location(__ENV__)
    )

    :ok
  end

  def answered, do: Enum.sum(for {{:answered, _}, count} <- :ets.tab2list(:attempts), do: count)

  @doc """
  Sends so many predictions, so many at once; three of four may be repeated. Gives each one's outcome, and what was
  left in its process's mailbox.
  """
  def load(count, at_once) do
    1..count
    |> Task.async_stream(&one/1, max_concurrency: at_once, timeout: 20_000)
    |> Enum.map(fn {:ok, outcome} -> outcome end)
  end

  defp one(number) do
    idempotent = rem(number, 4) != 0

    answer =
      PythonBridge.predict(cluster(), "question -> answer", %{question: "#{number}"},
        lm: {:call, :where},
        cache: false,
        idempotent: idempotent,
        timeout: 15_000
      )

    :ets.update_counter(:attempts, {:answered, idempotent}, 1, {{:answered, idempotent}, 0})

    %{
      number: number,
      idempotent: idempotent,
      answer: answer,
      left_over: Process.info(self(), :messages)
    }
  end
end
