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

  ## Elixir functions inside DSPy

  A metric and a model may be Elixir functions, named `{:call, name}` and given under `:functions`, of the bridge or of
  one request, or put in place as they are:

      {:ok, result} =
        PythonBridge.optimize_signature(MyApp.DSPy, signature, examples,
          metric: fn example, prediction -> MyApp.Judge.score(example, prediction) end,
          lm: {:call, :gateway},
          functions: %{gateway: &MyApp.LLM.complete/1}
        )

  A metric gets the example and the prediction, two maps, and gives a number from 0 to 1, a boolean, or
  `%{score: number, feedback: text}`. A model gets `%{model: …, messages: [%{role: …, content: …}], temperature: …,
  max_tokens: …}` and gives a text, or `%{text: …, input_tokens: …, output_tokens: …, cost_usd: …}`. Either may be wrapped as
  `{:ok, value}`; `{:error, reason}`, an exception, an exit and a timeout end the job with a `:callback_error`.

  Each call runs in a process of its own under `Pipeline.DSPy.FunctionSupervisor`, with the caller in `$callers`, and is
  killed when its request is over.

  ## Life of a bridge

  `start_link/1` returns at once; requests wait until the node is ready. A caller that dies takes its requests with it:
  the node is told to cancel them. When the node dies, every request in flight gets a `:process_crashed` error and the
  bridge stops, so that its supervisor starts a new one. A fault that a restart cannot help (no such Python, no
  erlbridge in it, another protocol) stops it with `{:shutdown, {:node_down, error}}`, which a `:transient` child is
  not restarted for.
  """

  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonBridge.Functions
  alias Pipeline.DSPy.PythonBridge.Server
  alias Pipeline.DSPy.PythonError
  alias Pipeline.DSPy.Verbs

  @typedoc "A bridge, or a process or struct that stands for several."
  @type bridge :: GenServer.server() | struct
  @type answer :: {:ok, term} | {:error, PythonError.t()}
  @type signature :: map | String.t()
  @typedoc "A program stored at the node, a program as the node once gave it, or a signature."
  @type source :: {:program, String.t() | map} | signature

  @workflow_keys [:file, :environment, :signatures]
  @stop_margin_ms 15_000

  # -- starting

  @doc """
  A child that is restarted when its node dies, and not when it was shut down. Its id is the bridge's name.
  """
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{
      id: Keyword.get(opts, :name) || __MODULE__,
      start: {__MODULE__, :start_link, [opts]},
      restart: :transient,
      shutdown: Keyword.get(opts, :stop_timeout, Server.defaults()[:stop_timeout]) + 5_000
    }
  end

  @doc """
  Starts a bridge and its node; returns before the node is ready (`await_ready/2` waits for that).

  Options, all with defaults:

    * `:name` - this module's own name unless given; `nil` for none.
    * `:python`, `:workers`, `:data_dir`, `:max_frame_bytes`, `:max_queue`, `:credit`, `:settings`, `:env`, `:args` - the
      node's command, see `Pipeline.DSPy.ProcessManager.command/1`. `:settings` are the node's others, by name:
      `[spare_workers: 2, worker_hard_bytes: "2GiB", verb_limits: [train_model: 1]]`.
    * `:handshake_timeout` - how long the node may take to be ready, 15000 ms.
    * `:stop_timeout` - how long it may take to end once its port is closed, 3000 ms; then it is killed.
    * `:max_in_flight` - requests beyond this many get `:overloaded`, 1000.
    * `:max_unsent_bytes` - the same for bytes that the node has not taken yet, 256 MiB.
    * `:functions` - Elixir functions that jobs may call, by name, see above.
    * `:max_calls` - how many of them run at once, 100; further calls wait. `:call_timeout` - how long each may run, 60000
      ms or `:infinity`.
    * `:log_level` - at which level the node's log goes to Logger: a level (`:debug`), `:as_sent` or `:none`.
    * `:notify` - a pid that gets `{Pipeline.DSPy.PythonBridge, bridge, event}` for each of `{:ready, info}`,
      `{:log, level, text, metadata}`, `{:telemetry, name, measurements, metadata}` and `{:down, error}`; `{pid, kinds}`,
      of these kinds only, such as `{self(), [:ready, :down]}`; or a list of both.
  """
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(opts \\ []) do
    opts = Keyword.validate!(opts, [{:name, __MODULE__} | Server.defaults()])
    {name, opts} = Keyword.pop(opts, :name)
    opts = Keyword.update!(opts, :functions, &Functions.new/1)
    server_opts = if name, do: [name: name], else: []
    GenServer.start_link(Server, opts, server_opts)
  end

  @doc """
  Waits until the node is ready and gives what it said of itself: versions, workers, verbs, limits.

  Default timeout: `:infinity`, since the handshake has its own.
  """
  @spec await_ready(bridge, timeout) :: {:ok, map} | {:error, PythonError.t()}
  def await_ready(bridge \\ __MODULE__, timeout \\ :infinity) do
    bridge |> Caller.submit(:await_ready, nil, timeout: timeout, grace: 0) |> Caller.await()
  end

  # -- the verbs

  @doc "How the node is. It answers itself, whatever its workers do. Default timeout: 5000 ms."
  @spec health_check(bridge, keyword) :: {:ok, map} | {:error, PythonError.t()}
  def health_check(bridge \\ __MODULE__, opts \\ []) do
    request(bridge, :health_check, %{}, opts)
  end

  @doc """
  Optimizes a signature with the default bridge, or takes a bridge and a whole payload.
  """
  @spec optimize_signature(bridge | signature, map | [map]) :: answer
  def optimize_signature(bridge_or_signature, payload_or_data)

  def optimize_signature(bridge, payload) when is_map(payload) do
    request(bridge, :optimize_signature, payload)
  end

  def optimize_signature(signature, training_data) do
    optimize_signature(__MODULE__, signature, training_data, [])
  end

  @doc """
  Optimizes a signature with examples. Default timeout: 600000 ms.

  Options: those of every request, `:validation_data`, and the job's configuration, as the map `:config` or key by key:
  `:optimizer`, `:module`, `:metric`, `:max_demos`, `:max_labeled_demos`, `:lm`, `:prompt_lm`, `:teacher_lm`, `:seed`,
  `:num_threads`, `:options`, `:budget`, `:cache`.

      PythonBridge.optimize_signature(bridge, "question -> answer", examples,
        optimizer: :mipro_v2, lm: :offline, metric: :exact_match, timeout: 60_000)
      #=> {:ok, %{status: :success, program_id: "program:…", optimized_signature: %{…}, optimization_metrics: %{…}}}
  """
  @spec optimize_signature(bridge, signature, [map], keyword) :: answer
  def optimize_signature(bridge, signature, training_data, opts \\ []) do
    {request_opts, config, rest} = split(opts, [:validation_data])
    message = MessageProtocol.create_optimization_request(signature, training_data, config, rest)
    request(bridge, message.request_type, message.payload, request_opts)
  end

  @doc """
  Scores a program or a signature on labelled examples. Default timeout: 300000 ms.

  Options: those of every request, `:metric`, and the job's configuration as in `optimize_signature/4`.

      PythonBridge.evaluate_pipeline(bridge, {:program, program_id}, examples, metric: :exact_match, lm: :offline)
      #=> {:ok, %{status: :success, score: 0.91, results: […], metrics: %{…}}}
  """
  @spec evaluate_pipeline(bridge, source, [map], keyword) :: answer
  def evaluate_pipeline(bridge, source, data, opts \\ []) do
    {request_opts, config, rest} = split(opts, [:metric])
    message = MessageProtocol.create_evaluation_request(source, data, config, rest)
    request(bridge, message.request_type, message.payload, request_opts)
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
  @spec train_model(bridge, source, [map], keyword) :: answer
  def train_model(bridge, source, training_data, opts \\ []) do
    {request_opts, config, rest} = split(opts, [:validation_data, :teacher])

    rest =
      Enum.map(rest, fn
        {:teacher, {:program, program}} -> {:teacher, program}
        given -> given
      end)

    message = MessageProtocol.create_training_request(source, training_data, config, rest)
    request(bridge, message.request_type, message.payload, request_opts)
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
    {request_opts, config, []} = split(opts, [])
    stream = if request_opts[:stream_to], do: true
    message = MessageProtocol.create_prediction_request(source, input, config, stream: stream)
    request(bridge, message.request_type, message.payload, request_opts)
  end

  # -- workflows of pipeline_ex

  @doc """
  Reads a workflow, YAML text or a map, and says what it is; see `docs/workflows.md`. Default timeout: 30000 ms.

  Options: those of every request, `:file` (what to call it in messages), `:environment`, and `:signatures`, a map of
  what signatures that are only names stand for.

      PythonBridge.load_workflow(bridge, File.read!("triage.yaml"), file: "triage.yaml", environment: :production)
      #=> {:ok, %{status: :success, name: "triage", steps: [%{name: "classify", kind: :dspy, …}], warnings: []}}

  An error's `context.errors` lists everything that is wrong, each with `:path`, `:line` and `:message`.
  """
  @spec load_workflow(bridge, String.t() | map, keyword) :: answer
  def load_workflow(bridge, workflow, opts \\ []) do
    {payload_opts, request_opts} = Keyword.split(opts, @workflow_keys)
    message = MessageProtocol.create_workflow_request(workflow, payload_opts)
    request(bridge, message.request_type, message.payload, request_opts)
  end

  @doc """
  Runs a workflow's steps in order with these inputs. Default timeout: 600000 ms.

  Steps with a signature are DSPy's: optimized where the workflow says so, then predicted. The others are executed here,
  by the function `execute_step` of the bridge or the request, which gets the step and
  `%{"workflow" => name, "inputs" => map, "steps" => outputs_so_far, "previous" => name_or_nil}`.

  Options: those of every request, those of `load_workflow/3`, `:training_data` and `:programs` (maps by step), and the
  job's configuration as in `optimize_signature/4`, which wins over what the workflow says.

      PythonBridge.run_pipeline(bridge, yaml, %{subject: "…", body: "…"},
        lm: "openai/gpt-4o-mini",
        functions: %{"execute_step" => fn step, context -> MyApp.Steps.run(step, context) end}
      )
      #=> {:ok, %{outputs: %{"classify" => %{"category" => "billing"}}, results: […], optimized_yaml: "…", metrics: %{…}}}
  """
  @spec run_pipeline(bridge, String.t() | map, map, keyword) :: answer
  def run_pipeline(bridge, workflow, inputs, opts \\ []) do
    {request_opts, config, rest} = split(opts, [:training_data, :programs | @workflow_keys])
    message = MessageProtocol.create_pipeline_request(workflow, inputs, config, rest)
    request(bridge, message.request_type, message.payload, request_opts)
  end

  # -- the programs that the node keeps

  @doc """
  The programs that the node keeps, newest first. Default timeout: 5000 ms.

  Options: those of every request, `:limit` (at most so many, 100), and `:after`, the `next` of an earlier answer.

      PythonBridge.list_programs(bridge, limit: 10)
      #=> {:ok, %{status: :success, programs: [%{program_id: "program:…", name: "Triage", …}], next: nil}}
  """
  @spec list_programs(bridge, keyword) :: answer
  def list_programs(bridge \\ __MODULE__, opts \\ []) do
    {payload, opts} = Keyword.split(opts, [:limit, :after])
    request(bridge, :list_programs, Map.new(payload), opts)
  end

  @doc """
  A program as a map of plain data, to keep elsewhere or to give to another node. Default timeout: 5000 ms.

      {:ok, %{program: program}} = PythonBridge.get_program(bridge, program_id)
      File.write!("triage.program", :erlang.term_to_binary(program))
  """
  @spec get_program(bridge, String.t(), keyword) :: answer
  def get_program(bridge, program_id, opts \\ []) do
    request(bridge, :get_program, %{program_id: program_id}, opts)
  end

  @doc """
  Gives the node a program to keep, as a node once gave it: it is checked first. Default timeout: 30000 ms.

      {:ok, %{program_id: "program:" <> _}} = PythonBridge.put_program(bridge, program)
  """
  @spec put_program(bridge, map, keyword) :: answer
  def put_program(bridge, program, opts \\ []) do
    request(bridge, :put_program, %{program: program}, opts)
  end

  @doc "Has the node forget a program. `:not_found` when it does not keep it. Default timeout: 5000 ms."
  @spec delete_program(bridge, String.t(), keyword) :: answer
  def delete_program(bridge, program_id, opts \\ []) do
    request(bridge, :delete_program, %{program_id: program_id}, opts)
  end

  # -- requests that run already

  @doc """
  Has the node end a request that `async/4` started; that request is then answered with `:cancelled`.

  Gives `:not_found` when it is not in flight any more. Default timeout: 5000 ms.
  """
  @spec cancel(bridge, reference, keyword) :: answer
  def cancel(bridge, ref, opts \\ []) when is_reference(ref) do
    request(bridge, :cancel, %{id: ref}, opts)
  end

  @doc """
  Ends the node and then the bridge, which its supervisor does not restart; returns when both are gone.

  Options: `:mode` (`:drain`, or `:now` to not wait for running jobs), `:grace_ms` (how long to drain, 10000) and
  `:timeout` (by default the grace and 5 seconds).
  """
  @spec shutdown(bridge, keyword) :: answer
  def shutdown(bridge \\ __MODULE__, opts \\ [])

  # Its bridges are gone when it answers.
  def shutdown(%_target{} = bridge, opts) do
    {payload, opts} = shutdown_options(opts)
    request(bridge, :shutdown, payload, opts)
  end

  def shutdown(bridge, opts) do
    {payload, opts} = shutdown_options(opts)
    monitor = Caller.monitor(bridge, [])
    answer = request(bridge, :shutdown, payload, opts)

    # The bridge ends right after a shutdown that was answered or ran out of time; it kills the node if it must.
    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> answer
    after
      @stop_margin_ms ->
        Process.demonitor(monitor, [:flush])
        answer
    end
  end

  defp shutdown_options(opts) do
    opts = Keyword.validate!(opts, [:timeout, mode: :drain, grace_ms: 10_000])
    timeout = opts[:timeout] || opts[:grace_ms] + 5_000
    {%{mode: opts[:mode], grace_ms: opts[:grace_ms]}, [timeout: timeout]}
  end

  # -- any verb

  @doc """
  Sends any verb and waits for its answer. Default timeout: the verb's own, 60000 ms for others.

      PythonBridge.request(bridge, :predict, %{program: id, input: %{question: "1 + 1"}, config: %{lm: :offline}})
  """
  @spec request(bridge, atom, map, keyword) :: answer
  def request(bridge, verb, payload, opts \\ []) do
    Caller.request(bridge, verb, payload, put_timeout(opts, verb))
  end

  @doc """
  Sends any verb and returns a reference at once. Default timeout: the verb's own, 60000 ms for others.

  The calling process then gets, any number of times and once,

      {Pipeline.DSPy.PythonBridge, ref, {:progress, map}}
      {Pipeline.DSPy.PythonBridge, ref, {:chunk, map}}
      {Pipeline.DSPy.PythonBridge, ref, {:ok, result}} | {Pipeline.DSPy.PythonBridge, ref, {:error, error}}

  or `{:DOWN, ref, :process, pid, reason}` instead of the answer if the bridge itself is killed; `await/2` takes all
  of them. Progress goes to the calling process unless `:progress` is another pid or `false`; the same holds for the
  chunks of a payload with `stream: true`, and `:stream_to`.
  """
  @spec async(bridge, atom, map, keyword) :: reference
  def async(bridge, verb, payload, opts \\ []) do
    heard_by = for option <- [:progress, :stream_to], do: {option, heard_by(opts, option)}
    Caller.submit(bridge, verb, payload, opts |> put_timeout(verb) |> Keyword.merge(heard_by))
  end

  defp heard_by(opts, option) do
    case Keyword.get(opts, option, true) do
      true ->
        self()

      pid when is_pid(pid) ->
        pid

      none when none in [nil, false] ->
        nil

      other ->
        raise ArgumentError,
              "expected #{inspect(option)} to be a pid or false, got #{inspect(other)}"
    end
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

  # -- options of the verbs

  # Three kinds of options: the request's, those that the payload holds beside the configuration, the configuration's.
  defp split(opts, payload_keys) do
    {request_opts, opts} = Keyword.split(opts, Caller.options())
    {payload_opts, opts} = Keyword.split(opts, payload_keys)
    {config, opts} = Keyword.pop(opts, :config, %{})
    {request_opts, Enum.into(opts, Map.new(config)), payload_opts}
  end

  defp put_timeout(opts, verb) do
    Keyword.put_new(opts, :timeout, Verbs.default_timeout(verb))
  end
end
