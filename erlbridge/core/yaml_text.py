"""YAML text as plain data, with the place of everything in it: no tags, no merging, nothing constructed.

Reads PyYAML's events, which are only syntax, and resolves scalars itself, by the core schema of YAML 1.2 as the BEAM's
parsers do (`yes` is text). What a hostile text could grow into is bounded while it is read. Knows no workflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from erlbridge.errors import ValidationError
from erlbridge.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_NODES, MAX_KEYS

NULL: Final = re.compile(r"(?:~|null|Null|NULL)?\Z")
BOOLEAN: Final = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
INTEGER: Final = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
NO_NUMBER: Final = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
"""YAML's infinities and NaN, which no Erlang term stands for."""

_OTHER_BREAKS: Final = re.compile("[\r\x85\u2028\u2029]")
"""What YAML 1.1 takes for the end of a line too; only double quotes keep it."""

_MAX_DIGITS: Final = 1000
_MAX_KEY_CHARACTERS: Final = 1000
_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Node:
    """One value of the text. `start` and `end` index its characters; `line` counts from 1, `column` from 0.

    `value` is text, int, float, bool or None; or the elements; or the pairs of a map, by key. `flow` marks `[…]`,
    `{…}` and aliases.
    """

    value: Any
    start: int
    end: int
    line: int
    column: int
    flow: bool = False

    def data(self) -> Any:
        """The value as plain Python data."""
        if isinstance(self.value, dict):
            return {key: pair.value.data() for key, pair in self.value.items()}
        if isinstance(self.value, list):
            return [element.data() for element in self.value]
        return self.value

    @property
    def last(self) -> int:
        """The index behind its last character, without the comments and blank lines that follow a block."""
        if self.flow or not isinstance(self.value, dict | list) or not self.value:
            return self.end
        if isinstance(self.value, list):
            return int(self.value[-1].last)
        return int(next(reversed(self.value.values())).last)


@dataclass(frozen=True, slots=True)
class Pair:
    """One entry of a map: where its key stands, and its value."""

    start: int
    line: int
    column: int
    value: Node

    @property
    def last(self) -> int:
        """The index behind the value's last character; an alias and an empty value end with themselves."""
        return self.value.last


