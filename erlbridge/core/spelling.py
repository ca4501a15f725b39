"""How names go back to the host: a field's name is an atom when the request used that atom, else a binary.

So a host can decode every frame with `[:safe]`: the node never makes an atom that the host does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from erlbridge.codec import Atom, ImproperList


@dataclass(frozen=True, slots=True)
class Spelling:
    """The atoms that a request used, by name.

    >>> spelling = Spelling.of({Atom("answer"): b"yes"})
    >>> spelling.key("answer"), spelling.key("question")
    (Atom('answer'), b'question')
    """

    atoms: Mapping[str, Atom]

    @classmethod
    def of(cls, term: object) -> Spelling:
        """Collects the atoms of a request, however deep; walks each part once, without recursion."""
        atoms: dict[str, Atom] = {}
        waiting: list[object] = [term]
        while waiting:
            part = waiting.pop()
            match part:
                case Atom():
                    atoms[str(part)] = part
                case bytes():
                    pass  # as most parts are
                case list() | tuple():
                    waiting.extend(part)
                case dict() | Mapping():
                    waiting.extend(part.keys())
                    waiting.extend(part.values())
                case ImproperList():
                    waiting.extend(part.elements)
                    waiting.append(part.tail)
        return cls(atoms)

    def key(self, name: str) -> Atom | bytes:
        """The name as the host knows it."""
        return self.atoms.get(name) or name.encode()

    def fields(self, values: Mapping[str, object]) -> dict[object, object]:
        """A map of field values with its keys as the host knows them."""
        return {self.key(name): value for name, value in values.items()}
