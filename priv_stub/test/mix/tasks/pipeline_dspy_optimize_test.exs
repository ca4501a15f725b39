defmodule Mix.Tasks.Pipeline.Dspy.OptimizeTest do
  @moduledoc "The task on a real node with the offline model."

  use Pipeline.NodeCase

  import ExUnit.CaptureIO

  alias Mix.Tasks.Pipeline.Dspy.Optimize
  alias Pipeline.DSPy.ProgressLine

  doctest ProgressLine

  @workflow """
  workflow:
    name: triage
    dspy_config: {optimization_enabled: true, evaluation_mode: labeled_few_shot, evaluation_metric: exact_match}
    steps:
      - name: classify
        type: claude
        dspy_signature:
          input_fields: [{name: subject, type: string}]
          output_fields: [{name: category, type: string}]
        examples:
          - {input: {subject: Charged twice}, output: {category: billing}}
          - {input: {subject: Cannot log in}, output: {category: account}}
      - name: answer # by the application, and so not here
        type: gemini
        prompt: "For {{steps.classify.category}}"
  """

  @script """
  %{
    signature: "question -> answer",
    training_data: [%{question: "1 + 1", answer: "2"}, %{question: "2 + 2", answer: "4"}],
    optimizer: :labeled_few_shot,
    metric: :exact_match,
    lm: :offline
  }
  """

  setup do
    %{directory: tmp_dir("optimize-#{System.unique_integer([:positive])}")}
  end

  defp file(directory, name, content) do
    path = Path.join(directory, name)
    File.write!(path, content)
    path
  end

  defp on_node(directory),
    do: ["--data", Path.join(directory, "data"), "--workers", "1", "--python", python()]

  @doc false
  def agree(example, prediction), do: example["answer"] == prediction["answer"]

  test "functions that the configuration registers may be called, though the application does not run",
       %{
         directory: directory
       } do
    Application.stop(:pipeline)
    on_exit(fn -> :ok = Application.start(:pipeline) end)
    put_env(:callbacks, agree: {&__MODULE__.agree/2, kind: :metric})
    script = String.replace(@script, ":exact_match", "{:call, :agree}")
    path = file(directory, "sums.exs", script)

    # Twice, as by `mix do`: nothing of the first is in the way of the second.
    for _ <- 1..2 do
      said = capture_io(fn -> Optimize.run([path | on_node(directory)]) end)
      assert said =~ ~r/score  \d+\.\d % before/
    end
  end

  test "a workflow's steps are optimized, none is run, and it is written beside", %{
    directory: directory
  } do
    path = file(directory, "triage.yaml", @workflow)
    said = capture_io(fn -> Optimize.run([path, "--lm", "offline" | on_node(directory)]) end)
    assert said =~ ~r/classify  \d+\.\d % before, 100\.0 % after/
    assert said =~ ~r/program  program:\w+, kept in #{directory}/
    # No terminal, so each stage has a line, and nothing is drawn over.
    assert said =~ ~r/%  baseline +best .*step 1 of 2: classify\n/
    refute said =~ "\r"

    written = Path.join(directory, "triage.optimized.yaml")
    assert said =~ "written  #{written}"
    assert File.read!(written) =~ "dspy_optimized:"
    assert File.read!(written) =~ "# by the application, and so not here"
    assert File.read!(path) == @workflow

    # Once more, with what was written: there is nothing left to do.
    again =
      capture_io(fn ->
        Optimize.run([written, "--lm", "offline", "--out", path | on_node(directory)])
      end)

    assert again =~ "classify  optimized before: program:"
  end

  test "a script's program is found, kept, and written as a term where --out says", %{
    directory: directory
  } do
    path = file(directory, "qa.exs", @script)
    out = Path.join(directory, "qa.program")
    said = capture_io(fn -> Optimize.run([path, "--out", out | on_node(directory)]) end)
    assert said =~ ~r/score  \d+\.\d % before, 100\.0 % after/
    assert [_, id] = Regex.run(~r/program  (program:\w+), kept in/, said)

    bridge = start_bridge(data_dir: Path.join(directory, "elsewhere"))
    program = out |> File.read!() |> :erlang.binary_to_term([:safe])
    assert {:ok, %{program_id: ^id}} = PythonBridge.put_program(bridge, program)
  end

  test "what the node refuses is told with its lines, and the exit code is 1", %{
    directory: directory
  } do
    path =
      file(
        directory,
        "broken.yaml",
        String.replace(@workflow, "steps.classify.category", "steps.classify.kind")
      )

    said =
      capture_io(:stderr, fn ->
        assert catch_exit(
                 capture_io(fn -> Optimize.run([path, "--lm", "offline" | on_node(directory)]) end)
               ) ==
                 {:shutdown, 1}
      end)

    assert said =~ "validation_error: "
    assert said =~ ~r/  line \d+: /
  end

  test "what cannot be asked for is said before a node is started", %{directory: directory} do
    no_model = file(directory, "no_model.yaml", @workflow)
    no_data = file(directory, "no_data.exs", ~s([signature: "a -> b", lm: :offline]))
    no_map = file(directory, "no_map.exs", "5")

    for {arguments, message} <- [
          {[], ~r/say which file/},
          {["there/is/none.yaml"], ~r/there is no file there\/is\/none.yaml/},
          {[no_model], ~r/say which model: --lm/},
          {[no_data], ~r/gives no :training_data/},
          {[no_map], ~r/gives no map and no keyword list/},
          {[file(directory, "a.toml", "")], ~r/expected a workflow \(.yaml, .yml\) or a script/},
          {[no_model, "--optimiser", "x"],
           ~r/unknown option --optimiser; did you mean --optimizer\?/},
          {[no_model, "--seed", "x"], ~r/--seed cannot be "x"/},
          {[no_model, "--lm"], ~r/--lm needs a value/},
          {[no_model, "more"], ~r/unexpected argument: more/},
          {[no_model, "--quite-another"], ~r/unknown option --quite-another; known are --lm, /}
        ] do
      assert_raise Mix.Error, message, fn -> Optimize.run(arguments) end
    end
  end

  test "a terminal's line is drawn over, and ends with what came of it" do
    line = ProgressLine.new(now: 0, live?: true, unicode?: true, colour?: false)

    {text, line} =
      ProgressLine.update(line, %{stage: :searching, done: 1, total: 2, best_score: 0.5}, 1_000)

    assert IO.iodata_to_binary(text) =~
             ~r/^\r\e\[2K█{14}░{10}  60 %  searching     best  50\.0 %  LM calls    0 +1\.0 s$/u

    {text, line} =
      ProgressLine.update(line, %{stage: :executing, done: 1, total: 2, message: "step 2"}, 2_000)

    assert IO.iodata_to_binary(text) =~ ~r/   0 %  executing .*  step 2$/

    assert IO.iodata_to_binary(ProgressLine.finish(line, :ok, 3_000)) =~
             ~r/█{24} 100 %  done .*\n$/u

    assert IO.iodata_to_binary(ProgressLine.finish(line, :error, 3_000)) =~
             ~r/   0 %  executing .*\n$/

    assert ProgressLine.finish(ProgressLine.new(now: 0), :error, 0) == ""

    coloured = %{line | colour?: true}
    assert IO.iodata_to_binary(ProgressLine.finish(coloured, :ok, 0)) =~ "\e[32m████"
  end
end
