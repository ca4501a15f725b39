defmodule Pipeline.ProvidersTest do
  @moduledoc "The application's providers by type of step."

  use ExUnit.Case, async: true

  alias Pipeline.Providers

  doctest Providers

  defmodule Loud do
    @moduledoc false
    @behaviour Pipeline.Providers.AIProvider

    @impl true
    def query(prompt, _options), do: {:ok, String.upcase(prompt)}
  end

  test "a module is a provider, and a type may be an atom or a text" do
    providers = Providers.new(%{:claude => Loud, "gemini" => Loud})
    assert {:ok, Loud} = Providers.fetch(providers, "claude")
    assert {:ok, Loud} = Providers.fetch(providers, "dspy_gemini")
    assert :error = Providers.fetch(providers, "dspy_")
    assert {:ok, "HI"} = Providers.query(Loud, "hi", %{})
  end

  test "the type of its own goes before the one without `dspy_`" do
    other = fn _prompt, _options -> {:ok, "other"} end

    assert {:ok, ^other} =
             Providers.fetch(Providers.new(claude: Loud, dspy_claude: other), "dspy_claude")
  end

  test "what is no provider is refused where it is given" do
    for {given, text} <- [
          {[claude: Nowhere], "which has no query/2"},
          {[claude: fn -> :ok end],
           "expected a provider, a module with query/2 or a function of two"},
          {[claude: nil], "expected a provider"},
          {[{1, Loud}], "expected providers by type of step"},
          {:claude, "expected a map or keyword list"}
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(text)}/, fn -> Providers.new(given) end
    end
  end
end
