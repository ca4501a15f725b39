"""Which twin of the codec is in use: the compiled one where it was built, else the pure one, or what the operator says.

`ERLBRIDGE_CODEC` is `auto` (the default), `compiled` or `pure`. The one file of the pure rooms that looks at the
process's environment: the choice must be made before anything of the codec is imported, and by the operator.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VARIABLE: Final = "ERLBRIDGE_CODEC"
CHOICES: Final = ("auto", "compiled", "pure")

_EXTENSION = "erlbridge.codec._compiled"
_SUFFIXES = (".so", ".pyd", ".dylib")


def is_compiled() -> bool:
    """Whether the compiled twin is to be used; it is imported by then.

    Raises:
        ValueError: The variable has none of the three values.
        ImportError: The compiled twin is asked for and not there, or it is there and does not load. It is never passed
            over in silence: whoever built it would measure the wrong one.
    """
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise ValueError(f"{VARIABLE} is {choice!r}, expected one of {', '.join(CHOICES)}")
    if choice == "pure":
        return False
    try:
        importlib.import_module(_EXTENSION)
    except ModuleNotFoundError as missing:
        if missing.name != _EXTENSION:
            raise
        built = _built()
        if built:
            raise ImportError(
                f"{_EXTENSION} was built for another Python ({', '.join(built)}): install erlbridge again, or set "
                f"{VARIABLE}=pure"
            ) from None
        if choice == "compiled":
            raise ImportError(
                f"{VARIABLE} is 'compiled', but {_EXTENSION} was not built: install erlbridge where a C compiler is"
            ) from None
        return False
    return True


def _built() -> list[str]:
    """The extension's files for whatever Python."""
    return sorted(file.name for file in Path(__file__).parent.glob("_compiled.*") if file.suffix in _SUFFIXES)
