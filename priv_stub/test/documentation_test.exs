defmodule Pipeline.DocumentationTest do
  @moduledoc "Every module of lib/ says what it is, and every public function what it does and takes."

  use ExUnit.Case, async: true

  # What the compiler and `use` make.
  @made [__struct__: 0, __struct__: 1, child_spec: 1, exception: 1, message: 1]

  {:ok, modules} = :application.get_key(:pipeline, :modules)
  for_tests? = &(to_string(&1.module_info(:compile)[:source]) =~ "/test/support/")

  for module <- Enum.reject(modules, for_tests?) do
    @module module

    test "#{inspect(module)} is documented" do
      {:docs_v1, _, _, _, about, _, docs} = Code.fetch_docs(@module)
      refute about == :none, "no @moduledoc"

      if about != :hidden do
        functions = for {{:function, name, arity}, _, _, doc, _} <- docs, do: {{name, arity}, doc}
        asked = Enum.reject(functions, fn {function, _doc} -> function in implied(@module) end)
        assert for({function, :none} <- asked, do: function) == [], "no @doc"
        shown = for {function, doc} <- asked, doc != :hidden, do: function
        assert shown -- specified(@module) == [], "no @spec"
      end
    end
  end

  # The callbacks of a behaviour are described by the behaviour.
  defp implied(module) do
    behaviours =
      for {:behaviour, names} <- module.module_info(:attributes), name <- names, do: name

    @made ++
      for behaviour <- behaviours,
          Code.ensure_loaded?(behaviour),
          callback <- behaviour.behaviour_info(:callbacks),
          do: callback
  end

  defp specified(module) do
    {:ok, specs} = Code.Typespec.fetch_specs(module)
    for {function, _spec} <- specs, do: function
  end
end
