"""What users may write by mistake, each line with the error that a strict type checker has for it, and no other.

Read by `test_typing.py`, not run.
"""

from erlbridge import codec

from erlbridge.codec import IMPLEMENTATION, binary_to_term, term_to_binary, term_to_iovec  # isort: skip
from erlbridge.codec import Atom, BitString, DecodeError, LazyTerm, Pid, Reference, StreamDecoder, TermMap, skip
from erlbridge.codec.structs import to_python

codec.decode(b"\x83j")  # [attr-defined]
ok = Atom("ok")

binary_to_term("text")  # [arg-type]
binary_to_term([131, 97, 1])  # [arg-type]
binary_to_term()  # [call-arg]
binary_to_term(b"\x83j", 100)  # [call-arg]
binary_to_term(b"\x83j", max_depth="deep")  # [arg-type]
binary_to_term(b"\x83j", depth=100)  # [call-arg]
binary_to_term(b"\x83j")["key"]  # [index]
length: int = binary_to_term(b"\x83j")  # [assignment]

term_to_binary()  # [call-arg]
term_to_binary([], True)  # [call-arg]
term_to_binary([], compressed="9")  # [arg-type]
term_to_binary([], default=len)  # [arg-type]
term_to_binary([], default=3)  # [arg-type]
text: str = term_to_binary([])  # [assignment]
term_to_iovec([], compressed=True)  # [call-arg]
whole: bytes = term_to_iovec([])  # [assignment]
IMPLEMENTATION = "mine"  # noqa: F811  # [misc]

Atom(b"ok")  # [arg-type]
ok + "text"  # [operator]
BitString("text", 3)  # [arg-type]
Pid("node@host", 1, 2, 3)  # [arg-type]
Reference(ok, 5, 9)  # [arg-type]
TermMap([1, 2])  # [list-item]
TermMap()["key"] = 1  # [index]
DecodeError("no term")  # [call-arg]

LazyTerm("text")  # [arg-type]
LazyTerm(b"\x83j").get("key").value()  # [union-attr]
skip(b"\x83j") + "text"  # [operator]
StreamDecoder(1 << 20)  # [call-arg]
StreamDecoder().feed("text")  # [arg-type]
to_python([], arrays="yes")  # [arg-type]
