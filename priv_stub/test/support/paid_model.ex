defmodule Pipeline.PaidModel do
  @moduledoc """
  A model behind an endpoint as OpenAI's, which counts what it is asked: it answers every request with the same text. It is the
  test's own and outlives the hosts that ask it.
  """

  @enforce_keys [:port, :counter]
  defstruct [:port, :counter]

  @doc "Serves `text` after `latency_ms`, until the calling process ends."
  def start(text, latency_ms) do
    options = [:binary, packet: :http_bin, active: false, ip: {127, 0, 0, 1}, backlog: 64]
    {:ok, socket} = :gen_tcp.listen(0, options)
    {:ok, port} = :inet.port(socket)
    model = %__MODULE__{port: port, counter: :counters.new(1, [])}
    body = body(text)
    spawn_link(fn -> accept(socket, model, body, latency_ms) end)
    model
  end

  @doc "How often it was asked."
  def calls(%__MODULE__{counter: counter}), do: :counters.get(counter, 1)

  @doc "As the `lm` of a configuration."
  def lm(%__MODULE__{port: port}) do
    %{model: "openai/paid", api_base: "http://127.0.0.1:#{port}/v1", api_key: "none"}
  end

  defp accept(listening, model, body, latency_ms) do
    {:ok, socket} = :gen_tcp.accept(listening)
    serving = spawn_link(fn -> serve(socket, model, body, latency_ms) end)
    # It may have ended with its host already.
    _gone_or_not = :gen_tcp.controlling_process(socket, serving)
    accept(listening, model, body, latency_ms)
  end

  defp serve(socket, model, body, latency_ms) do
    with :ok <- read_head(socket, 0) do
      :counters.add(model.counter, 1, 1)
      Process.sleep(latency_ms)

      :gen_tcp.send(socket, [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ",
        "#{byte_size(body)}\r\n\r\n",
        body
      ])

      serve(socket, model, body, latency_ms)
    end
  end

  # The request's head and then its body, which says nothing that would change the answer.
  defp read_head(socket, length) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, {:http_header, _, :"Content-Length", _, length}} ->
        read_head(socket, String.to_integer(length))

      {:ok, :http_eoh} ->
        :ok = :inet.setopts(socket, packet: :raw)
        {:ok, _request} = :gen_tcp.recv(socket, length)
        :inet.setopts(socket, packet: :http_bin)

      {:ok, _line} ->
        read_head(socket, length)

      {:error, _closed} ->
        :closed
    end
  end

  defp body(text) do
    quoted = text |> String.replace("\n", "\\n") |> String.replace("\"", "\\\"")

    """
    {"id": "1", "object": "chat.completion", "created": 1, "model": "paid",
     "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "#{quoted}"}}],
     "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}
    """
  end
end
