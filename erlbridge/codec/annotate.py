"""External terms byte by byte: what each tag, length and value is, and where broken bytes stop being a term.

For people who look at a frame. Walks without recursion and gives one annotation at a time, so that nothing grows with
the term. What `binary_to_term` refuses is refused here too, at the same place or where the walk first stumbles.
"""

from __future__ import annotations

from struct import Struct

from erlbridge.codec import binary_to_term, tags
from erlbridge.codec._pure_decode import inflate
from erlbridge.codec.notation import to_elixir
from erlbridge.errors import DecodeError
from erlbridge.limits import MAX_DEPTH, MAX_TERM_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES: dict[int, str] = {value: name for name, value in vars(tags).items() if name.isupper() and type(value) is int}
_SHOWN = 60
"""Characters of a value that an annotation repeats."""

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from
_i32 = Struct(">i").unpack_from
_f64 = Struct(">d").unpack_from

_ATOM_HEADS = {
    tags.SMALL_ATOM_UTF8_EXT: (1, "utf-8"),
    tags.SMALL_ATOM_EXT: (1, "latin-1"),
    tags.ATOM_UTF8_EXT: (2, "utf-8"),
    tags.ATOM_EXT: (2, "latin-1"),
}
_AFTER_NODE = {
    tags.PID_EXT: (("id", 4), ("serial", 4), ("creation", 1)),
    tags.NEW_PID_EXT: (("id", 4), ("serial", 4), ("creation", 4)),
    tags.PORT_EXT: (("id", 4), ("creation", 1)),
    tags.NEW_PORT_EXT: (("id", 4), ("creation", 4)),
    tags.V4_PORT_EXT: (("id", 8), ("creation", 4)),
    tags.REFERENCE_EXT: (("id", 4), ("creation", 1)),
}


class Annotation:
    """A piece of an external term.

    Attributes:
        offset: Its first byte; of what was unpacked, that in the unpacked bytes.
        size: How many bytes it has; 0 for a fault that is in none.
        depth: How many containers it stands in.
        tag: The name of the tag it begins with; empty for what has none, such as the bytes of a binary.
        meaning: What it says, in words.
        broken: Whether the bytes stop being a term here. Nothing follows.
        packed: Whether it is inside of a compressed term.
    """

    __slots__ = ("broken", "depth", "meaning", "offset", "packed", "size", "tag")

    def __init__(
        self, offset: int, size: int, depth: int, tag: str, meaning: str, *, broken: bool = False, packed: bool = False
    ) -> None:
        self.offset = offset
        self.size = size
        self.depth = depth
        self.tag = tag
        self.meaning = meaning
        self.broken = broken
        self.packed = packed

    def __repr__(self) -> str:
        return f"Annotation({self.offset}, {self.size}, {self.depth}, {self.tag!r}, {self.meaning!r})"


class _Stop(Exception):
    """The walk is over, with the last annotation."""

    def __init__(self, last: Annotation) -> None:
        super().__init__()
        self.last = last


def annotate(
    data: bytes | bytearray | memoryview, *, max_depth: int = MAX_DEPTH, max_bytes: int = MAX_TERM_BYTES
) -> Iterator[Annotation]:
    """What every byte means, in order; the last one is `broken` if the bytes are no term.

    Args:
        data: One term with its version byte, whole or not.
        max_depth: How deep containers may nest.
        max_bytes: Most bytes that a compressed term may unpack to.

    >>> [(each.offset, each.tag, each.meaning) for each in annotate(bytes.fromhex("8361"))][1:]
    [(1, 'SMALL_INTEGER_EXT', 'ends after 1 of 2 bytes')]
    """
    data = bytes(data)
    if not data or data[0] != tags.VERSION_MAGIC:
        got = f"{data[0]}" if data else "no byte at all"
        yield Annotation(0, len(data), 0, "", f"expected the version byte 131, got {got}", broken=True)
        return
    yield Annotation(0, 1, 0, "VERSION_MAGIC", "version 131")
    if data[1:2] == bytes((tags.COMPRESSED,)):
        if len(data) < 6:
            yield Annotation(1, len(data) - 1, 0, "COMPRESSED", f"ends after {len(data) - 1} of 5 bytes", broken=True)
            return
        yield Annotation(1, 5, 0, "COMPRESSED", f"zlib, unpacks to {_u32(data, 2)[0]} bytes")
        try:
            plain = inflate(data, max_bytes)
        except DecodeError as error:
            yield Annotation(6, len(data) - 6, 0, "", error.message, broken=True)
            return
        yield Annotation(6, len(data) - 6, 0, "", "zlib stream; what follows is what it unpacks to")
        walk = _Walk(plain, 0, max_depth, packed=True)
    else:
        walk = _Walk(data, 1, max_depth, packed=False)
    broken = False
    for found in walk.annotations():
        broken = found.broken
        yield found
    if not broken:
        try:
            binary_to_term(data, max_depth=max_depth, max_bytes=max_bytes)
        except DecodeError as error:
            yield Annotation(error.offset, 0, 0, "", error.message, broken=True, packed=walk.packed)


