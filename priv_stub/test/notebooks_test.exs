defmodule Pipeline.NotebooksTest do
  @moduledoc "The notebooks of `examples/` are run from top to bottom, but for the cells that only Livebook can."

  use Pipeline.NodeCase

  import ExUnit.CaptureIO

  alias Pipeline.Snippets

  @examples Path.expand("../examples", __DIR__)
  @needs_livebook "# Needs Livebook"

  @notebooks @examples |> Path.join("*.livemd") |> Path.wildcard() |> Enum.sort()

  for path <- @notebooks do
    @tag timeout: 120_000
    test "#{Path.basename(path)} runs, but for the cells that need Livebook" do
      blocks = for block <- Snippets.read(unquote(path)), do: %{block | run?: runs?(block)}
      assert Enum.count(blocks, & &1.run?) >= 6

      capture_io(fn ->
        assert {_binding, _env} = Snippets.run(blocks, unquote(path), Snippets.session([]))
      end)
    end
  end

  test "only cells that need it are kept from being run" do
    assert length(@notebooks) == 2

    for path <- @notebooks,
        [code] <- Regex.scan(~r/```elixir\n(.*?)```/s, File.read!(path), capture: :all_but_first) do
      needs? = code =~ ~r/\b(Kino|VegaLite|Mix\.install)\b/
      assert String.starts_with?(code, @needs_livebook) == needs?, code
    end
  end

  defp runs?(block), do: not String.starts_with?(block.code, @needs_livebook)
end
