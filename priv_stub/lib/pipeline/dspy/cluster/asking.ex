defmodule Pipeline.DSPy.Cluster.Asking do
  @moduledoc """
  The same question to several members at once, in the process that asks.
  """

  alias Pipeline.DSPy.Cluster.Member
  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonError

  @doc """
  What each of them says, in their order. One that hangs costs the timeout once, and not each time. One with another
  version of this library is not asked.
  """
  @spec all([Member.t()], atom, map, timeout) :: [{Member.t(), PythonBridge.answer()}]
  def all(members, verb, payload, timeout) do
    asked = members |> Enum.filter(&Member.speaks?/1) |> ask(verb, payload, timeout)
    refs = Map.new(asked, fn {ref, member} -> {member, ref} end)

    for member <- members do
      case refs do
        %{^member => ref} ->
          {member, Caller.await_from(Member.address(member), ref, timeout: timeout, grace: 0)}

        %{} ->
          {member, {:error, stranger(member)}}
      end
    end
  end

  @doc "What there is instead of an answer of a member with another version of this library."
  @spec stranger(Member.t()) :: PythonError.t()
  def stranger(%Member{node: node}) do
    message = "#{node} has another version of :pipeline, and is asked nothing from here"
    PythonError.new(:process_crashed, message, context: %{reason: :version, beam_node: node})
  end

  @doc "The first good answer, and whose it is; `:error` when nobody gives one in time."
  @spec first([Member.t()], atom, map, timeout) :: {:ok, Member.t(), term} | :error
  def first(members, verb, payload, timeout) do
    until = Deadline.in_ms(timeout)
    members |> ask(verb, payload, timeout) |> Map.new() |> first_of(until)
  end

  defp ask(members, verb, payload, timeout) do
    for member <- members do
      {Caller.submit(Member.address(member), verb, payload, timeout: timeout, grace: 0), member}
    end
  end

  defp first_of(asked, _until) when asked == %{}, do: :error

  defp first_of(asked, until) do
    receive do
      {PythonBridge, ref, {:ok, result}} when is_map_key(asked, ref) ->
        {member, rest} = Map.pop(asked, ref)
        abandon(rest)
        {:ok, member, result}

      {PythonBridge, ref, {:error, _error}} when is_map_key(asked, ref) ->
        first_of(Map.delete(asked, ref), until)

      {:DOWN, ref, :process, _pid, _reason} when is_map_key(asked, ref) ->
        first_of(Map.delete(asked, ref), until)
    after
      Deadline.left(until) ->
        abandon(asked)
        :error
    end
  end

  defp abandon(asked) do
    for {ref, member} <- asked do
      Caller.abandon(Member.address(member), ref)
      Caller.flush(ref)
    end
  end
end
