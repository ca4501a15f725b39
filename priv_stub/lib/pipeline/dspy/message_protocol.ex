defmodule Pipeline.DSPy.MessageProtocol do
  @moduledoc """
  Requests as values, and the frames they become: one term in External Term Format each, as the port carries them.

  A request goes out as `{verb, id, payload, meta}`. What the node says comes back as one of the tuples of
  `t:incoming/0`. Frames are decoded with `[:safe]`: the node can make no atom here, it can only use those that
  `Pipeline.DSPy.Vocabulary` publishes and those that the request itself used.

      iex> alias Pipeline.DSPy.MessageProtocol
      iex> request = MessageProtocol.create_health_check_request(message_id: 7)
      iex> request |> MessageProtocol.encode() |> :erlang.binary_to_term() |> Tuple.delete_at(3)
      {:health_check, 7, %{}}
      iex> MessageProtocol.decode(:erlang.term_to_binary({:ok, 7, %{status: :healthy}}))
      {:ok, {:answer, 7, {:ok, %{status: :healthy}}}}
  """

  alias Pipeline.DSPy.Vocabulary

  defstruct [:message_id, :request_type, :payload, :timestamp, metadata: %{}]

  @type t :: %__MODULE__{
          message_id: term,
          request_type: atom,
          payload: map,
          timestamp: DateTime.t(),
          metadata: map
        }

  @typedoc "What a frame of the node says."
  @type incoming ::
          {:ready, info :: map}
          | {:answer, id :: term, {:ok, term} | {:error, term}}
          | {:event, id :: term, {:progress, map} | {:chunk, map} | {:data_chunk, map}}
          | {:log, level :: atom, text :: binary, metadata :: map}
          | {:telemetry, name :: [atom], measurements :: map, metadata :: map}
          | {:call, call_id :: term, id :: term, name :: term, arguments :: term}
          | {:call_over, call_id :: term}

  @typedoc "Examples as they are, or a dataset that the node keeps (`Pipeline.DSPy.DataTransfer`), or a part of one."
  @type examples :: [map] | Pipeline.DSPy.Dataset.t()

  @source "pipeline_ex"
  @version "1.0.0"
  @max_unpacked_bytes 256 * 1024 * 1024

  @doc """
  A request of any verb. Options: `:message_id` (any term, a fresh reference by default) and whatever else the
  request's metadata shall hold, such as `:deadline_ms` or `:progress`.
  """
  @spec create_request(atom, map, keyword) :: t
  def create_request(verb, payload, opts \\ []) when is_atom(verb) do
    {message_id, metadata} = Keyword.pop_lazy(opts, :message_id, &make_ref/0)

    %__MODULE__{
      message_id: message_id,
      request_type: verb,
      payload: payload,
      timestamp: DateTime.utc_now(),
      metadata: Enum.into(metadata, %{source: @source, version: @version})
    }
  end

  @doc "Asks the node how it is."
  @spec create_health_check_request(keyword) :: t
  def create_health_check_request(opts \\ []), do: create_request(:health_check, %{}, opts)

  @doc """
  Asks for an optimized program. Options: `:validation_data`, and those of `create_request/3`.

      iex> signature = "question -> answer"
      iex> data = [%{question: "1 + 1", answer: "2"}]
      iex> request = Pipeline.DSPy.MessageProtocol.create_optimization_request(signature, data, %{lm: :offline})
      iex> {request.request_type, Map.keys(request.payload)}
      {:optimize_signature, [:config, :signature, :training_data]}
  """
  @spec create_optimization_request(map | String.t(), examples, map, keyword) :: t
  def create_optimization_request(signature, training_data, config, opts \\ []) do
    {validation_data, opts} = Keyword.pop(opts, :validation_data)
    payload = %{signature: signature, training_data: training_data, config: config}

    create_request(
      :optimize_signature,
      put_given(payload, :validation_data, validation_data),
      opts
    )
  end

  @doc """
  Asks for a score. `source` is a signature or `{:program, program_id}`. Options: `:metric`, and those of
  `create_request/3`.
  """
  @spec create_evaluation_request(term, examples, map, keyword) :: t
  def create_evaluation_request(source, data, config, opts \\ []) do
    {metric, opts} = Keyword.pop(opts, :metric)
    payload = Map.merge(source(source), %{data: data, config: config})
    create_request(:evaluate_pipeline, put_given(payload, :metric, metric), opts)
  end

  @doc """
  Asks for a trained model. `source` as in `create_evaluation_request/4`. Options: `:validation_data`, `:teacher` (a
  program, by its id or as a map), and those of `create_request/3`.
  """
  @spec create_training_request(term, examples, map, keyword) :: t
  def create_training_request(source, training_data, config, opts \\ []) do
    {given, opts} = Keyword.split(opts, [:validation_data, :teacher])
    payload = Map.merge(source(source), %{training_data: training_data, config: config})

    create_request(
      :train_model,
      Enum.reduce(given, payload, fn {key, value}, payload -> put_given(payload, key, value) end),
      opts
    )
  end

  @doc """
  Asks for the outputs of one input map, or of a list of them. `source` as in `create_evaluation_request/4`. Options:
  `:stream`, with which the text of the outputs of one input map comes as chunks, and those of `create_request/3`.
  """
  @spec create_prediction_request(term, map | [map], map, keyword) :: t
  def create_prediction_request(source, input, config, opts \\ []) do
    {stream, opts} = Keyword.pop(opts, :stream)
    key = if is_list(input), do: :inputs, else: :input
    payload = source |> source() |> Map.merge(%{key => input, config: config})
    create_request(:predict, put_given(payload, :stream, stream), opts)
  end

  @doc """
  Asks what a workflow is: YAML text, or a map. Options: `:file`, `:environment`, `:signatures`, and those of
  `create_request/3`.

      iex> request = Pipeline.DSPy.MessageProtocol.create_workflow_request("steps: []", file: "w.yaml")
      iex> {request.request_type, request.payload}
      {:load_workflow, %{yaml: "steps: []", file: "w.yaml"}}
  """
  @spec create_workflow_request(String.t() | map, keyword) :: t
  def create_workflow_request(workflow, opts \\ []) do
    {given, opts} = Keyword.split(opts, [:file, :environment, :signatures])
    create_request(:load_workflow, Enum.into(given, workflow(workflow)), opts)
  end

  @doc """
  Asks for a workflow to be run with these inputs. Options: `:training_data`, `:programs`, `:optimize_only`,
  `:files`, and those of `create_workflow_request/2`.
  """
  @spec create_pipeline_request(String.t() | map, map, map, keyword) :: t
  def create_pipeline_request(workflow, inputs, config, opts \\ []) do
    keys = [:file, :environment, :signatures, :training_data, :programs, :optimize_only, :files]
    {given, opts} = Keyword.split(opts, keys)
    payload = Map.merge(workflow(workflow), %{inputs: inputs, config: config})
    create_request(:run_pipeline, Enum.into(given, payload), opts)
  end

  @doc "Asks the node to end the request with this id."
  @spec create_cancel_request(term, keyword) :: t
  def create_cancel_request(id, opts \\ []), do: create_request(:cancel, %{id: id}, opts)

  @doc "Asks the node to end: `:drain` finishes running jobs within `grace_ms`, `:now` does not wait."
  @spec create_shutdown_request(:drain | :now, non_neg_integer | nil, keyword) :: t
  def create_shutdown_request(mode \\ :drain, grace_ms \\ nil, opts \\ []) do
    create_request(:shutdown, put_given(%{mode: mode}, :grace_ms, grace_ms), opts)
  end

  @doc "The request's frame, without the length that the port writes before it."
  @spec encode(t) :: binary
  def encode(%__MODULE__{} = request) do
    :erlang.term_to_binary(
      {request.request_type, request.message_id, request.payload, request.metadata}
    )
  end

  @doc """
  How many bytes at the end of a request's frame hold its metadata, for `metadata/2` and `put_deadline/3`.
  """
  @spec metadata_bytes(t) :: pos_integer
  def metadata_bytes(%__MODULE__{metadata: metadata}) do
    # All but the version byte, which only a whole frame begins with.
    byte_size(:erlang.term_to_binary(metadata)) - 1
  end

  @doc "The metadata of a request's frame, read without its payload."
  @spec metadata(binary, pos_integer) :: map
  def metadata(frame, metadata_bytes) do
    tail = binary_part(frame, byte_size(frame), -metadata_bytes)
    :erlang.binary_to_term(<<131, tail::binary>>)
  end

  @doc """
  The frame with another deadline, for a request that has waited on its way. The payload is not read for it.

      iex> alias Pipeline.DSPy.MessageProtocol
      iex> request = MessageProtocol.create_request(:predict, %{input: %{}}, message_id: 7, deadline_ms: 5_000)
      iex> frame = request |> MessageProtocol.encode()
      iex> frame = MessageProtocol.put_deadline(frame, MessageProtocol.metadata_bytes(request), 300)
      iex> {:predict, 7, %{input: %{}}, %{deadline_ms: 300}} = :erlang.binary_to_term(frame)
  """
  @spec put_deadline(binary, pos_integer, non_neg_integer) :: binary
  def put_deadline(frame, metadata_bytes, deadline_ms) do
    metadata = frame |> metadata(metadata_bytes) |> Map.put(:deadline_ms, deadline_ms)
    head = binary_part(frame, 0, byte_size(frame) - metadata_bytes)
    <<131, tail::binary>> = :erlang.term_to_binary(metadata)
    <<head::binary, tail::binary>>
  end

  @doc """
  The payload of a request's frame.

      iex> alias Pipeline.DSPy.MessageProtocol
      iex> MessageProtocol.create_cancel_request(7) |> MessageProtocol.encode() |> MessageProtocol.payload()
      %{id: 7}
  """
  @spec payload(binary) :: term
  def payload(frame), do: frame |> :erlang.binary_to_term() |> elem(2)

  @doc "The frame that grants the node `count` more events."
  @spec encode_credit(pos_integer) :: binary
  def encode_credit(count), do: :erlang.term_to_binary({:credit, count})

  @doc """
  The frame that answers a call of the node: what a function gave, or the reason of its failure.

      iex> Pipeline.DSPy.MessageProtocol.encode_result(7, {:ok, 0.5}) |> :erlang.binary_to_term()
      {:result, 7, {:ok, 0.5}}
  """
  @spec encode_result(term, {:ok, term} | {:error, term}) :: binary
  def encode_result(call_id, outcome), do: :erlang.term_to_binary({:result, call_id, outcome})

  @doc """
  What a frame of the node says.

      iex> Pipeline.DSPy.MessageProtocol.decode(<<131, 106>>)
      {:error, {:unknown_message, []}}
      iex> Pipeline.DSPy.MessageProtocol.decode("no term")
      {:error, :not_a_safe_term}
  """
  @spec decode(binary) :: {:ok, incoming} | {:error, reason}
        when reason: :not_a_safe_term | :too_large | {:unknown_message, term}
  def decode(<<131, 80, size::32, _rest::binary>>) when size > @max_unpacked_bytes do
    # A few kilobytes may claim to unpack to gigabytes; [:safe] does not mind.
    {:error, :too_large}
  end

  def decode(frame) when is_binary(frame) do
    Vocabulary.load()
    frame |> :erlang.binary_to_term([:safe]) |> classify()
  rescue
    ArgumentError -> {:error, :not_a_safe_term}
  end

  @doc """
  The result that an answer holds which came in chunks.

      iex> Pipeline.DSPy.MessageProtocol.decode_result(:erlang.term_to_binary(%{status: :success}))
      {:ok, %{status: :success}}
  """
  @spec decode_result(binary) :: {:ok, term} | {:error, :not_a_safe_term | :too_large}
  def decode_result(<<131, 80, _rest::binary>>), do: {:error, :too_large}

  def decode_result(term) when is_binary(term) do
    Vocabulary.load()
    {:ok, :erlang.binary_to_term(term, [:safe])}
  rescue
    ArgumentError -> {:error, :not_a_safe_term}
  end

  defp classify({:ready, info}) when is_map(info), do: {:ok, {:ready, info}}
  defp classify({:ok, id, result}), do: {:ok, {:answer, id, {:ok, result}}}
  defp classify({:error, id, error}), do: {:ok, {:answer, id, {:error, error}}}

  defp classify({:progress, id, state}) when is_map(state),
    do: {:ok, {:event, id, {:progress, state}}}

  defp classify({:chunk, id, chunk}) when is_map(chunk), do: {:ok, {:event, id, {:chunk, chunk}}}

  defp classify({:data_chunk, id, %{chunk_index: index, data: data, is_final: _} = chunk})
       when is_integer(index) and is_binary(data),
       do: {:ok, {:event, id, {:data_chunk, chunk}}}

  defp classify({:log, level, text, metadata})
       when is_atom(level) and is_binary(text) and is_map(metadata),
       do: {:ok, {:log, level, text, metadata}}

  defp classify({:telemetry, [:pipeline, :dspy | _] = name, measurements, metadata})
       when is_map(measurements) and is_map(metadata),
       do: {:ok, {:telemetry, name, measurements, metadata}}

  defp classify({:call, call_id, id, name, arguments}),
    do: {:ok, {:call, call_id, id, name, arguments}}

  defp classify({:call_over, call_id}), do: {:ok, {:call_over, call_id}}

  defp classify(other), do: {:error, {:unknown_message, other}}

  defp source({:program, program}), do: %{program: program}
  defp source(signature), do: %{signature: signature}

  defp workflow(text) when is_binary(text), do: %{yaml: text}
  defp workflow(map) when is_map(map), do: %{workflow: map}

  defp put_given(map, _key, nil), do: map
  defp put_given(map, key, value), do: Map.put(map, key, value)
end
