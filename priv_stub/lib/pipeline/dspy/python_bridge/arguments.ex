defmodule Pipeline.DSPy.PythonBridge.Arguments do
  @moduledoc """
  A verb's arguments, as the functions of `Pipeline.DSPy.PythonBridge` take them, and its options as the payload and the
  options of the request. Does nothing else, so that a verb means the same whether it is called, started or streamed.
  """

  alias Pipeline.DSPy.JobDefaults
  alias Pipeline.DSPy.MessageProtocol
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.Verbs

  @workflow_keys [:file, :environment, :signatures]
  @pipeline_keys [:training_data, :programs, :optimize_only, :files | @workflow_keys]

  @doc "The same for a payload as it is, or arguments in a list; and the verb's own timeout where none is given."
  @spec prepare(atom, map | [term], keyword) :: {map, keyword}
  def prepare(verb, payload_or_arguments, opts) do
    {payload, opts} =
      if is_list(payload_or_arguments),
        do: payload(verb, payload_or_arguments, opts),
        else: {payload_or_arguments, opts}

    {payload, Keyword.put_new(opts, :timeout, Verbs.default_timeout(verb))}
  end

  @doc """
  The payload, and what of the options is the request's. Raises `ArgumentError` for a verb that takes no such arguments.

      iex> alias Pipeline.DSPy.PythonBridge.Arguments
      iex> Arguments.payload(:predict, ["question -> answer", %{question: "1 + 1"}], lm: :offline, timeout: 500)
      {%{signature: "question -> answer", input: %{question: "1 + 1"}, config: %{lm: :offline}}, [timeout: 500]}
      iex> Arguments.payload(:delete_program, ["program:1"], [])
      {%{program_id: "program:1"}, []}
  """
  @spec payload(atom, [term], keyword) :: {map, keyword}
  def payload(verb, arguments, opts)

  def payload(:optimize_signature, [signature, training_data], opts) do
    {request_opts, config, rest} = split(opts, [:validation_data])
    message = MessageProtocol.create_optimization_request(signature, training_data, config, rest)
    {message.payload, request_opts}
  end

  def payload(:evaluate_pipeline, [source, data], opts) do
    {request_opts, config, rest} = split(opts, [:metric])
    message = MessageProtocol.create_evaluation_request(source, data, config, rest)
    {message.payload, request_opts}
  end

  def payload(:train_model, [source, training_data], opts) do
    {request_opts, config, rest} = split(opts, [:validation_data, :teacher])

    rest =
      Enum.map(rest, fn
        {:teacher, {:program, program}} -> {:teacher, program}
        given -> given
      end)

    message = MessageProtocol.create_training_request(source, training_data, config, rest)
    {message.payload, request_opts}
  end

  def payload(:predict, [source, input], opts) do
    {request_opts, config, []} = split(opts, [])
    stream = if request_opts[:stream_to], do: true
    message = MessageProtocol.create_prediction_request(source, input, config, stream: stream)
    {message.payload, request_opts}
  end

  def payload(:load_workflow, [workflow], opts) do
    {payload_opts, request_opts} = Keyword.split(opts, @workflow_keys)
    {MessageProtocol.create_workflow_request(workflow, payload_opts).payload, request_opts}
  end

  def payload(:run_pipeline, [workflow, inputs], opts) do
    {request_opts, config, rest} = split(opts, @pipeline_keys)
    message = MessageProtocol.create_pipeline_request(workflow, inputs, config, rest)
    {message.payload, request_opts}
  end

  def payload(:list_programs, [], opts) do
    {payload, request_opts} = Keyword.split(opts, [:limit, :after])
    {Map.new(payload), request_opts}
  end

  def payload(:fetch_result, [idempotency_key], opts) do
    {payload, request_opts} = Keyword.split(opts, [:atoms])
    {Enum.into(payload, %{idempotency_key: idempotency_key}), request_opts}
  end

  def payload(:capture, [], opts) do
    {payload, request_opts} = Keyword.split(opts, [:mode, :name])
    {Map.new(payload), request_opts}
  end

  def payload(:put_program, [program], opts), do: {%{program: program}, opts}
  def payload(:cancel, [ref], opts), do: {%{id: ref}, opts}

  def payload(verb, [], opts) when verb in [:health_check, :stats, :clear_cache], do: {%{}, opts}

  def payload(verb, [program_id], opts) when verb in [:get_program, :delete_program] do
    {%{program_id: program_id}, opts}
  end

  def payload(verb, arguments, _opts) do
    raise ArgumentError,
          "the verb #{inspect(verb)} does not take #{length(arguments)} arguments in a list; give a payload, a map"
  end

  # Three kinds of options: the request's, those that the payload holds beside the configuration, the configuration's.
  defp split(opts, payload_keys) do
    {request_opts, opts} = Keyword.split(opts, Caller.options())
    {payload_opts, opts} = Keyword.split(opts, payload_keys)
    {config, opts} = Keyword.pop(opts, :config, %{})
    {request_opts, JobDefaults.under(Enum.into(opts, Map.new(config))), payload_opts}
  end
end
