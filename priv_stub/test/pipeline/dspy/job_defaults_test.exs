defmodule Pipeline.DSPy.JobDefaultsTest do
  @moduledoc "What is configured for every job, and what it is part of. No node."

  use Pipeline.NodeCase

  alias Pipeline.DSPy.JobDefaults
  alias Pipeline.DSPy.OptimizationCache

  doctest JobDefaults

  test "another default is another question to the cache" do
    key = fn opts -> OptimizationCache.key("a -> b", [%{a: 1, b: 2}], opts) end
    before = key.([])
    put_env(:job_defaults, lm: :offline)
    assert key.([]) != before
    assert key.(lm: "openai/x") == key.(config: %{"lm" => "openai/x"})
  end
end
