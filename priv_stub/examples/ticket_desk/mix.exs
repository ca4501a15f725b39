defmodule TicketDesk.MixProject do
  use Mix.Project

  def project do
    [
      app: :ticket_desk,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      deps: [{:pipeline, path: "../.."}],
      releases: [ticket_desk: [include_executables_for: [:unix]]]
    ]
  end

  def application do
    [mod: {TicketDesk.Application, []}, extra_applications: [:logger]]
  end
end
