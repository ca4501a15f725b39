defmodule Pipeline.DSPy.PythonBridge.Results do
  @moduledoc """
  The verbs of the results that a node keeps: those of requests with an `:idempotency_key`, and those of its result cache. They
  are functions of `Pipeline.DSPy.PythonBridge` too, where their options have defaults.

  A job with `result_cache: true` in its configuration is answered from the cache where the same was done before, and its result kept
  there; `cache: false` asks neither that nor the models' kept answers. The node's setting `result_cache` says what holds for jobs that
  do not say so themselves.
  """

  alias Pipeline.DSPy.PythonBridge

  @doc """
  The result that the node has stored for a request with this `:idempotency_key`. `:not_found` when there is none, with
  `context.state` `:running` when that is being done. Default timeout: 5000 ms.

  Options: those of every request, and `:atoms`, those that the result may use besides the published ones: the names of
  the request's fields, which else come as binaries.

      PythonBridge.fetch_result(bridge, "nightly-2024-02-29", atoms: [:category])
      #=> {:ok, %{status: :success, verb: :predict, result: %{prediction: %{category: "billing"}, …}, stored_at_ms: …}}
  """
  @spec fetch_result(PythonBridge.bridge(), String.t(), keyword) :: PythonBridge.answer()
  def fetch_result(bridge, idempotency_key, opts) do
    PythonBridge.request(bridge, :fetch_result, [idempotency_key], opts)
  end

  @doc """
  How many results the node's store keeps, how large they are, and how often this node has found one in the cache since it
  started. Default timeout: 5000 ms.

  Of a pool it is one of its nodes that answers: they share the store, and `hits` and `misses` are its own.

      PythonBridge.stats(bridge)
      #=> {:ok, %{status: :success, results: %{count: 2, bytes: 5120}, cache: %{count: 1, bytes: 2560, hits: 7, misses: 1}}}
  """
  @spec stats(PythonBridge.bridge(), keyword) :: PythonBridge.answer()
  def stats(bridge, opts), do: PythonBridge.request(bridge, :stats, [], opts)

  @doc """
  Has the node's store forget the results that are cached, for every node that shares it; those of an `:idempotency_key` stay, and so do
  the models' answers. Default timeout: 30000 ms.

      PythonBridge.clear_cache(bridge)
      #=> {:ok, %{status: :success, count: 1, bytes: 2560}}
  """
  @spec clear_cache(PythonBridge.bridge(), keyword) :: PythonBridge.answer()
  def clear_cache(bridge, opts), do: PythonBridge.request(bridge, :clear_cache, [], opts)
end
