defmodule Pipeline.DSPy.PythonBridge do
  @moduledoc """
  A supervised Python node that runs DSPy jobs, and the calls that use it.

  Put it in a supervision tree:

      children = [
        {Pipeline.DSPy.PythonBridge, name: MyApp.DSPy, workers: 2, data_dir: "/var/lib/my_app/dspy"}
      ]

  and ask it, from any number of processes at once:

      alias Pipeline.DSPy.PythonBridge

      {:ok, %{program_id: program}} =
        PythonBridge.optimize_signature(MyApp.DSPy, "question -> answer", examples,
          optimizer: :bootstrap_few_shot,
          lm: "openai/gpt-4o-mini",
          timeout: 600_000,
          progress: fn state -> IO.inspect(state) end
        )

      {:ok, %{prediction: %{"answer" => answer}}} =
        PythonBridge.predict(MyApp.DSPy, {:program, program}, %{question: "1 + 1"}, lm: "openai/gpt-4o-mini")

  ## Answers

  Every call gives `{:ok, result}` or `{:error, %Pipeline.DSPy.PythonError{}}`. None exits because of a fault of the
  node: a node that died, is not ready, or does not answer in time is an error like any other.

  ## Three ways to ask

  Each verb is a function that waits, as above. `async/4` starts a request and `await/2` takes its answer; `stream/4` is a
  lazy `Stream` of what the request says and of its answer. Both take a verb's name and its arguments in a list, with the
  options that its function takes:

      bridge
      |> PythonBridge.stream(:optimize_signature, ["question -> answer", examples], lm: "openai/gpt-4o-mini")
      |> Enum.each(fn
        {:progress, state} -> IO.inspect(state.stage)
        {:ok, result} -> IO.inspect(result.program_id)
        {:error, error} -> raise error
      end)

  Where tasks are at home, a verb in a task needs nothing more. `Task.shutdown/2` and `Task.async_stream/3` that is left
  early end the work in Python as well, since a caller that dies takes its requests along:

      task = Task.async(fn -> PythonBridge.predict(bridge, program, input, lm: lm) end)
      Task.yield(task, 5_000) || Task.shutdown(task)

  ## Options of every request

    * `:timeout` - the budget in milliseconds, or `:infinity`. The node gets it as the request's deadline and stops the
      work when it has passed. Each call documents its default.
    * `:grace` - how long after the deadline the bridge still waits for the node to say so, 1000 ms by default. Then it
      answers itself, and has the node cancel the request; a late answer is dropped.
    * `:progress` - who hears how far a job is. A function of one argument is run in the calling process for each
      event (only where the call waits for the answer); a pid gets
      `{Pipeline.DSPy.PythonBridge, ref, {:progress, map}}`.
    * `:stream_to` - who hears the outputs of `predict/4` while they are written: a function, run as above for each
      `%{field: …, text: …, is_last: …}`, or a pid that gets `{Pipeline.DSPy.PythonBridge, ref, {:chunk, map}}`.
    * `:functions` - Elixir functions that this job may call, by name, beside the bridge's own.
    * `:priority`, `:idempotency_key`, `:source`, `:version`, `:trace` - passed on as the request's meta.
    * `:traceparent` - the span that those of the job are below, as W3C's Trace Context writes it; the caller's own when
      OpenTelemetry is loaded. See docs/operating.md, Metrics and traces.

  ## Elixir functions inside DSPy

  A metric and a model may be Elixir functions: put in place as they are, `metric: &MyApp.Judge.score/2`, or named,
  `lm: {:call, :gateway}`, and given under `:functions`, of the bridge or of one request, or registered for the application
  (`Pipeline.DSPy.Callbacks`; what each takes and gives: `Pipeline.DSPy.Callback`). One that fails or takes too long ends its
  job with a `:callback_error`. Each call runs in a process of its own, with the caller in `$callers`, and is killed when its
  request is over.

  ## Life of a bridge

  `start_link/1` returns at once; requests wait until the node is ready. A caller that dies takes its requests with it:
  the node is told to cancel them. When the node dies, every request in flight gets a `:process_crashed` error and the
  bridge stops, so that its supervisor starts a new one. A fault that a restart cannot help (no such Python, no
  erlbridge in it, another protocol) stops it with `{:shutdown, {:node_down, error}}`, which a `:transient` child is
  not restarted for.

  A node that ends soon after its start is not followed by another one at once: the new bridge waits, 0.2 seconds the
  first time, then 1, 5, 25, 30 (`:restart_delay`, `:max_restart_delay`), and opens no port meanwhile. So a node that
  always fails does not use up the restarts of its supervisor. A supervisor with several bridges needs as many more of
  them, `max_restarts: 3 * count`. Requests wait too, within their time; one whose time would be over before there is a node is
  answered at once, with a `:process_crashed` error of the reason `:restarting` that says when to come again.

  A node that is stopped or stuck ends nothing by itself. The bridge asks it at intervals how it is (`:health_interval`), and
  kills it after some of them without any sign of life (`:health_misses`): a `:process_crashed` error with the reason
  `:wedged` for every request in flight, and a new node.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonBridge.Arguments
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonBridge.Capture
  alias Pipeline.DSPy.PythonBridge.EventStream
  alias Pipeline.DSPy.PythonBridge.Options
  alias Pipeline.DSPy.PythonBridge.Programs
  alias Pipeline.DSPy.PythonBridge.Results
  alias Pipeline.DSPy.PythonBridge.Server
  alias Pipeline.DSPy.PythonBridge.Shutdown
  alias Pipeline.DSPy.PythonBridge.Workflows
  alias Pipeline.DSPy.PythonError

  @typedoc "A bridge, or a process or struct that stands for several."
  @type bridge :: GenServer.server() | struct
  @type answer :: {:ok, term} | {:error, PythonError.t()}
  @type signature :: map | String.t()
  @type examples :: MessageProtocol.examples()
  @typedoc "A program stored at the node, a program as the node once gave it, or a signature."
  @type source :: {:program, String.t() | map} | signature

  @doc "A child that is restarted when its node dies, and not when it was shut down. Its id is the bridge's name."
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{
      id: Keyword.get(opts, :name) || __MODULE__,
      start: {__MODULE__, :start_link, [opts]},
      restart: :transient,
      shutdown: Options.stop_timeout(opts) + 5_000
    }
  end

  @doc """
  Starts a bridge and its node; returns before the node is ready (`await_ready/2` waits for that).

  Raises `ArgumentError` for options that are wrong, with the nearest right name. Options, all with defaults:

  #{Options.docs()}
  """
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts \\ []) do
    opts = Options.new!(opts)
    server_opts = if opts[:name], do: [name: opts[:name]], else: []
    GenServer.start_link(Server, opts, server_opts)
  end

  @doc """
  Waits until the node is ready and gives what it said of itself: versions, workers, verbs, limits.

  Default timeout: `:infinity`, since the handshake has its own.

      {:ok, %{protocol: 1, workers: 2}} = PythonBridge.await_ready(MyApp.DSPy, 20_000)
  """
  @spec await_ready(bridge, timeout) :: {:ok, map} | {:error, PythonError.t()}
  def await_ready(bridge \\ __MODULE__, timeout \\ :infinity) do
    bridge |> Caller.submit(:await_ready, nil, timeout: timeout, grace: 0) |> Caller.await()
  end

  # -- the verbs

  @doc """
  How the node is. It answers itself, whatever its workers do. Default timeout: 5000 ms.

      {:ok, %{status: :healthy, queue: %{waiting: 0, running: 1}}} = PythonBridge.health_check(MyApp.DSPy)
  """
  @spec health_check(bridge, keyword) :: {:ok, map} | {:error, PythonError.t()}
  def health_check(bridge \\ __MODULE__, opts \\ []) do
    request(bridge, :health_check, [], opts)
  end

  @doc "Optimizes a signature with the default bridge, or takes a bridge and a whole payload."
  @spec optimize_signature(bridge | signature, map | examples) :: answer
  def optimize_signature(bridge_or_signature, payload_or_data)

  def optimize_signature(bridge, payload) when is_map(payload) do
    request(bridge, :optimize_signature, payload)
  end

  def optimize_signature(signature, training_data) do
    optimize_signature(__MODULE__, signature, training_data, [])
  end

  @doc """
  Optimizes a signature with examples, or with a dataset that `Pipeline.DSPy.DataTransfer` has sent. Default timeout:
  600000 ms.

  Options: those of every request, `:validation_data`, and the job's configuration, as the map `:config` or key by key:
  `:optimizer`, `:module`, `:metric`, `:max_demos`, `:max_labeled_demos`, `:lm`, `:prompt_lm`, `:teacher_lm`, `:seed`,
  `:num_threads`, `:options`, `:budget`, `:cache`, `:result_cache`, `:report`. What is the same for every job may be configured once, see
  `Pipeline.DSPy.JobDefaults`.

      PythonBridge.optimize_signature(bridge, "question -> answer", examples,
        optimizer: :mipro_v2, lm: :offline, metric: :exact_match, timeout: 60_000)
      #=> {:ok, %{status: :success, program_id: "program:…", optimized_signature: %{…}, optimization_metrics: %{…}}}
  """
  @spec optimize_signature(bridge, signature, examples, keyword) :: answer
  def optimize_signature(bridge, signature, training_data, opts \\ []) do
    request(bridge, :optimize_signature, [signature, training_data], opts)
  end

  @doc """
  Scores a program or a signature on labelled examples. Default timeout: 300000 ms.

  Options: those of every request, `:metric`, and the job's configuration as in `optimize_signature/4`.

      PythonBridge.evaluate_pipeline(bridge, {:program, program_id}, examples, metric: :exact_match, lm: :offline)
      #=> {:ok, %{status: :success, score: 0.91, results: […], metrics: %{…}}}
  """
  @spec evaluate_pipeline(bridge, source, examples, keyword) :: answer
  def evaluate_pipeline(bridge, source, data, opts \\ []) do
    request(bridge, :evaluate_pipeline, [source, data], opts)
  end

  @doc """
  Trains the model of a program on the good answers of a teacher. Default timeout: 3600000 ms, an hour.

  Options: those of every request, `:validation_data`, `:teacher` (`{:program, id_or_map}`, by default the program
  itself), and the job's configuration as in `optimize_signature/4`: `:lm` is the model that is trained, `:teacher_lm` the
  one that the teacher runs on. Only `:offline` and `"openai/…"` models can be trained.

      {:ok, %{model: model, program_id: program}} =
        PythonBridge.train_model(bridge, "question -> answer", examples, lm: :offline, metric: :exact_match)

      PythonBridge.predict(bridge, {:program, program}, %{question: "1 + 1"}, lm: model)

  A request that times out or is cancelled has the training cancelled at its endpoint as well.
  """
  @spec train_model(bridge, source, examples, keyword) :: answer
  def train_model(bridge, source, training_data, opts \\ []) do
    request(bridge, :train_model, [source, training_data], opts)
  end

  @doc """
  Runs a program or a signature on one input map, or on a list of them. Default timeout: 60000 ms.

  Options: those of every request and the job's configuration as in `optimize_signature/4`.

      PythonBridge.predict(bridge, "question -> answer", %{question: "1 + 1"}, lm: :offline)
      #=> {:ok, %{status: :success, prediction: %{"answer" => "2"}}}

  The node makes no atoms: a field comes back under an atom when this very request used that atom, as it does when it
  sends the signature as a map, and under a binary otherwise.

  With `:stream_to`, the text of the outputs comes piece by piece before the answer, which holds it once more and whole:

      PythonBridge.predict(bridge, "question -> answer", %{question: "1 + 1"},
        lm: :offline, stream_to: fn %{text: text} -> IO.write(text) end)

  Only outputs of type string come so, and only those of the modules predict and chain_of_thought; for others there is
  the answer alone. A list of inputs cannot be streamed.
  """
  @spec predict(bridge, source, map | [map], keyword) :: answer
  def predict(bridge, source, input, opts \\ []) do
    request(bridge, :predict, [source, input], opts)
  end

  # -- workflows of pipeline_ex

  @doc "Reads a workflow and says what it is, see `Pipeline.DSPy.PythonBridge.Workflows.load_workflow/3`."
  @spec load_workflow(bridge, String.t() | map, keyword) :: answer
  defdelegate load_workflow(bridge, workflow, opts \\ []), to: Workflows

  @doc "Runs a workflow's steps in order, see `Pipeline.DSPy.PythonBridge.Workflows.run_pipeline/4`."
  @spec run_pipeline(bridge, String.t() | map, map, keyword) :: answer
  defdelegate run_pipeline(bridge, workflow, inputs, opts \\ []), to: Workflows

  # -- the programs that the node keeps, see `Pipeline.DSPy.PythonBridge.Programs`

  @doc "The programs that the node keeps, see `Pipeline.DSPy.PythonBridge.Programs.list_programs/2`."
  @spec list_programs(bridge, keyword) :: answer
  defdelegate list_programs(bridge \\ __MODULE__, opts \\ []), to: Programs

  @doc "A program as a map of plain data, see `Pipeline.DSPy.PythonBridge.Programs.get_program/3`."
  @spec get_program(bridge, String.t(), keyword) :: answer
  defdelegate get_program(bridge, program_id, opts \\ []), to: Programs

  @doc "How a program came to be, see `Pipeline.DSPy.PythonBridge.Programs.get_report/3`."
  @spec get_report(bridge, String.t(), keyword) :: answer
  defdelegate get_report(bridge, program_id, opts \\ []), to: Programs

  @doc "Gives the node a program to keep, see `Pipeline.DSPy.PythonBridge.Programs.put_program/3`."
  @spec put_program(bridge, map, keyword) :: answer
  defdelegate put_program(bridge, program, opts \\ []), to: Programs

  @doc "Has the node forget a program, see `Pipeline.DSPy.PythonBridge.Programs.delete_program/3`."
  @spec delete_program(bridge, String.t(), keyword) :: answer
  defdelegate delete_program(bridge, program_id, opts \\ []), to: Programs

  # -- the results that the node keeps, see `Pipeline.DSPy.PythonBridge.Results`

  @doc "The stored result of an `:idempotency_key`, see `Pipeline.DSPy.PythonBridge.Results.fetch_result/3`."
  @spec fetch_result(bridge, String.t(), keyword) :: answer
  defdelegate fetch_result(bridge, idempotency_key, opts \\ []), to: Results

  @doc "What the node keeps of results, see `Pipeline.DSPy.PythonBridge.Results.stats/2`."
  @spec stats(bridge, keyword) :: answer
  defdelegate stats(bridge \\ __MODULE__, opts \\ []), to: Results

  @doc "Has the node forget its cached results, see `Pipeline.DSPy.PythonBridge.Results.clear_cache/2`."
  @spec clear_cache(bridge, keyword) :: answer
  defdelegate clear_cache(bridge \\ __MODULE__, opts \\ []), to: Results

  # -- what goes over the node's wires, see `Pipeline.DSPy.PythonBridge.Capture`

  @doc "Has the node write its frames to a file, see `Pipeline.DSPy.PythonBridge.Capture.capture/2`."
  @spec capture(bridge, keyword) :: answer
  defdelegate capture(bridge \\ __MODULE__, opts \\ []), to: Capture

  # -- requests that run already

  @doc """
  Has the node end a request that `async/4` started; that request is then answered with `:cancelled`.

  Gives `:not_found` when it is not in flight any more. Default timeout: 5000 ms.

      ref = PythonBridge.async(bridge, :optimize_signature, [signature, examples])
      {:ok, %{status: :cancelling}} = PythonBridge.cancel(bridge, ref)
  """
  @spec cancel(bridge, reference, keyword) :: answer
  def cancel(bridge, ref, opts \\ []) when is_reference(ref) do
    request(bridge, :cancel, [ref], opts)
  end

  @doc """
  Ends the node and then the bridge, which its supervisor does not restart; returns when both are gone.

  Options: `:mode` (`:drain`, or `:now` to not wait for running jobs), `:grace_ms` (how long to drain, 10000) and
  `:timeout` (by default the grace and 5 seconds).
  """
  @spec shutdown(bridge, keyword) :: answer
  def shutdown(bridge \\ __MODULE__, opts \\ []), do: Shutdown.run(bridge, opts)

  # -- any verb

  @doc """
  Sends any verb and waits for its answer. Default timeout: the verb's own, 60000 ms for others.

  Takes the payload, or the verb's arguments in a list: these go with the options of the verb's own function.

      PythonBridge.request(bridge, :predict, %{program: id, input: %{question: "1 + 1"}, config: %{lm: :offline}})
  """
  @spec request(bridge, atom, map | [term], keyword) :: answer
  def request(bridge, verb, payload_or_arguments, opts \\ []) do
    {payload, opts} = Arguments.prepare(verb, payload_or_arguments, opts)
    Caller.request(bridge, verb, payload, opts)
  end

  @doc """
  Sends any verb and returns a reference at once. Default timeout: the verb's own, 60000 ms for others.

  Takes the payload or the arguments, as `request/4` does.

      ref = PythonBridge.async(bridge, :predict, ["question -> answer", %{question: "1 + 1"}], lm: :offline)
      {:ok, %{prediction: _}} = PythonBridge.await(ref)

  The calling process then gets, any number of times and once,

      {Pipeline.DSPy.PythonBridge, ref, {:progress, map}}
      {Pipeline.DSPy.PythonBridge, ref, {:chunk, map}}
      {Pipeline.DSPy.PythonBridge, ref, {:ok, result}} | {Pipeline.DSPy.PythonBridge, ref, {:error, error}}

  or `{:DOWN, ref, :process, pid, reason}` instead of the answer if the bridge itself is killed; `await/2` takes all
  of them. Progress goes to the calling process unless `:progress` is another pid or `false`; the same holds for the
  chunks of a payload with `stream: true`, and `:stream_to`.
  """
  @spec async(bridge, atom, map | [term], keyword) :: reference
  def async(bridge, verb, payload_or_arguments, opts \\ []) do
    {payload, opts} = Arguments.prepare(verb, payload_or_arguments, opts)
    Caller.submit(bridge, verb, payload, Caller.hear_all(opts))
  end

  @doc """
  Waits, in the process that called `async/4`, for the answer.

  Options: `:progress` and `:stream_to`, functions of one argument, and `:timeout` (`:infinity`), after which it gives a
  `:timeout_error` while the request goes on: it may be awaited again, or cancelled.
  """
  @spec await(reference, keyword) :: answer
  def await(ref, opts \\ []) do
    opts = Keyword.validate!(opts, progress: nil, stream_to: nil, timeout: :infinity)
    Caller.await(ref, Caller.listeners(opts), opts[:timeout])
  end

  @doc """
  Any verb as a lazy `Stream`, with the payload or the arguments as in `request/4`. Default timeout: the verb's own.

  Its elements are any number of `{:progress, map}` and `{:chunk, map}`, and at last `{:ok, result}` or
  `{:error, error}`. Nothing is sent before the stream is run, and each run is a request of its own, made by the process that runs
  it. A stream that is left early, as by `Enum.find/2`, or by an exception or the death of that process, has the node
  cancel the request.

      PythonBridge.stream(bridge, :predict, ["question -> answer", %{question: "1 + 1"}], lm: :offline)
      |> Enum.each(fn
        {:chunk, %{text: text}} -> IO.write(text)
        {:ok, _result} -> IO.puts("")
        _other -> :ok
      end)

  `progress: false` and `stream_to: false` leave out these events; a list of inputs needs the latter.
  """
  @spec stream(bridge, atom, map | [term], keyword) :: Enumerable.t()
  def stream(bridge, verb, payload_or_arguments, opts \\ []) do
    opts = Keyword.put_new(opts, :stream_to, true)
    {payload, opts} = Arguments.prepare(verb, payload_or_arguments, opts)
    EventStream.new(bridge, verb, payload, opts)
  end
end
