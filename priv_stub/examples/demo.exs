# Optimizes a support-ticket classifier with DSPy, from Elixir, offline:
#
#     mix run examples/demo.exs [OPTIMIZER ...|all] [--latency MS] [--workers N] [--seed N]
#
# ERLBRIDGE_PYTHON names a Python that has erlbridge, ERLBRIDGE_TICKETS a file of tickets; both have defaults in a
# checkout. `--latency` gives the offline LM a delay per call, so that there is more to watch.

Code.require_file("terminal.exs", __DIR__)

defmodule Demo do
  alias Demo.{Bar, Terminal}
  alias Pipeline.DSPy.PythonBridge

  @bridge Demo.Bridge
  @optimizers [
    "labeled_few_shot",
    "bootstrap_few_shot",
    "bootstrap_few_shot_with_random_search",
    "mipro_v2"
  ]
  @default_optimizer "bootstrap_few_shot_with_random_search"
  # Every optimizer may see the first 64 tickets. Those that try many programs learn from 44 of them and choose by the
  # other 20; these two make one program, have nothing to choose, and learn from all.
  @choose_nothing ["labeled_few_shot", "bootstrap_few_shot"]
  @learned 64
  @train 44
  @tickets Path.expand("../../erlbridge/data/support_tickets.tsv", __DIR__)

  @new_ticket %{
    subject: "Where is my parcel?",
    body:
      "I ordered a lamp two weeks ago. The tracking number shows nothing and the courier has not delivered it."
  }

  def main(arguments) do
    # Warnings of the bridge are worth seeing here, the node's debug log is not.
    Logger.configure(level: :warning)
    options = options(arguments)
    tickets = tickets()
    data_dir = Path.join(System.tmp_dir!(), "erlbridge-demo-#{System.pid()}")

    try do
      children = [{PythonBridge, name: @bridge, workers: options.workers, data_dir: data_dir}]
      {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
      rows = run(tickets, options)
      Supervisor.stop(supervisor)
      conclude(rows)
    after
      File.rm_rf!(data_dir)
    end
  end

  # -- steps

  defp run(tickets, options) do
    introduce_node()
    {learned, held_out} = Enum.split(tickets, @learned)
    signature = signature(tickets)
    config = %{lm: lm(options), metric: :exact_match, seed: options.seed}

    Terminal.heading("Task")
    labels = signature.output_fields |> hd() |> Map.fetch!(:enum)
    Terminal.fact("signature", "subject, body -> category, one of #{Enum.join(labels, ", ")}")
    Terminal.fact("tickets", "#{length(learned)} to learn from, #{length(held_out)} held out")
    Terminal.fact("model", "the offline LM that comes with erlbridge: no key, no network")

    Terminal.heading("Before: the plain signature on the held-out tickets")
    before = evaluate(signature, held_out, config)
    Terminal.fact("score", Terminal.percent(before))

    rows =
      for optimizer <- options.optimizers do
        {train, validation} = share_out(learned, optimizer)
        optimize(optimizer, signature, {train, validation, held_out}, config, before)
      end

    rows |> Enum.max_by(& &1.after) |> predict_new_ticket(config)
    table(rows)
    rows
  end

  defp introduce_node do
    Terminal.heading("Python node")
    {micros, answer} = :timer.tc(fn -> PythonBridge.await_ready(@bridge) end)
    info = ok!(answer, "the node did not start")

    versions =
      "erlbridge #{info.version}, DSPy #{info.dspy}, Python #{info.python}, #{info.codec} codec"

    Terminal.fact("versions", versions)

    Terminal.fact(
      "ready",
      "in #{div(micros, 1000)} ms, process #{info.os_pid}, #{info.workers} workers"
    )
  end

  defp share_out(learned, optimizer) when optimizer in @choose_nothing, do: {learned, []}
  defp share_out(learned, _optimizer), do: Enum.split(learned, @train)

  defp optimize(optimizer, signature, {train, validation, held_out}, config, before) do
    Terminal.heading("Optimizing with #{optimizer}")
    Terminal.fact("learns from", sources(train, validation))

    # The progress function runs in this process, so its state can live in the process's dictionary.
    Process.put(:bar, Bar.new())
    started = System.monotonic_time(:millisecond)

    opts = [
      config: Map.put(config, :optimizer, optimizer),
      progress: fn state -> Process.put(:bar, Bar.update(Process.get(:bar), state)) end
    ]

    opts = if validation == [], do: opts, else: [{:validation_data, validation} | opts]
    answer = PythonBridge.optimize_signature(@bridge, signature, train, opts)

    if match?({:error, _}, answer), do: Bar.fail(Process.get(:bar))
    result = ok!(answer, "#{optimizer} failed")
    took = System.monotonic_time(:millisecond) - started
    Bar.finish(Process.get(:bar), result.optimization_metrics)

    score = evaluate({:program, result.program_id}, held_out, config)
    Terminal.fact("program", String.slice(result.program_id, 0, 20) <> "...")

    Terminal.fact(
      "held out",
      "#{Terminal.percent(before)} before, #{Terminal.percent(score)} after"
    )

    %{
      optimizer: optimizer,
      program: result.program_id,
      before: before,
      after: score,
      lm_calls: result.optimization_metrics.lm_calls,
      ms: took
    }
  end

  # What "best" is scored on while it runs stands here too; the held-out tickets never are.
  defp sources(train, []), do: "#{length(train)} tickets, and is scored on them as it goes"

  defp sources(train, validation) do
    "#{length(train)} tickets, and chooses by its score on #{length(validation)} others"
  end

  defp evaluate(source, data, config) do
    ok!(
      PythonBridge.evaluate_pipeline(@bridge, source, data, config: config),
      "the evaluation failed"
    ).score
  end

  defp predict_new_ticket(row, config) do
    Terminal.heading("A new ticket, with the program of #{row.optimizer}")
    answer = PythonBridge.predict(@bridge, {:program, row.program}, @new_ticket, config: config)
    prediction = ok!(answer, "the prediction failed").prediction
    Terminal.fact("subject", @new_ticket.subject)
    Terminal.fact("body", @new_ticket.body)
    # A node makes no atoms: a name that this request did not use comes back as a binary.
    Terminal.fact(
      "category",
      Terminal.colour(prediction["category"] || prediction.category, :green)
    )
  end

  defp conclude(rows) do
    case Enum.reject(rows, &(&1.after > &1.before)) do
      [] ->
        IO.puts(
          "\nEvery score rose. The offline LM answered every call: no key was read and no network was used.\n"
        )

      same ->
        fail("the score did not rise with #{Enum.map_join(same, ", ", & &1.optimizer)}")
    end
  end

  # -- what is shown at the end

  defp table(rows) do
    Terminal.heading("Result on the held-out tickets")
    header = ["optimizer", "score before", "score after", "LM calls", "time"]

    lines =
      for row <- rows do
        [
          row.optimizer,
          Terminal.percent(row.before),
          Terminal.percent(row.after),
          to_string(row.lm_calls),
          Terminal.seconds(row.ms)
        ]
      end

    widths =
      [header | lines]
      |> Enum.zip_with(& &1)
      |> Enum.map(&(&1 |> Enum.map(fn c -> String.length(c) end) |> Enum.max()))

    rule = if Terminal.unicode?(), do: "─", else: "-"
    IO.puts(Terminal.colour(aligned(header, widths), :faint))

    IO.puts(
      Terminal.colour("  " <> Enum.map_join(widths, "  ", &String.duplicate(rule, &1)), :faint)
    )

    Enum.each(lines, &IO.puts(aligned(&1, widths)))
  end

  # Names to the left, numbers to the right.
  defp aligned([name | numbers], [width | widths]) do
    cells = Enum.zip_with(numbers, widths, &String.pad_leading/2)
    "  " <> Enum.join([String.pad_trailing(name, width) | cells], "  ")
  end

  # -- what goes in

  defp options(arguments) do
    switches = [latency: :integer, workers: :integer, seed: :integer]

    case OptionParser.parse(arguments, strict: switches) do
      {options, names, []} ->
        %{
          optimizers: optimizers(names),
          latency: options[:latency] || 0,
          workers: options[:workers] || 2,
          seed: options[:seed] || 0
        }

      {_options, _names, [{switch, _value} | _]} ->
        fail("unknown option #{switch}; known are --latency, --workers and --seed")
    end
  end

  defp optimizers([]), do: [@default_optimizer]
  defp optimizers(["all"]), do: @optimizers

  defp optimizers(names) do
    case names -- @optimizers do
      [] ->
        names

      [unknown | _] ->
        fail("unknown optimizer #{unknown}; known are #{Enum.join(@optimizers, ", ")} and all")
    end
  end

  defp lm(%{latency: 0}), do: :offline
  defp lm(%{latency: ms}), do: %{model: :offline, latency_ms: ms}

  defp tickets do
    path = System.get_env("ERLBRIDGE_TICKETS") || @tickets

    case File.read(path) do
      {:ok, text} ->
        text
        |> String.split("\n", trim: true)
        |> Enum.drop(1)
        |> Enum.map(&ticket(&1, path))
        |> enough(path)

      {:error, reason} ->
        fail("cannot read the tickets at #{path}: #{:file.format_error(reason)}")
    end
  end

  defp ticket(line, path) do
    case String.split(line, "\t") do
      [subject, body, category] ->
        %{subject: subject, body: body, category: category}

      _other ->
        fail("a line of #{path} is not subject, body and category with tabs between: #{line}")
    end
  end

  defp enough(tickets, path) do
    if length(tickets) <= @learned do
      fail(
        "#{path} holds #{length(tickets)} tickets, and it takes at least #{@learned + 1}: " <>
          "#{@learned} to learn from and the rest to score on"
      )
    end

    tickets
  end

  defp signature(tickets) do
    labels = tickets |> Enum.map(& &1.category) |> Enum.uniq() |> Enum.sort()

    %{
      name: :SupportTicket,
      instructions: "Read a customer's support ticket and choose the team that it belongs to.",
      input_fields: [
        %{name: :subject, type: :string, description: "the ticket's subject line"},
        %{name: :body, type: :string, description: "what the customer wrote"}
      ],
      output_fields: [%{name: :category, enum: labels, description: "the team"}]
    }
  end

  # -- failing

  defp ok!({:ok, result}, _what), do: result
  defp ok!({:error, error}, what), do: fail("#{what}: #{Exception.message(error)}")

  defp fail(message) do
    IO.puts(:stderr, "\n" <> Terminal.colour("demo failed: ", :red) <> message)
    exit({:shutdown, 1})
  end
end

Demo.main(System.argv())
