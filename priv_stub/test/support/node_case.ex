defmodule Pipeline.NodeCase do
  @moduledoc "Tests against the real Python node: `start_bridge/1` starts one, `eventually/2` waits for what it does."

  use ExUnit.CaseTemplate

  alias Pipeline.DSPy.PythonBridge

  using do
    quote do
      import Pipeline.NodeCase

      alias Pipeline.DSPy.MessageProtocol
      alias Pipeline.DSPy.ProcessManager
      alias Pipeline.DSPy.PythonBridge
      alias Pipeline.DSPy.PythonError
      alias Pipeline.Tickets
    end
  end

  @neighbour Path.expand("../../../.venv/bin/python", __DIR__)

  @doc "The Python that has erlbridge. Its absence fails the test."
  def python do
    python = System.get_env("ERLBRIDGE_PYTHON") || @neighbour

    if System.find_executable(python) == nil do
      flunk("no Python at #{python}: set ERLBRIDGE_PYTHON to one that has erlbridge")
    end

    python
  end

  @doc "Starts a bridge under the test's supervisor, with a data directory of its own; gives its name."
  def start_bridge(opts \\ []) do
    number = System.unique_integer([:positive])
    name = :"bridge_#{number}"
    defaults = [name: name, python: python(), workers: 1, data_dir: tmp_dir("data-#{number}")]
    start_supervised!({PythonBridge, Keyword.merge(defaults, opts)})
    name
  end

  @doc "A fresh directory that is gone after the test."
  def tmp_dir(label) do
    path = Path.join(System.tmp_dir!(), "erlbridge-test-#{System.pid()}-#{label}")
    File.mkdir_p!(path)
    on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  @doc "Configures the application for the length of this test."
  def put_env(key, value) do
    before = Application.fetch_env(:pipeline, key)
    Application.put_env(:pipeline, key, value)

    on_exit(fn ->
      case before do
        {:ok, value} -> Application.put_env(:pipeline, key, value)
        :error -> Application.delete_env(:pipeline, key)
      end
    end)
  end

  @doc "An executable shell script to put in Python's place."
  def script(body) do
    path = Path.join(tmp_dir("script-#{System.unique_integer([:positive])}"), "python")
    File.write!(path, "#!/bin/sh\n#{body}\n")
    File.chmod!(path, 0o755)
    path
  end

  @doc "Waits until the function gives something true, and gives that; fails after the deadline."
  def eventually(fun, left_ms \\ 10_000) do
    cond do
      found = fun.() ->
        found

      left_ms <= 0 ->
        flunk("it did not come true in time")

      true ->
        receive do
        after
          20 -> eventually(fun, left_ms - 20)
        end
    end
  end

  @doc "Whether a process runs: a zombie does not."
  def running?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, text} -> not (text =~ ~r/\) [ZX] /)
      {:error, _reason} -> false
    end
  end

  @doc "A process and all of its children's children, as they are now."
  def family(os_pid) do
    parents =
      for entry <- File.ls!("/proc"), {pid, ""} <- [Integer.parse(entry)], do: {pid, parent(pid)}

    collect([os_pid], parents)
  end

  defp collect([], _parents), do: []

  defp collect(pids, parents) do
    children = for {pid, parent} <- parents, parent in pids, do: pid
    pids ++ collect(children, parents)
  end

  defp parent(pid) do
    with {:ok, text} <- File.read("/proc/#{pid}/stat"),
         [parent] <- Regex.run(~r/\) \S (\d+) /, text, capture: :all_but_first) do
      String.to_integer(parent)
    else
      _gone -> nil
    end
  end

  @doc "Waits until every worker of a bridge is idle."
  def await_idle(bridge) do
    eventually(fn ->
      {:ok, health} = PythonBridge.health_check(bridge)
      Enum.all?(health.workers, &(&1.state == :idle)) and health.queue.waiting == 0
    end)
  end

  @doc "Sends a signal, by name, to a process that a test started."
  def signal(name, os_pid), do: {_, 0} = System.cmd("kill", ["-#{name}", "#{os_pid}"])

  @doc "A configuration that keeps a job running for many seconds, without burning CPU."
  def slow_config do
    [
      optimizer: :bootstrap_few_shot_with_random_search,
      lm: %{model: :offline, latency_ms: 50},
      num_threads: 1,
      seed: System.unique_integer([:positive]),
      cache: false
    ]
  end

  @doc "The payload of an optimization that runs for many seconds."
  def slow_payload do
    %{
      signature: Pipeline.Tickets.signature(),
      training_data: Enum.take(Pipeline.Tickets.read(), 40),
      config: Map.new(slow_config())
    }
  end
end
