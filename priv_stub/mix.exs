defmodule Pipeline.MixProject do
  use Mix.Project

  def project do
    [
      app: :pipeline,
      # That of the Python side, erlbridge/__init__.py; a test holds the two equal.
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      description: "The Elixir side of erlbridge: DSPy jobs on a supervised Python node",
      package: package(),
      test_coverage: [summary: [threshold: 90], ignore_modules: support_modules()],
      # No dependency at all: everything here is Elixir's and OTP's own.
      deps: [],
      # Of :tools, which runs while tests are covered, and is no part of a release.
      xref: [exclude: [:cover]]
    ]
  end

  def application do
    [
      mod: {Pipeline.Application, []},
      extra_applications: [:crypto, :logger]
    ]
  end

  # The application keeps its name, {:pipeline, "~> 0.1", hex: :erlbridge}; the package has one that says what it is.
  defp package do
    [
      name: "erlbridge",
      licenses: ["Apache-2.0"],
      maintainers: ["The maintainers of erlbridge"],
      links: %{},
      files: ["lib", "priv", "mix.exs", ".formatter.exs", "README.md", "LICENSE"],
      build_tools: ["mix"]
    ]
  end

  # What tests are written with is not what coverage is about.
  defp support_modules do
    [
      Pipeline.ClusterCase,
      Pipeline.ClusterNode,
      Pipeline.LoopbackNames,
      Pipeline.NodeCase,
      Pipeline.Pages,
      Pipeline.PeerCoverage,
      Pipeline.PoolCase,
      Pipeline.ScriptedModel,
      Pipeline.Snippets,
      Pipeline.Snippets.Block,
      Pipeline.Tickets
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]
end
