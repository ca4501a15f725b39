defmodule Pipeline.DocsTest do
  @moduledoc "What the pages show is run as it stands there."

  use Pipeline.NodeCase

  alias Pipeline.Snippets

  @docs Path.expand("../../docs", __DIR__)

  test "the snippets of docs/elixir.md run in a row and give what they say" do
    path = Path.join(@docs, "elixir.md")
    blocks = Snippets.read(path)
    assert Enum.count(blocks, & &1.run?) >= 10
    data_dir = tmp_dir("docs-#{System.unique_integer([:positive])}")
    assert Snippets.run(blocks, path, data_dir: data_dir, tickets: Tickets.read()) == :ok
  end

  test "the snippets of docs/data.md run in a row and give what they say" do
    path = Path.join(@docs, "data.md")
    blocks = Snippets.read(path)
    assert Enum.count(blocks, & &1.run?) >= 10
    data_dir = tmp_dir("docs-#{System.unique_integer([:positive])}")
    bindings = [data_dir: data_dir, tickets: Tickets.read(), python: python()]
    assert Snippets.run(blocks, path, bindings) == :ok
  end

  test "the tests that docs/elixir-modules.md names are there" do
    page = File.read!(Path.join(@docs, "elixir-modules.md"))
    named = Regex.scan(~r/\| "(.+)" \| `(.+\.exs)` \|/, page, capture: :all_but_first)
    assert length(named) > 15

    for [name, file] <- named do
      source = File.read!(Path.join([__DIR__, "pipeline", file]))
      assert String.contains?(source, ~s(test "#{name}")), "no test #{inspect(name)} in #{file}"
    end
  end

  test "a snippet that does not give what it says fails with its line" do
    path = Path.join(tmp_dir("page"), "page.md")
    File.write!(path, "text\n\n```elixir\nx = 1\n#=> 1\n```\n\n```elixir\nx + 1\n#=> 3\n```\n")

    assert_raise RuntimeError, "page.md:9: expected  3, got 2", fn ->
      Snippets.run(Snippets.read(path), path, [])
    end
  end
end
