defmodule Pipeline.DSPy.Verbs do
  @moduledoc """
  What is known of each verb before it is sent: how long it may take, which of a pool's lanes it takes, and whether it
  may be sent a second time. Knows names; decides nothing else.

  A verb that is not listed here is taken for quick and for one that must not be repeated.
  """

  @typedoc """
  `:instant`: answered by the node itself, so it waits for no worker. `:quick`: a worker has it for moments.
  `:long`: a worker has it for as long as there is something to compute.
  """
  @type lane :: :instant | :quick | :long

  @default_timeout_ms 60_000

  # Only what differs from that.
  @timeouts_ms %{
    health_check: 5_000,
    cancel: 5_000,
    list_programs: 5_000,
    get_program: 5_000,
    delete_program: 5_000,
    list_datasets: 30_000,
    delete_dataset: 30_000,
    fetch_result: 5_000,
    stats: 5_000,
    capture: 30_000,
    clear_cache: 30_000,
    put_program: 30_000,
    transfer_status: 30_000,
    cancel_transfer: 30_000,
    load_workflow: 30_000,
    evaluate_pipeline: 300_000,
    optimize_signature: 600_000,
    run_pipeline: 600_000,
    train_model: 3_600_000
  }

  @instant [
    :await_ready,
    :health_check,
    :cancel,
    :shutdown,
    :list_programs,
    :get_program,
    :delete_program,
    :fetch_result,
    :stats,
    :capture,
    :clear_cache,
    :data_chunk,
    :transfer_status,
    :cancel_transfer,
    :get_dataset,
    :list_datasets,
    :delete_dataset
  ]
  @long [:optimize_signature, :evaluate_pipeline, :train_model, :run_pipeline]

  # They read, or leave the same behind however often they are sent: a stored program has its content's name, what is
  # being cancelled stays so, and a chunk that was taken is acknowledged once more.
  #
  # Not among them are
  #   - the verbs that ask a model (predict too): they cost money, and may call functions and tools, which do whatever
  #     they do. Answers that the node has kept make a repetition cheaper, but only there, and only where `cache` is on;
  #   - delete_program, delete_dataset: who deleted it would be told that there is none, and at another node another copy
  #     goes;
  #   - shutdown: it would end the bridge that was started in the place of the first.
  @idempotent [
    :await_ready,
    :health_check,
    :cancel,
    :list_programs,
    :get_program,
    :fetch_result,
    :stats,
    :capture,
    :clear_cache,
    :put_program,
    :load_workflow,
    :data_chunk,
    :transfer_status,
    :cancel_transfer,
    :get_dataset,
    :list_datasets
  ]

  @doc """
  The lane of a verb.

      iex> {Pipeline.DSPy.Verbs.lane(:predict), Pipeline.DSPy.Verbs.lane(:train_model)}
      {:quick, :long}
  """
  @spec lane(atom) :: lane
  def lane(verb) when verb in @instant, do: :instant
  def lane(verb) when verb in @long, do: :long
  def lane(verb) when is_atom(verb), do: :quick

  @doc """
  Whether a request whose fate is unknown may be sent again.

  The caller's option `:idempotent` decides where it is given. Else an `:idempotency_key` says that two requests are one
  and the same work, and else it is a matter of the verb: work that is paid for is not done twice on a guess.

      iex> alias Pipeline.DSPy.Verbs
      iex> {Verbs.idempotent?(:get_program), Verbs.idempotent?(:predict)}
      {true, false}
      iex> {Verbs.idempotent?(:predict, idempotent: true), Verbs.idempotent?(:predict, idempotency_key: "k")}
      {true, true}
  """
  @spec idempotent?(atom, keyword) :: boolean
  def idempotent?(verb, opts \\ []) when is_atom(verb) do
    case opts[:idempotent] do
      nil -> opts[:idempotency_key] != nil or verb in @idempotent
      said when is_boolean(said) -> said
    end
  end

  @doc """
  How long a request of this verb may take in milliseconds, where the caller does not say.

      iex> Pipeline.DSPy.Verbs.default_timeout(:predict)
      60_000
  """
  @spec default_timeout(atom) :: pos_integer
  def default_timeout(verb) when is_atom(verb) do
    Map.get(@timeouts_ms, verb, @default_timeout_ms)
  end
end
