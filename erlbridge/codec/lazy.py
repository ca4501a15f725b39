"""Large terms reached into, building nothing but what is asked for.

Knows how a part of a term looks from Python. Knows nothing of what parts hold: `places` finds them, and
`binary_to_term` builds those whose value is asked for.
"""

from __future__ import annotations

from operator import index as as_index

from erlbridge.codec import binary_to_term, tags
from erlbridge.codec.atoms import Atom
from erlbridge.codec.places import Index, Source, key_form
from erlbridge.codec.scan import begin
from erlbridge.errors import DecodeError, EncodeError
from erlbridge.limits import MAX_ATOM_CHARACTERS, MAX_DEPTH, MAX_TERM_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    "atom": (tags.ATOM_EXT, tags.ATOM_UTF8_EXT, tags.SMALL_ATOM_EXT, tags.SMALL_ATOM_UTF8_EXT),
    "integer": (tags.SMALL_INTEGER_EXT, tags.INTEGER_EXT, tags.SMALL_BIG_EXT, tags.LARGE_BIG_EXT),
    "float": (tags.FLOAT_EXT, tags.NEW_FLOAT_EXT),
    "binary": (tags.BINARY_EXT,),
    "bitstring": (tags.BIT_BINARY_EXT,),
    "list": (tags.LIST_EXT, tags.NIL_EXT, tags.STRING_EXT),
    "tuple": (tags.SMALL_TUPLE_EXT, tags.LARGE_TUPLE_EXT),
    "map": (tags.MAP_EXT,),
    "pid": (tags.PID_EXT, tags.NEW_PID_EXT),
    "port": (tags.PORT_EXT, tags.NEW_PORT_EXT, tags.V4_PORT_EXT),
    "reference": (tags.REFERENCE_EXT, tags.NEW_REFERENCE_EXT, tags.NEWER_REFERENCE_EXT),
    "fun": (tags.NEW_FUN_EXT, tags.EXPORT_EXT),
    "local": (tags.LOCAL_EXT,),
}
_BINARY_HEADER = 5
"""Bytes of a binary before its own: the tag and a length of four."""

_KIND_OF = {tag: kind for kind, kinds in _KINDS.items() for tag in kinds}


