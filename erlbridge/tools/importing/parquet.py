"""Parquet, read by pyarrow in small batches of each row group. The one door to pyarrow, an optional extra."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator, Mapping
from typing import Any, Final

from erlbridge.errors import MissingPackage
from erlbridge.tools.importing.rows import MAX_NAMES, BadRow, Input, Row, Rows, Unreadable, ordered

_BATCH_ROWS: Final = 256
_BATCH_BYTES: Final = 8 * 1024 * 1024
"""What may be Python values at once, by what the file says of itself: at least one row, at most so many."""
_BUFFER_BYTES: Final = 1024 * 1024


def read_rows(source: Input) -> Rows:
    """The rows of a file, with numbers from 1. Times become texts by ISO 8601, decimals texts, structs maps.

    Raises `MissingPackage` without pyarrow, and `Unreadable` for what is no whole Parquet file.
    """
    try:
        import pyarrow  # noqa: PLC0415 - 400 ms, and an extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise MissingPackage("Parquet files are read by pyarrow: install erlbridge with the extra `parquet`") from None
    number = 0
    try:
        # Buffered, so that a column of a row group never stands in memory as a whole.
        file = pyarrow.parquet.ParquetFile(source.stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        names = file.schema_arrow.names
        if len(names) > MAX_NAMES or len(set(names)) != len(names):
            raise Unreadable(f"expected at most {MAX_NAMES} columns, each with a name of its own")
        rows = file.metadata.num_rows
        for batch in file.iter_batches(_batch_rows(file.metadata), use_threads=False):
            for values in _values(batch):
                number += 1
                yield _row(number, values)
            source.reached = (source.size or 0) * number // max(rows, number)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise  # neither is the file's fault by itself
        text = " ".join(str(error).split())
        raise Unreadable(f"no whole Parquet file: {text}", number) from None


def _batch_rows(metadata: Any) -> int:
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    widest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, widest)))


def _values(batch: Any) -> Iterator[dict[str, object]]:
    names = sorted(batch.schema.names)  # as `ordered`, once for all rows
    columns = [batch.column(name).to_pylist() for name in names]
    for cells in zip(*columns, strict=True):
        yield dict(zip(names, cells, strict=True))


def _row(number: int, values: dict[str, object]) -> Row | BadRow:
    for name, value in values.items():
        if type(value) not in _PLAIN:
            try:
                values[name] = _plain(value)
            except ValueError as error:
                return BadRow(number, f"column {name!r}: {error}")
    return Row(number, values)


_PLAIN: Final = frozenset((str, int, float, bool, type(None)))


def _plain(value: object) -> object:
    """A value of pyarrow's as one of JSON's."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"expected text in UTF-8, got the byte 0x{value[error.start]:02x}") from None
        case decimal.Decimal():
            return str(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case list():
            if value and all(isinstance(item, tuple) for item in value):  # a map
                return _map(value)
            return [_plain(item) for item in value]
        case Mapping():
            return ordered([(str(name), _plain(item)) for name, item in value.items()])
        case _:
            raise ValueError(
                f"expected text, a number, a boolean, a list, a struct or null, got {type(value).__name__}"
            )


def _map(pairs: list[tuple[object, object]]) -> dict[str, object]:
    for key, _ in pairs:
        if not isinstance(key, str):
            raise ValueError(f"expected a map whose keys are text, got one of {type(key).__name__}")
    return ordered([(str(key), _plain(item)) for key, item in pairs])
