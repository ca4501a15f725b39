defmodule Pipeline.DSPy.Callbacks do
  @moduledoc """
  Elixir functions that DSPy calls by name, for every bridge of the application.

      Callbacks.register(:judge, &MyApp.Judge.score/2, kind: :metric)
      Callbacks.register(:gateway, MyApp.LLM, kind: :lm, timeout: 30_000, max_concurrency: 8)

      PythonBridge.optimize_signature(MyApp.DSPy, signature, examples,
        metric: {:call, :judge},
        lm: {:call, :gateway}
      )

  or in the configuration, read when the application starts:

      config :pipeline, :callbacks,
        judge: {{MyApp.Judge, :score}, kind: :metric},
        gateway: {MyApp.LLM, kind: :lm, timeout: 30_000},
        execute_step: {Pipeline.Executor, kind: :step}

  What is registered is a function, `{module, function_name}`, or a module with the callback of its kind
  (`Pipeline.DSPy.Callback`). A request's own `:functions` go first, then those of its bridge, then these. A name is an
  atom or a binary; `:judge` and `"judge"` are the same.

  | kind | named in | takes | gives |
  |---|---|---|---|
  | `:metric` | `metric` | example, prediction | a score |
  | `:lm` | `lm`, `prompt_lm`, `teacher_lm` | a map with `messages` | a text |
  | `:tool` | `module: %{name: :react, tools: [Callbacks.tool(:weather)]}` | a map of arguments | what the agent reads |
  | `:reward` | `module: %{name: :best_of_n, reward: {:call, :judge}}`, or `:refine` | inputs, prediction | a score |
  | `:step` | steps of a workflow that are not DSPy's call `execute_step` | step, context | its output |

  Options of `register/3`:

  - `:kind`, one of these. With it the function's arity is checked at once. Without it anything goes.
  - `:timeout`, how many milliseconds one call may take, or `:infinity`. Else it is the bridge's `:call_timeout`,
    as it also is for a function that is registered only on another BEAM node than the bridge's.
  - `:max_concurrency`, how many calls run at once in this BEAM node, whichever bridges they come from; others wait, and
    their waiting counts for the timeout. Calls that such a function leads to, by asking a bridge itself, are counted for
    themselves: else they would wait for the one that waits for them.
  - `:description` and `:args` of a tool, for the model: fields as in a signature.
  - `:replace`, true to put it in the place of one that is registered already.

  Names are looked up in a table, without a process, when a call comes: what is registered later is found by jobs that
  run already.
  """

  alias Pipeline.DSPy.Callbacks.Gate
  alias Pipeline.DSPy.PythonBridge.Nesting

  @table __MODULE__

  @kinds %{
    metric: {:score, 2},
    lm: {:complete, 1},
    tool: {:call, 1},
    reward: {:reward, 2},
    step: {:execute_step, 2}
  }

  @defaults [
    kind: nil,
    timeout: nil,
    max_concurrency: :infinity,
    description: "",
    args: [],
    replace: false
  ]

  defmodule Entry do
    @moduledoc "A function as it is registered. `timeout` is nil where the bridge's own holds."

    @enforce_keys [:name, :function]
    defstruct [
      :name,
      :function,
      :kind,
      :timeout,
      max_concurrency: :infinity,
      description: "",
      args: []
    ]

    @type t :: %__MODULE__{
            name: String.t(),
            function: function,
            kind: Pipeline.DSPy.Callbacks.kind() | nil,
            timeout: timeout | nil,
            max_concurrency: pos_integer | :infinity,
            description: String.t(),
            args: list
          }
  end

  @type name :: atom | String.t()
  @type kind :: :metric | :lm | :tool | :reward | :step
  @type given :: function | module | {module, atom}

  @doc """
  Registers a function. Raises `ArgumentError` for what is none, or does not fit its kind.

      iex> alias Pipeline.DSPy.Callbacks
      iex> Callbacks.register(:double, &(&1 * 2))
      :ok
      iex> Callbacks.register("double", &(&1 * 3))
      {:error, :already_registered}
      iex> Callbacks.register(:double, &(&1 * 3), replace: true)
      :ok
      iex> Callbacks.unregister(:double)
      :ok
      iex> Callbacks.register(:judge, fn _example -> 1 end, kind: :metric)
      ** (ArgumentError) expected a function of 2 arguments for the :metric judge, got one of 1
  """
  @spec register(name, given, keyword) :: :ok | {:error, :already_registered}
  def register(name, given, opts \\ []) do
    opts = opts |> Keyword.validate!(@defaults) |> Enum.map(&checked/1)
    name = checked_name(name)
    {replace?, opts} = Keyword.pop!(opts, :replace)

    entry =
      struct!(Entry, [{:name, name}, {:function, function(given, opts[:kind], name)} | opts])

    cond do
      replace? -> :ets.insert(@table, {name, entry})
      :ets.insert_new(@table, {name, entry}) -> true
      true -> false
    end
    |> if(do: :ok, else: {:error, :already_registered})
  end

  @doc """
  Forgets a function. Calls of it that run go on.

      iex> alias Pipeline.DSPy.Callbacks
      iex> Callbacks.register(:doctest_half, &div(&1, 2))
      iex> Callbacks.unregister("doctest_half")
      :ok
      iex> Callbacks.fetch(:doctest_half)
      :error
  """
  @spec unregister(name) :: :ok
  def unregister(name) do
    :ets.delete(@table, checked_name(name))
    :ok
  end

  @doc """
  All that is registered, by name.

      for %{name: name, kind: kind} <- Callbacks.list(), do: {name, kind}
      #=> [{"gateway", :lm}, {"judge", :metric}]
  """
  @spec list() :: [Entry.t()]
  def list do
    @table |> :ets.tab2list() |> Enum.map(&elem(&1, 1)) |> Enum.sort_by(& &1.name)
  end

  @doc """
  What is registered under a name.

      iex> alias Pipeline.DSPy.Callbacks
      iex> Callbacks.register(:doctest_double, &(&1 * 2), timeout: 100)
      iex> {:ok, entry} = Callbacks.fetch("doctest_double")
      iex> Callbacks.unregister(:doctest_double)
      iex> {entry.timeout, Callbacks.call(entry, [21])}
      {100, 42}
  """
  @spec fetch(name) :: {:ok, Entry.t()} | :error
  def fetch(name) when is_atom(name) or is_binary(name) do
    case :ets.lookup(@table, to_string(name)) do
      [{_name, entry}] -> {:ok, entry}
      [] -> :error
    end
  end

  @doc """
  A registered tool as a `react` module names it. Raises `ArgumentError` where there is none of this name.

      iex> alias Pipeline.DSPy.Callbacks
      iex> Callbacks.register(:weather, fn %{city: _} -> "rain" end, kind: :tool, description: "The weather.", args: [:city])
      iex> Callbacks.tool(:weather)
      %{name: "weather", description: "The weather.", args: [:city], call: {:call, "weather"}}
      iex> Callbacks.unregister(:weather)
      :ok
  """
  @spec tool(name) :: map
  def tool(name) do
    case fetch(name) do
      {:ok, %Entry{kind: kind} = entry} when kind in [:tool, nil] ->
        %{
          name: entry.name,
          description: entry.description,
          args: entry.args,
          call: {:call, entry.name}
        }

      {:ok, %Entry{kind: kind}} ->
        raise ArgumentError,
              "expected a tool, and #{inspect(name)} is registered as #{inspect(kind)}"

      :error ->
        raise ArgumentError, "no tool is registered as #{inspect(name)}"
    end
  end

  @doc "Calls a registered function, as soon as its `:max_concurrency` lets it. Raises, throws and exits as it does."
  @spec call(Entry.t(), [term]) :: term
  def call(%Entry{max_concurrency: :infinity} = entry, arguments) do
    apply(entry.function, arguments)
  end

  def call(%Entry{} = entry, arguments) do
    lane = {entry.name, Nesting.depth(Nesting.current())}
    Gate.pass(lane, entry.max_concurrency, fn -> apply(entry.function, arguments) end)
  end

  @doc false
  # The table lives as long as the process that makes it: the application's own.
  @spec start([{name, term}] | map) :: :ok
  def start(configured) do
    :ets.new(@table, [:named_table, :public, read_concurrency: true])

    register_all(configured)
  end

  @doc """
  Registers what a configuration lists, as `config :pipeline, :callbacks` does.

      iex> alias Pipeline.DSPy.Callbacks
      iex> Callbacks.register_all(size: {{String, :length}, timeout: 1_000}, shout: {String, :capitalize})
      ** (ArgumentError) expected String.capitalize with one arity, or a :kind, for shout, got [1, 2]
      iex> Callbacks.unregister(:size)
      :ok
  """
  @spec register_all(Enumerable.t()) :: :ok
  def register_all(configured) do
    for {name, spec} <- configured do
      {given, opts} = with_options(spec)

      with {:error, :already_registered} <- register(name, given, opts) do
        raise ArgumentError, "#{inspect(name)} is registered already"
      end
    end

    :ok
  end

  defp with_options({given, opts}) when is_list(opts), do: {given, opts}

  defp with_options(spec) when is_tuple(spec) and tuple_size(spec) == 2, do: {spec, []}
  defp with_options(given), do: {given, []}

  # -- what is taken

  defp checked_name(name) when is_atom(name) and name not in [nil, true, false],
    do: Atom.to_string(name)

  defp checked_name(name) when is_binary(name) and name != "", do: name

  defp checked_name(other) do
    raise ArgumentError, "expected a function's name, an atom or a binary, got #{inspect(other)}"
  end

  defp checked({:kind, kind} = option) when kind == nil or is_map_key(@kinds, kind), do: option
  defp checked({:timeout, ms} = option) when ms in [nil, :infinity], do: option
  defp checked({:timeout, ms} = option) when is_integer(ms) and ms > 0, do: option
  defp checked({:max_concurrency, :infinity} = option), do: option
  defp checked({:max_concurrency, n} = option) when is_integer(n) and n > 0, do: option
  defp checked({:description, text} = option) when is_binary(text), do: option
  defp checked({:args, args} = option) when is_list(args), do: option
  defp checked({:replace, flag} = option) when is_boolean(flag), do: option

  defp checked({key, value}) do
    kinds = @kinds |> Map.keys() |> Enum.map_join(", ", &inspect/1)

    expected = %{
      kind: "one of #{kinds}",
      timeout: "milliseconds or :infinity",
      max_concurrency: "a positive number or :infinity",
      description: "a text",
      args: "a list of fields",
      replace: "true or false"
    }

    raise ArgumentError, "expected #{inspect(key)} to be #{expected[key]}, got #{inspect(value)}"
  end

  defp function(function, kind, name) when is_function(function) do
    {:arity, arity} = Function.info(function, :arity)

    case @kinds[kind] do
      {_callback, wanted} when wanted != arity ->
        raise ArgumentError,
              "expected a function of #{wanted} arguments for the #{inspect(kind)} #{name}, got one of #{arity}"

      _fits ->
        function
    end
  end

  defp function({module, function}, kind, name) when is_atom(module) and is_atom(function) do
    arities = for {^function, arity} <- exports(module), do: arity

    case {@kinds[kind], arities} do
      {{_callback, wanted}, arities} ->
        if wanted in arities,
          do: Function.capture(module, function, wanted),
          else: missing(module, function, wanted, name)

      {nil, [arity]} ->
        Function.capture(module, function, arity)

      {nil, _none_or_many} ->
        raise ArgumentError,
              "expected #{inspect(module)}.#{function} with one arity, or a :kind, for #{name}, got #{inspect(arities)}"
    end
  end

  defp function(module, kind, name) when is_atom(module) and module not in [nil, true, false] do
    case @kinds[kind] do
      nil ->
        raise ArgumentError, "expected a :kind beside the module #{inspect(module)} for #{name}"

      {callback, _arity} ->
        function({module, callback}, kind, name)
    end
  end

  defp function(other, _kind, name) do
    raise ArgumentError,
          "expected a function, {module, function_name} or a module for #{name}, got #{inspect(other)}"
  end

  defp exports(module) do
    case Code.ensure_loaded(module) do
      {:module, module} ->
        module.module_info(:exports)

      {:error, reason} ->
        raise ArgumentError, "cannot load #{inspect(module)}: #{inspect(reason)}"
    end
  end

  @spec missing(module, atom, arity, term) :: no_return
  defp missing(module, function, arity, name) do
    raise ArgumentError,
          "expected #{inspect(module)}.#{function}/#{arity} for #{name}, and there is none"
  end
end
