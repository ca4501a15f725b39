# What a call of an Elixir function costs, beside engines that the worker asks directly, in turn in one run.
#
#     cd priv_stub && ERLBRIDGE_PYTHON=$PWD/../.venv/bin/python mix run ../benchmarks/callbacks.exs [--write | --short] [ROUNDS]
#
# Each round predicts forty different questions with each model, one after the other (1 thread) and eight at once. All
# answer with the same fixed text: the Elixir function at once, the endpoint over HTTP on a loopback port, kept alive. The
# offline model computes its answer. All that DSPy does around a call is the same, so the difference of two lines is the
# difference of their calls. Prints medians over the rounds (61; 3 where it is short), in milliseconds per prediction;
# differences are medians of the rounds' differences, and beside them of the shortest rounds, which others on the machine
# have disturbed least. The metric's line is an evaluation with an Elixir metric less one with `exact_match`.

Code.require_file("instruments/arguments.exs", __DIR__)

defmodule Bench.Endpoint do
  # As much of HTTP/1.1 as one client on one machine needs.
  def start(text) do
    body =
      ~s({"id":"x","object":"chat.completion","created":0,"model":"bench","choices":[{"index":0,) <>
        ~s("finish_reason":"stop","message":{"role":"assistant","content":#{inspect(text)}}}],) <>
        ~s("usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}})

    reply =
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: #{byte_size(body)}\r\n\r\n#{body}"

    {:ok, listener} =
      :gen_tcp.listen(0, [
        :binary,
        packet: :http_bin,
        active: false,
        ip: {127, 0, 0, 1},
        nodelay: true
      ])

    spawn_link(fn -> accept(listener, reply) end)
    {:ok, port} = :inet.port(listener)
    port
  end

  defp accept(listener, reply) do
    {:ok, socket} = :gen_tcp.accept(listener)
    server = spawn_link(fn -> receive(do: (:go -> serve(socket, reply))) end)
    :ok = :gen_tcp.controlling_process(socket, server)
    send(server, :go)
    accept(listener, reply)
  end

  defp serve(socket, reply) do
    with {:ok, {:http_request, _, _, _}} <- :gen_tcp.recv(socket, 0),
         length when is_integer(length) <- headers(socket, 0),
         :ok <- :inet.setopts(socket, packet: :raw),
         {:ok, _body} <- :gen_tcp.recv(socket, length),
         :ok <- :gen_tcp.send(socket, reply),
         :ok <- :inet.setopts(socket, packet: :http_bin) do
      serve(socket, reply)
    end
  end

  defp headers(socket, length) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, {:http_header, _, :"Content-Length", _, value}} ->
        headers(socket, String.to_integer(value))

      {:ok, :http_eoh} ->
        length

      {:ok, _other} ->
        headers(socket, length)

      _closed ->
        :closed
    end
  end
end

defmodule Bench do
  alias Pipeline.DSPy.PythonBridge

  @bridge Bench.Bridge
  @rounds 61
  @inputs 40
  @text "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
  @signature "question -> answer"

  def complete(_request), do: @text
  def score(example, prediction), do: example["answer"] == prediction["answer"]

  def main(arguments) do
    taken = %{name: "callbacks.exs", flags: [], numbers: ["ROUNDS"]}
    {flags, [rounds]} = Bench.Arguments.read(arguments, taken)
    rounds = rounds || if("--short" in flags, do: 3, else: @rounds)
    Bench.Arguments.refuse_part(taken, flags, rounds < @rounds && "ROUNDS of at least #{@rounds}")
    Logger.configure(level: :warning)
    data_dir = Path.join(System.tmp_dir!(), "erlbridge-bench-#{System.pid()}")
    :ok = Pipeline.DSPy.Callbacks.register(:bench, &__MODULE__.complete/1, kind: :lm)
    :ok = Pipeline.DSPy.Callbacks.register(:same, &__MODULE__.score/2, kind: :metric)

    endpoint = %{
      model: "openai/bench",
      api_base: "http://127.0.0.1:#{Bench.Endpoint.start(@text)}/v1"
    }

    {:ok, supervisor} =
      Supervisor.start_link(
        [
          {PythonBridge,
           name: @bridge, workers: 1, data_dir: data_dir, settings: [telemetry_interval_s: 3600]}
        ],
        strategy: :one_for_one
      )

    models = [
      {"the offline model", :offline},
      {"an Elixir function", {:call, :bench}},
      {"a loopback endpoint", endpoint}
    ]

    try do
      columns =
        for threads <- [1, 8] do
          # The first of each is thrown away: imports, connections, caches.
          [_first | measured] =
            for _round <- 0..rounds, do: for({_name, lm} <- models, do: predict(lm, threads))

          [offline, elixir, http] = times = Enum.zip_with(measured, & &1)

          [_first | judged] =
            for _round <- 0..rounds,
                do: for(metric <- [:exact_match, {:call, :same}], do: evaluate(metric, threads))

          [own, host] = Enum.zip_with(judged, & &1)

          for({{name, _lm}, times} <- Enum.zip(models, times), do: {name, shown(median(times))}) ++
            [
              {"**the function less the offline model**", difference(elixir, offline)},
              {"the function less the endpoint", difference(elixir, http)},
              {"an Elixir metric less `exact_match`", difference(host, own)}
            ]
        end

      publish(columns, "--write" in flags)
    after
      Supervisor.stop(supervisor)
      File.rm_rf!(data_dir)
    end
  end

  defp predict(lm, threads) do
    inputs = for n <- 1..@inputs, do: %{"question" => "#{n} and #{:rand.uniform(1_000_000_000)}?"}

    timed(fn ->
      PythonBridge.predict(@bridge, @signature, inputs, lm: lm, num_threads: threads, cache: false)
    end)
  end

  defp evaluate(metric, threads) do
    data =
      for n <- 1..@inputs,
          do: %{"question" => "#{n} and #{:rand.uniform(1_000_000_000)}?", "answer" => "yes"}

    timed(fn ->
      PythonBridge.evaluate_pipeline(@bridge, @signature, data,
        lm: {:call, :bench},
        metric: metric,
        num_threads: threads,
        cache: false
      )
    end)
  end

  defp timed(fun) do
    {us, {:ok, _result}} = :timer.tc(fun)
    us / 1000 / @inputs
  end

  defp publish([one, eight], write) do
    rows =
      for {{name, alone}, {name, beside}} <- Enum.zip(one, eight),
          do: "| #{name} | #{alone} | #{beside} |"

    table =
      Enum.join(
        ["| ms for a prediction | one at once | eight at once |", "|---|---|---|" | rows],
        "\n"
      )

    if write do
      python = System.get_env("ERLBRIDGE_PYTHON", "python3")
      {shown, 0} = System.cmd(python, [Path.join(__DIR__, "report.py"), "callbacks", table])
      IO.write(shown)
    else
      IO.puts(table)
    end
  end

  defp difference(some, others) do
    rounds = Enum.zip_with(some, others, &(&1 - &2))
    "#{shown(median(rounds))} (#{shown(Enum.min(some) - Enum.min(others))})"
  end

  defp median(times), do: times |> Enum.sort() |> Enum.at(div(length(times), 2))
  defp shown(ms), do: :erlang.float_to_binary(ms * 1.0, decimals: 3)
end

Bench.main(System.argv())
