defmodule Pipeline.Providers.DSPyOptimizedProvider.AskedTest do
  @moduledoc "What a query's options say, without a node."

  use ExUnit.Case, async: true

  alias Pipeline.Providers.DSPyOptimizedProvider.Asked

  doctest Asked

  defp fields(signature) do
    {:ok, asked} = Asked.read("hi", %{"dspy_signature" => signature})
    {Map.keys(asked.inputs), asked.outputs}
  end

  test "fields are found in every spelling of a signature" do
    assert fields("a -> b, c: integer") == {["a"], ["b", "c"]}

    assert fields(
             ~S{a: Literal['x, y -> z', "it's", 'don\'t, ü'] -> b: dict[string, list[integer]], c}
           ) == {["a"], ["b", "c"]}

    assert fields(%{input_fields: [:a], output_fields: [%{name: :b}, %{name: "c"}]}) ==
             {["a"], ["b", "c"]}

    assert fields(%{"input_fields" => [%{"name" => "a"}], "output_fields" => ["b"]}) ==
             {["a"], ["b"]}
  end

  test "what is no signature is left to the node, which says so" do
    for wrong <- [
          "",
          "a, b",
          "a -> b -> c",
          %{},
          %{"input_fields" => 1},
          %{"input_fields" => [nil, 1]},
          "'",
          <<255>>
        ] do
      assert fields(wrong) == {[], []}
    end
  end

  test "of `dspy_config` only settings of the search are taken, and only those of the right kind" do
    config = fn given ->
      {:ok, asked} = Asked.read("hi", %{"dspy_signature" => "a -> b", "dspy_config" => given})
      asked.config
    end

    assert config.(%{
             "evaluation_mode" => "copro",
             "evaluation_metric" => "f1",
             "few_shot_examples" => 2,
             "cache_enabled" => false,
             "lm" => "openai/x"
           }) == [optimizer: "copro", metric: "f1", max_demos: 2, cache: false]

    assert config.(%{"evaluation_metric" => %{"lm" => "x"}, "few_shot_examples" => [%{}]}) == []
    assert config.("all of it") == []
  end

  test "the text of an answer is its last output" do
    {:ok, asked} = Asked.read("hi", %{"dspy_signature" => "a -> b, c"})
    assert Asked.text(asked, %{"b" => "no", "c" => "yes"}) == "yes"
    assert Asked.text(asked, %{"c" => 0.5}) == "0.5"
    assert Asked.text(asked, %{"c" => %{"x" => [true]}}) == ~S(%{"x" => [true]})
  end
end
