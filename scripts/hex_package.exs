# Builds the package of the Elixir side as Hex lays it out, `mix run --no-start ../scripts/hex_package.exs DIRECTORY` in
# priv_stub: a tar of VERSION, metadata.config, contents.tar.gz and CHECKSUM, as `mix hex.build` would, which needs Hex.
# The same sources give the same bytes. After the specification of Hex's tarballs, version 3.

project = Mix.Project.config()
package = Keyword.fetch!(project, :package)
[directory] = System.argv()

files =
  for pattern <- package[:files],
      found <- Path.wildcard(pattern, match_dot: true),
      path <- [found | Path.wildcard(Path.join(found, "**"), match_dot: true)],
      File.regular?(path),
      do: path

missing = Enum.reject(package[:files], &File.exists?/1)
missing == [] or Mix.raise("the package lacks #{Enum.join(missing, ", ")}")

project[:deps] == [] or Mix.raise("this script writes packages that have no dependency")

files = files |> Enum.uniq() |> Enum.sort()

metadata = [
  {"app", to_string(project[:app])},
  {"build_tools", package[:build_tools]},
  {"description", project[:description]},
  {"elixir", project[:elixir]},
  {"files", files},
  {"licenses", package[:licenses]},
  {"links", Enum.sort(package[:links])},
  {"name", package[:name]},
  {"requirements", []},
  {"version", project[:version]}
]

tar = fn entries, path, options ->
  {:ok, tar} = :erl_tar.open(path, [:write | options])

  for {name, content} <- entries do
    # The same time and owner for all, and a mode that does not come from this machine.
    content = if is_binary(content), do: content, else: content |> elem(0) |> File.read!()
    fixed = [atime: 0, mtime: 0, ctime: 0, uid: 0, gid: 0]
    :ok = :erl_tar.add(tar, content, String.to_charlist(name), fixed)
  end

  :ok = :erl_tar.close(tar)
end

File.mkdir_p!(directory)
contents_path = Path.join(directory, "contents.tar.gz")
# Compressed here: what erl_tar compresses holds the time at which it did.
tar.(Enum.map(files, &{&1, {&1}}), String.to_charlist(contents_path), [])
contents = contents_path |> File.read!() |> :zlib.gzip()
File.rm!(contents_path)

version = "3"
terms = for term <- metadata, into: "", do: to_string(:io_lib.format("~tp.~n", [term]))
checksum = Base.encode16(:crypto.hash(:sha256, [version, terms, contents]))
path = Path.join(directory, "#{package[:name]}-#{project[:version]}.tar")

entries = [
  {"VERSION", version},
  {"CHECKSUM", checksum},
  {"metadata.config", terms},
  {"contents.tar.gz", contents}
]

tar.(entries, String.to_charlist(path), [])
IO.puts("#{path}: #{length(files)} files, #{File.stat!(path).size} bytes")
