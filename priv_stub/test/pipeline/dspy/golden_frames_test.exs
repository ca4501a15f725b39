defmodule Pipeline.DSPy.GoldenFramesTest do
  @moduledoc "The frames of docs/golden, which any client may be held to, as a BEAM reads them."

  use ExUnit.Case, async: true

  alias Pipeline.DSPy.MessageProtocol

  @golden Path.expand("../../../../docs/golden", __DIR__)
  @section ~r/^### `([\w-]+)\.etf`\n.*?^```elixir\n(.*?)^```/sm

  defp frames do
    for [name, notation] <-
          Regex.scan(@section, File.read!(Path.join(@golden, "README.md")),
            capture: :all_but_first
          ) do
      {term, _binding} = notation |> Code.string_to_quoted!() |> Code.eval_quoted()
      {name, File.read!(Path.join(@golden, name <> ".etf")), term}
    end
  end

  test "each is the term that stands below it" do
    frames = frames()
    assert length(frames) > 60

    for {name, frame, term} <- frames,
        do: assert({name, :erlang.binary_to_term(frame)} === {name, term})
  end

  test "each of the node's is a message to its host" do
    for {"node-" <> _kind = name, frame, _term} <- frames() do
      assert {^name, {:ok, _message}} = {name, MessageProtocol.decode(frame)}
    end
  end
end