def read_yaml(text: str, path: str) -> Node:
    """The one document of a text. Raises `ValidationError`, with the line in its message and as `context.line`.

    Refused are tags, merge keys, keys that are no text or there twice, infinities and NaN, more than one document, and
    whatever is longer, deeper or more (aliases counted as often as they stand for something) than the limits.

    Args:
        path: Where the text stands, for errors.
    """
    import yaml  # noqa: PLC0415 - 20 ms that nobody waits for who sends no YAML

    reader = _Reader(path)
    try:
        size = len(text.encode())
        if size > MAX_DOCUMENT_BYTES:
            raise ValidationError(f"a text of {size} bytes, limit {MAX_DOCUMENT_BYTES}", path)
        return reader.document(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except UnicodeEncodeError:
        raise ValidationError("expected Unicode text; half of a surrogate pair stands alone in it", path) from None
    except yaml.YAMLError as error:
        raise _no_yaml(error, path) from None


def lines(node: Node) -> dict[str, int]:
    """The line of every path, written as `wire.place.Place` writes paths; a map's entry has the line of its key."""
    found: dict[str, int] = {}
    waiting: list[tuple[str, Node]] = [("", node)]
    while waiting:
        path, part = waiting.pop()
        found.setdefault(path, part.line)
        if isinstance(part.value, dict):
            for key, pair in part.value.items():
                inner = f"{path}.{_cut(key)}" if path else _cut(key)
                found[inner] = pair.line
                waiting.append((inner, pair.value))
        elif isinstance(part.value, list):
            waiting += [(f"{path}[{index}]", element) for index, element in enumerate(part.value)]
    return found


class _Reader:
    """Builds nodes from events. An alias gives the node of its anchor, counted again with all that is in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.count = 0

    def document(self, events: Iterator[Any]) -> Node:
        import yaml  # noqa: PLC0415

        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
                continue
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._refused(event, "expected one document, and another one begins here")
                continue
            root = self._node(event, events, MAX_DOCUMENT_DEPTH)
        if root is None:
            raise ValidationError("expected a document, and there is none in the text", self.path)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        import yaml  # noqa: PLC0415

        before = self.count
        self._counted(event, 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None:
            raise self._refused(event, f"the tag `{event.tag[:_SHOWN_CHARACTERS]}`: no tags are taken; leave it out")
        if depth == 0:
            raise self._refused(event, f"nested deeper than {MAX_DOCUMENT_DEPTH}")
        if isinstance(event, yaml.ScalarEvent):
            node = self._made(event, event, self._scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            elements = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                elements.append(self._node(inner, events, depth - 1))
            node = self._made(event, inner, elements, flow=bool(event.flow_style))
        else:
            pairs, end = self._pairs(events, depth - 1)
            node = self._made(event, end, pairs, flow=bool(event.flow_style))
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.count - before)
        return node

    def _pairs(self, events: Iterator[Any], depth: int) -> tuple[dict[str, Pair], Any]:
        import yaml  # noqa: PLC0415

        pairs: dict[str, Pair] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if len(pairs) == MAX_KEYS:
                raise self._refused(event, f"more than {MAX_KEYS} keys in one map")
            key = self._key(event, pairs)
            mark = event.start_mark
            pairs[key] = Pair(mark.index, mark.line + 1, mark.column, self._node(next(events), events, depth))
        return pairs, event

    def _key(self, event: Any, pairs: dict[str, Pair]) -> str:
        import yaml  # noqa: PLC0415

        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None or event.anchor is not None:
            raise self._refused(event, "expected text as a key")
        key: str = event.value
        if len(key) > _MAX_KEY_CHARACTERS:
            raise self._refused(event, f"a key of {len(key)} characters, limit {_MAX_KEY_CHARACTERS}")
        if key == "<<" and not event.style:
            raise self._refused(event, "merge keys (`<<`) are not taken; write the entries out")
        if key in pairs:
            raise self._refused(event, f"the key `{_cut(key)}` is there twice, first in line {pairs[key].line}")
        return key

    def _alias(self, event: Any, depth: int) -> Node:
        # An anchor is known once its value is complete, so that no value can hold itself.
        if event.anchor not in self.anchors:
            raise self._refused(event, f"the alias `*{event.anchor[:_SHOWN_CHARACTERS]}` names nothing before it")
        node, size = self.anchors[event.anchor]
        self._counted(event, size)
        if _depth(node) > depth:
            raise self._refused(event, f"nested deeper than {MAX_DOCUMENT_DEPTH}")
        mark = event.start_mark
        return Node(node.value, mark.index, event.end_mark.index, mark.line + 1, mark.column, flow=True)

    def _scalar(self, event: Any) -> object:
        text: str = event.value
        if event.style:  # quoted, or a block
            return text
        if NULL.match(text):
            return None
        if BOOLEAN.match(text):
            return text.lower() == "true"
        if INTEGER.match(text):
            if len(text) > _MAX_DIGITS:
                raise self._refused(event, f"an integer of {len(text)} digits, limit {_MAX_DIGITS}")
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if FLOAT.match(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                raise self._refused(event, f"the number {_cut(text)} is beyond a float's range")
            return number
        if NO_NUMBER.match(text):
            raise self._refused(event, f"`{text}` stands for no Erlang term; quote it if it is text")
        return text

    def _made(self, event: Any, end: Any, value: Any, *, flow: bool = False) -> Node:
        mark = event.start_mark
        return Node(value, mark.index, end.end_mark.index, mark.line + 1, mark.column, flow)

    def _counted(self, event: Any, count: int) -> None:
        self.count += count
        if self.count > MAX_DOCUMENT_NODES:
            raise self._refused(event, f"more than {MAX_DOCUMENT_NODES} values, aliases counted as what they stand for")

    def _refused(self, event: Any, message: str) -> ValidationError:
        return _at_line(message, event.start_mark.line + 1, self.path)


@cache
def core_dumper() -> Any:
    """PyYAML's safe writer, which quotes whatever text `read_yaml` would take for something else, and writes text of
    several lines as a block."""
    import yaml  # noqa: PLC0415

    class CoreDumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's shape
            return True

    def write_text(dumper: Any, text: str) -> Any:
        style = '"' if _OTHER_BREAKS.search(text) else "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    CoreDumper.add_representer(str, write_text)
    for kind, pattern in (("int", INTEGER), ("float", FLOAT), ("float", NO_NUMBER)):
        CoreDumper.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", pattern, list("-+.0123456789"))
    return CoreDumper


def write_yaml(data: object) -> str:
    """Plain data as YAML text in blocks, its keys in order; `read_yaml` gives the same data back."""
    import yaml  # noqa: PLC0415

    written: str = yaml.dump(
        data, Dumper=core_dumper(), sort_keys=False, allow_unicode=True, default_flow_style=False, width=2**31
    )
    return written


def _depth(node: Node) -> int:
    deepest = 1
    waiting = [(node, 1)]
    while waiting:
        part, depth = waiting.pop()
        deepest = max(deepest, depth)
        inner = (
            [pair.value for pair in part.value.values()]
            if isinstance(part.value, dict)
            else part.value
            if isinstance(part.value, list)
            else []
        )
        waiting += [(element, depth + 1) for element in inner]
    return deepest


def _no_yaml(error: Any, path: str) -> ValidationError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    return _at_line(f"no YAML: {what}", None if mark is None else mark.line + 1, path)


def _at_line(message: str, line: int | None, path: str) -> ValidationError:
    failure = ValidationError(message if line is None else f"line {line}: {message}", path)
    failure.context["line"] = line
    return failure


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
