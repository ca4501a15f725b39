defmodule Pipeline.DSPy.RecoveryManager.CircuitsTest do
  use ExUnit.Case, async: true

  alias Pipeline.DSPy.RecoveryManager.Circuit
  alias Pipeline.DSPy.RecoveryManager.Circuits

  doctest Circuit
  doctest Circuits

  @settings %{threshold: 3, cooldown_ms: 60_000, max_cooldown_ms: 60_000}

  test "a target may be any term, also one that means something in a match specification" do
    for target <- [:_, :"$1", {:_, [:"$2"]}, self(), "text", %{a: :_}] do
      key = {:retry, target}
      for _time <- 1..3, do: Circuits.failed(key, @settings)
      assert Circuits.state(key) == :open
      assert {:refuse, ms} = Circuits.admit(key, @settings)
      assert ms in 1..60_000
      Circuits.succeeded(key)
      assert Circuits.admit(key, @settings) == :admit
    end
  end

  test "failures that come at the same time are all counted" do
    key = {:retry, make_ref()}
    settings = %{@settings | threshold: 200}
    together(199, fn -> Circuits.failed(key, settings) end)
    assert Circuits.state(key) == :closed
    Circuits.failed(key, settings)
    assert Circuits.state(key) == :open
  end

  test "a failure of work that was let through before it opened makes it open no longer" do
    settings = %{@settings | threshold: 1}
    open = Circuit.failed(Circuit.new(), 0, settings)
    assert Circuit.failed(open, 1_000, settings) == open
  end

  test "of many that ask at the same time one is let try" do
    key = {:retry, make_ref()}
    settings = %{@settings | threshold: 1, cooldown_ms: 0}
    Circuits.failed(key, settings)
    # It was open for no time; who tries has a minute to do so.
    answers = together(100, fn -> Circuits.admit(key, @settings) end)
    assert Enum.count(answers, &(&1 == :admit)) == 1
    assert Circuits.state(key) == :half_open
  end

  test "a circuit that has nothing to remember takes no room, and can be closed by hand" do
    key = {:retry, make_ref()}
    Circuits.failed(key, @settings)
    assert :ets.member(Circuits, :erlang.term_to_binary(key))
    Circuits.succeeded(key)
    refute :ets.member(Circuits, :erlang.term_to_binary(key))
    for _time <- 1..3, do: Circuits.failed(key, @settings)
    Circuits.reset(key)
    assert Circuits.state(key) == :closed
  end

  defp together(count, fun) do
    1..count |> Enum.map(fn _number -> Task.async(fun) end) |> Task.await_many()
  end
end
