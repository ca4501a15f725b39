"""Where the elements of one container are, found as far as they are asked for, and where the keys of a map are.

Knows offsets, kept as arrays of eight bytes each, and the forms by which keys are equal in Erlang. Knows of values only
how to step over them; of a map's keys it builds one at a time to compare it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from struct import error as struct_error
from weakref import ref

from erlbridge.codec import binary_to_term
from erlbridge.codec.atoms import Atom
from erlbridge.codec.order import sort_key
from erlbridge.codec.scan import Scan, moved
from erlbridge.codec.sizes import open_container, read_u16
from erlbridge.codec.tags import (
    BINARY_EXT,
    LIST_EXT,
    NIL_EXT,
    SMALL_ATOM_UTF8_EXT,
    STRING_EXT,
)
from erlbridge.errors import DecodeError, EncodeError

# An index over fewer bytes is made again where it is needed: many small containers looked at leave nothing behind.
_WORTH_KEEPING = 1024


class Source:
    """The bytes that all parts of one term share, the limits they are read under, and the indexes made so far."""

    __slots__ = ("__weakref__", "data", "indexes", "max_depth", "size", "text", "view")

    def __init__(self, data: bytes | memoryview, *, max_depth: int, text: bool) -> None:
        self.data = data
        self.view = memoryview(data)
        self.size = len(data)
        self.max_depth = max_depth
        self.text = text
        self.indexes: dict[int, Index] = {}

    def cut(self) -> DecodeError:
        return DecodeError("input ends inside a term", self.size)

    def end_of(self, start: int, depth: int) -> int:
        """The end of the term at `start`, which stands in `depth` containers."""
        scan = Scan(start, max_depth=self.max_depth, depth=depth)
        if not scan.advance(self.data):
            raise self.cut()
        return scan.pos

    def value(self, start: int, end: int, depth: int) -> object:
        """The term between `start` and `end`, built: the one copy of its bytes."""
        try:
            return binary_to_term(
                b"".join((b"\x83", self.view[start:end])), max_depth=self.max_depth - depth, text=self.text
            )
        except DecodeError as error:
            raise moved(error, start - 1) from None

    def index(self, start: int, depth: int) -> Index:
        """The index of the container at `start`: the one kept, or a new one."""
        known = self.indexes.get(start)
        if known is not None:
            return known
        try:
            return Index(self, start, depth)
        except (IndexError, struct_error):
            raise self.cut() from None


class Index:
    """Where the elements of a list, tuple or map begin; of a map, keys and values alternate.

    Elements are stepped over once, and no further than was asked for: `reach` goes on where it stopped.
    """

    __slots__ = ("_depth", "_hashes", "_left", "_order", "_scan", "_start", "_string_at", "_string_size", "_tail",
                 "_whole", "count", "offsets")  # fmt: skip

    def __init__(self, source: Source, start: int, depth: int) -> None:
        tag = source.data[start]
        if depth >= source.max_depth and tag not in (NIL_EXT, STRING_EXT):
            raise DecodeError(f"term nested deeper than {source.max_depth}", start)
        self._whole = ref(source)  # weak: what is let go of must free a memory map at once
        self._start = start
        self._depth = depth + 1  # of the elements
        self._scan = Scan(start, max_depth=source.max_depth, depth=self._depth)
        self.offsets = array("Q")
        self.count: int | None = None
        """How many elements there are, keys and values counted each; None until a list's end was seen."""
        self._left = 0  # elements that are declared and have no offset yet
        self._string_at = 0  # a STRING_EXT holds the last elements of a list as bare bytes, from here
        self._string_size = 0
        self._tail: int | None = None
        self._hashes: array[int] | None = None
        self._order = array("Q")
        if tag not in (NIL_EXT, STRING_EXT):
            self._open(start, tag)
            if tag != LIST_EXT:
                self.count = self._left
        else:
            self._end_list(start, tag)

    @property
    def _source(self) -> Source:
        source = self._whole()
        if source is None:
            raise ReferenceError("the term of this index is gone")
        return source

    def reach(self, index: int | None) -> bool:
        """Whether there is an element of this index, whose offset is known afterwards; None asks for all of them."""
        if index is None or index >= len(self.offsets) + self._string_size:
            try:
                self._extend(index)
            except (IndexError, struct_error):
                raise self._source.cut() from None
            if self._scan.pos - self._start >= _WORTH_KEEPING:
                self._source.indexes[self._start] = self
        return index is not None and index < len(self.offsets) + self._string_size

    def byte(self, index: int) -> int | None:
        """The element of a STRING_EXT, which has no tag of its own; None if the element has an offset."""
        bare = index - len(self.offsets)
        return None if bare < 0 else self._source.data[self._string_at + bare]

    @property
    def total(self) -> int:
        """How many elements there are; to count those of a list, it is stepped over to its end."""
        if self.count is None:
            self.reach(None)
        return self.count or 0

    @property
    def tail(self) -> int | None:
        """Where the tail of an improper list is; None if the list is a proper one."""
        if self.count is None:
            self.reach(None)
        return self._tail

    def _extend(self, index: int | None) -> None:
        source = self._source
        data = source.data
        scan = self._scan
        offsets = self.offsets
        most = source.size if index is None else index + 1
        while len(offsets) < most and (self._left or self.count is None):
            if not self._left:
                if not scan.advance(data):
                    raise source.cut()
                self._next_part()
                continue
            due = self._left + len(offsets)
            try:
                whole = scan.starts(data, min(due, most) - len(offsets), offsets)
            finally:
                self._left = due - len(offsets)
            if not whole:
                raise source.cut()

    def _open(self, pos: int, tag: int) -> None:
        """Begins with the elements of the container at `pos`, or of the list that goes on there."""
        source = self._source
        left, first = open_container(source.data, pos, tag)
        if left > source.size - first:
            raise source.cut()
        self._left = left
        self._scan.restart(first)

    def _next_part(self) -> None:
        """Looks at a list's tail: more elements, or the end."""
        pos = self._scan.pos
        tag = self._source.data[pos]
        if tag == LIST_EXT:
            self._open(pos, tag)
        else:
            self._end_list(pos, tag)

    def _end_list(self, pos: int, tag: int) -> None:
        if tag == STRING_EXT:
            (self._string_size,) = read_u16(self._source.data, pos + 1)
            self._string_at = pos + 3
            if self._string_size > self._source.size - self._string_at:
                raise self._source.cut()
        elif tag != NIL_EXT:
            self._tail = pos
        self.count = len(self.offsets) + self._string_size

    # -- keys of a map ------------------------------------------------------------------------------------------------

    def key(self, entry: int) -> object:
        """The key of this entry, built."""
        start, end = self._key_span(entry)
        return self._source.value(start, end, self._depth)

    def find(self, form: bytes) -> int | None:
        """The entry whose key has this form, or None.

        Raises:
            DecodeError: The map is cut, has duplicate keys, or a key is no term.
        """
        if self._hashes is None:
            self.check_keys()
        hashes = self._hashes or array("q")
        wanted = hash(form)
        at = bisect_left(hashes, wanted)
        while at < len(hashes) and hashes[at] == wanted:
            entry = self._order[at]
            if self._form_of(entry) == form:
                return entry
            at += 1
        return None

    def check_keys(self) -> None:
        """Makes the table that `find` looks in, once; no key and no form stays, only a hash and a number of each.

        Raises:
            DecodeError: As `find`.
        """
        if self._hashes is not None:
            return
        self.reach(None)
        entries = len(self.offsets) // 2
        forms = [self._form_of(entry) for entry in range(entries)]
        doubled = entries - len(set(forms))
        if doubled:
            raise DecodeError(f"map with duplicate keys, {doubled} of {entries}", self._start)
        hashes = list(map(hash, forms))
        order = sorted(range(entries), key=hashes.__getitem__)
        self._order = array("Q", order)
        self._hashes = array("q", [hashes[entry] for entry in order])

    def _key_span(self, entry: int) -> tuple[int, int]:
        return self.offsets[2 * entry], self.offsets[2 * entry + 1]

    def _form_of(self, entry: int) -> bytes:
        start, end = self._key_span(entry)
        data = self._source.data
        if data[start] in (SMALL_ATOM_UTF8_EXT, BINARY_EXT):
            return bytes(data[start:end])
        try:
            return key_form(self.key(entry))
        except EncodeError as cause:
            raise DecodeError(cause.message, start) from None


def key_form(key: object) -> bytes:
    """What identifies a key in Erlang: of atoms and binaries the bytes they are written as, else the sort key.

    Raises:
        EncodeError: The key is no term.
    """
    if isinstance(key, Atom):
        return key.wire
    if key is None:
        return b"w\3nil"
    if isinstance(key, bool):
        return b"w\4true" if key else b"w\5false"
    if isinstance(key, str):
        try:
            key = str.encode(key)
        except UnicodeEncodeError as cause:
            raise EncodeError(f"str with a lone surrogate at index {cause.start}") from None
    if isinstance(key, bytes | bytearray | memoryview):
        return b"m" + len(bytes(key)).to_bytes(4, "big") + bytes(key)
    return sort_key(key)
