defmodule Pipeline.NotebooksTest do
  @moduledoc "The notebooks of `examples/` are run from top to bottom, but for the cells that only Livebook can."

  use Pipeline.NodeCase

  alias Pipeline.Snippets

  @examples Path.expand("../examples", __DIR__)
  @needs_livebook "# Needs Livebook"

  test "optimize.livemd runs, and the charts that it draws are there" do
    path = Path.join(@examples, "optimize.livemd")
    blocks = for block <- Snippets.read(path), do: %{block | run?: runs?(block)}
    assert Enum.count(blocks, & &1.run?) >= 8
    assert Enum.count(blocks, &(not &1.run?)) >= 4
    assert Snippets.run(blocks, path, []) == :ok
  end

  test "only cells that need it are kept from being run" do
    source = File.read!(Path.join(@examples, "optimize.livemd"))

    for cell <- Regex.scan(~r/```elixir\n(.*?)```/s, source, capture: :all_but_first) do
      [code] = cell
      needs? = code =~ ~r/\b(Kino|VegaLite|Mix\.install)\b/
      assert String.starts_with?(code, @needs_livebook) == needs?, code
    end
  end

  defp runs?(block), do: not String.starts_with?(block.code, @needs_livebook)
end
