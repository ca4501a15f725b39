"""The other end of a port in Python, and nothing else: a blocking loop that gives each frame of `{:packet, 4}` back.

What an interpreter costs above a port itself, and the measure of a node. With the argument `sink` a frame of four
bytes goes back, however long the one that came was.
"""

import sys

source, drain, echoes = sys.stdin.buffer, sys.stdout.buffer, len(sys.argv) == 1
while header := source.read(4):
    body = source.read(int.from_bytes(header))
    drain.write(header + body if echoes else b"\0\0\0\4done")
    drain.flush()
