"""From what was typed to a request's payload: programs, examples, inputs and the configuration of a job."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from erlbridge.codec import Atom, binary_to_term
from erlbridge.core.datasets import PREFIX
from erlbridge.errors import DecodeError, ValidationError
from erlbridge.node.config import NodeConfig, settings
from erlbridge.tools.dataset import take_in, whole_name
from erlbridge.tools.documents import is_document, read_bytes, read_document, read_json, read_text
from erlbridge.tools.importing.run import import_rows
from erlbridge.tools.importing.shape import Shape
from erlbridge.tools.importing.sources import Source
from erlbridge.tools.opening import opened
from erlbridge.wire.place import Place, nearest

_DATASET: Final = "dataset:"
_TERM: Final = ".etf"
_PARTS: Final = 9
"""Digits behind the point of a share, as many as the node compares."""


def node_settings(options: argparse.Namespace) -> dict[str, str]:
    """The settings that arguments gave, by name. Raises `ValidationError`."""
    found = {} if options.data is None else {"data": str(options.data)}
    known = settings()
    for text in options.node:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in known:
            raise ValidationError(f"expected NAME=VALUE of a setting, got {text!r}{nearest(name, known)}", "--node")
        found[name] = value
    return found


def source(options: argparse.Namespace) -> dict[str, object]:
    """`signature`, `pipeline` or `program`. Raises `ValidationError`, `OSError`."""
    if options.signature is not None:
        return {"signature": _signature(options.signature, options.instructions)}
    if options.instructions is not None:
        raise ValidationError("they belong to --signature", "--instructions")
    if options.pipeline is not None:
        return {"pipeline": read_document(options.pipeline)}
    return {"program": program(options.program)}


def program(text: str) -> object:
    """A stored program's id, or what a file holds."""
    if text.startswith("program:") and not Path(text).exists():
        return text
    if text.endswith(_TERM):
        try:
            return binary_to_term(read_bytes(Path(text)))
        except DecodeError as error:
            raise ValidationError(f"no term: {error.message}", text) from None
    if is_document(text):
        return read_document(Path(text))
    raise ValidationError(
        f"expected the id of a stored program or a file that ends in .etf or .json, got {text!r}; "
        "`erlbridge programs list` shows those that are stored",
        "program",
    )


def config(options: argparse.Namespace) -> dict[str, object]:
    """A request's `config`: the file's, with what arguments say in its place. Raises `ValidationError`, `OSError`."""
    found: dict[str, object] = {}
    if options.job is not None:
        held = read_document(options.job)
        if not isinstance(held, dict):
            raise ValidationError("expected a map, what stands in a request's `config`", str(options.job))
        found = held
    if options.lm is not None:
        found["lm"] = options.lm
    for name in ("api_base", "api_key_env"):
        if (value := getattr(options, name)) is not None:
            lm = found.get("lm")
            found["lm"] = {**(lm if isinstance(lm, dict) else {"model": lm}), name: value}
    for name in ("optimizer", "module", "metric", "seed"):
        if (value := getattr(options, name, None)) is not None:
            found[name] = value
    for text in options.set:
        _set(found, text)
    if found.get("lm") is None:
        raise ValidationError("expected a model: --lm openai/gpt-4o-mini, say, or --lm offline", "--lm")
    return found


def meta(options: argparse.Namespace) -> dict[str, object]:
    """A request's `meta`."""
    given = {"deadline_ms": options.deadline, "idempotency_key": options.key}
    return {name: value for name, value in given.items() if value is not None}


def dataset(config: NodeConfig, names: Sequence[str], argument: str) -> tuple[object, ...]:
    """`{:dataset, name}` of examples: the dataset that is named, or the one that files become.

    Files always become a dataset, whatever their size: no request is then too long for a frame, and the next job on
    the same file finds it there. Raises as `import_files`.
    """
    known = [name for name in names if name.startswith((PREFIX, _DATASET))]
    with opened(config) as store:
        if known:
            if len(names) > 1:
                raise ValidationError("expected files, or one dataset", argument)
            return Atom("dataset"), whole_name(store.datasets, known[0].removeprefix(_DATASET))
        sources = [Source.named(name, None, None) for name in names]
        return Atom("dataset"), take_in(config, store, sources, Shape())[0].name


def share(named: tuple[object, ...], holdout: float, seed: int) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """A dataset in two parts: what is learned from, and what is held out to choose by."""
    take = round(1 - holdout, _PARTS)
    return (*named, {"seed": seed, "take": take}), (*named, {"seed": seed, "skip": take})


def rows(names: Sequence[str]) -> list[object]:
    """Every row of files, in memory. Raises `ValidationError`, `OSError`."""
    held = _Rows()
    import_rows([Source.named(name, None, None) for name in names], Shape(), held, 0)
    return held.terms


def entries(texts: Iterable[str], argument: str) -> dict[str, object]:
    """Values by name: `name=text`, `name:=JSON`, `name=@FILE` for the text of a file. Raises as `config`."""
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        json = name.endswith(":")
        name = name.removesuffix(":").strip()
        if not (name and equals):
            raise ValidationError(f"expected NAME=TEXT, NAME:=JSON or NAME=@FILE, got {text!r}", argument)
        if name in found:
            raise ValidationError(f"{name!r} stands twice", argument)
        if json:
            found[name] = read_json(value, f"{argument} {name}")
        else:
            found[name] = read_text(Path(value[1:])) if value.startswith("@") else value
    return found


class _Rows:
    def __init__(self) -> None:
        self.terms: list[object] = []

    def add_term(self, term: bytes) -> None:
        self.terms.append(binary_to_term(term))


def _signature(text: str, instructions: str | None) -> object:
    held = read_document(Path(text)) if is_document(text) and "->" not in text else text
    if instructions is None:
        return held
    if isinstance(held, dict):
        return {**held, "instructions": instructions}
    return _fields(text) | {"instructions": instructions}


def _fields(text: str) -> dict[str, object]:
    """A signature of text as a map, which has a place for instructions."""
    from erlbridge.core.signatures import field_term, parse_signature  # noqa: PLC0415 - few need it

    parsed = parse_signature(Place(text, "--signature"))
    return {
        "input_fields": [field_term(field) for field in parsed.input_fields],
        "output_fields": [field_term(field) for field in parsed.output_fields],
    }


def _set(found: dict[str, object], text: str) -> None:
    path, equals, value = text.partition("=")
    *parents, last = (part.strip() for part in path.split("."))
    if not (equals and last and all(parents)):
        raise ValidationError(f"expected KEY=VALUE such as options.num_trials=10, got {text!r}", "--set")
    for parent in parents:
        inner = found.setdefault(parent, {})
        if isinstance(inner, str):
            # `--metric f1 --set metric.field=answer`: what was named gets settings.
            inner = found[parent] = {"model" if parent.endswith("lm") else "name": inner}
        if not isinstance(inner, dict):
            raise ValidationError(f"{parent!r} holds no map that {last!r} could stand in", f"--set {path}")
        found = inner
    try:
        found[last] = read_json(value, path)
    except ValidationError:
        found[last] = value
