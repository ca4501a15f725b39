defmodule Pipeline.DSPy.PythonBridge.Programs do
  @moduledoc """
  The verbs of the programs that a node keeps. They are functions of `Pipeline.DSPy.PythonBridge` too, where their options
  have defaults.
  """

  alias Pipeline.DSPy.PythonBridge

  @doc """
  The programs that the node keeps, newest first. Default timeout: 5000 ms.

  Options: those of every request, `:limit` (at most so many, 100), and `:after`, the `next` of an earlier answer.

      PythonBridge.list_programs(bridge, limit: 10)
      #=> {:ok, %{status: :success, programs: [%{program_id: "program:…", name: "Triage", …}], next: nil}}
  """
  @spec list_programs(PythonBridge.bridge(), keyword) :: PythonBridge.answer()
  def list_programs(bridge, opts) do
    PythonBridge.request(bridge, :list_programs, [], opts)
  end

  @doc """
  A program as a map of plain data, to keep elsewhere or to give to another node. Default timeout: 5000 ms.

      {:ok, %{program: program}} = PythonBridge.get_program(bridge, program_id)
      File.write!("triage.program", :erlang.term_to_binary(program))
  """
  @spec get_program(PythonBridge.bridge(), String.t(), keyword) :: PythonBridge.answer()
  def get_program(bridge, program_id, opts) do
    PythonBridge.request(bridge, :get_program, [program_id], opts)
  end

  @doc """
  How a program came to be: the report that its optimization made with `report: true`. Default timeout: 5000 ms.

      {:ok, %{report: %{html: html, charts: charts}}} = PythonBridge.get_report(bridge, program_id)
      File.write!("triage.html", html)

  `charts` are Vega-Lite specifications by name, maps with strings as keys: `%VegaLite{spec: charts.score}`.
  """
  @spec get_report(PythonBridge.bridge(), String.t(), keyword) :: PythonBridge.answer()
  def get_report(bridge, program_id, opts) do
    PythonBridge.request(bridge, :get_report, [program_id], opts)
  end

  @doc """
  Gives the node a program to keep, as a node once gave it: it is checked first. Default timeout: 30000 ms.

      {:ok, %{program_id: "program:" <> _}} = PythonBridge.put_program(bridge, program)
  """
  @spec put_program(PythonBridge.bridge(), map, keyword) :: PythonBridge.answer()
  def put_program(bridge, program, opts) do
    PythonBridge.request(bridge, :put_program, [program], opts)
  end

  @doc "Has the node forget a program. `:not_found` when it does not keep it. Default timeout: 5000 ms."
  @spec delete_program(PythonBridge.bridge(), String.t(), keyword) :: PythonBridge.answer()
  def delete_program(bridge, program_id, opts) do
    PythonBridge.request(bridge, :delete_program, [program_id], opts)
  end
end
