defmodule Pipeline.PoolCase do
  @moduledoc """
  Tests of a pool of real nodes: `start_pool/1` starts one; `hold/2` and `hold_long/2` send requests that run until the
  test lets them go.
  """

  use ExUnit.CaseTemplate

  import Pipeline.NodeCase

  alias Pipeline.DSPy.ConnectionPool
  alias Pipeline.DSPy.PythonBridge

  using do
    quote do
      use Pipeline.NodeCase
      import Pipeline.PoolCase

      alias Pipeline.DSPy.ConnectionPool
    end
  end

  @doc "Starts a pool under the test's supervisor; gives its name. One bridge with one worker unless options say more."
  def start_pool(opts \\ []) do
    opts = Keyword.merge(pool_options(), opts)
    start_supervised!({ConnectionPool, opts})
    opts[:name]
  end

  @doc "A set-up for all tests of a module: a pool of two bridges with two workers each, once all of them are there."
  def start_pool_of_two(_context) do
    pool = start_pool(pool_size: 2, workers: 2, max_queue_size: 2)
    {:ok, _info} = PythonBridge.await_ready(pool)
    eventually(fn -> ConnectionPool.status(pool).ready == 2 end)
    await_idle(pool)
    %{pool: pool}
  end

  @doc "A set-up: whatever a test has left behind is over before the next one begins."
  def await_idle_pool(%{pool: pool}) do
    eventually(fn -> idle?(pool) end)
    :ok
  end

  defp idle?(pool) do
    %{lanes: lanes, connections: lent} = ConnectionPool.status(pool)
    lent == 0 and Enum.all?(lanes, fn {_, lane} -> lane.running == 0 and lane.waiting == 0 end)
  end

  def pool_options do
    number = System.unique_integer([:positive])

    [
      name: :"pool_#{number}",
      python: python(),
      pool_size: 1,
      workers: 1,
      settings: [spare_workers: 0],
      # These tests kill nodes that have just begun.
      restart_delay: 10,
      data_dir: tmp_dir("pool-#{number}")
    ]
  end

  @doc """
  Sends a prediction whose model waits; the test gets `{:held, label, model}` once it runs. Options: those of the
  request, and `:label`.
  """
  def hold(pool, opts \\ []), do: hold(pool, :predict, %{input: %{question: "?"}}, opts)

  @doc "The same with work of the long lane."
  def hold_long(pool, opts \\ []) do
    hold(pool, :evaluate_pipeline, %{data: [%{question: "?", answer: "!"}]}, opts)
  end

  defp hold(pool, verb, payload, opts) do
    {label, opts} = Keyword.pop(opts, :label, verb)
    test_process = self()

    model = fn _request ->
      send(test_process, {:held, label, self()})

      receive do
        :go -> "[[ ## answer ## ]]\n!\n\n[[ ## completed ## ]]"
      end
    end

    config = %{lm: model, cache: false}
    payload = Map.merge(payload, %{signature: "question -> answer", config: config})
    PythonBridge.async(pool, verb, payload, [progress: false] ++ opts)
  end

  @doc "Takes every slot of a lane of a pool of two: the requests, and the models that hold them."
  def fill(pool, lane) do
    {send, slots} = if lane == :long, do: {&hold_long/2, 2}, else: {&hold/2, 4}
    held = for n <- 1..slots, do: {send.(pool, label: {lane, n}), await_held({lane, n})}
    Enum.unzip(held)
  end

  @doc "Waits until the request with this label runs, and gives its model."
  def await_held(label) do
    assert_receive {:held, ^label, model}, 20_000
    model
  end

  @doc "Lets a request that was held go on."
  def let_go(model), do: send(model, :go)

  @doc "Lets all of these models go on, and waits for the answers to these requests."
  def let_all_go(refs, models) do
    Enum.each(models, &let_go/1)
    for ref <- refs, do: {:ok, _answer} = PythonBridge.await(ref)
  end

  @doc "A quick prediction."
  def ask(pool, opts \\ []) do
    PythonBridge.predict(pool, "question -> answer", %{question: "1 + 1"}, [lm: :offline] ++ opts)
  end

  @doc "Waits until a lane has so many waiting requests."
  def await_waiting(pool, lane, count) do
    eventually(fn -> ConnectionPool.status(pool).lanes[lane].waiting == count end)
  end

  @doc "The pool's bridges and what they do, by index."
  def bridges(pool), do: :sys.get_state(pool).desk.roster.bridges
end
