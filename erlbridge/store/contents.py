"""Things that are named by the hash of their bytes, as programs and models are: kept as blobs, listed by an index.

Knows bytes and names, not what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from erlbridge.errors import NotFound, ValidationError
from erlbridge.store.blobs import Blobs
from erlbridge.store.index import Entry
from erlbridge.store.register import Register
from erlbridge.wire.vocabulary import atom

SUFFIX: Final = ".etf"
_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class Kind:
    """What sort of things a store keeps.

    Attributes:
        noun: What one is called, `program`; its kind in the index.
        directory: The kind of its blobs.
        prefix: What stands before the digits in its name.
        key: Where its name stands in requests and errors.
        remedy: What to do when one is not there.
        describe: What a list says of one, by its bytes or their first; None when these do not say.
    """

    noun: str
    directory: str
    prefix: str
    key: str
    remedy: str
    describe: Callable[[bytes], bytes | None]


class Contents:
    """The things of one kind, shared safely by all nodes of a store.

    Args:
        kind: What they are.
        blobs: Where they lie; the truth about what there is.
        register: Where it is noted, and who hears of what was damaged.
        leave: Takes away what lies elsewhere beside a thing, before that is deleted.

    Names have been matched against their pattern on arrival, so none leaves its directory. Every method may raise
    `OSError`.
    """

    def __init__(
        self, kind: Kind, blobs: Blobs, register: Register, leave: Callable[[str], None] = lambda _: None
    ) -> None:
        self.kind = kind
        self.register = register
        self._blobs = blobs
        self._leave = leave

    def put(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Keeps something; a crash leaves it whole or absent, and, if it is `durable`, so does a power cut. Raises
        `ValidationError` when the name is not the content's."""
        if not self.is_whole(name, content):
            raise ValidationError(f"expected the hash of the {self.kind.noun}'s bytes", self.kind.key)
        if self._blobs.get(self.kind.directory, self.file(name)) != content:
            self._blobs.put(self.kind.directory, self.file(name), content, durable=durable)
        self.register.stored(name, len(content), self.kind.describe(content) or b"")

    def get(self, name: str) -> bytes:
        """The bytes of a name. Raises `NotFound`; what is damaged is set aside under another name and not served."""
        content = self.check(name)
        self.register.used(name, len(content))
        return content

    def check(self, name: str) -> bytes:
        """The same, which does not count as using it."""
        content = self._blobs.get(self.kind.directory, self.file(name))
        if content is None and not self.has(name):
            self.register.dropped(name)
            raise self._missing(name)
        if content is None or not self.is_whole(name, content):
            content = self._without_damage(name)
        return content

    def has(self, name: str) -> bool:
        """Whether something of a name is there, be it damaged."""
        return self._blobs.has(self.kind.directory, self.file(name))

    def delete(self, name: str) -> None:
        """Forgets something; the note first, so that who finds a note without its blob knows of a loss. Raises
        `NotFound`."""
        self.register.dropped(name)
        try:
            self._leave(name)
            deleted = self._blobs.delete(self.kind.directory, self.file(name))
        except OSError:
            self.register.is_behind = True  # it may lie there still
            raise
        if not deleted:
            raise self._missing(name)

    def newest(self, limit: int, after: tuple[int, str] | None = None) -> list[Entry]:
        """The newest, or those that come behind a place in that list: time and name. An index that refuses, as on a
        disk that may not be written, costs the list its speed alone."""
        return self.register.newest(self.found, limit, after)

    def about(self, entry: Entry, limit_bytes: int) -> bytes | None:
        """What a list says of an entry; read from the first bytes, or all, where nobody has noted it. None when it
        turns out to be gone or damaged."""
        if entry.about:
            return entry.about
        head = self._blobs.get(self.kind.directory, self.file(entry.name), limit_bytes)
        about = None if head is None else self.kind.describe(head)
        if about is None:
            try:
                about = self.kind.describe(self.check(entry.name))
            except NotFound:
                return None
        self.register.described(entry.name, about or b"")
        return about or b""

    def found(self) -> Iterator[Entry]:
        """What lies there, with or without a note: by names and sizes, nothing is read."""
        for blob in self._blobs.all(self.kind.directory):
            digits = blob.name.removesuffix(SUFFIX)
            if blob.name.endswith(SUFFIX) and len(digits) == _DIGITS and not set(digits) - set("0123456789abcdef"):
                at = blob.modified_at_ns
                yield Entry(self.kind.prefix + digits, blob.size_bytes, at, at)

    def is_whole(self, name: str, content: bytes) -> bool:
        """Whether bytes are those of a name."""
        import hashlib  # noqa: PLC0415 - 5 ms that the node's start does not wait for

        return name == self.kind.prefix + hashlib.sha256(content).hexdigest()

    def file(self, name: str) -> str:
        """The blob's name."""
        return name.removeprefix(self.kind.prefix) + SUFFIX

    def _without_damage(self, name: str) -> bytes:
        """Sets a damaged blob aside. Another node may have put it again in the very moment: then that is given."""
        try:
            aside = self._blobs.set_aside(self.kind.directory, self.file(name))
        except OSError as error:
            reason = error.strerror or error
            raise self._missing(name, f"is damaged on disk, and cannot be set aside ({reason})") from None
        content = None if aside is None else self._blobs.get(self.kind.directory, aside)
        if aside is not None and content is not None and self.is_whole(name, content):
            self._blobs.put(self.kind.directory, self.file(name), content)
            self._blobs.delete(self.kind.directory, aside)
            return content
        if aside is None:
            self.register.dropped(name)
            raise self._missing(name)  # another node was faster
        self.register.damaged(name, aside)
        raise self._missing(name, f"was damaged on disk and set aside as {aside}")

    def _missing(self, name: str, what: str | None = None) -> NotFound:
        """Says in its context which one, so that a host that can get it from elsewhere knows what to get."""
        noun = self.kind.noun
        if what is None:
            return NotFound(f"no {noun} {name} is stored here; {self.kind.remedy}", context={self.kind.key: name})
        context = {self.kind.key: name, "reason": atom("damaged")}
        return NotFound(f"the {noun} {name} {what}; {self.kind.remedy}", context=context)
