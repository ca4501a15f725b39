# The Elixir modules' documentation as Markdown, a page for each room of them: `mix run elixir_reference.exs DIRECTORY`.
#
# ExDoc is what would do this, were a package manager at hand. What it does not document (`@moduledoc false`, `@doc false`)
# has no place here either.
defmodule ElixirReference do
  # Of each page the modules that stand on it: the first prefix that a module's name has.
  @pages [
    {"mix", "Mix tasks", ["Mix.Tasks."]},
    {"bridge", "The bridge",
     [
       "Pipeline.DSPy.PythonBridge",
       "Pipeline.DSPy.PythonEnvironment",
       "Pipeline.DSPy.ProcessManager"
     ]},
    {"pool", "Pools", ["Pipeline.DSPy.ConnectionPool"]},
    {"cluster", "Clusters", ["Pipeline.DSPy.Cluster"]},
    {"callbacks", "Elixir functions", ["Pipeline.DSPy.Callback"]},
    {"data", "Data and caches", ["Pipeline.DSPy.Data", "Pipeline.DSPy.OptimizationCache"]},
    {"recovery", "Errors and recovery",
     ["Pipeline.DSPy.Recovery", "Pipeline.DSPy.PythonError", "Pipeline.DSPy.ErrorHandler"]},
    {"workflows", "Workflows and providers", ["Pipeline.Enhanced", "Pipeline.Providers"]},
    {"wire", "The wire, metrics and the rest", ["Pipeline"]}
  ]

  def write(directory) do
    File.rm_rf!(directory)
    File.mkdir_p!(directory)

    documented = for module <- modules(), {:ok, docs} <- [docs(module)], do: {module, docs}
    on_page = Enum.group_by(documented, fn {module, _docs} -> page(module) end)

    for {name, title, _prefixes} <- @pages, modules = on_page[name] do
      parts = modules |> Enum.sort_by(&inspect(elem(&1, 0))) |> Enum.map(&module_text/1)

      File.write!(Path.join(directory, "#{name}.md"), [
        "# ",
        title,
        "\n\n",
        Enum.intersperse(parts, "\n")
      ])
    end

    File.write!(Path.join(directory, "index.md"), index(on_page))
  end

  defp modules do
    {:ok, modules} = :application.get_key(:pipeline, :modules)
    # In the test environment what the tests bring stands beside the library.
    Enum.filter(modules, &(source(&1) |> Path.relative_to_cwd() |> String.starts_with?("lib/")))
  end

  defp source(module), do: to_string(module.module_info(:compile)[:source])

  defp docs(module) do
    case Code.fetch_docs(module) do
      {:docs_v1, _line, :elixir, _format, %{"en" => text}, _metadata, entries} ->
        {:ok, {text, entries}}

      _hidden_or_none ->
        :none
    end
  end

  defp page(module) do
    name = inspect(module)

    {page, _title, _prefixes} =
      Enum.find(@pages, fn {_, _, prefixes} -> String.starts_with?(name, prefixes) end)

    page
  end

  defp index(on_page) do
    rows =
      for {page, title, _prefixes} <- @pages, modules = on_page[page] do
        names =
          modules
          |> Enum.map(&elem(&1, 0))
          |> Enum.sort_by(&inspect/1)
          |> Enum.map_join(", ", &"[`#{inspect(&1)}`](#{page}.md##{anchor(&1)})")

        "| [#{title}](#{page}.md) | #{names} |\n"
      end

    [
      "# Elixir\n\nThe modules of the application `:pipeline`.\n\n| page | modules |\n|---|---|\n",
      rows
    ]
  end

  defp module_text({module, {text, entries}}) do
    documented =
      for {_kind, _line, _signature, %{"en" => _text}, _metadata} = entry <- entries, do: entry

    sections =
      for {title, kinds} <- [
            {"Types", [:type, :opaque]},
            {"Callbacks", [:callback]},
            {"Functions", [:function, :macro]}
          ],
          found =
            Enum.filter(documented, fn {{kind, _name, _arity}, _, _, _, _} -> kind in kinds end),
          found != [],
          do: ["\n**", title, "**\n\n", Enum.map(found, &entry_text(module, &1))]

    [
      "## ",
      inspect(module),
      " {#",
      anchor(module),
      " data-toc-label=",
      short(module),
      "}\n\n",
      lowered(text),
      "\n",
      sections
    ]
  end

  defp entry_text(module, {{kind, name, arity}, _line, signature, %{"en" => text}, metadata}) do
    heading =
      "### `#{name}/#{arity}` {##{anchor(module)}-#{kind}-#{anchor_text(name)}-#{arity}}\n\n"

    code =
      [signature | specs(module, kind, name, arity)]
      |> List.flatten()
      |> Enum.uniq()
      |> Enum.join("\n")

    since = if metadata[:deprecated], do: "*Deprecated: #{metadata[:deprecated]}*\n\n", else: ""
    code = if code == "", do: "", else: "```elixir\n#{code}\n```\n\n"
    [heading, code, since, lowered(text), "\n\n"]
  end

  defp specs(module, kind, name, arity) when kind in [:function, :callback] do
    fetched =
      if kind == :function,
        do: Code.Typespec.fetch_specs(module),
        else: Code.Typespec.fetch_callbacks(module)

    with {:ok, specs} <- fetched, {_id, found} <- List.keyfind(specs, {name, arity}, 0) do
      attribute = if kind == :function, do: "@spec ", else: "@callback "

      for spec <- found,
          do: attribute <> Macro.to_string(Code.Typespec.spec_to_quoted(name, spec))
    else
      _none -> []
    end
  end

  defp specs(module, kind, name, arity) when kind in [:type, :opaque] do
    with {:ok, types} <- Code.Typespec.fetch_types(module) do
      for {^kind, {^name, _, arguments} = type} <- types, length(arguments) == arity do
        quoted = Code.Typespec.type_to_quoted(type)
        quoted = if kind == :opaque, do: quoted |> elem(2) |> hd(), else: quoted
        "@#{kind} " <> Macro.to_string(quoted)
      end
    else
      _none -> []
    end
  end

  defp specs(_module, :macro, _name, _arity), do: []

  # Headings in a module's text stand below the module's own.
  defp lowered(text) do
    {lines, _fenced?} =
      text
      |> String.split("\n")
      |> Enum.map_reduce(false, fn line, fenced? ->
        cond do
          String.starts_with?(String.trim_leading(line), "```") ->
            {line, not fenced?}

          not fenced? and line =~ ~r/^#+ / ->
            {"**" <> String.replace(line, ~r/^#+ +/, "") <> "**", fenced?}

          true ->
            {line, fenced?}
        end
      end)

    lines |> Enum.join("\n") |> links()
  end

  # ExDoc's links, such as `t:incoming/0` and `c:call/2`, are code here.
  defp links(text), do: String.replace(text, ~r/`[tcm]:([^`]+)`/, "`\\1`")

  # What the table of contents, which is narrow, has of a module's name.
  defp short(module),
    do: module |> inspect() |> String.replace(~r/^(Pipeline\.(DSPy\.)?|Mix\.Tasks\.)/, "")

  defp anchor(module), do: module |> inspect() |> anchor_text()

  defp anchor_text(name),
    do: name |> to_string() |> String.downcase() |> String.replace(~r/[^a-z0-9_]+/, "-")
end

[directory] = System.argv()
ElixirReference.write(directory)
