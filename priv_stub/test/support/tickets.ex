defmodule Pipeline.Tickets do
  @moduledoc "Support tickets to learn from: the project's own data, and the signature that fits it."

  @file_beside_checkout Path.expand("../../../erlbridge/data/support_tickets.tsv", __DIR__)

  @spec read() :: [map]
  def read do
    [_header | lines] =
      "ERLBRIDGE_TICKETS"
      |> System.get_env(@file_beside_checkout)
      |> File.read!()
      |> String.split("\n", trim: true)

    for line <- lines do
      [subject, body, category] = String.split(line, "\t")
      %{subject: subject, body: body, category: category}
    end
  end

  @spec signature() :: map
  def signature do
    %{
      name: :SupportTicket,
      instructions: "Choose the category of a support ticket.",
      input_fields: [%{name: :subject, type: :string}, %{name: :body, type: :string}],
      output_fields: [
        %{name: :category, enum: read() |> Enum.map(& &1.category) |> Enum.uniq() |> Enum.sort()}
      ]
    }
  end
end
