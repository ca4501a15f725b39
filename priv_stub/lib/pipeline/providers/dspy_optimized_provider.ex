defmodule Pipeline.Providers.DSPyOptimizedProvider do
  @moduledoc """
  Answers prompts by a DSPy program that was optimized for them, and by the application's own provider otherwise.

      config :pipeline, Pipeline.Providers.DSPyOptimizedProvider,
        bridge: MyApp.DSPy,
        traditional: MyApp.Claude,
        lm: "openai/gpt-4o-mini"

      {:ok, answer} =
        DSPyOptimizedProvider.query("I was charged twice", %{
          "dspy_optimization" => true,
          "dspy_signature" => %{"input_fields" => ["ticket"], "output_fields" => ["category"]},
          "examples" => [%{"input" => %{"ticket" => "Two invoices"}, "output" => %{"category" => "billing"}}]
        })

      answer["text"]                        #=> "billing"
      answer["dspy_optimization_applied"]   #=> true

  ## Options under binaries

  They may come from a workflow's text, and are held to what that may say: no model, no function, no file.

    * `"dspy_optimization"` - `true`; with anything else the traditional provider answers.
    * `"dspy_signature"` - a map or a text, as `Pipeline.DSPy.PythonBridge.optimize_signature/4` takes it.
    * `"examples"` - what to learn from. Without examples the signature answers as it is.
    * `"inputs"` - values of input fields by name. The one field that is left over gets the prompt.
    * `"dspy_config"` - of a step: `"evaluation_mode"` (the optimizer), `"evaluation_metric"` (a name), `"few_shot_examples"` (how many
      demos), `"cache_enabled"`, and `"fallback_strategy"`: with `"none"` a failure is the answer. Others change nothing here.

  ## Options under atoms

  They come from the program, and lie over the application's configuration of this module:

    * `:bridge` - a bridge, a pool or a cluster; `Pipeline.DSPy.PythonBridge` unless given.
    * `:traditional` - the provider (a module or a function) of everything else.
    * `:timeout` - one budget for optimizing and answering, 600000 ms.
    * any other option of `Pipeline.DSPy.OptimizationCache.optimize/4`: `:lm`, `:metric`, `:budget`, `:functions`, …

  ## How often it optimizes

  Once for the same signature, examples and configuration: through `Pipeline.DSPy.OptimizationCache`, however many ask at
  once. Where the configuration names Elixir functions, their `:versions` must be given for that (and a function in
  place has none); otherwise each query optimizes anew.

  ## The answer

  `{:ok, map}` with `"text"` (the last output), `"output"` (all of them), `"success"`, `"dspy_optimization_applied"` and
  `"program_id"`. When DSPy fails, a warning says why, and the traditional provider's answer is given as it is; where
  there is none, the error.
  """

  @behaviour Pipeline.Providers.AIProvider

  require Logger

  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.OptimizationCache
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError
  alias Pipeline.Providers
  alias Pipeline.Providers.DSPyOptimizedProvider.Asked

  @default_timeout_ms 600_000
  # What an answer has no use for.
  @of_the_search [
    :optimizer,
    :options,
    :metric,
    :max_demos,
    :max_labeled_demos,
    :prompt_lm,
    :teacher_lm,
    :validation_data
  ]
  @of_the_cache [:in, :versions]

  @impl true
  def query(prompt, options) when is_binary(prompt) and is_map(options) do
    {own, settings} = options |> settings() |> Keyword.split([:bridge, :traditional, :timeout])

    if options["dspy_optimization"] == true do
      with {:error, error} <- query_optimized(prompt, options, own, settings) do
        fall_back(error, prompt, options, own[:traditional])
      end
    else
      query_traditional(prompt, options, own[:traditional])
    end
  end

  # Only atoms are the program's own: a binary may have come from anywhere.
  defp settings(options) do
    given = for {key, value} <- options, is_atom(key), do: {key, value}
    Keyword.merge(Application.get_env(:pipeline, __MODULE__, []), given)
  end

  # -- by DSPy

  defp query_optimized(prompt, options, own, settings) do
    bridge = Keyword.get(own, :bridge, PythonBridge)
    until = Deadline.in_ms(Keyword.get(own, :timeout, @default_timeout_ms))

    with {:ok, asked} <- Asked.read(prompt, options) do
      answer(bridge, asked, Keyword.merge(asked.config, settings), until)
    end
  end

  defp answer(bridge, %Asked{examples: []} = asked, search, until) do
    Logger.warning(
      "DSPy optimizes nothing for this query: there are no examples; its signature answers as it is"
    )

    predict(bridge, asked, asked.signature, search, until)
  end

  defp answer(bridge, asked, search, until) do
    with {:ok, %{program_id: id}} <- optimize(bridge, asked, search, until) do
      case predict(bridge, asked, {:program, id}, search, until) do
        # What the cache knows may be gone from the node: paid-for answers of models make this cheap.
        {:error, %PythonError{error_type: :not_found}} ->
          with {:ok, %{program_id: id}} <- optimize_anew(bridge, asked, search, until),
               do: predict(bridge, asked, {:program, id}, search, until)

        answer ->
          answer
      end
    end
  end

  defp optimize(bridge, asked, search, until) do
    case OptimizationCache.key(asked.signature, asked.examples, search) do
      {:ok, _key} ->
        OptimizationCache.optimize(bridge, asked.signature, asked.examples, timed(search, until))

      # It names a function without a version: its result cannot be found again.
      {:error, _error} ->
        optimize_anew(bridge, asked, search, until)
    end
  end

  defp optimize_anew(bridge, asked, search, until) do
    search = search |> Keyword.drop(@of_the_cache) |> timed(until)
    PythonBridge.optimize_signature(bridge, asked.signature, asked.examples, search)
  end

  defp predict(bridge, asked, source, search, until) do
    settings = search |> Keyword.drop(@of_the_search ++ @of_the_cache) |> timed(until)

    with {:ok, %{prediction: prediction}} <-
           PythonBridge.predict(bridge, source, asked.inputs, settings) do
      output = Map.new(prediction, fn {name, value} -> {to_string(name), value} end)
      program_id = with {:program, id} <- source, do: id, else: (_signature -> nil)

      {:ok,
       Map.merge(found(program_id), %{"output" => output, "text" => Asked.text(asked, output)})}
    end
  end

  defp found(program_id) do
    %{
      "success" => true,
      "dspy_optimization_applied" => program_id != nil,
      "program_id" => program_id
    }
  end

  # -- otherwise

  defp fall_back(error, prompt, options, traditional) do
    if traditional == nil or fallback_strategy(options) == "none" do
      {:error, error}
    else
      Logger.warning("DSPy optimization failed, falling back: #{Exception.message(error)}")
      query_traditional(prompt, Map.put(options, "dspy_optimization", false), traditional)
    end
  end

  defp fallback_strategy(%{"dspy_config" => %{"fallback_strategy" => strategy}}), do: strategy
  defp fallback_strategy(_options), do: nil

  defp query_traditional(_prompt, _options, nil) do
    message = "no traditional provider is given, as :traditional of #{inspect(__MODULE__)}"
    {:error, PythonError.new(:validation_error, message)}
  end

  defp query_traditional(prompt, options, traditional) do
    options = for {key, value} <- options, is_binary(key), into: %{}, do: {key, value}
    traditional |> Providers.check!() |> Providers.query(prompt, options)
  end

  defp timed(settings, until), do: [{:timeout, Deadline.left(until)} | settings]
end
