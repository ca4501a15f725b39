defmodule Pipeline.Enhanced.Executor.FilesTest do
  @moduledoc "Which files a workflow's prompts may name."

  use ExUnit.Case, async: true

  alias Pipeline.Enhanced.Executor.BridgeSettings
  alias Pipeline.Enhanced.Executor.Files
  alias Pipeline.Enhanced.Executor.Source

  doctest BridgeSettings
  doctest Source

  setup do
    root =
      Path.join(System.tmp_dir!(), "files-#{System.pid()}-#{System.unique_integer([:positive])}")

    dir = Path.join(root, "workflow")
    File.mkdir_p!(Path.join(dir, "texts"))
    File.write!(Path.join(dir, "texts/a.txt"), "ä")
    File.write!(Path.join(root, "secret"), "key")
    on_exit(fn -> File.rm_rf!(root) end)
    %{dir: dir, root: root}
  end

  defp message(path, dir) do
    assert {:error, error} = Files.read([path], dir)
    assert {error.error_type, error.context} == {:validation_error, %{file: path}}
    error.message
  end

  test "files below the directory are read, by the names that the workflow has for them", %{
    dir: dir
  } do
    File.ln_s!("texts/a.txt", Path.join(dir, "inside"))
    paths = ["texts/a.txt", "texts/../texts/a.txt", "inside"]
    assert Files.read(paths, dir) == {:ok, Map.new(paths, &{&1, "ä"})}
  end

  test "no path leads out of the directory, whichever way it takes", %{dir: dir, root: root} do
    File.ln_s!("../secret", Path.join(dir, "relative"))
    File.ln_s!(Path.join(root, "secret"), Path.join(dir, "absolute"))
    File.ln_s!(root, Path.join(dir, "above"))

    for path <- [
          "../secret",
          "texts/../../secret",
          Path.join(root, "secret"),
          "relative",
          "absolute",
          "above/secret",
          "",
          "a\0b"
        ] do
      assert message(path, dir) =~ "it leads out of the workflow's directory"
    end
  end

  test "what is not there, no file, no text or too long is said so", %{dir: dir} do
    File.write!(Path.join(dir, "bytes"), <<255, 254>>)
    File.write!(Path.join(dir, "long"), String.duplicate("x", 4 * 1024 * 1024 + 1))

    for name <- ["1", "2", "3"],
        do: File.write!(Path.join(dir, name), String.duplicate("x", 3 * 1024 * 1024))

    assert message("nowhere", dir) =~ "no such file or directory"
    assert message("texts", dir) =~ "it is no regular file"
    assert message("bytes", dir) =~ "it is not text in UTF-8"
    assert message("long", dir) =~ "it has more than 4194304 bytes"
    assert {:error, error} = Files.read(["1", "2", "3"], dir)
    assert error.message =~ "with it the files have more than 8388608 bytes altogether"
  end

  test "text that is said to be YAML is never taken for a path" do
    assert {:ok, %Source{workflow: "nowhere.yaml", file: nil, dir: nil}} =
             Source.read({:yaml, "nowhere.yaml"})

    assert {:ok, %Source{workflow: "a: 1\n# b.yaml"}} = Source.read("a: 1\n# b.yaml")
  end

  test "a file of YAML that is no file or too long is not read", %{dir: dir} do
    File.mkdir!(Path.join(dir, "d.yaml"))
    File.write!(Path.join(dir, "long.yml"), String.duplicate("#", 1024 * 1024 + 1))
    assert {:error, %{message: message}} = Source.read(Path.join(dir, "d.yaml"))
    assert message =~ "it is no regular file"
    assert {:error, %{message: message}} = Source.read({:file, Path.join(dir, "long.yml")})
    assert message =~ "it has 1048577 bytes, limit 1048576"
  end
end
