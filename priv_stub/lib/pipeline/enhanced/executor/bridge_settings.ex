defmodule Pipeline.Enhanced.Executor.BridgeSettings do
  @moduledoc """
  What a workflow says of the bridge itself, under `dspy_config.python_bridge`, and what becomes of it.

  | setting | becomes |
  |---|---|
  | `timeout`, in milliseconds | the budget of the whole run, unless the caller gives one |
  | `max_retries` | how often the run is tried again, unless the caller says it: `:max_retries` of the executor |
  | `cache_ttl`, in seconds | how long the programs that a run has found are used again, where there is a cache |
  | `pool_size`, `health_check_interval` | a warning: they belong to the bridge or pool, which runs already |

  The node has checked their kinds; what is missing is nil.
  """

  require Logger

  # What a timer of the BEAM can count.
  @max_timeout_ms 4_294_967_294

  defstruct [:timeout, :max_retries, :cache_ttl]

  @type t :: %__MODULE__{
          timeout: pos_integer | nil,
          max_retries: non_neg_integer | nil,
          cache_ttl: non_neg_integer | nil
        }

  @doc """
  Reads the settings that `load_workflow` has given, and logs which of them change nothing here.

      iex> settings = %{"python_bridge" => %{"timeout" => 30_000, "max_retries" => 3}}
      iex> Pipeline.Enhanced.Executor.BridgeSettings.read(settings)
      %Pipeline.Enhanced.Executor.BridgeSettings{timeout: 30_000, max_retries: 3, cache_ttl: nil}
  """
  @spec read(term) :: t
  def read(%{"python_bridge" => %{} = given}) do
    for name <- ["pool_size", "health_check_interval"], given[name] != nil do
      Logger.warning(
        "dspy_config.python_bridge.#{name} of a workflow changes nothing here; " <>
          "give it to the bridge or pool that the application starts"
      )
    end

    %__MODULE__{
      timeout: milliseconds(given["timeout"]),
      max_retries: given["max_retries"],
      cache_ttl: whole(given["cache_ttl"])
    }
  end

  def read(_none), do: %__MODULE__{}

  # Zero would be no time at all, which nobody means.
  defp milliseconds(span) when is_number(span) and span > 0, do: min(ceil(span), @max_timeout_ms)
  defp milliseconds(_none), do: nil

  defp whole(span) when is_number(span), do: ceil(span)
  defp whole(_none), do: nil
end
