defmodule Pipeline.Pages do
  @moduledoc """
  The Markdown pages of this repository that show Elixir: the README, and all below `docs/` but `docs/reference/`, which is
  made from the sources.

  A page is a session of its own, unless it says `<!-- goes on from OTHER.md -->`: then it begins where that page, named
  from its own folder, has ended, also when several do. So the pages of one subject share what the first of them starts.
  """

  alias Pipeline.Snippets

  @root Path.expand("../../..", __DIR__)

  @typedoc "A page by its path from the repository's top, with those that go on from it."
  @type tree :: {String.t(), [tree]}

  @doc "The pages with blocks of Elixir, each below the one that it goes on from."
  @spec trees() :: [tree]
  def trees do
    pages =
      for path <- paths(), shows_elixir?(path), into: %{}, do: {relative(path), before(path)}

    for {page, nil} <- Enum.sort(pages), do: {page, below(page, pages)}
  end

  @doc "Runs a page, and then all that go on from it, each in the session that it has left."
  @spec run(tree, Snippets.session()) :: :ok
  def run({page, following}, session) do
    path = Path.join(@root, page)
    session = path |> Snippets.read() |> Snippets.run(path, session)
    Enum.each(following, &run(&1, session))
  end

  defp paths do
    reference = Path.join(@root, "docs/reference/")
    pages = Path.wildcard(Path.join(@root, "docs/**/*.md"))
    [Path.join(@root, "README.md") | Enum.reject(pages, &String.starts_with?(&1, reference))]
  end

  defp shows_elixir?(path), do: Snippets.read(path) != []

  defp before(path) do
    said = ~r/^<!-- goes on from (\S+\.md) -->$/m

    with [other] <- Regex.run(said, File.read!(path), capture: :all_but_first),
         do: other |> Path.expand(Path.dirname(path)) |> relative()
  end

  defp below(page, pages) do
    for {other, ^page} <- Enum.sort(pages), do: {other, below(other, pages)}
  end

  defp relative(path), do: Path.relative_to(path, @root)
end
