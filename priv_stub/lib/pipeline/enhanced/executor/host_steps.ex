defmodule Pipeline.Enhanced.Executor.HostSteps do
  @moduledoc """
  The steps of a workflow that this application executes: those without a signature, and DSPy's own where they fall back.

  A step goes to the provider of its type, see `Pipeline.Providers`; where there is none, to the application's
  `Pipeline.Executor.execute_step/2`, if it has that module, with the step and its context as the node gives them.
  """

  alias Pipeline.DSPy.PythonError
  alias Pipeline.Providers

  @signature_keys ["dspy_signature", "signature"]
  # What would have a provider that uses DSPy itself try once more what has just failed.
  @dspy_keys ["dspy_optimization", "dspy_optimized", "dspy_config", "examples" | @signature_keys]

  @enforce_keys [:providers, :outputs, :executed]
  defstruct [:providers, :outputs, :executed]

  @typedoc "`outputs` are the names of a step's outputs by step; `executed` counts the steps that were begun."
  @opaque t :: %__MODULE__{
            providers: Providers.t(),
            outputs: %{String.t() => [String.t()]},
            executed: :counters.counters_ref()
          }

  @doc "The host's part of a workflow, whose steps are as `load_workflow` gives them. An error names types that nobody executes."
  @spec new(Providers.t(), [map]) :: {:ok, t} | {:error, PythonError.t()}
  def new(providers, steps) do
    case for(%{kind: :other} = step <- steps, not executed?(providers, step.type), do: step) do
      [] ->
        outputs = Map.new(steps, &{&1.name, &1.outputs})
        {:ok, %__MODULE__{providers: providers, outputs: outputs, executed: :counters.new(1, [])}}

      [step | _others] = missing ->
        types = missing |> Enum.map(& &1.type) |> Enum.uniq()
        message = "step `#{step.name}`: " <> nobody(providers, step.type)

        {:error,
         PythonError.new(:validation_error, message, context: %{step: step.name, types: types})}
    end
  end

  @doc "Whether no step was begun yet, so that nothing has happened outside of DSPy."
  @spec untouched?(t) :: boolean
  def untouched?(%__MODULE__{executed: executed}), do: :counters.get(executed, 1) == 0

  @doc "Executes a step in its context: what the function `execute_step` of a pipeline does. An exception is a failure."
  @spec execute(t, map, map) :: {:ok, term} | {:error, term}
  def execute(%__MODULE__{} = steps, %{"name" => name, "type" => type} = step, context) do
    :counters.add(steps.executed, 1, 1)

    case Providers.fetch(steps.providers, type) do
      {:ok, provider} ->
        with {:ok, prompt} <- prompt(context),
             {:ok, response} <- Providers.query(provider, prompt, options(step, context)) do
          {:ok,
           if(falls_back?(step), do: as_outputs(response, steps.outputs[name]), else: response)}
        end

      :error ->
        if executor(),
          do: executor().execute_step(step, context),
          else: {:error, nobody(steps.providers, type)}
    end
  end

  defp executed?(providers, type) do
    match?({:ok, _provider}, Providers.fetch(providers, type)) or executor() != nil
  end

  # The application's module, and none of ours: it is there or it is not.
  defp executor do
    module = Pipeline.Executor
    if Code.ensure_loaded?(module) and function_exported?(module, :execute_step, 2), do: module
  end

  defp falls_back?(step), do: Enum.any?(@signature_keys, &is_map_key(step, &1))

  defp prompt(%{"prompt" => prompt}) when is_binary(prompt), do: {:ok, prompt}

  defp prompt(context) do
    {:error, "its prompt cannot be filled in: #{context["prompt_problem"]}"}
  end

  defp options(step, context) do
    step = if falls_back?(step), do: Map.drop(step, @dspy_keys), else: step
    step |> Map.delete("prompt") |> Map.put("context", context)
  end

  # The steps after this one ask for its output by name, whoever gave it.
  defp as_outputs(text, [output]) when is_binary(text), do: %{output => text}

  defp as_outputs(response, [output]) when is_map(response) and not is_struct(response) do
    case response do
      %{^output => _value} -> response
      %{"text" => text} -> Map.put(response, output, text)
      %{text: text} -> Map.put(response, output, text)
      _other -> response
    end
  end

  defp as_outputs(response, _outputs), do: response

  defp nobody(providers, type) do
    registered = providers |> Map.keys() |> Enum.sort() |> Enum.join(", ")

    registered =
      if registered == "", do: "none is registered", else: "registered are: #{registered}"

    "nobody executes steps of type `#{type}`: give a provider for it, as `config :pipeline, :providers` or :providers" <>
      " (#{registered})"
  end
end
