defmodule TicketDesk.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    data_dir = Application.fetch_env!(:ticket_desk, :data_dir)

    children = [
      {Pipeline.DSPy.ConnectionPool,
       name: TicketDesk.DSPy, pool_size: 1, workers: 2, data_dir: data_dir}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: TicketDesk.Supervisor)
  end
end
