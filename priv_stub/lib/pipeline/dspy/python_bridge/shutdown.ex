defmodule Pipeline.DSPy.PythonBridge.Shutdown do
  @moduledoc """
  How a bridge, a pool or a whole cluster is ended from outside. Runs in the process of who asks for it.

  See `Pipeline.DSPy.PythonBridge.shutdown/2`.
  """

  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonBridge.Caller
  alias Pipeline.DSPy.PythonError

  @grace_ms 10_000
  # Beyond the grace: how long the node has to answer.
  @answer_ms 5_000
  # And then: how long the bridge has to end, which kills a node that does not.
  @stop_margin_ms 15_000

  @doc "Asks for it, and waits for the bridge's end where the answer is one that a bridge ends after."
  @spec run(PythonBridge.bridge(), keyword) :: PythonBridge.answer()
  # A struct's bridges are gone when it answers.
  def run(%_target{} = bridge, opts) do
    {payload, opts} = options(opts)
    PythonBridge.request(bridge, :shutdown, payload, opts)
  end

  def run(bridge, opts) do
    {payload, opts} = options(opts)
    monitor = Caller.monitor(bridge, [])
    answer = PythonBridge.request(bridge, :shutdown, payload, opts)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> answer
    after
      if(refused?(answer), do: 0, else: @stop_margin_ms) ->
        Process.demonitor(monitor, [:flush])
        answer
    end
  end

  # Then there is no end to wait for.
  defp refused?({:error, %PythonError{error_type: type}}),
    do: type in [:validation_error, :overloaded]

  defp refused?({:ok, _result}), do: false

  defp options(opts) do
    opts = Keyword.validate!(opts, [:timeout, mode: :drain, grace_ms: @grace_ms])
    timeout = opts[:timeout] || opts[:grace_ms] + @answer_ms
    {%{mode: opts[:mode], grace_ms: opts[:grace_ms]}, [timeout: timeout]}
  end
end
