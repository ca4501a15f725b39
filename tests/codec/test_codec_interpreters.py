"""The codec in several interpreters of one process: each has its own types, atoms and caches, and takes them along.

Each test runs in a process of its own, so that a crash is a failure of one test, and for the twin that is in use.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from codec_interpreters import NEW

import erlbridge
from erlbridge.codec import IMPLEMENTATION
from erlbridge.codec.choice import VARIABLE

COMPILED = IMPLEMENTATION == "compiled"

BEGIN = """
import threading
from codec_interpreters import interpreter, lock_of, run
from erlbridge.codec import Atom, atoms, binary_to_term, term_to_binary

WORK = '''
from erlbridge.codec import Atom, DecodeError, EncodeError, StreamDecoder, TermMap
from erlbridge.codec import IMPLEMENTATION, atoms, binary_to_term, term_to_binary

assert IMPLEMENTATION == {implementation!r}

def work(who, times):
    rows = [
        {{Atom("id"): n, Atom(f"of_{{who}}"): [n / 3, b"x" * n, None, -n << 60], b"k": (Atom("ok"), {{1: []}})}}
        for n in range(20)
    ]
    term = [*rows, TermMap([(1, "a"), (1.0, "b"), ([], "c")])]
    for _ in range(times):
        data = term_to_binary(term)
        assert binary_to_term(data)[:-1] == rows
        assert term_to_binary(binary_to_term(data)) == data
        stream = StreamDecoder()
        stream.feed(data + data)
        assert list(map(term_to_binary, stream)) == [data, data]
        for damaged in (data[:-1], data.replace(b"w" + bytes([2]) + b"id", b"?"), data + b"j"):
            try:
                binary_to_term(damaged)
            except DecodeError:
                continue
            raise AssertionError(damaged)
        try:
            term_to_binary([rows, {{1j: 2}}])
        except EncodeError:
            continue
        raise AssertionError("1j was written")
'''
exec(WORK)
"""


def python(code: str, **environment: str) -> str:
    begin = BEGIN.format(implementation=environment.get(VARIABLE, IMPLEMENTATION))
    # The package that is tested here, and not the one that a folder beside it may hold.
    path = os.pathsep.join((str(Path(__file__).parent), str(Path(erlbridge.__file__).parents[1])))
    variables = os.environ | {"PYTHONPATH": path, VARIABLE: IMPLEMENTATION} | environment
    command = [sys.executable, "-P", "-X", "faulthandler", "-W", "error", "-c", begin + code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}"
    return done.stdout


def test_interpreters_one_after_another_share_nothing_with_the_first() -> None:
    python("""
mine = [Atom("ok"), Atom("shared"), binary_to_term(term_to_binary({Atom("shared"): 1}))]
work("main", 3)
before = set(atoms._INTERNED)
THERE = WORK + f'''
assert "shared" not in atoms._INTERNED
work("one", 3)
assert id(Atom) != {id(Atom)} and id(Atom("shared")) != {id(mine[1])}
assert list(binary_to_term(term_to_binary({{Atom("shared"): 1}}))) == [Atom("shared")]
'''
for _ in range(50):
    with interpreter() as one:
        run(one, THERE)
    assert Atom("shared") is mine[1] is binary_to_term(term_to_binary(Atom("shared")))
assert set(atoms._INTERNED) == before
work("main", 3)
""")


def test_interpreters_at_the_same_time_in_threads_do_not_meet() -> None:
    python("""
failures, together = [], threading.Barrier(4)

def several(who):
    try:
        for turn in range(4):
            with interpreter() as one:
                together.wait()
                run(one, WORK + f"work('{who}_{turn}', 40)\\nassert not [name for name in atoms._INTERNED if "
                         f"name.startswith('of_') and name != 'of_{who}_{turn}']")
    except BaseException as failure:
        together.abort()
        failures.append(failure)

threads = [threading.Thread(target=several, args=(who,)) for who in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    while thread.is_alive():
        work("main", 5)
        thread.join(0.01)  # 3.11 gives the lock to another interpreter's thread only where one waits
if failures:
    raise failures[0]
assert not [name for name in atoms._INTERNED if name.startswith("of_") and name != "of_main"]
""")


def test_an_interpreter_that_outlives_others_keeps_working() -> None:
    python("""
with interpreter() as lasting:
    run(lasting, WORK + "work('lasting', 2)\\nkept = Atom('kept')\\ndata = term_to_binary([kept] * 3)")
    for _ in range(5):
        with interpreter() as passing:
            run(passing, WORK + "work('passing', 2)")
        run(lasting, "assert binary_to_term(data) == [kept] * 3\\nwork('lasting', 2)")
work("main", 2)
""")


@pytest.mark.skipif(not NEW, reason="an interpreter tells whose lock it has since Python 3.13")
def test_each_interpreter_has_a_lock_of_its_own() -> None:
    python("""
with interpreter() as one:
    run(one, WORK + "work('one', 1)")
    assert lock_of(one) == "own"
""")


@pytest.mark.skipif(not COMPILED, reason="compares the compiled twin's interpreters with the pure one's")
def test_an_interpreter_that_ends_takes_the_extensions_memory_along() -> None:
    """An interpreter itself leaves something behind; the extension's tables, a megabyte or so, must not be among it."""
    code = """
import pathlib
def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
def some(count):
    for _ in range(count):
        with interpreter() as one:
            # Enough atoms that the table is really there, and not only promised by the kernel.
            run(one, WORK + "for n in range(3000): assert binary_to_term(term_to_binary(Atom(str(n))))")
some(3)
before = resident()
some(12)
print(resident() - before)
"""
    pure, compiled = (int(python(code, **{VARIABLE: twin})) for twin in ("pure", "compiled"))
    assert compiled - pure < 12 * 500_000