class LazyTerm:
    """A term, or a part of one, that is built only when its `value` is asked for.

    A part is reached by `term[key]` in a map and `term[index]` in a list or tuple, and is a LazyTerm again. To reach
    it, what stands before it in its container is stepped over, once: where elements are is remembered, in eight bytes
    each.

    Keys are equal as they are in Erlang: `1`, `1.0` and `Atom("1")` are three, and `bytes` are binaries. A `str` is the
    binary of its UTF-8 too; where the map has no such key, it stands for the atom of that name.

    What was not reached was not looked at: bytes after the term, for one, are refused only by `value` of the whole.
    What is reached gets a DecodeError wherever `binary_to_term` has one. Not for several threads at once.

    Args:
        data: One whole term with its version byte: bytes, or a memoryview (of an mmap, say), of which nothing is copied
            but parts that are built. It must not change. A compressed term is unpacked, at once and whole.
        max_depth: How deep containers may nest.
        max_bytes: Most bytes that a compressed term may unpack to.
        text: Give binaries as `str` where they are valid UTF-8, as in `binary_to_term`.

    Raises:
        DecodeError: The data do not begin with a version byte and a tag, or do not unpack.
        TypeError: `data` is not bytes-like.

    >>> term = LazyTerm(bytes.fromhex("837400000001770161 6c00000002610a610b6a"))
    >>> term[Atom("a")][1].value(), term["a"].kind, len(term["a"])
    (11, 'list', 2)
    """

    __slots__ = ("_depth", "_index", "_source", "_start")

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        *,
        max_depth: int = MAX_DEPTH,
        max_bytes: int = MAX_TERM_BYTES,
        text: bool = False,
    ) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"LazyTerm takes bytes, not {type(data).__name__}")
        plain = data if isinstance(data, bytes) else memoryview(data).cast("B")
        if not plain or plain[0] != tags.VERSION_MAGIC:
            raise DecodeError(f"no version byte {tags.VERSION_MAGIC}", 0)
        self._start = 1
        if plain[1:2] == b"P":
            plain = _unpacked(plain, max_depth, max_bytes)
            self._start = 0
        self._depth = 0
        self._source = Source(plain, max_depth=max_depth, text=text)
        self._index: Index | None = None
        _ = self.kind

    @property
    def kind(self) -> str:
        """What it is: `atom`, `integer`, `float`, `binary`, `bitstring`, `list`, `tuple`, `map`, `pid`, `port`,
        `reference`, `fun`, or `local` for a whole term in a node's private format.

        Raises:
            DecodeError: The part begins with no tag of a term, or beyond the data.
        """
        source = self._source
        if self._start >= source.size:
            raise source.cut()
        tag = source.data[self._start]
        kind = _KIND_OF.get(tag)
        if kind is None or (kind == "local" and self._depth):
            raise DecodeError(f"unknown tag {tag}", self._start)
        return kind

    def value(self) -> object:
        """The Python value of this part, as `binary_to_term` gives it.

        Raises:
            DecodeError: The part is no term; the offset is that in the whole.
        """
        source = self._source
        if self._depth:
            return source.value(self._start, source.end_of(self._start, self._depth), self._depth)
        if self._start:
            return binary_to_term(source.data, max_depth=source.max_depth, text=source.text)
        return source.value(0, source.size, 0)

    def view(self) -> memoryview:
        """The bytes of a binary where they stand, read-only. Nothing is copied; the data lives as long as the view.

        Raises:
            TypeError: The part is no binary.
            DecodeError: It ends beyond the data.

        >>> import erlbridge.codec as codec
        >>> bytes(codec.LazyTerm(codec.term_to_binary((1, b"large")))[1].view())
        b'large'
        """
        if self.kind != "binary":
            raise TypeError(f"{self.kind} has no bytes to view")
        source = self._source
        end = source.end_of(self._start, self._depth)
        if not self._depth and end != source.size:
            raise DecodeError(f"{source.size - end} bytes after the term", end)
        return source.view[self._start + _BINARY_HEADER : end].toreadonly()

    def __len__(self) -> int:
        """How many elements: a map's entries, a tuple's or list's elements (without an improper list's tail).

        To count a list, it is stepped over to its end.
        """
        total = self._places().total
        return total // 2 if self.kind == "map" else total

    def __getitem__(self, key: object) -> LazyTerm:
        """The map's value of this key, or the list's or tuple's element of this index, which may count from the end.

        Raises:
            KeyError: The map has no such key.
            IndexError: There is no such element.
            TypeError: This is no container, or the index is no integer.
            DecodeError: What had to be stepped over is no term, or the map has duplicate keys.
        """
        places = self._places()
        if self.kind == "map":
            value = self.get(key)
            if value is None:
                raise KeyError(key)
            return value
        try:
            wanted = as_index(key)  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(f"index of a {self.kind} is an integer, not {type(key).__name__}") from None
        if wanted < 0:
            wanted += places.total
        if wanted < 0 or not places.reach(wanted):
            raise IndexError(f"{self.kind} has no element {key}")
        return self._part(places, wanted)

    def get(self, key: object) -> LazyTerm | None:
        """A map's value of this key, as a part that is not built yet; None where the map has no such key.

        Args:
            key: Any term. Equal is what Erlang finds equal: `1` is not `1.0`, and a `str` is a binary.

        Raises:
            TypeError: The part is no map.
            DecodeError: The map ends beyond the data, or holds something that is no term.
        """
        if self.kind != "map":
            raise TypeError(f"{self.kind} has no keys")
        places = self._places()
        entry = self._entry(places, key)
        return None if entry is None else self._part(places, 2 * entry + 1)

    def __contains__(self, key: object) -> bool:
        """Whether a map has this key. Only a map is asked: what other containers hold, building them would tell."""
        return self.get(key) is not None

    def __iter__(self) -> Iterator[object]:
        """A map's keys, built; else the elements, as LazyTerms."""
        return self._keys() if self.kind == "map" else self.elements()

    def elements(self) -> Iterator[LazyTerm]:
        """The elements of a list or tuple, each stepped over when the next one is asked for.

        Raises:
            TypeError: The part is no list or tuple; a map has `items`.
            DecodeError: When an element is asked for that is no term.
        """
        if self.kind == "map":
            raise TypeError("a map has items, not elements")
        return self._elements(self._places())

    def items(self) -> Iterator[tuple[object, LazyTerm]]:
        """A map's keys, built, with their values, as parts that are not.

        Raises:
            TypeError: The part is no map.
            DecodeError: The map ends beyond the data, or holds something that is no term.
        """
        keys = self._keys()
        places = self._places()
        return ((key, self._part(places, 2 * entry + 1)) for entry, key in enumerate(keys))

    @property
    def tail(self) -> LazyTerm | None:
        """The tail of an improper list, for which the list is stepped over to its end; None of any other term."""
        if self.kind != "list":
            return None
        tail = self._places().tail
        return None if tail is None else self._at(self._source, tail, self._depth + 1)

    def __repr__(self) -> str:
        return f"<LazyTerm: {self.kind} at {self._start}>"

    @classmethod
    def _at(cls, source: Source, start: int, depth: int) -> LazyTerm:
        part = cls.__new__(cls)
        part._source = source
        part._start = start
        part._depth = depth
        part._index = None
        return part

    def _part(self, places: Index, index: int) -> LazyTerm:
        byte = places.byte(index)
        if byte is None:
            return self._at(self._source, places.offsets[index], self._depth + 1)
        alone = Source(bytes((tags.SMALL_INTEGER_EXT, byte)), max_depth=MAX_DEPTH, text=False)
        return self._at(alone, 0, 1)

    def _places(self) -> Index:
        if self._index is None:
            if self.kind not in ("list", "tuple", "map"):
                raise TypeError(f"{self.kind} has no elements")
            self._index = self._source.index(self._start, self._depth)
        return self._index

    def _elements(self, places: Index) -> Iterator[LazyTerm]:
        index = 0
        while places.reach(index):
            yield self._part(places, index)
            index += 1

    def _keys(self) -> Iterator[object]:
        if self.kind != "map":
            raise TypeError(f"{self.kind} has no keys")
        places = self._places()
        places.check_keys()
        return (places.key(entry) for entry in range(places.total // 2))

    def _entry(self, places: Index, key: object) -> int | None:
        try:
            entry = places.find(key_form(key))
        except EncodeError:
            return None  # no term, so nothing that a map could have
        if entry is None and isinstance(key, str) and len(key) <= MAX_ATOM_CHARACTERS:
            return places.find(Atom(key).wire)
        return entry


def _unpacked(data: bytes | memoryview, max_depth: int, max_bytes: int) -> bytes:
    """What a compressed term unpacks to: a term without version byte."""
    parts: list[bytes] = []
    scan = begin(data, 0, max_depth=max_depth, max_bytes=max_bytes, kept=parts)
    if scan is None or not scan.advance(data):
        raise DecodeError("input ends inside a term", len(data))
    if scan.pos != len(data):
        raise DecodeError(f"{len(data) - scan.pos} bytes after the term", scan.pos)
    return b"".join(parts)
