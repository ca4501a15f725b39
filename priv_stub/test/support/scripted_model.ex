defmodule Pipeline.ScriptedModel do
  @moduledoc "Language models in Elixir that keep to DSPy's form: what a prompt asks for is answered field by field."

  @doc "The text of an answer, from its fields in order."
  def answer(fields) do
    Enum.map_join(fields, fn {name, value} -> "[[ ## #{name} ## ]]\n#{value}\n\n" end) <>
      "[[ ## completed ## ]]"
  end

  @doc "The output fields that a prompt asks for, in order: DSPy names them at its end."
  def wanted(%{messages: messages}) do
    %{content: content} = List.last(messages)

    [_before, asked] =
      String.split(content, "Respond with the corresponding output fields", parts: 2)

    for [name] <- Regex.scan(~r/\[\[ ## (\w+) ## \]\]/, asked, capture: :all_but_first),
        name != "completed",
        do: name
  end

  @doc "What stands under a field in the last message."
  def given(%{messages: messages}, field) do
    %{content: content} = List.last(messages)

    case String.split(content, "[[ ## #{field} ## ]]\n", parts: 2) do
      [_before, rest] -> rest |> String.split("\n", parts: 2) |> hd()
      [_nothing] -> nil
    end
  end
end
