defmodule Pipeline.DSPy.Doctor do
  @moduledoc """
  What `mix pipeline.dspy.doctor` looks at: one finding after the other, each as soon as it is there.
  """

  alias Pipeline.DSPy.Configuration
  alias Pipeline.DSPy.ProcessManager
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Scoped
  alias Pipeline.DSPy.PythonBridge.Server
  alias Pipeline.DSPy.PythonEnvironment

  @type state :: :ok | :warning | :failed
  @typedoc "How it is, what was looked at, what was found, and what to do."
  @type finding :: {state, name :: String.t(), found :: String.t(), advice :: String.t() | nil}

  @least_otp 25
  @setup "run `mix pipeline.dspy.setup`"

  @doc """
  The findings, as a stream that looks as it is read. What rests on something that failed is not tried.

  Options: `:python`, which is looked at instead of the one that bridges find; `:environment`, the configuration, by default
  that of the application.
  """
  @spec findings(keyword) :: Enumerable.t()
  def findings(opts) do
    environment = opts[:environment] || Application.get_all_env(:pipeline)
    steps = [&beam/1, &configuration/1, &python/1, &packages/1, &node_alone/1, &node_as_port/1]

    start = %{
      environment: environment,
      given: Keyword.take(opts, [:python]),
      bridges: [[]],
      python: nil
    }

    Stream.transform(steps, start, fn
      _step, :halted -> {:halt, :halted}
      step, known -> step.(known)
    end)
  end

  # -- Each step gives its findings and what the next may know, or `:halted`.

  defp beam(known) do
    otp = System.otp_release()
    found = "#{System.version()} on OTP #{otp}"

    if String.to_integer(otp) >= @least_otp,
      do: {[{:ok, "elixir", found, nil}], known},
      else: {[{:failed, "elixir", found, "use OTP #{@least_otp} or newer"}], known}
  end

  defp configuration(known) do
    slips =
      for slip <- Configuration.slips(known.environment),
          do: {:warning, "configuration", slip, nil}

    case Configuration.read(known.environment) do
      {:ok, %{bridges: []}} ->
        found = "no bridge; the defaults are looked at"
        {slips ++ [{:ok, "configuration", found, nil}], known}

      {:ok, %{bridges: bridges}} ->
        found = "#{counted(length(bridges), "bridge")}, none of its options unknown"
        bridges = Enum.map(bridges, &Keyword.drop(&1, [:name, :notify]))
        {slips ++ [{:ok, "configuration", found, nil}], %{known | bridges: bridges}}

      {:error, message} ->
        {slips ++ [{:failed, "configuration", message, "the other lines are about the defaults"}],
         known}
    end
  end

  defp python(known) do
    name = ProcessManager.python(known.given ++ hd(known.bridges))

    case PythonEnvironment.probe(name) do
      {:ok, facts} ->
        found = "#{PythonEnvironment.version(facts)}, #{facts.path}"

        if PythonEnvironment.new_enough?(facts),
          do: {[{:ok, "python", found, nil}], %{known | python: facts}},
          else: {[{:failed, "python", found, "#{@setup}, which finds or makes another"}], :halted}

      {:error, sentence} ->
        {[{:failed, "python", sentence, "#{@setup}, or set `config :pipeline, :python`"}],
         :halted}
    end
  end

  defp packages(%{python: %{erlbridge: nil} = facts}) do
    found = "not in this Python: #{facts.error}"
    {[{:failed, "erlbridge", found, @setup}], :halted}
  end

  defp packages(%{python: facts} = known) do
    ours = Server.protocol()
    found = "#{facts.erlbridge}, protocol #{facts.protocol}"

    cond do
      facts.protocol != ours ->
        advice =
          "this library speaks protocol #{ours}; install the erlbridge that belongs to it, with `mix pipeline.dspy.setup`"

        {[{:failed, "erlbridge", found, advice}], :halted}

      facts.dspy == nil ->
        {[{:failed, "dspy", "not in this Python: #{facts.error}", @setup}], :halted}

      true ->
        {[{:ok, "erlbridge", found, nil}], known}
    end
  end

  # What a node says without a host: `erlbridge doctor`, with the settings of the bridge.
  defp node_alone(known) do
    findings =
      Enum.flat_map(labelled(known), fn {label, options} ->
        {:ok, command} = ProcessManager.command(options)
        [_launcher | settings] = command.args
        # -P: what lies in the working directory is no installed package.
        arguments = ["-P", "-m", "erlbridge", "doctor" | settings]
        env = for {name, value} <- command.env, do: {to_string(name), value && to_string(value)}
        {text, code} = System.cmd(command.executable, arguments, stderr_to_stdout: true, env: env)
        read(text, code, label)
      end)

    {findings, known}
  end

  defp read(text, code, label) do
    found =
      text
      |> String.split("\n", trim: true)
      |> Enum.reduce([], fn line, found ->
        case {Regex.run(~r/^(ok|warning|failed) +(\S+): (.*)$/, line, capture: :all_but_first),
              found} do
          {[state, name, what], _} ->
            [{state(state), label <> name, what, nil} | found]

          {nil, [{state, name, what, nil} | rest]} ->
            [{state, name, what, String.trim(line)} | rest]

          {nil, _} ->
            found
        end
      end)
      |> Enum.reverse()
      # Looked at already.
      |> Enum.reject(fn {_state, name, _found, _advice} ->
        name in [label <> "python", label <> "elixir", label <> "otp"]
      end)

    if found == [],
      do: [
        {:failed, label <> "settings", text |> String.trim() |> String.slice(0, 500),
         "exit code #{code}"}
      ],
      else: found
  end

  defp state("ok"), do: :ok
  defp state("warning"), do: :warning
  defp state("failed"), do: :failed

  defp node_as_port(known) do
    findings = Enum.flat_map(labelled(known), fn {label, options} -> started(label, options) end)
    {findings, known}
  end

  defp started(label, options) do
    Scoped.run(options, fn bridge ->
      case timed(fn -> PythonBridge.await_ready(bridge) end) do
        {{:ok, _info}, ms} ->
          [
            {:ok, label <> "start", "ready after #{seconds(ms)}", nil},
            job(label, bridge),
            health(label, bridge)
          ]

        {{:error, error}, _ms} ->
          [
            {:failed, label <> "start", Exception.message(error),
             "the node's own lines above tell more"}
          ]
      end
    end)
  end

  defp job(label, bridge) do
    arguments = ["question -> answer", %{question: "1 + 1"}]

    case timed(fn -> PythonBridge.request(bridge, :predict, arguments, lm: :offline) end) do
      {{:ok, _result}, ms} ->
        {:ok, label <> "job", "a prediction with the offline model after #{seconds(ms)}", nil}

      {{:error, error}, _ms} ->
        {:failed, label <> "job", Exception.message(error), "the worker's log says why"}
    end
  end

  defp health(label, bridge) do
    case PythonBridge.health_check(bridge) do
      {:ok, %{status: :healthy, workers: workers}} ->
        {:ok, label <> "health", "healthy, #{counted(length(workers), "worker")}", nil}

      {:ok, %{status: status, message: message}} ->
        {:warning, label <> "health", "#{status}: #{message}",
         "docs/operations.md says what the node watches"}

      {:error, error} ->
        {:failed, label <> "health", Exception.message(error), nil}
    end
  end

  # Of several bridges each has its number before what is said of it.
  defp labelled(%{bridges: [options], given: given}), do: [{"", Keyword.merge(options, given)}]

  defp labelled(%{bridges: bridges, given: given}) do
    for {options, number} <- Enum.with_index(bridges, 1),
        do: {"bridge #{number}, ", Keyword.merge(options, given)}
  end

  defp timed(function) do
    {micros, answer} = :timer.tc(function)
    {answer, div(micros, 1_000)}
  end

  defp seconds(ms), do: :erlang.float_to_binary(ms / 1_000, decimals: 1) <> " s"
  defp counted(1, noun), do: "1 #{noun}"
  defp counted(count, noun), do: "#{count} #{noun}s"
end
