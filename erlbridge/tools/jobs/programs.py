"""`erlbridge programs`: the programs of a data directory, by way of a node: what is checked there is checked here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from erlbridge.errors import NotFound, ValidationError
from erlbridge.tools.jobs import inputs
from erlbridge.tools.jobs.optimizing import write_program
from erlbridge.tools.jobs.running import Session, success, with_node
from erlbridge.tools.json_view import as_json, line
from erlbridge.tools.wording import moment, plain, size
from erlbridge.wire.answers import named, text

_PREFIX = "program:"
_LEAST_DIGITS = 4
_PAGE = 1000


def list_all(options: argparse.Namespace) -> int:
    """Prints every stored program, the newest first."""
    return with_node(options, lambda session, _: _list(options, session))


def show(options: argparse.Namespace) -> int:
    """Prints what a program is: its fields, instructions, demos, scores and costs."""
    return with_node(options, lambda session, _: _show(options, session))


def get(options: argparse.Namespace) -> int:
    """Writes a program to a file, or as JSON to standard output."""
    return with_node(options, lambda session, _: _get(options, session))


def put(options: argparse.Namespace) -> int:
    """Stores the programs of files and prints their ids."""
    return with_node(options, lambda session, _: _put(options, session))


def delete(options: argparse.Namespace) -> int:
    """Deletes programs, or none when one of the names is not there."""
    return with_node(options, lambda session, _: _delete(options, session))


def _list(options: argparse.Namespace, session: Session) -> int:
    for entry in _stored(session):
        if options.json:
            print(line(success(entry)))
            continue
        scores = named(entry.get("scores"))
        after = scores.get("score_after")
        score = f"{after:.3f}" if isinstance(after, int | float) else "-"
        made = f"{_word(entry, 'name'):<20} {_word(entry, 'module'):<16} {_word(entry, 'optimizer'):<28} {score:>5}"
        stored_at, count = entry["stored_at_ms"], entry["bytes"]
        assert isinstance(stored_at, int) and isinstance(count, int)  # noqa: S101, PT018 - the node's own
        print(f"{text(entry['program_id'])}  {made}  {size(count):>9}  {moment(stored_at * 1_000_000)}")
    return 0


def _show(options: argparse.Namespace, session: Session) -> int:
    program_id, program = _fetch(session, options.name)
    if options.json:
        print(line({"program_id": program_id, "program": as_json(program, "program", lenient=True)}))
        return 0
    entries = named(program)
    print(program_id)
    for name in ("name", "module", "optimizer", "dspy", "dataset"):
        if (value := entries.get(name)) is not None:
            print(f"  {name}: {plain(text(value))}")
    for name in ("scores", "usage"):
        figures = {key: value for key, value in named(entries.get(name)).items() if value is not None}
        if figures:
            print(f"  {name}: " + ", ".join(f"{key} {as_json(value, key)}" for key, value in figures.items()))
    for name, state in named(entries.get("state")).items():
        _print_predictor(name, named(state))
    return 0


def _print_predictor(name: str, state: Mapping[str, object]) -> None:
    print(f"  {plain(name)}:")
    instructions = named(state.get("signature")).get("instructions")
    if instructions is not None:
        print("".join(f"    {plain(part)}\n" for part in text(instructions).splitlines()), end="")
    demos = state.get("demos")
    for demo in demos if isinstance(demos, list) else ():
        print(f"    demo {plain(line(as_json(demo, 'demo', lenient=True)))}")


def _get(options: argparse.Namespace, session: Session) -> int:
    write_program(options.output, _fetch(session, options.name)[1])
    return 0


def _put(options: argparse.Namespace, session: Session) -> int:
    for file in options.files:
        program = inputs.program(file)
        if isinstance(program, str):
            raise ValidationError("expected a file that ends in .etf or .json", file)
        program_id = text(session.ask("put_program", {"program": program})["program_id"])
        print(line({"program_id": program_id, "file": file}) if options.json else program_id)
    return 0


def _delete(options: argparse.Namespace, session: Session) -> int:
    known = [text(entry["program_id"]) for entry in _stored(session)]
    for program_id in dict.fromkeys(_whole(name, known) for name in options.names):
        session.ask("delete_program", {"program_id": program_id})
        print(line({"deleted": program_id}) if options.json else f"deleted {program_id}")
    return 0


def _fetch(session: Session, name: str) -> tuple[str, object]:
    program_id = _whole(name, [text(entry["program_id"]) for entry in _stored(session)])
    return program_id, session.ask("get_program", {"program_id": program_id})["program"]


def _stored(session: Session) -> Iterator[dict[str, object]]:
    after: object = None
    while True:
        page = session.ask("list_programs", {"limit": _PAGE, **({} if after is None else {"after": after})})
        entries = page["programs"]
        yield from map(named, entries if isinstance(entries, list) else ())
        if (after := page["next"]) is None:
            return


def _whole(name: str, known: list[str]) -> str:
    """A program's id, which may be given by so many of its first digits that no other has the same."""
    digits = name.removeprefix(_PREFIX).lower()
    if len(digits) < _LEAST_DIGITS or set(digits) - set("0123456789abcdef"):
        raise ValidationError(f"expected a program's id, or {_LEAST_DIGITS} or more of its first digits", repr(name))
    found = [one for one in known if one.startswith(_PREFIX + digits)]
    if len(found) > 1:
        raise ValidationError(f"{len(found)} programs begin so; give more digits", repr(name))
    if not found:
        raise NotFound(f"no program {name} is stored here; `erlbridge programs list` shows those that are")
    return found[0]


def _word(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    return "-" if value is None else plain(text(value))
