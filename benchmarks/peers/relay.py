"""Two bare Pythons in a row: each frame goes on to a second one, echo.py, and its answer from there back to the BEAM.

What the ways between processes cost a request that a worker answers, and so the measure of node and worker. One frame
is on its way at a time. It takes what echo.py takes, and both end when the BEAM closes its end of the port.
"""

import subprocess
import sys
from pathlib import Path

source, drain = sys.stdin.buffer, sys.stdout.buffer
command = [sys.executable, Path(__file__).with_name("echo.py"), *sys.argv[1:]]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo:
    while header := source.read(4):
        echo.stdin.write(header + source.read(int.from_bytes(header)))
        echo.stdin.flush()
        header = echo.stdout.read(4)
        drain.write(header + echo.stdout.read(int.from_bytes(header)))
        drain.flush()