class _Walk:
    """Goes through plain data from tag to tag."""

    def __init__(self, data: bytes, pos: int, max_depth: int, *, packed: bool) -> None:
        self.packed = packed
        self._data = data
        self._pos = pos
        self._max_depth = max_depth
        self._stack: list[tuple[int, str]] = []  # of each container, values still to come and what it is

    def annotations(self) -> Iterator[Annotation]:
        left, kind = 1, ""
        try:
            while True:
                while not left:
                    if not self._stack:
                        rest = len(self._data) - self._pos
                        if rest:
                            yield self._at(rest, "", f"{rest} bytes after the term", broken=True)
                        return
                    if kind == "list":
                        left, kind = 1, "tail"
                        break
                    left, kind = self._stack.pop()
                role = ("key: ", "value: ")[left & 1] if kind == "map" else "tail: " if kind == "tail" else ""
                left -= 1
                for found, opened in self._value(role):
                    yield found
                    if opened is not None:
                        self._stack.append((left, kind))
                        left, kind = opened
        except _Stop as stop:
            yield stop.last

    def _at(self, size: int, tag: str, meaning: str, *, broken: bool = False, deeper: int = 0) -> Annotation:
        """An annotation of the bytes from here, and on behind them."""
        found = Annotation(self._pos, size, len(self._stack) + deeper, tag, meaning, broken=broken, packed=self.packed)
        self._pos += size
        return found

    def _need(self, size: int, tag: str) -> None:
        """Stops if there are fewer bytes from here."""
        there = len(self._data) - self._pos
        if there < size:
            raise _Stop(self._at(there, tag, f"ends after {there} of {size} bytes", broken=True))

    def _value(self, role: str) -> Iterator[tuple[Annotation, tuple[int, str] | None]]:
        """The annotations of the value here, and behind the last one what was opened, if it is a container."""
        data, pos = self._data, self._pos
        if pos >= len(data):
            raise _Stop(self._at(0, "", f"expected {role or 'a value: '}a tag, got the end of the input", broken=True))
        tag = data[pos]
        name = _NAMES.get(tag, "")
        if tag in _CONTAINERS:
            yield self._container(tag, name, role)
            return
        if tag in (tags.BINARY_EXT, tags.BIT_BINARY_EXT, tags.STRING_EXT):
            yield from self._bytes(tag, name, role)
            return
        if tag in _ATOM_HEADS:
            yield self._atom(role), None
            return
        if tag in (tags.SMALL_BIG_EXT, tags.LARGE_BIG_EXT):
            head = 3 if tag == tags.SMALL_BIG_EXT else 6
            self._need(head, name)
            size = data[pos + 1] if head == 3 else _u32(data, pos + 1)[0]
            self._need(head + size, name)
            shown = to_elixir(int.from_bytes(data[pos + head : pos + head + size], "little"), limit=_SHOWN)
            sign = "-" if data[pos + head - 1] else ""
            yield self._at(head + size, name, f"{role}{sign}{shown}, {size} bytes"), None
            return
        fixed = _FIXED.get(tag)
        if fixed is not None:
            self._need(fixed, name)
            yield self._at(fixed, name, role + _scalar(data, pos, tag)), None
            return
        if tag in _AFTER_NODE or tag in (tags.NEW_REFERENCE_EXT, tags.NEWER_REFERENCE_EXT, tags.EXPORT_EXT):
            yield from self._identifier(tag, name, role)
            return
        if tag == tags.LOCAL_EXT and not self._stack:
            yield self._at(len(data) - pos, name, f"{role}{len(data) - pos - 1} bytes in a node's private format"), None
            return
        got = f"{name} ({tag}), which no peer sends here" if name else f"{tag}"
        raise _Stop(self._at(1, "", f"expected {role}a tag, got {got}", broken=True))

    def _container(self, tag: int, name: str, role: str) -> tuple[Annotation, tuple[int, str]]:
        if len(self._stack) >= self._max_depth:
            raise _Stop(self._at(1, name, f"term nested deeper than {self._max_depth}", broken=True))
        head = 2 if tag == tags.SMALL_TUPLE_EXT else 30 if tag == tags.NEW_FUN_EXT else 5
        self._need(head, name)
        data, pos = self._data, self._pos
        if tag == tags.NEW_FUN_EXT:
            free = _u32(data, pos + 26)[0]
            if free > 255:
                raise _Stop(self._at(30, name, f"{role}fun with {free} captured terms, limit 255", broken=True))
            meaning = f"{role}function of {data[pos + 5]} arguments: module, index, uniq, pid and {free} captured"
            return self._at(30, name, meaning), (4 + free, "fun")
        count = data[pos + 1] if head == 2 else _u32(data, pos + 1)[0]
        kind = {tags.LIST_EXT: "list", tags.MAP_EXT: "map"}.get(tag, "tuple")
        least = count * 2 if kind == "map" else count
        rest = len(data) - pos - head
        if least > rest:  # each value takes a byte at least
            what = f"{role}{kind} of {count}, which {rest} bytes cannot hold"
            raise _Stop(self._at(head, name, what, broken=True))
        return self._at(head, name, f"{role}{kind} of {count}"), (least, kind)

    def _bytes(self, tag: int, name: str, role: str) -> Iterator[tuple[Annotation, None]]:
        head = {tags.STRING_EXT: 3, tags.BINARY_EXT: 5}.get(tag, 6)
        self._need(head, name)
        pos = self._pos
        size = _u16(self._data, pos + 1)[0] if head == 3 else _u32(self._data, pos + 1)[0]
        unit = "small integers, a list" if head == 3 else "bytes"
        last = f", {self._data[pos + 5]} bits in the last" if head == 6 else ""
        yield self._at(head, name, f"{role}{size} {unit}{last}"), None
        there = len(self._data) - self._pos
        if there < size:
            raise _Stop(self._at(there, "", f"ends after {there} of {size} bytes", broken=True, deeper=1))
        if size:
            content = self._data[self._pos : self._pos + min(size, 4 * _SHOWN)]
            shown = to_elixir(list(content) if head == 3 else content, limit=_SHOWN)
            yield self._at(size, "", shown, deeper=1), None

    def _atom(self, role: str, *, deeper: int = 0) -> Annotation:
        data, pos = self._data, self._pos
        if pos >= len(data):
            raise _Stop(self._at(0, "", f"expected {role}an atom, got the end of the input", broken=True))
        head = _ATOM_HEADS.get(data[pos])
        if head is None:
            raise _Stop(self._at(1, "", f"expected {role}an atom's tag, got {data[pos]}", broken=True))
        width, encoding = head
        name = _NAMES[data[pos]]
        self._need(1 + width, name)
        size = data[pos + 1] if width == 1 else _u16(data, pos + 1)[0]
        self._need(1 + width + size, name)
        text = data[pos + 1 + width : pos + 1 + width + size]
        try:
            shown = text.decode(encoding)
        except UnicodeDecodeError:
            raise _Stop(self._at(1 + width + size, name, f"{role}atom that is no UTF-8", broken=True)) from None
        if len(shown) > 255:
            what = f"{role}atom of {len(shown)} characters, limit 255"
            raise _Stop(self._at(1 + width + size, name, what, broken=True))
        return self._at(
            1 + width + size, name, role + to_elixir(binary_to_term(b"\x83v" + _utf8(shown))), deeper=deeper
        )

    def _identifier(self, tag: int, name: str, role: str) -> Iterator[tuple[Annotation, None]]:
        words = 0
        if tag in (tags.NEW_REFERENCE_EXT, tags.NEWER_REFERENCE_EXT):
            self._need(3, name)
            words = _u16(self._data, self._pos + 1)[0]
            if not 1 <= words <= 5:
                raise _Stop(self._at(3, name, f"{role}reference of {words} words, expected 1 to 5", broken=True))
            yield self._at(3, name, f"{role}reference of {words} words"), None
        else:
            kinds = {tags.EXPORT_EXT: "function", tags.PID_EXT: "process", tags.NEW_PID_EXT: "process"}
            kind = kinds.get(tag, "reference" if tag == tags.REFERENCE_EXT else "port")
            yield self._at(1, name, f"{role}{kind}"), None
        if tag == tags.EXPORT_EXT:
            yield self._atom("module: ", deeper=1), None
            yield self._atom("function: ", deeper=1), None
            for found, _ in self._value("arity: "):
                found.depth += 1
                yield found, None
            return
        yield self._atom("node: ", deeper=1), None
        creation = 1 if tag == tags.NEW_REFERENCE_EXT else 4
        fields = _AFTER_NODE.get(tag) or (("creation", creation), *((f"word {n}", 4) for n in range(1, words + 1)))
        for field, size in fields:
            self._need(size, "")
            number = int.from_bytes(self._data[self._pos : self._pos + size], "big")
            yield self._at(size, "", f"{field}: {number}", deeper=1), None


def _utf8(name: str) -> bytes:
    text = name.encode()
    return len(text).to_bytes(2, "big") + text


_CONTAINERS = frozenset((tags.LIST_EXT, tags.SMALL_TUPLE_EXT, tags.LARGE_TUPLE_EXT, tags.MAP_EXT, tags.NEW_FUN_EXT))
_FIXED = {
    tags.SMALL_INTEGER_EXT: 2,
    tags.INTEGER_EXT: 5,
    tags.NEW_FLOAT_EXT: 9,
    tags.FLOAT_EXT: 32,
    tags.NIL_EXT: 1,
}


def _scalar(data: bytes, pos: int, tag: int) -> str:
    if tag == tags.SMALL_INTEGER_EXT:
        return str(data[pos + 1])
    if tag == tags.INTEGER_EXT:
        return str(_i32(data, pos + 1)[0])
    if tag == tags.NEW_FLOAT_EXT:
        return str(_f64(data, pos + 1)[0])
    if tag == tags.FLOAT_EXT:
        return data[pos + 1 : pos + 32].rstrip(b"\0").decode("ascii", "backslashreplace")
    return "[]"
