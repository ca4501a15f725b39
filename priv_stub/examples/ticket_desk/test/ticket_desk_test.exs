defmodule TicketDeskTest do
  use ExUnit.Case

  setup_all do
    tickets = TicketDesk.read(System.fetch_env!("ERLBRIDGE_TICKETS"))
    {learned, rest} = Enum.split(tickets, 40)
    %{learned: learned, held_out: Enum.take(rest, 20)}
  end

  test "it sorts better after it has learned", %{learned: learned, held_out: held_out} do
    {:ok, before} = TicketDesk.score(held_out)
    {:ok, %{program_id: program}} = TicketDesk.learn(learned)
    {:ok, later} = TicketDesk.score(held_out, program)
    assert later > before

    parcel = %{subject: "Where is my parcel?", body: "The courier has not delivered it."}
    assert TicketDesk.sort(parcel, program) == {:ok, "shipping"}
  end

  test "a program that is not there is an error that says so" do
    parcel = %{subject: "Where is my parcel?", body: "The courier has not delivered it."}
    assert {:error, error} = TicketDesk.sort(parcel, "program:none")
    refute error.retryable
  end
end
