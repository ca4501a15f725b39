defmodule TicketDesk do
  @moduledoc """
  A small application that depends on `:pipeline`: it learns to sort support tickets, and sorts them.

  Its pool of Python nodes is a child of its own supervisor, see `TicketDesk.Application`. With the offline model, which
  needs no key, or with the one that `TICKET_DESK_LM` names.
  """

  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError

  @pool TicketDesk.DSPy
  @categories ["account", "billing", "shipping", "technical"]

  @type ticket :: %{
          required(:subject) => String.t(),
          required(:body) => String.t(),
          optional(:category) => String.t()
        }

  @doc "Tickets of a file: a header, and then their subject, body and category, apart by tabs."
  @spec read(Path.t()) :: [ticket]
  def read(file) do
    [_header | lines] = file |> File.read!() |> String.split("\n", trim: true)

    for line <- lines do
      [subject, body, category] = String.split(line, "\t")
      %{subject: subject, body: body, category: category}
    end
  end

  @doc "Learns from sorted tickets. `progress` hears how far it is."
  @spec learn([ticket], (map -> term)) :: {:ok, map} | {:error, PythonError.t()}
  def learn(tickets, progress \\ fn _state -> :ok end) do
    PythonBridge.optimize_signature(@pool, signature(), tickets,
      optimizer: :bootstrap_few_shot,
      metric: :exact_match,
      lm: lm(),
      progress: progress
    )
  end

  @doc "How many of these sorted tickets a program, or the plain signature, sorts right: 0.0 to 1.0."
  @spec score([ticket], String.t() | nil) :: {:ok, float} | {:error, PythonError.t()}
  def score(tickets, program \\ nil) do
    with {:ok, result} <-
           PythonBridge.evaluate_pipeline(@pool, source(program), tickets,
             metric: :exact_match,
             lm: lm()
           ) do
      {:ok, result.score}
    end
  end

  @doc "The category of a new ticket."
  @spec sort(ticket, String.t() | nil) :: {:ok, String.t()} | {:error, PythonError.t()}
  def sort(ticket, program \\ nil) do
    input = Map.take(ticket, [:subject, :body])

    with {:ok, result} <- PythonBridge.predict(@pool, source(program), input, lm: lm()) do
      {:ok, result.prediction["category"] || result.prediction[:category]}
    end
  end

  defp source(nil), do: signature()
  defp source(program), do: {:program, program}

  defp signature do
    %{
      name: :SupportTicket,
      instructions: "Choose the category of a support ticket.",
      input_fields: [%{name: :subject, type: :string}, %{name: :body, type: :string}],
      output_fields: [%{name: :category, enum: @categories}]
    }
  end

  defp lm, do: Application.fetch_env!(:ticket_desk, :lm)
end
