defmodule Pipeline.Providers do
  @moduledoc """
  The application's providers by type of step: which `Pipeline.Providers.AIProvider` answers a step that is not DSPy's.

      config :pipeline, :providers, claude: MyApp.Claude, gemini: &MyApp.Gemini.answer/2

  A provider is a module with `query/2` or a function of the same two arguments. Types are compared as text: the ones in
  a workflow are never made into atoms.
  """

  @type provider :: module | (String.t(), map -> {:ok, term} | {:error, term})
  @type t :: %{String.t() => provider}

  @doc """
  The providers that are configured, and over them those given here. Raises `ArgumentError` for what is no provider.

      iex> echo = fn prompt, _options -> {:ok, prompt} end
      iex> Map.keys(Pipeline.Providers.new(echo: echo))
      ["echo"]
  """
  @spec new(map | keyword) :: t
  def new(given \\ %{}) do
    configured = Application.get_env(:pipeline, :providers, %{})
    Map.merge(checked(configured), checked(given))
  end

  @doc """
  The provider for a type. Steps of type `dspy_claude` are answered by that of `claude` where they have none of their own.

      iex> echo = fn prompt, _options -> {:ok, prompt} end
      iex> providers = Pipeline.Providers.new(claude: echo)
      iex> {Pipeline.Providers.fetch(providers, "dspy_claude"), Pipeline.Providers.fetch(providers, "gemini")}
      {{:ok, echo}, :error}
  """
  @spec fetch(t, String.t()) :: {:ok, provider} | :error
  def fetch(providers, "dspy_" <> type = full) when type != "" do
    with :error <- Map.fetch(providers, full), do: Map.fetch(providers, type)
  end

  def fetch(providers, type) when is_binary(type), do: Map.fetch(providers, type)

  @doc """
  Asks a provider. What is neither `{:ok, response}` nor `{:error, reason}` is an error; exceptions are the caller's.

      iex> Pipeline.Providers.query(fn prompt, _options -> {:ok, String.upcase(prompt)} end, "hi", %{})
      {:ok, "HI"}
      iex> Pipeline.Providers.query(fn _prompt, _options -> :hm end, "hi", %{})
      {:error, "the provider gave :hm, expected {:ok, response} or {:error, reason}"}
  """
  @spec query(provider, String.t(), map) :: {:ok, term} | {:error, term}
  def query(provider, prompt, options) do
    answer =
      if is_function(provider),
        do: provider.(prompt, options),
        else: provider.query(prompt, options)

    case answer do
      {:ok, response} ->
        {:ok, response}

      {:error, reason} ->
        {:error, reason}

      other ->
        shown = inspect(other, limit: 5, printable_limit: 200)
        {:error, "the provider gave #{shown}, expected {:ok, response} or {:error, reason}"}
    end
  end

  @doc """
  The provider, if it is one. Raises `ArgumentError` otherwise.

      iex> Pipeline.Providers.check!(Pipeline.Providers.DSPyOptimizedProvider)
      Pipeline.Providers.DSPyOptimizedProvider
      iex> Pipeline.Providers.check!(String)
      ** (ArgumentError) expected a provider, got String, which has no query/2
  """
  @spec check!(term) :: provider
  def check!(provider) when is_function(provider, 2), do: provider

  def check!(provider) when is_atom(provider) and provider not in [nil, true, false] do
    if Code.ensure_loaded?(provider) and function_exported?(provider, :query, 2) do
      provider
    else
      raise ArgumentError, "expected a provider, got #{inspect(provider)}, which has no query/2"
    end
  end

  def check!(other) do
    raise ArgumentError,
          "expected a provider, a module with query/2 or a function of two arguments, got #{inspect(other)}"
  end

  defp checked(providers) when is_map(providers) or is_list(providers) do
    Map.new(providers, fn
      {type, provider} when is_atom(type) or is_binary(type) ->
        {to_string(type), check!(provider)}

      other ->
        raise ArgumentError,
              "expected providers by type of step, such as [claude: MyApp.Claude], got #{inspect(other)}"
    end)
  end

  defp checked(other) do
    raise ArgumentError, "expected a map or keyword list of providers, got #{inspect(other)}"
  end
end
