# The BEAM's side of benchmarks/round_trip.py, which runs it and makes the tables:
#
#     cd priv_stub && mix run ../benchmarks/peers/round_trip.exs OUT ECHO ROUNDS MILLISECONDS [ERLPORT]
#
# ECHO is benchmarks/peers/echo.c, compiled, and ERLPORT a folder `erlport` with ErlPort's ebin and priv. In each round
# every other end has its turn, for so many milliseconds, so that a machine whose speed drifts slows all. OUT gets one term:
# %{end => %{"single" => [[ns]], "paced" => [[ns]], "rate" => [per second], "work" => [ns], "large" => [ns]}}, with an
# element for each round: one request after the other, one now and then, 64 in flight and what these cost of the
# processor at the other end, 16 MB.

defmodule RoundTrip do
  alias Pipeline.DSPy.PythonBridge

  @request_bytes 300
  @large_bytes 16_000_000
  @window 64
  # Long enough for everybody to have gone to sleep.
  @pause_ms 3
  @workflow %{
    workflow: %{name: "w", steps: [%{name: "s", type: "dspy", signature: "question -> answer"}]}
  }
  @question %{
    signature: %{name: "Q", input_fields: [:question], output_fields: [:answer]},
    input: %{question: "1 + 1?"},
    config: %{lm: :offline}
  }

  def main([out, echo, rounds, span | erlport]) do
    [rounds, span] = Enum.map([rounds, span], &String.to_integer/1)
    Logger.configure(level: :warning)
    data = Path.join(Path.dirname(out), "data")
    File.mkdir_p!(data)

    ends =
      [c(echo), python(), relay(), json()] ++ erlport(erlport) ++ served(data) ++ bridge(data)

    try do
      # The first of each is thrown away: what is loaded, grown and connected on first use.
      for other <- ends, do: turn(other, 50)

      found =
        for round <- 1..rounds, other <- ends do
          progress("round #{round} of #{rounds}: #{other.name}")
          {other.name, turn(other, span)}
        end

      progress("")

      whole =
        for {name, turns} <- Enum.group_by(found, &elem(&1, 0), &elem(&1, 1)), into: %{} do
          values =
            for key <- ["single", "paced", "rate", "work", "large"],
                do: {key, for(%{^key => value} <- turns, do: value)}

          {name, Map.new(values)}
        end

      File.write!(out, :erlang.term_to_binary(whole))
    after
      for other <- Enum.reverse(ends), do: other.stop.()
      File.rm_rf!(data)
    end
  end

  # On a terminal only.
  defp progress(text) do
    if match?({:ok, _columns}, :io.columns(:standard_error)),
      do: IO.write(:stderr, "\r\e[K" <> text)
  end

  # What there is to measure of this end: single requests, many in flight, large ones.
  defp turn(other, span) do
    single = singles(other.ask, 0, finish(span), [])
    paced = singles(other.ask, @pause_ms, finish(span), [])

    other
    |> crowd(span)
    |> Map.merge(%{"single" => single, "paced" => paced})
    |> Map.merge(large(other))
  end

  defp finish(span), do: now() + span * 1_000_000
  defp now, do: System.monotonic_time(:nanosecond)

  defp timed(ask) do
    began = now()
    ask.()
    now() - began
  end

  defp singles(ask, pause, finish, found) do
    if pause > 0, do: Process.sleep(pause)
    found = [timed(ask) | found]
    if now() < finish, do: singles(ask, pause, finish, found), else: found
  end

  defp crowd(%{send: nil}, _span), do: %{}

  defp crowd(other, span) do
    processes = other.processes.()
    worked = work(processes)
    began = now()
    sent = for number <- 1..@window, do: other.send.(number)
    answered = keep_sending(other, :queue.from_list(sent), @window, finish(span))
    took = now() - began
    %{"rate" => answered / took * 1.0e9, "work" => (work(processes) - worked) / answered}
  end

  # Nanoseconds that all threads of these processes have had of a processor, as the kernel's scheduler counts them.
  defp work(processes) do
    for process <- processes,
        file <- Path.wildcard("/proc/#{process}/task/*/schedstat"),
        reduce: 0 do
      sum -> sum + (file |> File.read!() |> String.split() |> hd() |> String.to_integer())
    end
  end

  defp process(port) do
    {:os_pid, process} = Port.info(port, :os_pid)
    process
  end

  # One more is sent for each that is answered, the oldest first; gives how many were.
  defp keep_sending(other, waiting, sent, finish) do
    {{:value, first}, waiting} = :queue.out(waiting)
    other.heard.(first)

    if now() < finish do
      keep_sending(other, :queue.in(other.send.(sent + 1), waiting), sent + 1, finish)
    else
      waiting |> :queue.to_list() |> Enum.each(other.heard)
      sent
    end
  end

  defp large(%{large: nil}), do: %{}
  defp large(%{large: large}), do: %{"large" => timed(large)}

  # -- the other ends

  defp c(echo), do: echoing("a C echo", echo, [], echo, ["sink"])

  defp python do
    script = peer("echo.py")
    echoing("a bare Python echo", interpreter(), [script], interpreter(), [script, "sink"])
  end

  # It starts the second of its two processes itself.
  defp relay do
    script = peer("relay.py")

    "a relay of two bare Python echoes"
    |> echoing(interpreter(), [script], interpreter(), [script, "sink"])
    |> Map.update!(:processes, fn own -> fn -> Enum.flat_map(own.(), &[&1 | children(&1)]) end end)
  end

  defp children(process) do
    "/proc/#{process}/task/*/children"
    |> Path.wildcard()
    |> Enum.flat_map(&(&1 |> File.read!() |> String.split()))
  end

  defp echoing(name, program, arguments, sink_program, sink_arguments) do
    port = open(program, arguments)
    sink = open(sink_program, sink_arguments)
    frame = String.duplicate("x", @request_bytes)
    whole = :crypto.strong_rand_bytes(@large_bytes)
    send = fn _number -> Port.command(port, frame) end
    heard = fn _sent -> answer(port) end

    %{
      name: name,
      ask: fn -> heard.(send.(1)) end,
      send: send,
      heard: heard,
      processes: fn -> [process(port)] end,
      large: fn ->
        Port.command(sink, whole)
        answer(sink)
      end,
      stop: fn -> for port <- [port, sink], do: Port.close(port) end
    }
  end

  # The BEAM's side of JSON costs next to nothing here: it is pasted together and cut apart at places that are known.
  defp json do
    port = open(interpreter(), [peer("json_bridge.py")])
    term = request_of(@request_bytes)
    whole = :crypto.strong_rand_bytes(@large_bytes)

    send = fn number, command, data ->
      Port.command(port, [
        ~s({"id": ),
        Integer.to_string(number),
        ~s(, "command": "#{command}", "data": "),
        Base.encode64(data),
        ~s("})
      ])
    end

    heard = fn _sent ->
      [_, data] = :binary.split(answer(port), ~s("data": "))
      Base.decode64!(binary_part(data, 0, byte_size(data) - 2))
    end

    one = fn number -> send.(number, "echo", :erlang.term_to_binary(term)) end
    take = fn sent -> :erlang.binary_to_term(heard.(sent)) end

    %{
      name: "JSON, base64, a blocking loop",
      ask: fn -> take.(one.(1)) end,
      send: one,
      heard: take,
      processes: fn -> [process(port)] end,
      large: fn -> heard.(send.(1, "size", whole)) end,
      stop: fn -> Port.close(port) end
    }
  end

  # Called by its name only: the module is there when somebody gives its path.
  defp erlport([]), do: []

  defp erlport([folder]) do
    true = Code.prepend_path(Path.join(folder, "ebin"))

    {:ok, python} =
      apply(:python, :start, [
        [
          python: to_charlist(interpreter()),
          python_path: Enum.map([Path.join([folder, "priv", "python3"]), peers()], &to_charlist/1)
        ]
      ])

    term = :crypto.strong_rand_bytes(@request_bytes - 40)
    whole = :crypto.strong_rand_bytes(@large_bytes)

    call = fn function, argument ->
      apply(:python, :call, [python, :erlport_echo, function, [argument]])
    end

    # It takes one request after the other; those in flight are processes that wait for their turn.
    task = fn _number -> Task.async(fn -> call.(:echo, term) end) end

    [
      %{
        name: "ErlPort",
        ask: fn -> call.(:echo, term) end,
        send: task,
        heard: &Task.await/1,
        processes: fn ->
          [process(:sys.get_state(python) |> Tuple.to_list() |> Enum.find(&is_port/1))]
        end,
        large: fn -> call.(:size, whole) end,
        stop: fn -> apply(:python, :stop, [python]) end
      }
    ]
  end

  # A node as it is, over a port of our own: terms made and read by the caller, and nothing else on the BEAM's side.
  defp served(data) do
    port =
      open(interpreter(), [
        "-m",
        "erlbridge",
        "serve",
        "--data",
        Path.join(data, "node"),
        "--workers",
        "1",
        "--spare-workers",
        "0",
        "--credit",
        "0"
      ])

    {:ready, %{os_pid: node}} = :erlang.binary_to_term(answer(port))
    padding = String.duplicate("x", @request_bytes - byte_size(health(1, "")))
    whole = :crypto.strong_rand_bytes(@large_bytes)
    take = fn id -> taken(port, id) end
    ask = fn frame -> Port.command(port, frame) && take.(1) end
    worker = fn id -> :erlang.term_to_binary({:load_workflow, id, @workflow}) end
    # The worker boots meanwhile.
    %{} = ask.(worker.(1))

    send = fn frame ->
      fn id ->
        Port.command(port, frame.(id))
        id
      end
    end

    health = send.(&health(&1, padding))
    loaded = send.(worker)
    plain = %{heard: take, processes: fn -> [node] end, large: nil, stop: fn -> :ok end}
    %{workers: [%{os_pid: worked_in}]} = ask.(health(1, ""))

    [
      Map.merge(plain, %{
        name: "the node: health_check",
        ask: fn -> take.(health.(1)) end,
        send: health,
        large: fn -> ask.(health(1, whole)) end,
        stop: fn -> Port.close(port) end
      }),
      Map.merge(plain, %{
        name: "through a worker: load_workflow",
        ask: fn -> take.(loaded.(1)) end,
        send: loaded,
        processes: fn -> [node, worked_in] end
      }),
      Map.merge(plain, %{
        name: "through a worker: predict, offline",
        ask: fn -> ask.(:erlang.term_to_binary({:predict, 1, @question, %{progress: false}})) end,
        send: nil
      })
    ]
  end

  # The same with all that an application has of it: supervision, deadlines, telemetry, typed errors.
  defp bridge(data) do
    {:ok, bridge} =
      PythonBridge.start_link(
        name: nil,
        workers: 1,
        data_dir: Path.join(data, "bridge"),
        settings: [telemetry_interval_s: 3600]
      )

    {:ok, %{os_pid: node}} = PythonBridge.await_ready(bridge)
    health = fn _number -> PythonBridge.async(bridge, :health_check, %{}) end

    heard = fn ref ->
      {:ok, %{} = told} = PythonBridge.await(ref)
      told
    end

    [
      %{
        name: "`PythonBridge.health_check`",
        ask: fn -> {:ok, _} = PythonBridge.health_check(bridge) end,
        send: health,
        heard: heard,
        processes: fn -> [node] end,
        large: nil,
        stop: fn -> GenServer.stop(bridge) end
      }
    ]
  end

  # -- a port

  defp open(program, arguments) do
    Port.open({:spawn_executable, System.find_executable(program) || program}, [
      :binary,
      packet: 4,
      args: arguments,
      cd: root()
    ])
  end

  defp answer(port), do: receive(do: ({^port, {:data, frame}} -> frame))

  # The answer to this request; what the node says besides (there is little without credit) is passed by.
  defp taken(port, id) do
    case :erlang.binary_to_term(answer(port)) do
      {:ok, ^id, result} -> result
      {:error, ^id, error} -> raise "the node refused: #{inspect(error)}"
      _event -> taken(port, id)
    end
  end

  defp health(id, padding),
    do: :erlang.term_to_binary({:health_check, id, %{}, %{padding: padding}})

  # A term that takes so many bytes, as a small request does.
  defp request_of(bytes) do
    term = fn padding -> {:health_check, 1, %{}, %{padding: padding}} end
    term.(String.duplicate("x", bytes - :erlang.external_size(term.(""))))
  end

  defp interpreter, do: System.get_env("ERLBRIDGE_PYTHON", "python3")
  defp peer(file), do: Path.join(peers(), file)
  defp peers, do: __DIR__
  defp root, do: Path.expand("../..", __DIR__)
end

RoundTrip.main(System.argv())
