defmodule Pipeline.Echo do
  @moduledoc "A module to register as a function: a model that answers with its own name, and a metric of equality."

  @behaviour Pipeline.DSPy.Callback

  @impl true
  def complete(request), do: Pipeline.ScriptedModel.answer(answer: request.model)

  @impl true
  def score(example, prediction), do: example.answer == prediction.answer
end
