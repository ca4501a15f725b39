"""Vega-Lite as pictures, SVG and PNG, without a browser, and nothing is fetched. The one door to vl-convert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from erlbridge.errors import MissingPackage, ValidationError

PictureFormat: TypeAlias = Literal["svg", "png"]
_SCALE: Final = 2.0
"""Of a PNG's points, for sharp letters on today's screens and paper."""


def picture(chart: object, form: PictureFormat, path: str) -> bytes:
    """A specification as a picture. Raises `ValidationError` for what is none, or names an address to load something
    from, and `MissingPackage`."""
    if not isinstance(chart, Mapping):
        raise ValidationError("expected a Vega-Lite specification, a map", path)
    if _loads(chart):
        raise ValidationError("expected a Vega-Lite specification that holds its data, not a `url`", path)
    try:
        import vl_convert  # noqa: PLC0415 - 60 MB that most commands do without
    except ImportError as error:
        raise MissingPackage(f"pictures need vl-convert ({error}); pip install 'erlbridge[charts]'") from None
    try:
        if form == "svg":
            return str(vl_convert.vegalite_to_svg(dict(chart))).encode()
        return bytes(vl_convert.vegalite_to_png(dict(chart), scale=_SCALE))
    except ValueError as error:
        said = " ".join(str(error).splitlines()[:2])[:200]  # behind these, where in its JavaScript
        raise ValidationError(f"vl-convert does not draw this: {said}", path) from None


def _loads(value: object) -> bool:
    """Whether a specification, which may be anybody's file, has a `url` anywhere."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Mapping):
            if "url" in found:
                return True
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
    return False
