defmodule Pipeline.DSPy.Callback do
  @moduledoc """
  A module whose function DSPy calls, registered by `Pipeline.DSPy.Callbacks`. It has the one callback of its kind.

      defmodule MyApp.Judge do
        @behaviour Pipeline.DSPy.Callback

        @impl true
        def score(example, prediction), do: MyApp.distance(example.answer, prediction.answer)
      end

      Pipeline.DSPy.Callbacks.register(:judge, MyApp.Judge, kind: :metric)

  Each of them may give `{:ok, value}` or `{:error, reason}` as well. Fields come under the names that the request gave
  them: under atoms when it used those atoms anywhere, else under binaries.
  """

  @typedoc "What a prediction is worth: 0 to 1 or a boolean, with a word about it or without."
  @type score ::
          number
          | boolean
          | %{required(:score) => number | boolean, optional(:feedback) => String.t()}

  @typedoc "What a model is asked. `temperature` and `max_tokens` are nil unless they are set."
  @type completion_request :: %{
          model: String.t(),
          messages: [%{role: String.t(), content: String.t()}],
          temperature: float | nil,
          max_tokens: pos_integer | nil
        }

  @typedoc "A text, or a map of `text` and, where known, `input_tokens`, `output_tokens` and `cost_usd`."
  @type completion :: String.t() | map

  @type outcome(value) :: value | {:ok, value} | {:error, term}

  @doc "Kind `:metric`: what a prediction is worth, with the right answer beside it."
  @callback score(example :: map, prediction :: map) :: outcome(score)

  @doc "Kind `:lm`: a language model."
  @callback complete(completion_request) :: outcome(completion)

  @doc "Kind `:tool`: what an agent may call. The value is what it reads next; of a failure it reads the reason."
  @callback call(arguments :: map) :: outcome(term)

  @doc "Kind `:reward`: what an attempt of `best_of_n` or `refine` is worth, where no right answer is known."
  @callback reward(inputs :: map, prediction :: map) :: outcome(score)

  @doc "Kind `:step`: a step of a workflow that is the host's own, and what the steps before it gave."
  @callback execute_step(step :: map, context :: map) :: outcome(term)

  @optional_callbacks score: 2, complete: 1, call: 1, reward: 2, execute_step: 2
end
