defmodule Pipeline.Providers.DSPyOptimizedProvider.Asked do
  @moduledoc """
  A prompt and its options as a question to DSPy: which signature, with which inputs, learned from what.

  Of a signature only the fields' names are read here; the node says what is wrong with it.
  """

  alias Pipeline.DSPy.PythonError

  @enforce_keys [:signature, :inputs, :outputs, :examples, :config]
  defstruct [:signature, :inputs, :outputs, :examples, :config]

  @typedoc "`outputs` are the names of the output fields; `config` is what the options say of the job's configuration."
  @type t :: %__MODULE__{
          signature: map | String.t(),
          inputs: %{String.t() => term},
          outputs: [String.t()],
          examples: list,
          config: keyword
        }

  @doc """
  Reads the options of a query. The one input field that `"inputs"` does not name gets the prompt.

      iex> alias Pipeline.Providers.DSPyOptimizedProvider.Asked
      iex> options = %{"dspy_signature" => "question, mood -> answer", "inputs" => %{"mood" => "kind"}}
      iex> {:ok, asked} = Asked.read("1 + 1", options)
      iex> {asked.inputs, asked.outputs}
      {%{"mood" => "kind", "question" => "1 + 1"}, ["answer"]}
  """
  @spec read(String.t(), map) :: {:ok, t} | {:error, PythonError.t()}
  def read(prompt, options) do
    signature = options["dspy_signature"]
    {inputs, outputs} = fields(signature)

    with :ok <- check(signature, options),
         {:ok, inputs} <- inputs(inputs, options["inputs"] || %{}, prompt) do
      {:ok,
       %__MODULE__{
         signature: signature,
         inputs: inputs,
         outputs: outputs,
         examples: options["examples"] || [],
         config: config(options["dspy_config"])
       }}
    end
  end

  @doc """
  The answer as one text: the last output of the signature.

      iex> alias Pipeline.Providers.DSPyOptimizedProvider.Asked
      iex> {:ok, asked} = Asked.read("1 + 1", %{"dspy_signature" => "question -> steps: list[string], answer: integer"})
      iex> Asked.text(asked, %{"steps" => ["add"], "answer" => 2})
      "2"
  """
  @spec text(t, %{String.t() => term}) :: String.t()
  def text(%__MODULE__{outputs: outputs}, output) do
    case output[List.last(outputs)] do
      text when is_binary(text) -> text
      number when is_number(number) -> to_string(number)
      other -> inspect(other, limit: :infinity, printable_limit: :infinity)
    end
  end

  defp check(signature, options) do
    cond do
      not (is_map(signature) or is_binary(signature)) ->
        refused("expected `dspy_signature`, a map or a text", "dspy_signature")

      not is_list(options["examples"] || []) ->
        refused("expected `examples`, a list", "examples")

      not is_map(options["inputs"] || %{}) ->
        refused("expected `inputs`, a map", "inputs")

      true ->
        :ok
    end
  end

  defp inputs(names, given, prompt) do
    given = Map.new(given, fn {name, value} -> {to_string(name), value} end)

    case Enum.reject(names, &is_map_key(given, &1)) do
      [] ->
        {:ok, given}

      [name] ->
        {:ok, Map.put(given, name, prompt)}

      several ->
        shown = Enum.map_join(several, ", ", &"`#{&1}`")
        refused("one input field gets the prompt, nothing gives the others of #{shown}", "inputs")
    end
  end

  # The names that `dspy_config` of a workflow's step has for them.
  defp config(given) when is_map(given) do
    for {name, key, fits?} <- [
          {"evaluation_mode", :optimizer, &is_binary/1},
          {"evaluation_metric", :metric, &is_binary/1},
          {"few_shot_examples", :max_demos, &is_integer/1},
          {"cache_enabled", :cache, &is_boolean/1}
        ],
        fits?.(given[name]),
        do: {key, given[name]}
  end

  defp config(_none), do: []

  # -- names of fields

  defp fields(text) when is_binary(text) do
    case split(text, "->") do
      [inputs, outputs] -> {names(split(inputs, ",")), names(split(outputs, ","))}
      _wrong -> {[], []}
    end
  end

  defp fields(signature) when is_map(signature) do
    {names(signature[:input_fields] || signature["input_fields"]),
     names(signature[:output_fields] || signature["output_fields"])}
  end

  defp fields(_wrong), do: {[], []}

  defp names(fields) when is_list(fields) do
    for field <- fields, name = name(field), do: name
  end

  defp names(_wrong), do: []

  defp name(%{name: name}), do: name(name)
  defp name(%{"name" => name}), do: name(name)
  defp name(name) when is_atom(name) and name != nil, do: Atom.to_string(name)
  defp name(text) when is_binary(text), do: text |> String.split(":") |> hd() |> String.trim()
  defp name(_wrong), do: nil

  # The parts of a text between the marks that stand outside of brackets and quotes, as in `kind: Literal['a, b']`.
  defp split(text, mark), do: split(text, mark, 0, nil, "")

  defp split("", _mark, _depth, _quote, part), do: [part]

  defp split(<<?\\, char::utf8, rest::binary>>, mark, depth, quote, part) when quote != nil do
    split(rest, mark, depth, quote, <<part::binary, ?\\, char::utf8>>)
  end

  defp split(<<char, rest::binary>>, mark, depth, quote, part) when quote != nil do
    split(rest, mark, depth, if(char != quote, do: quote), <<part::binary, char>>)
  end

  defp split(text, mark, depth, nil, part) do
    size = byte_size(mark)

    case text do
      <<^mark::binary-size(size), rest::binary>> when depth == 0 ->
        [part | split(rest, mark, depth, nil, "")]

      <<char, rest::binary>> ->
        quote = if char in [?', ?"], do: char
        split(rest, mark, depth + step(char), quote, <<part::binary, char>>)
    end
  end

  defp step(?[), do: 1
  defp step(?]), do: -1
  defp step(_other), do: 0

  defp refused(message, path) do
    {:error, PythonError.new(:validation_error, message, context: %{path: path})}
  end
end
