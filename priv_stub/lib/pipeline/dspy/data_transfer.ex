defmodule Pipeline.DSPy.DataTransfer do
  @moduledoc """
  Datasets of any size on their way to a node and back, with flat memory on both sides.

      {:ok, dataset} =
        "examples.tsv"
        |> File.stream!()
        |> Stream.map(&MyApp.Examples.parse/1)
        |> DataTransfer.transfer_large_dataset(MyApp.DSPy)

      dataset
      #=> {:dataset, "sha256:3f1c…"}

      PythonBridge.optimize_signature(MyApp.DSPy, "question -> answer", dataset, lm: :offline)

  What comes back names the dataset by its content, and stands wherever a request takes training, validation or
  evaluation data. The node keeps it: the name is good for any number of requests, also after a restart.
  `Pipeline.DSPy.Dataset` makes splits and samples of it.

  An example is a map, as it would stand in a request. Any `Enumerable` of them will do; it is gone through once, and
  as fast as the node takes what it gives.

  ## When something breaks

  A node or a bridge that ends in the middle costs nothing but time: the transfer waits for the next one and goes on
  behind the last chunk that was acknowledged. Only when the next node has less than that (it has another data
  directory, or the machine lost its power) the enumerable is gone through again from its beginning, and what the node has
  is skipped. That, and going on after the *calling* process has ended, takes an enumerable that gives the same
  examples each time, as files and lists do; one that does not ends in a `:transfer_error` whose `context.reason` is
  `:checksum` or `:corrupt`, and never in a wrong dataset.

  To go on after the calling process has ended, give the transfer a name, of these very data, and call again:

      DataTransfer.transfer_large_dataset(stream, MyApp.DSPy, transfer: "examples-2024-06")

  A full disk is a `:storage_error`; the same call goes on once there is room. A transfer that nobody goes on with is
  forgotten after a day.
  """

  alias Pipeline.DSPy.DataTransfer.Chunks
  alias Pipeline.DSPy.DataTransfer.Parts
  alias Pipeline.DSPy.DataTransfer.Sender
  alias Pipeline.DSPy.PythonBridge
  alias Pipeline.DSPy.PythonError

  @typedoc "A dataset that a node keeps, by the SHA-256 of its stream."
  @type dataset :: {:dataset, String.t()}

  @doc """
  Sends examples to a node, which keeps them.

  Options:

    * `:dataset` - the name of these data, from an earlier transfer or `dataset/1`. Where the node has it, nothing is
      sent and the enumerable is not touched.
    * `:transfer` - the transfer's name, under which it is gone on with; a random one if not given.
    * `:progress` - a function, called in this process after each chunk that is acknowledged, with `%{chunks: …,
      examples: …, bytes: …, sent_bytes: …}`: how far it is, in bytes before and after compression.
    * `:compression` - `:none`, the default, or `:zlib`, many times slower: for a bridge at another BEAM node behind a slow
      network. On the node's disk the dataset is the same.
    * `:window` - how many chunks of 1 MiB are on their way at once, 16; fewer where the node says so.
    * `:total_bytes` - how long the stream is, where that is known: a node that has no room for it says so at once.
    * `:timeout` - for all of it, in milliseconds or `:infinity`, the default. `:chunk_timeout` - for each chunk, 60000.
    * `:resume_within` - how long a node may be away in the middle of it, 30000 ms; 0 to give up at once.

  `cancel/2` ends it from another process.
  """
  @spec transfer_large_dataset(Enumerable.t(), PythonBridge.bridge(), keyword) ::
          {:ok, dataset} | {:error, PythonError.t()}
  def transfer_large_dataset(data, bridge \\ PythonBridge, opts \\ []) do
    {known, opts} = Keyword.pop(opts, :dataset)

    case known && about(bridge, known) do
      {:ok, %{dataset: name}} -> {:ok, {:dataset, name}}
      _unknown -> Sender.send_all(fn -> Chunks.examples(data) end, bridge, opts)
    end
  end

  @doc """
  The name that these examples will have, without a node. Goes through all of them.

      iex> Pipeline.DSPy.DataTransfer.dataset([%{question: "1 + 1", answer: "2"}])
      {:ok, {:dataset, "sha256:aa730e5e268b0f70eaf61f59ef12fdc084616fc03690bf1ec28e6c29f321bf49"}}
  """
  @spec dataset(Enumerable.t()) :: {:ok, dataset} | {:error, PythonError.t()}
  def dataset(data) do
    with {:ok, sha256} <- Chunks.sha256(Chunks.examples(data)) do
      {:ok, {:dataset, "sha256:" <> sha256}}
    end
  end

  @doc """
  What a node knows of a dataset: `{:ok, %{examples: …, bytes: …}}`, or `:not_found`.

      {:ok, %{examples: 120}} = DataTransfer.about(MyApp.DSPy, dataset)
  """
  @spec about(PythonBridge.bridge(), dataset | String.t(), keyword) :: PythonBridge.answer()
  def about(bridge, dataset, opts \\ []) do
    PythonBridge.request(bridge, :get_dataset, %{dataset: name(dataset), limit: 0}, opts)
  end

  @doc """
  What a node keeps, newest first, a page at a time: `{:ok, %{datasets: [%{dataset: …, examples: …, bytes: …,
  stored_at_ms: …, used_at_ms: …}], next: …}}`.

  Options: `:limit`, 100 by default, and `:after`, the `next` of the page before; it is nil behind the last one.

      {:ok, %{datasets: [%{dataset: "sha256:" <> _} | _], next: next}} = DataTransfer.list(MyApp.DSPy, limit: 10)
  """
  @spec list(PythonBridge.bridge(), keyword) :: PythonBridge.answer()
  def list(bridge \\ PythonBridge, opts \\ []) do
    {page, opts} = Keyword.split(opts, [:limit, :after])
    PythonBridge.request(bridge, :list_datasets, Map.new(page), opts)
  end

  @doc """
  Has a node forget a dataset. Jobs that read it go on to their end. A node forgets by itself what was not used for long,
  see `dataset_keep_s`.

      {:ok, %{dataset: "sha256:" <> _}} = DataTransfer.delete(MyApp.DSPy, dataset)
  """
  @spec delete(PythonBridge.bridge(), dataset | String.t(), keyword) :: PythonBridge.answer()
  def delete(bridge, dataset, opts \\ []) do
    PythonBridge.request(bridge, :delete_dataset, %{dataset: name(dataset)}, opts)
  end

  @doc """
  A dataset of a node as a lazy stream of its examples, with flat memory.

      {:ok, examples} = DataTransfer.fetch(MyApp.DSPy, dataset)
      Enum.take(examples, 10)

  The stream asks for no more than `:window` parts of 1 MiB ahead of who reads it. It outlives a restart of the node as a
  transfer does, and raises `Pipeline.DSPy.PythonError` when it cannot go on, or when its end does not match the
  dataset's name. Atoms in the examples must exist here.

  Options: `:window` (4), `:chunk_timeout` (60000 ms) and `:resume_within` (30000 ms).
  """
  @spec fetch(PythonBridge.bridge(), dataset | String.t(), keyword) ::
          {:ok, Enumerable.t()} | {:error, PythonError.t()}
  def fetch(bridge, dataset, opts \\ []) do
    with {:ok, about} <- about(bridge, dataset) do
      {:ok, bridge |> Parts.stream(about, opts) |> Parts.examples()}
    end
  end

  @doc """
  Copies a dataset from one node to another, byte by byte, so that its name stays. Options as in
  `transfer_large_dataset/3`; nothing is sent where it is already.

      {:ok, ^dataset} = DataTransfer.copy(MyApp.DSPy, dataset, {MyApp.DSPy, :"dspy@other"})
  """
  @spec copy(PythonBridge.bridge(), dataset | String.t(), PythonBridge.bridge(), keyword) ::
          {:ok, dataset} | {:error, PythonError.t()}
  def copy(from, dataset, to, opts \\ []) do
    with {:error, %PythonError{error_type: :not_found}} <- about(to, dataset),
         {:ok, about} <- about(from, dataset) do
      pieces = fn -> from |> Parts.stream(about, []) |> Stream.map(&{&1, 0}) end
      Sender.send_all(pieces, to, Keyword.put_new(opts, :total_bytes, about.bytes))
    else
      {:ok, %{dataset: name}} -> {:ok, {:dataset, name}}
      {:error, error} -> {:error, error}
    end
  end

  @doc """
  How far a transfer is: `{:ok, %{status: :receiving | :finished | :not_found, next_index: …, received_bytes: …,
  dataset: …}}`.

      {:ok, %{status: :receiving, next_index: 12}} = DataTransfer.status(MyApp.DSPy, "nightly")
  """
  @spec status(PythonBridge.bridge(), String.t(), keyword) :: PythonBridge.answer()
  def status(bridge, transfer, opts \\ []) do
    PythonBridge.request(bridge, :transfer_status, %{transfer: transfer}, opts)
  end

  @doc """
  Has a node forget a transfer. Whoever sends it gets a `:cancelled` error with the next chunk.

      {:ok, _status} = DataTransfer.cancel(MyApp.DSPy, "nightly")
  """
  @spec cancel(PythonBridge.bridge(), String.t(), keyword) :: PythonBridge.answer()
  def cancel(bridge, transfer, opts \\ []) do
    PythonBridge.request(bridge, :cancel_transfer, %{transfer: transfer}, opts)
  end

  defp name({:dataset, name}), do: name
  defp name(name) when is_binary(name), do: name
end
