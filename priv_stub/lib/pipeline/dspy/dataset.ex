defmodule Pipeline.DSPy.Dataset do
  @moduledoc """
  Parts of a dataset that a node keeps: splits and samples. Values only: nothing is loaded, here or there.

      {:ok, dataset} = DataTransfer.transfer_large_dataset(examples, MyApp.DSPy)
      [training, validation] = Dataset.split(dataset, 0.8, seed: 7)

      PythonBridge.optimize_signature(MyApp.DSPy, "question -> answer", Dataset.sample(training, 200),
        validation_data: Dataset.sample(validation, 50),
        lm: :offline
      )

  A view is `{:dataset, name, %{seed: …, skip: …, take: …, limit: …}}`, and stands wherever a dataset does. The node
  shuffles by the seed, which gives the same order for ever and on every machine, leaves out `skip`, takes `take` of
  what follows, and of that at most `limit`; integers are counts, floats from 0.0 to 1.0 shares of the whole dataset.
  Without a seed the order is the one in which the examples were sent.
  """

  alias Pipeline.DSPy.DataTransfer

  @type view :: %{
          optional(:seed) => non_neg_integer,
          optional(:skip) => non_neg_integer | float,
          optional(:take) => non_neg_integer | float,
          optional(:limit) => pos_integer
        }
  @type t :: DataTransfer.dataset() | {:dataset, String.t(), view}

  @doc """
  Cuts a dataset into parts that share no example and miss none. Give the share of the first of two parts, or a list of
  all shares, which add up to 1.

  Options: `:seed`, 0 by default; nil keeps the order in which the examples were sent.

      iex> Pipeline.DSPy.Dataset.split({:dataset, "sha256:9c"}, 0.8, seed: 7)
      [
        {:dataset, "sha256:9c", %{seed: 7, skip: 0.0, take: 0.8}},
        {:dataset, "sha256:9c", %{seed: 7, skip: 0.8}}
      ]
  """
  @spec split(DataTransfer.dataset(), float | [float, ...], keyword) :: [t, ...]
  def split(dataset, shares, opts \\ [])

  def split(dataset, share, opts) when is_float(share) and share > 0.0 and share < 1.0 do
    split(dataset, [share, 1.0 - share], opts)
  end

  def split({:dataset, name}, [_ | _] = shares, opts) do
    unless Enum.all?(shares, &(is_float(&1) and &1 > 0.0)) and
             abs(Enum.sum(shares) - 1.0) < 1.0e-6 do
      raise ArgumentError, "expected shares above 0.0 that add up to 1.0, got: #{inspect(shares)}"
    end

    seed = seed(opts)
    last = length(shares) - 1

    {parts, _whole} =
      shares
      |> Enum.with_index()
      |> Enum.map_reduce(0.0, fn
        # To its end, wherever rounding has put it.
        {_share, ^last}, skip ->
          {{:dataset, name, Map.put(seed, :skip, skip)}, 1.0}

        {share, _index}, skip ->
          {{:dataset, name, Map.merge(seed, %{skip: skip, take: share})}, skip + share}
      end)

    parts
  end

  def split(_dataset, shares, _opts) do
    raise ArgumentError,
          "expected a share between 0.0 and 1.0, or a list of them, got: #{inspect(shares)}"
  end

  @doc """
  At most so many examples, chosen by a seed. A part that was split off is shuffled already, and keeps its seed.

      iex> Pipeline.DSPy.Dataset.sample({:dataset, "sha256:9c"}, 200, seed: 7)
      {:dataset, "sha256:9c", %{seed: 7, limit: 200}}
      iex> [part, _rest] = Pipeline.DSPy.Dataset.split({:dataset, "sha256:9c"}, 0.5, seed: 3)
      iex> Pipeline.DSPy.Dataset.sample(part, 200)
      {:dataset, "sha256:9c", %{seed: 3, skip: 0.0, take: 0.5, limit: 200}}
  """
  @spec sample(t, pos_integer, keyword) :: t
  def sample(dataset, count, opts \\ [])

  def sample({:dataset, name}, count, opts) when is_integer(count) and count > 0 do
    {:dataset, name, Map.put(seed(opts), :limit, count)}
  end

  def sample({:dataset, name, view}, count, opts) when is_integer(count) and count > 0 do
    if Keyword.has_key?(opts, :seed) and opts[:seed] != view[:seed] do
      raise ArgumentError,
            "expected no other seed than that of the split (#{inspect(view[:seed])}): its parts would share examples"
    end

    {:dataset, name, Map.update(view, :limit, count, &min(&1, count))}
  end

  defp seed(opts) do
    case Keyword.get(opts, :seed, 0) do
      nil -> %{}
      seed -> %{seed: seed}
    end
  end
end
