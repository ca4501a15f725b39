defmodule Pipeline.Enhanced.Executor.Programs do
  @moduledoc """
  The programs that a run of a workflow has found, used again by the next run of the same workflow: through
  `Pipeline.DSPy.OptimizationCache` of the application, where it runs.

  The same is a workflow with the same text or map, environment, signatures, training data and configuration; inputs, files
  and providers do not matter to an optimization. Nothing is kept where `cache_enabled` or `:cache` is false, nor
  where the configuration names a function without a version (`:versions`, see the cache).
  """

  alias Pipeline.DSPy.OptimizationCache

  @typedoc "Program ids by step."
  @type t :: %{String.t() => String.t()}

  @doc "What a run's programs are kept under, nil when they are not to be kept. `settings` are the workflow's."
  @spec key(map | String.t(), term, keyword) :: OptimizationCache.key() | nil
  def key(workflow, settings, opts) do
    with true <- cached?(settings, opts),
         {:ok, key} <- OptimizationCache.key(workflow, [], Keyword.drop(opts, [:programs, :file])) do
      key
    else
      _not_kept -> nil
    end
  end

  @doc "The programs kept under a key that are not older than `ttl` seconds; nil is as old as the cache lets them grow."
  @spec known(OptimizationCache.key() | nil, non_neg_integer | nil) :: t
  def known(nil, _ttl), do: %{}

  def known(key, ttl) do
    case OptimizationCache.get_optimization(key) do
      {:ok, {programs, kept_at}} -> if fresh?(kept_at, ttl), do: programs, else: %{}
      :not_found -> %{}
    end
  end

  @doc "Keeps what a run has found, and only that: what it knew already was paid for earlier."
  @spec keep(OptimizationCache.key() | nil, [map]) :: :ok
  def keep(nil, _results), do: :ok

  def keep(key, results) do
    # A step that trained a model needs that too, which only its request can name.
    found =
      for %{"cached" => false, "program_id" => id, "model" => nil} = result <- results,
          is_binary(id),
          into: %{},
          do: {result["name"], id}

    if found != %{}, do: OptimizationCache.store_optimization(key, {found, now_s()}), else: :ok
  end

  defp cached?(%{"cache_enabled" => false}, _opts), do: false

  defp cached?(_settings, opts) do
    config = opts |> Keyword.get(:config, %{}) |> Map.new()
    false not in [opts[:cache], config[:cache], config["cache"]]
  end

  defp fresh?(_kept_at, nil), do: true
  defp fresh?(kept_at, ttl), do: now_s() - kept_at < ttl

  defp now_s, do: System.monotonic_time(:second)
end
