defmodule Pipeline.DSPy.ProcessManager do
  @moduledoc """
  A node's operating-system process: which command starts it, how its port is opened, and how it surely ends.

  Python is the first of these that is set: the option `:python`, `config :pipeline, :python`, the environment variable
  `ERLBRIDGE_PYTHON`, a `.venv` beside this project, and then `python3`.

  The port's program is the node's guardian, a small process that outlives everything else of the node: when it is gone,
  so is the rest. The BEAM never signals a port's program, it closes the pipes; guardian and node see that within
  milliseconds, and the guardian ends a node that does not. Only a port that lingers, with output queued for a node that
  does not read, hides its end from them: then the guardian is killed by its pid, which takes the node with it, and only
  while that pid still has the start time that it had when the port was opened, so that a reused pid is never hit.
  """

  alias Pipeline.DSPy.Deadline
  alias Pipeline.DSPy.PythonError

  defstruct [:port, :os_pid, :started_at]

  @typedoc "A node's guardian. `started_at` is its start time in clock ticks since boot, nil where /proc is missing."
  @type t :: %__MODULE__{
          port: port,
          os_pid: non_neg_integer | nil,
          started_at: non_neg_integer | nil
        }

  @type command :: %{
          executable: Path.t(),
          args: [String.t()],
          env: [{charlist, charlist | false}]
        }

  @switches [
    workers: "--workers",
    data_dir: "--data",
    max_frame_bytes: "--max-frame-bytes",
    max_queue: "--max-queue",
    credit: "--credit"
  ]

  # The environment beside a checkout. It does not exist in a release, and is passed over there.
  @neighbour_python Path.expand("../../../../.venv/bin/python", __DIR__)

  @poll_ms 10
  @kill_wait_ms 2_000

  @doc """
  The command and environment that start a node.

  Options: `:python`, `:workers`, `:data_dir`, `:max_frame_bytes`, `:max_queue`, `:credit`, `:settings` (the node's other
  settings by name, a map or list; lists and maps in it are written as the node reads them), `:args` (more arguments)
  and `:env` (a map or list of names and values; `nil` or `false` unsets).

      iex> {:ok, command} = Pipeline.DSPy.ProcessManager.command(python: "/bin/sh", workers: 2, env: %{"A" => "b"})
      iex> {command.executable, tl(command.args), command.env}
      {"/bin/sh", ["--workers", "2"], [{~c"A", ~c"b"}]}
  """
  @spec command(keyword) :: {:ok, command} | {:error, PythonError.t()}
  def command(opts \\ []) do
    with {:ok, executable} <- find_executable(python(opts)) do
      switches = switches(opts) ++ setting_switches(opts[:settings] || [])
      args = [launcher() | switches] ++ Enum.map(opts[:args] || [], &to_string/1)
      {:ok, %{executable: executable, args: args, env: env(opts[:env] || [])}}
    end
  end

  @doc "Opens the port of a node; the calling process owns it. Options as in `command/1`. Does not wait for the node."
  @spec start_python_process(keyword) :: {:ok, t} | {:error, PythonError.t()}
  def start_python_process(opts \\ []) do
    with {:ok, command} <- command(opts), {:ok, port} <- open(command) do
      os_pid = with {:os_pid, os_pid} <- Port.info(port, :os_pid), do: os_pid
      started_at = with {_state, started_at} <- stat(os_pid), do: started_at
      {:ok, %__MODULE__{port: port, os_pid: os_pid, started_at: started_at}}
    end
  end

  @doc """
  Ends a node: closes its port, waits `grace_ms` for the process to go, then kills it.

  Blocks for as long as that takes; `{:error, :still_alive}` is what remains after a kill that did not help.
  """
  @spec stop(t, non_neg_integer) :: :ok | {:error, :still_alive}
  def stop(%__MODULE__{} = process, grace_ms \\ 3_000) do
    close(process.port)

    with :alive <- await_gone(process, grace_ms),
         :ok <- kill(process),
         :alive <- await_gone(process, @kill_wait_ms) do
      {:error, :still_alive}
    else
      :gone -> :ok
    end
  end

  @doc "Whether the very process that was started still runs. A zombie does not, nor does another one under its pid."
  @spec alive?(t) :: boolean
  def alive?(%__MODULE__{started_at: nil}), do: false

  def alive?(%__MODULE__{os_pid: os_pid, started_at: started_at}) do
    match?({state, ^started_at} when state not in ["Z", "X"], stat(os_pid))
  end

  # -- the command

  @doc """
  The Python that a node would be started with: a path, or a name on the search path.

      iex> Pipeline.DSPy.ProcessManager.python(python: "/opt/dspy/bin/python")
      "/opt/dspy/bin/python"
  """
  @spec python(keyword) :: String.t()
  def python(opts) do
    opts[:python] || Application.get_env(:pipeline, :python) || from_environment() ||
      neighbour() || "python3"
  end

  defp from_environment do
    case System.get_env("ERLBRIDGE_PYTHON", "") do
      "" -> nil
      python -> python
    end
  end

  defp neighbour, do: if(File.exists?(@neighbour_python), do: @neighbour_python)

  defp find_executable(python) do
    case System.find_executable(python) do
      nil ->
        message =
          "no Python at `#{python}`; set ERLBRIDGE_PYTHON, `config :pipeline, :python` or the option :python"

        {:error, PythonError.new(:import_error, message, context: %{reason: :configuration})}

      executable ->
        {:ok, executable}
    end
  end

  defp launcher, do: Path.join([:code.priv_dir(:pipeline), "python", "dspy_bridge.py"])

  defp switches(opts) do
    Enum.flat_map(@switches, fn {option, switch} ->
      case opts[option] do
        nil -> []
        value -> [switch, to_string(value)]
      end
    end)
  end

  # One word an argument, so that a value can never be taken for another argument.
  defp setting_switches(settings) do
    for {name, value} <- settings, value != nil do
      "--" <> String.replace(to_string(name), "_", "-") <> "=" <> setting(value)
    end
  end

  defp setting(%{} = limits), do: Enum.map_join(limits, ",", fn {k, v} -> "#{k}=#{v}" end)

  defp setting(values) when is_list(values) do
    if Keyword.keyword?(values) and values != [],
      do: values |> Map.new() |> setting(),
      else: Enum.join(values, ",")
  end

  defp setting(value), do: to_string(value)

  defp env(entries) do
    for {name, value} <- entries do
      {to_charlist(name), if(value in [nil, false], do: false, else: to_charlist(value))}
    end
  end

  # -- the port

  defp open(%{executable: executable, args: args, env: env}) do
    options = [:binary, :exit_status, :hide, {:packet, 4}, {:args, args}, {:env, env}]
    {:ok, Port.open({:spawn_executable, executable}, options)}
  rescue
    # enoent and eacces, but also emfile, eagain and enomem, which may pass.
    error in [ErlangError, ArgumentError] ->
      message = "cannot start `#{executable}`: #{Exception.message(error)}"
      {:error, PythonError.new(:process_crashed, message, context: %{reason: :exec})}
  end

  defp close(port) do
    Port.close(port)
  rescue
    ArgumentError -> true
  end

  # -- the process

  # By the clock, not by the number of looks: on a busy machine each of them takes far longer than the pause between two.
  defp await_gone(process, within_ms), do: look(process, Deadline.in_ms(within_ms))

  defp look(process, until) do
    cond do
      not alive?(process) ->
        :gone

      Deadline.left(until) == 0 ->
        :alive

      true ->
        Process.sleep(@poll_ms)
        look(process, until)
    end
  end

  defp kill(process) do
    # Judged once more, right before: the pid may have become another process's meanwhile.
    if alive?(process) do
      System.cmd("kill", ["-9", Integer.to_string(process.os_pid)], stderr_to_stdout: true)
      :ok
    else
      :gone
    end
  end

  # State and start time: fields 3 and 22 of /proc/PID/stat, counted after the name, which may hold anything.
  defp stat(nil), do: nil

  defp stat(os_pid) do
    with {:ok, text} <- File.read("/proc/#{os_pid}/stat"),
         [_ | _] = ends <- :binary.matches(text, ") ") do
      {position, length} = List.last(ends)
      from = position + length
      fields = text |> binary_part(from, byte_size(text) - from) |> String.split()
      {hd(fields), fields |> Enum.at(19) |> String.to_integer()}
    else
      _ -> nil
    end
  end
end
