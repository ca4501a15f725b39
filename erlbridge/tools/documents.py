"""Files that hold one value: JSON, YAML or TOML by their ending, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from erlbridge.errors import ValidationError

ENDINGS: Final = (".json", ".yaml", ".yml", ".toml")
_MAX_BYTES: Final = 64 * 2**20
"""A program with a thousand demos has some megabytes."""


def is_document(text: str) -> bool:
    """Whether a text names a file of this kind."""
    return Path(text).suffix.lower() in ENDINGS


def read_document(file: Path) -> object:
    """The value. Raises `ValidationError` with the place of what is wrong in it, `OSError` for what cannot be read."""
    text = read_text(file)
    match file.suffix.lower():
        case ".json":
            return read_json(text, str(file))
        case ".yaml" | ".yml":
            from erlbridge.core.yaml_text import read_yaml  # noqa: PLC0415 - for those who have such a file

            return read_yaml(text, str(file)).data()
        case ".toml":
            import tomllib  # noqa: PLC0415 - the same

            try:
                return tomllib.loads(text)
            except (ValueError, RecursionError) as error:
                raise ValidationError(f"no TOML: {error}", str(file)) from None
        case ending:
            raise ValidationError(f"expected a file that ends in {', '.join(ENDINGS)}, got {ending!r}", str(file))


def read_text(file: Path, limit_bytes: int = _MAX_BYTES) -> str:
    """A file of UTF-8. Raises `ValidationError` for any other and for one that is too long, `OSError`."""
    content = read_bytes(file, limit_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValidationError(f"expected UTF-8: {error.reason} at offset {error.start}", str(file)) from None


def read_bytes(file: Path, limit_bytes: int = _MAX_BYTES) -> bytes:
    """A file as it is. Raises `ValidationError` for one that is too long, `OSError`."""
    with file.open("rb") as opened:
        content = opened.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValidationError(f"a file of more than {limit_bytes} bytes", str(file))
    return content


def read_json(text: str, path: str) -> object:
    """A value of JSON. Raises `ValidationError` with `path` and what is wrong."""
    from erlbridge.tools.importing.json_lines import read_value  # noqa: PLC0415 - what most commands do without

    try:
        return read_value(text)
    except ValueError as error:
        raise ValidationError(f"no JSON: {error}", path) from None
