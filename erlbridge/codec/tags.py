"""The tags of the External Term Format, by the names its specification gives them.

Knows numbers and nothing of how a tag is read. The hot loops of the pure twin compare with the bare number and carry
the name as a comment, because a global costs more than a constant there; everything else uses these names.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERSION_MAGIC: Final = 131
COMPRESSED: Final = 80

SMALL_INTEGER_EXT: Final = 97
INTEGER_EXT: Final = 98
SMALL_BIG_EXT: Final = 110
LARGE_BIG_EXT: Final = 111

FLOAT_EXT: Final = 99
NEW_FLOAT_EXT: Final = 70

ATOM_EXT: Final = 100
SMALL_ATOM_EXT: Final = 115
ATOM_UTF8_EXT: Final = 118
SMALL_ATOM_UTF8_EXT: Final = 119

BINARY_EXT: Final = 109
BIT_BINARY_EXT: Final = 77

NIL_EXT: Final = 106
STRING_EXT: Final = 107
LIST_EXT: Final = 108
SMALL_TUPLE_EXT: Final = 104
LARGE_TUPLE_EXT: Final = 105
MAP_EXT: Final = 116

PID_EXT: Final = 103
NEW_PID_EXT: Final = 88
PORT_EXT: Final = 102
NEW_PORT_EXT: Final = 89
V4_PORT_EXT: Final = 120
REFERENCE_EXT: Final = 101
NEW_REFERENCE_EXT: Final = 114
NEWER_REFERENCE_EXT: Final = 90

NEW_FUN_EXT: Final = 112
EXPORT_EXT: Final = 113
LOCAL_EXT: Final = 121

# Never sent to a port; named so that a refusal can say what was met.
ATOM_CACHE_REF: Final = 82
FUN_EXT: Final = 117
