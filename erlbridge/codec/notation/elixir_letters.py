"""The characters beyond ASCII that Elixir takes in names without quotes: those of Unicode 14 that are letters or marks
in the scripts recommended for identifiers (Unicode Technical Standard 39). Taken from Elixir 1.14 itself, code by code.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

# Where ranges begin and end in turn, each counted from the one before, in base 36.
_STEPS = """
53 1 8 n 1 v 1 1m 2 b 2 8 1 1h g 1 g 2 d 2 s g 1 6 2 b 3 2 2 10 2 2 6 e 11 1 2p 2 1b 1 j 5 1 7 2 3 1 2 6 1 7 6 4 2
1 2 3 1 2 2 8 1 2 1 1h 3 8 1 1 3 1 1 1 k 1 18 19 2s 16 3a g q 4 2 1 12 2 1 7 12 19 1 r r 4 4 19 w 1 l a a 6 3 1 1
4 l 1 i 1 1e 1 1 f 2 7 f 2 1 28 2q 5a o 1 6 h d 5 1 2 l 1j 25 1 2 5 2 8 4 2 a 1 7 1 7 1 3 1 8 2 2 2 m 1 7 1 1 3 4
2 9 2 2 4 2 8 1 8 4 2 c c 1 2 3 1 6 4 2 2 m 1 7 1 1 2 1 2 2 2 1 1 5 4 2 2 3 e 1 9 f c 3 1 9 1 3 1 m 1 7 1 2 1 5 2
a 1 3 1 3 2 1 f 4 2 a a 6 1 3 1 8 2 2 2 m 1 7 1 2 1 5 2 8 3 1 5 1 7 3 7 3 4 a 1 1 g 2 1 6 3 3 1 4 3 2 1 1 1 2 3 2
3 3 3 c 4 5 3 3 4 1 2 1 6 1 e a h c 1 3 1 n 1 a 1 5 2 9 1 2 2 4 7 2 6 1 2 2 4 a g 1 1 2 1 8 1 3 1 n 1 a 1 5 2 4 1
4 1 1 5 2 7 2 6 1 2 4 2 a 1 2 d 1 1 2 1 8 1 3 1 15 2 7 2 3 4 2 5 4 8 2 4 a a 6 2 2 1 a 2 6 3 c 1 b 1 9 1 1 2 7 3 1
4 6 1 1 1 2 1 1 m 1 e 1e 1 7 5 f 1 a 13 2 1 1 1 5 1 o 1 1 1 c 1 a 2 5 1 1 1 6 2 a 4 2 w 1 v a b 1 1 1 6 5 1 4 1 4
1 4 1 4 1 4 1 c 1 3 4 2 1 1 5 7 1 3 1 d 1 4 1 4 1 4 1 4 1 4 1 c 1 3 9 1 1l 22 6 26 15 1 5 1 2 x 6 4 2 3 74 21 1 4
2 7 1 1 1 4 2 15 1 4 2 x 1 4 2 7 1 1 1 4 2 f 1 1l 1 4 2 1v 2 3 w g s0 z 2 3 1 b 2 o 2 1 1 1 4 1 4 1 3 a x2 17 2 3
8w 4a 4 1 1 2i 6 m 2 6 2 12 2 6 2 8 1 1 1 1 1 1 1 i 1 1 1 1 1 1 1 1 1 1 1 1 3 1h 1 5 1 1 5 3 1 3 1 1 1 1 3 3 3 5 5
3 1 7 1 1 5 3 1 3 1 1 1 1 2lm 1 5 1 2a n 9 7 1 7 1 7 1 7 1 7 1 7 1 7 1 7 fa 3 1l 2e 2 2 2 2 2 2i 1 3 6 15 1 1 34 w
g0 534 1s g74 1a7 1 47 9 2w 1 4 1 4 2 m 1 3 1 9 2 6 b 5 2 1 1 1 5 el o 2p n 3 6 3l 6 2 6 2 6 9 7 1 7 1j 2 48 8mc
6sq 2 1 1 1 2 a 1 1 1 1 2 2 3 4wn 1 1 1 1j 2 ib7 2 cvh 4 19 3 h 4 908 v 1q9 7 1 4 1 2 1 f 4qp wyo w 37d 7 66 2 4g2
e 5rl 3z3 3t7
"""
_EDGES = list(accumulate(int(step, 36) for step in _STEPS.split()))


def is_letter(character: str) -> bool:
    """Whether the character may stand in a name; it may begin one if `str.isidentifier` says so as well."""
    return bisect_right(_EDGES, ord(character)) % 2 == 1
