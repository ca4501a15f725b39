defmodule Pipeline.DSPy.PythonBridge.Options do
  @moduledoc """
  The options of a bridge: the one list of them, from which their checks, defaults and documentation are taken.
  """

  alias Pipeline.DSPy.Options
  alias Pipeline.DSPy.PythonBridge.Functions

  @owner "Pipeline.DSPy.PythonBridge"

  @schema [
    {:name, {:optional, :name}, Pipeline.DSPy.PythonBridge,
     "what it is registered as; nil for nothing"},
    # What the node is told, see `Pipeline.DSPy.ProcessManager`.
    {:python, {:optional, :text}, nil, "which Python, see `Pipeline.DSPy.ProcessManager`"},
    {:workers, {:optional, {:count, 1}}, nil,
     "how many worker processes run jobs; the node chooses unless given"},
    {:data_dir, {:optional, :text}, nil,
     "the node's data directory, where programs and paid-for answers are kept"},
    {:max_frame_bytes, {:optional, :size}, nil, "the longest message between bridge and node"},
    {:max_queue, {:optional, {:count, 0}}, nil,
     "how many requests wait in the node for a worker"},
    {:credit, {:optional, {:count, 0}}, nil,
     "how many events the node sends before they have been passed on"},
    {:settings, :entries, [],
     ~s(the node's other settings by name, as in `[spare_workers: 2, worker_hard_bytes: "2GiB", verb_limits: [train_model: 1]]`)},
    {:env, :entries, [], "variables of the node's environment; nil unsets one"},
    {:args, :list, [], "more arguments of the node's command"},
    # How long the bridge is patient.
    {:handshake_timeout, {:count, 0}, 15_000,
     "how long the node may take to be ready, in milliseconds"},
    {:stop_timeout, {:count, 0}, 3_000,
     "how long it may take to end once its port is closed; then it is killed"},
    {:health_interval, {:optional, {:count, 1}}, 30_000,
     "how often the node is asked how it is, in milliseconds; nil for never"},
    {:health_misses, {:count, 1}, 3,
     "after how many intervals without a sign of life the node is killed"},
    {:restart_delay, {:count, 0}, 200,
     "how long a bridge waits whose node ended soon after its start; five times as long each further time"},
    {:max_restart_delay, {:count, 0}, 30_000, "the longest such wait"},
    {:healthy_after, {:count, 0}, 10_000,
     "how long a node must have been ready for its end not to count as soon"},
    # How much it takes.
    {:max_in_flight, {:count, 0}, 1_000, "requests beyond this many get `:overloaded`"},
    {:max_unsent_bytes, {:count, 0}, 256 * 1024 * 1024,
     "the same for bytes that wait to be written to the node; its pipe and the port hold one request more"},
    # What it runs and tells here.
    {:functions, :entries, %{}, "Elixir functions that jobs may call, by name"},
    {:max_calls, {:count, 1}, 100, "how many of them run at once; further calls wait"},
    {:call_timeout, :timeout, 60_000, "how long each of them may run"},
    {:log_level, {:one_of, [:debug, :info, :warning, :error, :as_sent, :none]}, :debug,
     "at which level the node's log goes to Logger"},
    {:notify, {:optional, :listeners}, nil,
     "a pid that gets `{Pipeline.DSPy.PythonBridge, bridge, event}` for each of `{:ready, info}`, " <>
       "`{:log, level, text, metadata}`, `{:telemetry, name, measurements, metadata}` and `{:down, error}`"}
  ]

  @doc "The options, as `Pipeline.DSPy.Options` reads them."
  @spec schema() :: Options.schema()
  def schema, do: @schema

  @doc "The options as a bridge takes them, with defaults. Raises `ArgumentError` for what is wrong."
  @spec new!(term) :: keyword
  def new!(opts) do
    opts
    |> Options.validate!(@schema, @owner)
    |> Keyword.update!(:functions, &Functions.new/1)
  end

  @doc "The list of the options, in Markdown."
  @spec docs() :: String.t()
  def docs, do: Options.docs(@schema)

  @doc "How long a node with these options may take to end, in milliseconds."
  @spec stop_timeout(keyword) :: non_neg_integer
  def stop_timeout(opts),
    do: Keyword.get(opts, :stop_timeout, Options.defaults(@schema)[:stop_timeout])

  @doc "What is wrong with these options, nil when nothing is."
  @spec problem(term) :: String.t() | nil
  def problem(opts) do
    _checked = new!(opts)
    nil
  rescue
    error in ArgumentError -> Exception.message(error)
  end
end
