defmodule Pipeline.DSPy.JobDefaults do
  @moduledoc """
  What is the same for every job:

      config :pipeline, :job_defaults, lm: "openai/gpt-4o-mini", num_threads: 4

  holds for the configuration of every job that a function of `Pipeline.DSPy.PythonBridge` makes; what a call says wins.
  `Pipeline.DSPy.PythonBridge.request/4` and payloads in `async/4` are sent as they are.
  """

  @doc """
  A job's configuration, with the defaults for what it does not say under an atom or a binary.

      iex> Application.put_env(:pipeline, :job_defaults, lm: :offline, seed: 7)
      iex> configuration = Pipeline.DSPy.JobDefaults.under(%{"seed" => 1})
      iex> Application.delete_env(:pipeline, :job_defaults)
      iex> configuration
      %{:lm => :offline, "seed" => 1}
  """
  @spec under(map) :: map
  def under(config) do
    for {key, value} <- Application.get_env(:pipeline, :job_defaults, []),
        not is_map_key(config, key) and not is_map_key(config, to_string(key)),
        into: config,
        do: {key, value}
  end
end
