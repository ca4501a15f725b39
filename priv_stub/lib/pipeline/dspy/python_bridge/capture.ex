defmodule Pipeline.DSPy.PythonBridge.Capture do
  @moduledoc """
  The verb by which a node writes down what goes over its wires. It is a function of `Pipeline.DSPy.PythonBridge` too.
  """

  alias Pipeline.DSPy.PythonBridge

  @doc """
  Has the node write every frame of its wires to a file, or end that, or say how far it is.

  Options: `mode: :on` or `:off`; with `:on` also `:name`, that of a file in `captures/` of the node's data directory. Keys and
  passwords are written over in it. `erlbridge repl FILE` shows it. Default timeout: 30000 ms.

      PythonBridge.capture(bridge, mode: :on, name: "monday.ecap")
      #=> {:ok, %{status: :success, mode: :on, file: "/var/lib/erlbridge/captures/monday.ecap", count: 0, bytes: 121, lost: 0}}
      PythonBridge.capture(bridge, mode: :off)
      #=> {:ok, %{status: :success, mode: :off, file: "/var/lib/erlbridge/captures/monday.ecap", count: 12, bytes: 4711, lost: 0}}

  Of a pool all nodes do, each into a file of its own: `bridges` tells which, and the numbers are those of all together. The
  option of a node, `settings: [capture: path]`, captures from its first frame on.
  """
  @spec capture(PythonBridge.bridge(), keyword) :: PythonBridge.answer()
  def capture(bridge, opts), do: PythonBridge.request(bridge, :capture, [], opts)
end
