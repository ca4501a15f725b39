"""The codec under atheris, which is libFuzzer for Python; started by `scripts/fuzz`, with libFuzzer's own arguments.

Knows how coverage is collected: of the Python files by atheris, which rewrites them at import, of the compiled twin by
`counters.c`. What must hold of an input is in `codec_claims`; a claim that fails ends the run and keeps the input.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import atheris

LIBFUZZER = find_spec("atheris.core_with_libfuzzer").origin


def preload_libfuzzer() -> None:
    """Starts again with libFuzzer before libasan, which has empty functions of the same names.

    Only this process gets it: it needs Python's symbols, and libFuzzer starts shells to merge inputs.
    """
    counters, *rest = os.environ["LD_PRELOAD"].split()
    if LIBFUZZER not in rest:
        os.environ["LD_PRELOAD"] = " ".join((counters, LIBFUZZER, *rest))
        os.execv(sys.executable, sys.orig_argv)
    rest.remove(LIBFUZZER)
    os.environ["LD_PRELOAD"] = " ".join((counters, *rest))


preload_libfuzzer()
HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]  # the codec's tests, and what all tests share
with atheris.instrument_imports(include=["erlbridge.codec"]):
    import codec_claims

# The first argument is the command that libFuzzer starts to merge. Atheris takes no libFuzzer that was loaded before by
# itself; this one is its own.
command = shlex.join((sys.executable, "-P", sys.argv[0]))
atheris.Setup([command, *sys.argv[1:]], codec_claims.hold, internal_libfuzzer=True)
ctypes.CDLL(None).count_edges()
atheris.Fuzz()
