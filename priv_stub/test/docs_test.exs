defmodule Pipeline.DocsTest do
  @moduledoc "What the pages show is run as it stands there."

  use Pipeline.NodeCase

  import ExUnit.CaptureIO

  alias Pipeline.Pages
  alias Pipeline.Snippets

  @docs Path.expand("../../docs", __DIR__)

  for {page, _following} = tree <- Pages.trees() do
    @tag timeout: 120_000
    @tag tree: tree
    test "what #{page} shows, and what goes on from it, runs and gives what it says", %{
      tree: tree
    } do
      data_dir = tmp_dir("docs-#{System.unique_integer([:positive])}")
      bindings = [data_dir: data_dir, tickets: Tickets.read(), python: python()]
      use_system_env("ERLBRIDGE_DATA", data_dir)
      use_system_env("ERLBRIDGE_PYTHON", python())
      linked = links()

      try do
        capture_io(fn -> assert Pages.run(tree, Snippets.session(bindings)) == :ok end)
      after
        # What a page leaves running ends here, while its directory is there and before the next page wants the names.
        for pid <- links() -- linked, is_pid(pid), do: stop(pid)
      end
    end
  end

  # One that ends by itself meanwhile has ended.
  defp stop(pid) do
    GenServer.stop(pid, :normal, 20_000)
  catch
    :exit, {:noproc, _call} -> :ok
  end

  test "the pages that show Elixir are found, and no page goes on from one that is not there" do
    pages = List.flatten(names(Pages.trees()))

    for page <- ~w(README.md docs/elixir.md docs/data.md docs/how-to/metric.md),
        do: assert(page in pages)

    saying =
      for path <- Path.wildcard(Path.join(@docs, "**/*.md")),
          File.read!(path) =~ "<!-- goes on from ",
          do: path

    assert Enum.all?(saying, &(Path.relative_to(&1, Path.dirname(@docs)) in pages))
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
      Snippets.run(Snippets.read(path), path, Snippets.session([]))
    end
  end

  test "a block that is a file, or an example, is read and not run" do
    path = Path.join(tmp_dir("files"), "page.md")

    File.write!(
      path,
      "```elixir\n# lib/a.ex\nraise \"run\"\n```\n\n```elixir example\nraise \"run\"\n```\n"
    )

    blocks = Snippets.read(path)
    assert Enum.map(blocks, & &1.run?) == [false, false]
    assert {[], _env} = Snippets.run(blocks, path, Snippets.session([]))
  end

  defp links, do: self() |> Process.info(:links) |> elem(1)

  defp use_system_env(name, value) do
    before = System.get_env(name)
    System.put_env(name, value)
    on_exit(fn -> if before, do: System.put_env(name, before), else: System.delete_env(name) end)
  end

  defp names(trees), do: for({page, following} <- trees, do: [page | names(following)])
end
