defmodule Pipeline.LoopbackNames do
  @moduledoc """
  Where the BEAM nodes of a test find each other: a directory with a file for each, which holds its port. It stands in
  epmd's place (`-epmd_module`), so that no daemon is needed, started or left behind, and everything stays on loopback.

  A node registers before its file server runs, so files are opened raw.
  """

  @variable 'ERLBRIDGE_TEST_NODES'
  @loopback {127, 0, 0, 1}
  @distribution_protocol 6

  def start_link, do: :ignore

  def register_node(name, port), do: register_node(name, port, :inet)

  def register_node(name, port, _family) do
    {:ok, file} = :file.open(path(name), [:raw, :write])
    :ok = :file.write(file, :erlang.integer_to_binary(port))
    :ok = :file.close(file)
    {:ok, :rand.uniform(3)}
  end

  def listen_port_please(_name, _host), do: {:ok, 0}

  def address_please(name, _host, _family) do
    with {:ok, file} <- :file.open(path(name), [:raw, :binary, :read]),
         {:ok, port} <- :file.read(file, 16),
         :ok <- :file.close(file) do
      {:ok, @loopback, :erlang.binary_to_integer(port), @distribution_protocol}
    else
      _missing -> {:error, :address}
    end
  end

  def port_please(name, host), do: port_please(name, host, :infinity)

  def port_please(name, host, _timeout) do
    case address_please(name, host, :inet) do
      {:ok, _address, port, version} -> {:port, port, version}
      {:error, _reason} -> :noport
    end
  end

  def names(_host), do: {:error, :address}

  defp path(name) when is_atom(name), do: path(:erlang.atom_to_list(name))
  defp path(name), do: :filename.join(:os.getenv(@variable), name)
end
