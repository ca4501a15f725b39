defmodule TicketDesk.Demo do
  @moduledoc """
  The main job, from a release:

      MIX_ENV=prod mix release
      ERLBRIDGE_PYTHON=… _build/prod/rel/ticket_desk/bin/ticket_desk eval "TicketDesk.Demo.run()"
  """

  @new_ticket %{
    subject: "Where is my parcel?",
    body: "I ordered a lamp two weeks ago and the courier has not delivered it."
  }
  @learned 40
  @held_out 20

  @doc "Learns from tickets, shows what that brought on others, and sorts a new one. Raises when any of that fails."
  @spec run(Path.t()) :: :ok
  def run(file \\ System.fetch_env!("ERLBRIDGE_TICKETS")) do
    {:ok, _started} = Application.ensure_all_started(:ticket_desk)
    {learned, rest} = file |> TicketDesk.read() |> Enum.split(@learned)
    held_out = Enum.take(rest, @held_out)

    before = done!(TicketDesk.score(held_out))
    IO.puts("before: #{percent(before)} of #{@held_out} tickets right")

    learned = done!(TicketDesk.learn(learned, &say/1))
    later = done!(TicketDesk.score(held_out, learned.program_id))
    IO.puts("after:  #{percent(later)} with #{learned.program_id}")

    category = done!(TicketDesk.sort(@new_ticket, learned.program_id))
    IO.puts(~s("#{@new_ticket.subject}" is about #{category}))
  after
    Application.stop(:ticket_desk)
  end

  defp say(%{stage: stage, done: done, total: total}) when is_integer(total) do
    IO.puts("  #{stage} #{done} of #{total}")
  end

  defp say(_state), do: :ok

  defp percent(score), do: "#{round(score * 100)} %"

  defp done!({:ok, value}), do: value
  defp done!({:error, error}), do: raise(error)
end
