defmodule Pipeline.DSPy.VerbsTest do
  use ExUnit.Case, async: true

  alias Pipeline.DSPy.Verbs

  doctest Verbs

  test "work that asks a model is repeated by no verb of its own" do
    for verb <- [
          :predict,
          :optimize_signature,
          :evaluate_pipeline,
          :train_model,
          :run_pipeline,
          :unheard_of
        ] do
      refute Verbs.idempotent?(verb)
      assert Verbs.idempotent?(verb, idempotency_key: "key")
      assert Verbs.idempotent?(verb, idempotent: true)
    end
  end

  test "who says that a request must not be repeated is heard before the verb and the key" do
    refute Verbs.idempotent?(:get_program, idempotent: false)
    refute Verbs.idempotent?(:predict, idempotent: false, idempotency_key: "key")
  end

  test "a verb that nobody has heard of is quick, and has the usual time" do
    assert {Verbs.lane(:unheard_of), Verbs.default_timeout(:unheard_of)} == {:quick, 60_000}
  end
end
