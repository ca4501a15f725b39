defmodule Pipeline.Snippets do
  @moduledoc """
  The Elixir in a Markdown page, run from top to bottom as one session: what one block binds or aliases, the next one has.

  A comment `#=> pattern` below an expression (continued by lines that begin with `#   `) says what it gives, and is
  matched. Two kinds of blocks are only parsed: those that begin with ```` ```elixir example ````, which need what no test
  has, and those whose first line is a comment that names a file, `# lib/my_app.ex`: they are that file.
  """

  defmodule Block do
    @moduledoc "One fenced block: the line of its first line of code, and whether it is run."
    defstruct [:line, :code, :run?]
  end

  @typedoc "What the blocks so far have bound and aliased."
  @type session :: {keyword, Macro.Env.t()}

  @doc "A session in which nothing has happened yet."
  @spec session(keyword) :: session
  def session(binding), do: {binding, Code.env_for_eval([])}

  @doc "The blocks of a page."
  @spec read(Path.t()) :: [%Block{}]
  def read(path) do
    {blocks, nil} =
      path
      |> File.stream!()
      |> Enum.with_index(1)
      |> Enum.reduce({[], nil}, fn
        {"```elixir" <> info, number}, {blocks, nil} ->
          {blocks, %Block{line: number + 1, code: "", run?: String.trim(info) == ""}}

        {"```" <> _end, _number}, {blocks, %Block{} = block} ->
          {[%{block | run?: block.run? and not a_file?(block.code)} | blocks], nil}

        {line, _number}, {blocks, %Block{} = block} ->
          {blocks, %{block | code: block.code <> line}}

        {_text, _number}, {blocks, nil} ->
          {blocks, nil}
      end)

    Enum.reverse(blocks)
  end

  @doc """
  Runs the blocks, and gives the session for what goes on from there. Raises at the first that fails or does not give what
  it says, naming its line.
  """
  @spec run([%Block{}], Path.t(), session) :: session
  def run(blocks, path, {binding, env}) do
    Enum.reduce(blocks, {binding, %{env | file: path}}, fn block, session ->
      Enum.reduce(parts(block), session, &run_part(&1, &2, path, block.run?))
    end)
  end

  defp a_file?(code), do: code =~ ~r/\A# \S+\.exs?\n/

  defp run_part({line, code, _expected}, session, path, false) do
    Code.string_to_quoted!(code, file: path, line: line)
    session
  end

  defp run_part({line, code, expected}, {binding, env}, path, true) do
    quoted = Code.string_to_quoted!(code, file: path, line: line)
    {value, binding, env} = Code.eval_quoted_with_env(quoted, binding, env)
    if expected, do: check(expected, value, env, path, line)
    {binding, env}
  end

  defp check(expected, value, env, path, line) do
    pattern = Code.string_to_quoted!(expected, file: path, line: line)
    question = quote(do: match?(unquote(pattern), value))

    question =
      Macro.prewalk(question, fn
        {:value, meta, _} -> {:value, meta, nil}
        other -> other
      end)

    unless match?({true, _, _}, Code.eval_quoted_with_env(question, [value: value], env)) do
      raise "#{Path.basename(path)}:#{line}: expected #{expected}, got #{inspect(value, limit: 20)}"
    end
  end

  # Each part is code and what it gives, nil where the page does not say.
  defp parts(%Block{line: line, code: code}) do
    code
    |> String.split("\n")
    |> Enum.with_index(line)
    |> Enum.chunk_while({[], []}, &chunk/2, fn last -> {:cont, part(last), nil} end)
    |> Enum.reject(fn {_line, code, _expected} -> String.trim(code) == "" end)
  end

  defp chunk({"#=>" <> text, _number}, {code, []}), do: {:cont, {code, [text]}}

  defp chunk({"#   " <> text, _number}, {code, [_ | _] = said}),
    do: {:cont, {code, [text | said]}}

  defp chunk(line, {code, []}), do: {:cont, {[line | code], []}}
  defp chunk(line, {_code, _said} = done), do: {:cont, part(done), {[line], []}}

  defp part({code, said}) do
    code = Enum.reverse(code)
    line = with [{_text, number} | _] <- code, do: number
    expected = if said != [], do: said |> Enum.reverse() |> Enum.join("\n")
    {line, Enum.map_join(code, "\n", &elem(&1, 0)), expected}
  end
end
