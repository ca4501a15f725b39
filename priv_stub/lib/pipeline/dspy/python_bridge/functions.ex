defmodule Pipeline.DSPy.PythonBridge.Functions do
  @moduledoc """
  Elixir functions by name, as a bridge and its requests hold them, and how one is called. Keeps nothing; what neither
  of them has may be registered in `Pipeline.DSPy.Callbacks`.

  A name is an atom or a binary; `:score` and `"score"` are the same function.
  """

  require Logger

  alias Pipeline.DSPy.Callbacks

  @type t :: %{String.t() => function}

  # What a payload holds besides its configuration is data, and never walked.
  @data_keys [
    :training_data,
    :validation_data,
    :data,
    :input,
    :inputs,
    :program,
    :workflow,
    :yaml
  ]

  @doc """
  The functions of an option, a map or keyword list of name to function. Raises `ArgumentError` for anything else.

      iex> functions = Pipeline.DSPy.PythonBridge.Functions.new(double: &(&1 * 2))
      iex> functions["double"].(21)
      42
  """
  @spec new(map | keyword | nil) :: t
  def new(nil), do: %{}

  def new(functions) when is_map(functions) or is_list(functions) do
    Map.new(functions, fn
      {name, function} when (is_atom(name) or is_binary(name)) and is_function(function) ->
        {to_string(name), function}

      other ->
        raise ArgumentError,
              "expected :functions to map names to functions, got #{inspect(other)}"
    end)
  end

  def new(other) do
    raise ArgumentError, "expected :functions to map names to functions, got #{inspect(other)}"
  end

  @doc """
  Takes the functions out of a payload's configuration and puts `{:call, place}` there, so that a metric or a model may
  be given as a function itself.

      iex> payload = %{data: [], config: %{lm: fn _request -> "hi" end}}
      iex> {payload, functions} = Pipeline.DSPy.PythonBridge.Functions.take_out(payload)
      iex> {payload.config, functions["config.lm"].(%{})}
      {%{lm: {:call, "config.lm"}}, "hi"}
  """
  @spec take_out(term) :: {term, t}
  def take_out(payload) when is_map(payload) and not is_struct(payload) do
    {data, settings} = Enum.split_with(payload, fn {key, _value} -> data_key?(key) end)
    {settings, functions} = walk(Map.new(settings), "", %{})
    {Map.merge(settings, Map.new(data)), functions}
  end

  # No payload of any verb; the node says so.
  def take_out(other), do: {other, %{}}

  defp data_key?(key), do: key in @data_keys or key in Enum.map(@data_keys, &Atom.to_string/1)

  defp walk(function, place, found) when is_function(function) do
    {{:call, place}, Map.put(found, place, function)}
  end

  defp walk(map, place, found) when is_map(map) and not is_struct(map) do
    Enum.reduce(map, {map, found}, fn {key, value}, {map, found} ->
      {value, found} = walk(value, join(place, key), found)
      {Map.put(map, key, value), found}
    end)
  end

  defp walk([_ | _] = list, place, found) do
    # An improper list holds no setting.
    if List.improper?(list) do
      {list, found}
    else
      list
      |> Enum.with_index()
      |> Enum.map_reduce(found, fn {value, index}, found ->
        walk(value, join(place, index), found)
      end)
    end
  end

  defp walk(other, _place, found), do: {other, found}

  defp join("", key), do: label(key)
  defp join(place, key), do: "#{place}.#{label(key)}"

  defp label(key) when is_atom(key) or is_binary(key) or is_integer(key), do: to_string(key)
  defp label(key), do: inspect(key, limit: 5)

  @doc """
  What a function says to its arguments: `{:ok, value}`, or `{:error, text}` when it gives `{:error, reason}`, raises,
  throws or exits, or when there is none of this name. A value that is not `{:ok, value}` already is taken as it is.

      iex> functions = Pipeline.DSPy.PythonBridge.Functions.new(half: &(&1 / 2))
      iex> Pipeline.DSPy.PythonBridge.Functions.call(functions, :half, [3])
      {:ok, 1.5}
      iex> Pipeline.DSPy.PythonBridge.Functions.call(functions, "third", [3])
      {:error, "no function \\"third\\" is given to this bridge or request, or registered; there are: half"}
  """
  @spec call(t, term, term) :: {:ok, term} | {:error, String.t()}
  def call(functions, name, arguments) do
    with {:ok, found} <- fetch(functions, name),
         :ok <- check_arity(found, arguments) do
      case run(found, arguments) do
        {:ok, value} -> {:ok, value}
        {:error, reason} -> {:error, text(reason)}
        value -> {:ok, value}
      end
    end
  catch
    kind, reason ->
      Logger.error(
        "the function #{inspect(name)} that DSPy called failed\n" <>
          Exception.format(kind, reason, __STACKTRACE__)
      )

      {:error, failure(kind, reason, __STACKTRACE__)}
  end

  @doc "A function that a request or its bridge was given."
  @spec given(t, term) :: {:ok, function} | :error
  def given(functions, name) when is_atom(name) or is_binary(name) do
    Map.fetch(functions, to_string(name))
  end

  def given(_functions, _name), do: :error

  @doc "A function that is registered for the whole application."
  @spec registered(term) :: {:ok, Callbacks.Entry.t()} | :error
  def registered(name) when is_atom(name) or is_binary(name), do: Callbacks.fetch(name)
  def registered(_name), do: :error

  defp fetch(functions, name) do
    with :error <- given(functions, name),
         :error <- registered(name) do
      {:error, unknown(functions, name)}
    end
  end

  defp unknown(functions, name) when is_atom(name) or is_binary(name) do
    names = Map.keys(functions) ++ Enum.map(Callbacks.list(), & &1.name)
    known = names |> Enum.uniq() |> Enum.sort() |> Enum.join(", ")
    shown = inspect(name, printable_limit: 100)
    "no function #{shown} is given to this bridge or request, or registered; there are: #{known}"
  end

  defp unknown(_functions, name), do: "#{inspect(name, limit: 5)} names no function"

  defp run(%Callbacks.Entry{} = entry, arguments), do: Callbacks.call(entry, arguments)
  defp run(function, arguments), do: apply(function, arguments)

  defp check_arity(%Callbacks.Entry{function: function}, arguments),
    do: check_arity(function, arguments)

  defp check_arity(function, arguments) do
    {:arity, arity} = Function.info(function, :arity)

    if arity == length(arguments) do
      :ok
    else
      {:error,
       "it is called with #{length(arguments)} arguments, and this function takes #{arity}"}
    end
  end

  defp failure(:error, reason, stacktrace) do
    :error |> Exception.normalize(reason, stacktrace) |> Exception.message()
  end

  defp failure(:exit, reason, _stacktrace), do: "it exited: #{Exception.format_exit(reason)}"
  defp failure(:throw, value, _stacktrace), do: "it threw #{text(value)}"

  defp text(reason) when is_exception(reason), do: Exception.message(reason)

  defp text(reason) do
    if is_binary(reason) and String.valid?(reason),
      do: reason,
      else: inspect(reason, limit: 20, printable_limit: 1_000)
  end
end
