defmodule Pipeline.DSPy.VocabularyTest do
  use Pipeline.NodeCase

  alias Pipeline.DSPy.Vocabulary

  test "the atoms are sorted and each is there once" do
    names = Enum.map(Vocabulary.atoms(), &Atom.to_string/1)
    assert names == names |> Enum.sort() |> Enum.uniq()
  end

  test "a fresh BEAM has every atom once the vocabulary is loaded, and not before" do
    # Names go in as text, so that the script itself makes none of the atoms; the module's as well, since a call that
    # the compiler sees would load it too early.
    script = ~S"""
    known = fn name ->
      try do
        _ = :erlang.binary_to_existing_atom(name)
        true
      rescue
        ArgumentError -> false
      end
    end

    names = "VOCABULARY" |> System.fetch_env!() |> String.split(",")
    before = Enum.count(names, known)
    apply(Module.concat(["Pipeline", "DSPy", "Vocabulary"]), :load, [])
    IO.puts("#{before} #{Enum.count(names, known)}")
    """

    names = Vocabulary.atoms()
    ebin = Application.app_dir(:pipeline, "ebin")
    env = [{"VOCABULARY", Enum.map_join(names, ",", &Atom.to_string/1)}]

    assert {output, 0} = System.cmd("elixir", ["-pa", ebin, "-e", script], env: env)
    assert [before, loaded] = output |> String.split() |> Enum.map(&String.to_integer/1)
    assert before < length(names)
    assert loaded == length(names)
  end

  test "the module is what the Python side generates" do
    assert {source, 0} = System.cmd(python(), ["-m", "erlbridge", "vocabulary"])
    assert source == File.read!("lib/pipeline/dspy/vocabulary.ex")
  end
end
