defmodule Pipeline.DSPy.Options do
  @moduledoc """
  Options as data: which there are, what each may be, and what it is for. A schema is written once, and checks, defaults
  and documentation are taken from it.

      iex> alias Pipeline.DSPy.Options
      iex> schema = [{:workers, {:count, 1}, 2, "how many workers"}, {:log_level, {:one_of, [:debug, :info]}, :debug, "at which level"}]
      iex> Options.validate([workers: 4], schema, "MyApp.Bridge")
      {:ok, [workers: 4, log_level: :debug]}
      iex> Options.validate([wrokers: 4], schema, "MyApp.Bridge")
      {:error, "MyApp.Bridge has no option :wrokers; did you mean :workers?"}
      iex> Options.validate([workers: "four"], schema, "MyApp.Bridge")
      {:error, "expected :workers of MyApp.Bridge to be an integer of at least 1, got: \\"four\\""}
  """

  @typedoc """
  What a value may be. `:size` is bytes, or a text such as `"2GiB"`; `:entries` a map or a list of names and values;
  `:name` what a `GenServer` may be registered as; `:listeners` a pid, `{pid, kinds}`, or a list of these.
  """
  @type kind ::
          :any
          | :boolean
          | :text
          | :size
          | :timeout
          | :listeners
          | :list
          | :entries
          | :name
          | {:count, least :: integer}
          | {:one_of, [term]}
          | {:optional, kind}

  @type schema :: [{name :: atom, kind, default :: term, about :: String.t()}]

  # How alike two names must be for the one to be taken for a slip of the other.
  @alike 0.8
  # What a timer of the BEAM can count.
  @max_timeout_ms 4_294_967_295

  @doc "The options with defaults for those that are missing, in the schema's order; or what is wrong with them."
  @spec validate(term, schema, String.t()) :: {:ok, keyword} | {:error, String.t()}
  def validate(opts, schema, owner) do
    with :ok <- check_keyword(opts, owner),
         :ok <- check_names(opts, names(schema), owner),
         values =
           Enum.map(schema, fn {name, _, default, _} ->
             {name, Keyword.get(opts, name, default)}
           end),
         :ok <- check_values(values, schema, owner) do
      {:ok, values}
    end
  end

  @doc "The same; raises `ArgumentError` for what is wrong."
  @spec validate!(term, schema, String.t()) :: keyword
  def validate!(opts, schema, owner) do
    case validate(opts, schema, owner) do
      {:ok, opts} -> opts
      {:error, message} -> raise ArgumentError, message
    end
  end

  @doc "Raises `ArgumentError` for an option that is not among these names."
  @spec known!(term, [atom], String.t()) :: keyword
  def known!(opts, names, owner) do
    with :ok <- check_keyword(opts, owner), :ok <- check_names(opts, names, owner) do
      opts
    else
      {:error, message} -> raise ArgumentError, message
    end
  end

  @doc "The names of a schema, in its order."
  @spec names(schema) :: [atom]
  def names(schema), do: Enum.map(schema, &elem(&1, 0))

  @doc "The defaults of a schema."
  @spec defaults(schema) :: keyword
  def defaults(schema), do: Enum.map(schema, fn {name, _, default, _} -> {name, default} end)

  @doc """
  The name among these that is most like a given one, nil when none is alike.

      iex> Pipeline.DSPy.Options.nearest(:max_in_fligth, [:max_in_flight, :max_calls])
      :max_in_flight
      iex> Pipeline.DSPy.Options.nearest(:colour, [:max_in_flight, :max_calls])
      nil
  """
  @spec nearest(term, [atom]) :: atom | nil
  def nearest(name, names) when is_atom(name) or is_binary(name) do
    likeness = &String.jaro_distance(to_string(name), to_string(&1))
    best = Enum.max_by(names, likeness, fn -> nil end)
    if best && likeness.(best) >= @alike, do: best
  end

  def nearest(_name, _names), do: nil

  @doc "A schema as a list in Markdown, for a module's documentation."
  @spec docs(schema) :: String.t()
  def docs(schema) do
    Enum.map_join(schema, "\n", fn {name, _kind, default, about} ->
      "  * `#{inspect(name)}` - #{about}#{shown_default(default)}"
    end)
  end

  defp shown_default(empty) when empty in [nil, []] or empty == %{}, do: "."
  defp shown_default(default), do: "; `#{inspect(default)}`."

  # -- checks

  defp check_keyword(opts, owner) do
    if Keyword.keyword?(opts),
      do: :ok,
      else: {:error, "expected the options of #{owner} to be a keyword list, got: #{shown(opts)}"}
  end

  defp check_names(opts, names, owner) do
    case Enum.find(Keyword.keys(opts), &(&1 not in names)) do
      nil ->
        :ok

      name ->
        {:error, "#{owner} has no option #{inspect(name)}; #{hint(nearest(name, names), names)}"}
    end
  end

  defp hint(nil, names), do: "it has #{Enum.map_join(names, ", ", &inspect/1)}"
  defp hint(nearest, _names), do: "did you mean #{inspect(nearest)}?"

  defp check_values(values, schema, owner) do
    Enum.find_value(schema, :ok, fn {name, kind, _default, _about} ->
      value = values[name]

      if not fits?(kind, value) do
        expected = "expected #{inspect(name)} of #{owner} to be #{expected(kind)}"
        {:error, "#{expected}, got: #{shown(value)}"}
      end
    end)
  end

  defp fits?(:any, _value), do: true
  defp fits?(:boolean, value), do: is_boolean(value)
  defp fits?(:text, value), do: is_binary(value) and value != "" and String.valid?(value)
  defp fits?(:size, value), do: fits?({:count, 0}, value) or fits?(:text, value)

  defp fits?(:timeout, value),
    do: value == :infinity or (is_integer(value) and value in 0..@max_timeout_ms)

  defp fits?(:listeners, {pid, kinds}), do: is_pid(pid) and fits?(:list, kinds)

  defp fits?(:listeners, [_ | _] = values),
    do: fits?(:list, values) and Enum.all?(values, &fits?(:listeners, &1))

  defp fits?(:listeners, value), do: is_pid(value) or value == []
  defp fits?(:list, value), do: is_list(value) and not List.improper?(value)
  defp fits?(:entries, value), do: (is_map(value) and not is_struct(value)) or pairs?(value)
  defp fits?(:name, {:global, _name}), do: true
  defp fits?(:name, {:via, module, _name}), do: is_atom(module)
  defp fits?(:name, value), do: is_atom(value) and not is_boolean(value)
  defp fits?({:count, least}, value), do: is_integer(value) and value >= least
  defp fits?({:one_of, values}, value), do: value in values
  defp fits?({:optional, kind}, value), do: value == nil or fits?(kind, value)

  defp pairs?(value), do: fits?(:list, value) and Enum.all?(value, &match?({_name, _value}, &1))

  defp expected(:any), do: "anything"
  defp expected(:boolean), do: "true or false"
  defp expected(:text), do: "a text"
  defp expected(:size), do: ~s(bytes, or a text such as "2GiB")
  defp expected(:timeout), do: "milliseconds or :infinity"
  defp expected(:listeners), do: "a pid, {pid, kinds} or a list of these"
  defp expected(:list), do: "a list"
  defp expected(:entries), do: "a map or a list of names and values"
  defp expected(:name), do: "an atom, {:global, name} or {:via, module, name}"
  defp expected({:count, least}), do: "an integer of at least #{least}"
  defp expected({:one_of, values}), do: "one of #{Enum.map_join(values, ", ", &inspect/1)}"
  defp expected({:optional, kind}), do: "#{expected(kind)}, or nil"

  defp shown(value), do: inspect(value, limit: 5, printable_limit: 60)
end
