"""Files that become datasets: JSON lines, tables of text and Parquet, read row by row with bounded memory.

`sources` opens files, `json_lines`, `tables` and `parquet` give their rows, `shape` makes examples of these, and `run`
puts all of it together. Every file is hostile here: how long a line is, how much a file unpacks to and how deep a value
nests is checked before it is held.
"""
