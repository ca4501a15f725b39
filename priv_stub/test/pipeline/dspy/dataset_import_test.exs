defmodule Pipeline.DSPy.DatasetImportTest do
  @moduledoc "What `erlbridge dataset import` makes of files is what this side makes of the same examples."

  use Pipeline.NodeCase

  alias Pipeline.DSPy.DataTransfer

  @moduletag :tmp_dir

  # Longer than the 32 entries up to which a map of the BEAM lies in order anyhow.
  @wide Map.new(1..40, &{"key #{&1}", &1})

  @examples [
    %{"question" => "1 + 1", "answer" => "2", "tags" => ["sum", "Ümläut"], "sure" => true},
    %{"question" => "€ \"quoted\"", "answer" => nil, "score" => 0.1, "count" => -3},
    %{
      "wide" => @wide,
      "big" => 123_456_789_012_345_678_901_234_567_890,
      "nested" => %{"b" => 1, "a" => []}
    }
  ]

  @lines ~S"""
  {"question": "1 + 1", "answer": "2", "tags": ["sum", "\u00dcml\u00e4ut"], "sure": true}
  {"score": 1e-1, "count": -3, "question": "€ \"quoted\"", "answer": null}
  {"nested": {"b": 1, "a": []}, "big": 123456789012345678901234567890, "wide": WIDE}
  """

  defp import_file(file, dir, arguments \\ []) do
    command = [
      "-m",
      "erlbridge",
      "dataset",
      "import",
      file,
      "--json",
      "--data",
      Path.join(dir, "data")
    ]

    {printed, 0} = System.cmd(python(), command ++ arguments)
    [name] = Regex.run(~r/sha256:[0-9a-f]{64}/, printed)
    name
  end

  test "JSON lines have the name of the same maps of binaries", %{tmp_dir: dir} do
    wide = Enum.map_join(@wide, ", ", fn {key, value} -> ~s("#{key}": #{value}) end)
    file = Path.join(dir, "examples.jsonl")
    File.write!(file, String.replace(@lines, "WIDE", "{#{wide}}"))
    assert DataTransfer.dataset(@examples) == {:ok, {:dataset, import_file(file, dir)}}
  end

  test "so has a table whose columns are typed", %{tmp_dir: dir} do
    file = Path.join(dir, "examples.csv")
    File.write!(file, "q,score,sure\r\n\"1, or\n2\",0.5,true\r\nx,,false\r\n")
    arguments = ["--name-map", "q=question", "--types", "score=number,sure=boolean"]

    assert DataTransfer.dataset([
             %{"question" => "1, or\n2", "score" => 0.5, "sure" => true},
             %{"question" => "x", "score" => nil, "sure" => false}
           ]) == {:ok, {:dataset, import_file(file, dir, arguments)}}
  end
end
