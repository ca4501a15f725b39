defmodule Pipeline.Providers.AIProvider do
  @moduledoc """
  What answers a prompt: a model of the application, behind one function.

      defmodule MyApp.Claude do
        @behaviour Pipeline.Providers.AIProvider

        @impl true
        def query(prompt, options), do: MyApp.HTTP.complete(prompt, options["claude_options"] || %{})
      end

  The application says which provider answers the steps of which type, see `Pipeline.Providers`.
  """

  @typedoc """
  What a step says beside its prompt, under binaries, as it stands in its workflow: text from a file, which a provider
  should trust as little as any other.

  `Pipeline.Enhanced.Executor` adds `"context"`: the maps `"inputs"` and `"steps"` (what the steps before gave, by
  name), the names `"workflow"` and `"previous"`.
  """
  @type options :: %{optional(String.t()) => term, optional(atom) => term}

  @typedoc """
  The answer: a text, or a map with the text under `"text"` or `:text` and whatever else the provider tells. In a
  workflow it becomes the step's output, so it must be plain data: no pids, functions or structs.
  """
  @type response :: String.t() | map

  @doc "Answers a prompt. What it raises is a failure of the step, like `{:error, reason}`."
  @callback query(prompt :: String.t(), options) :: {:ok, response} | {:error, reason :: term}
end
