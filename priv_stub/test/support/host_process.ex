defmodule Pipeline.HostProcess do
  @moduledoc """
  A host that can be killed as the kernel kills: a BEAM of its own with a bridge, which a test speaks to over its standard
  input and output. What the test asks of it stands here, since functions of a test's own module are not there.
  """

  alias Pipeline.DSPy.DataTransfer
  alias Pipeline.DSPy.OptimizationCache
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.Tickets

  @bridge Pipeline.HostBridge

  @type host :: %{peer: pid, os_pid: pos_integer}

  # -- in the test's BEAM

  @doc "Starts a BEAM with a bridge of these options. It ends when it is killed, or with the test's own."
  @spec start(keyword) :: host
  def start(options) do
    path = for directory <- :code.get_path(), directory != '.', arg <- ['-pa', directory], do: arg
    args = ['-kernel', 'logger_level', 'none'] ++ path
    {:ok, peer, _node} = :peer.start(%{connection: :standard_io, args: args})
    :ok = :peer.call(peer, __MODULE__, :serve, [options], 20_000)
    %{peer: peer, os_pid: List.to_integer(:peer.call(peer, :os, :getpid, []))}
  end

  @doc "Runs a function of this module there."
  def call(%{peer: peer}, function, arguments),
    do: :peer.call(peer, __MODULE__, function, arguments, 20_000)

  @doc "Has it run a function of this module without waiting for that."
  def cast(%{peer: peer}, function, arguments),
    do: :peer.cast(peer, __MODULE__, function, arguments)

  @doc "Kills it; gives when it is gone."
  def kill(%{os_pid: os_pid} = host) do
    {_, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])
    await_end(host)
  end

  @doc "Waits until it is gone."
  def await_end(%{os_pid: os_pid}) do
    Pipeline.NodeCase.eventually(fn -> not Pipeline.NodeCase.running?(os_pid) end, 20_000)
  end

  # -- in the host

  @doc false
  def serve(options) do
    {:ok, _} = Application.ensure_all_started(:pipeline)
    child = {PythonBridge, [name: @bridge] ++ options}
    {:ok, _pid} = Supervisor.start_child(Pipeline.Supervisor, child)
    :ok
  end

  defp die do
    System.cmd("kill", ["-KILL", System.pid()])
    Process.sleep(:infinity)
  end

  @doc """
  Sends `rows(count)`, and dies: as an example is taken out of the enumerable (`{:taken, index}`), when so many chunks are
  acknowledged (`{:acknowledged, count}`) or when all of it is over (`:over`). With `:unheard` it sends what there is, hears
  of one chunk, and waits to be killed.
  """
  def transfer(stage, count, options) do
    data =
      Stream.map(Stream.with_index(rows(count)), fn {row, index} ->
        if stage == {:taken, index}, do: die()
        row
      end)

    progress = fn %{chunks: chunks} ->
      if stage == {:acknowledged, chunks}, do: die()
      if stage == :unheard, do: Process.sleep(:infinity)
    end

    {:ok, _} = DataTransfer.transfer_large_dataset(data, @bridge, [progress: progress] ++ options)
    if stage == :over, do: die()
  end

  @doc "Asks, and dies as soon as it has; so that nobody knows what becomes of it."
  def ask_and_die(key, lm) do
    PythonBridge.async(@bridge, :evaluate_pipeline, question(lm), idempotency_key: key)
    die()
  end

  @doc "Asks, and dies when so many examples are done."
  def ask_and_die(key, lm, done) do
    PythonBridge.request(@bridge, :evaluate_pipeline, question(lm),
      idempotency_key: key,
      progress: fn state -> if state.stage == :evaluating and state.done >= done, do: die() end
    )
  end

  @doc "Asks, and has the bridge hear nothing more from the moment that the job runs."
  def ask_and_hear_nothing(key, lm) do
    ref = PythonBridge.async(@bridge, :evaluate_pipeline, question(lm), idempotency_key: key)

    receive do
      {PythonBridge, ^ref, {:progress, _state}} -> :sys.suspend(@bridge)
    end
  end

  @doc "Optimizes through the cache of this BEAM, and dies when it has the result."
  def optimize_and_die(lm) do
    {:ok, %{optimization_metrics: %{cached: false}}} = optimize(@bridge, lm)
    die()
  end

  # -- the same on both sides

  @doc "Examples of about one KB each, which zlib cannot make smaller than half of it."
  def rows(count), do: Stream.map(1..count, &row/1)

  defp row(number) do
    nonce = <<number::64, 0::64>>
    zeros = <<0::size(720)-unit(8)>>
    noise = :crypto.crypto_one_time(:aes_128_ctr, "sixteen bytes it", nonce, zeros, true)
    %{question: Base.encode64(noise), answer: "#{number}"}
  end

  @doc "An evaluation of sixty examples, one after the other."
  def question(lm) do
    %{
      signature: Tickets.signature(),
      data: Enum.take(Tickets.read(), 60),
      config: %{lm: lm, num_threads: 1}
    }
  end

  @doc "An optimization through this BEAM's cache."
  def optimize(bridge, lm) do
    OptimizationCache.optimize(bridge, Tickets.signature(), Enum.take(Tickets.read(), 8),
      optimizer: :labeled_few_shot,
      lm: lm
    )
  end
end
