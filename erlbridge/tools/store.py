"""`erlbridge store …`: what is stored is shown, verified, cleared up, and moved in one file.

All of it works beside running nodes: things appear and go whole, and the next request finds what is there.
"""

from __future__ import annotations

import contextlib
import json as json_text
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import BinaryIO, Final, TextIO

from erlbridge.core.summaries import summary
from erlbridge.errors import NotFound, ValidationError
from erlbridge.limits import PROGRAM_HEADER_BYTES
from erlbridge.node.config import NodeConfig
from erlbridge.store.archive import Moved
from erlbridge.store.archive_export import export
from erlbridge.store.archive_import import take_in
from erlbridge.store.contents import Contents
from erlbridge.store.gc import Policy, Removed, collect
from erlbridge.store.index import Entry
from erlbridge.store.store import Store
from erlbridge.store.verify import UNNOTED, total_bytes, verify
from erlbridge.tools.importing.run import ended_by_signals
from erlbridge.tools.json_view import as_json
from erlbridge.tools.opening import STANDARD, opened, written
from erlbridge.tools.progress import progress
from erlbridge.tools.wording import moment, size

_KINDS: Final = ("program", "model", "dataset", "report", "result", "cache")


@dataclass(frozen=True, slots=True)
class Ages:
    """How many seconds things stay that nobody uses, where the command was told; None leaves it to the settings."""

    datasets_s: float | None
    programs_s: float | None
    models_s: float | None


class _Count:
    """Adds up what a bar is told piece by piece."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, count: int) -> int:
        self.total += count
        return self.total


def show(config: NodeConfig, names: Sequence[str], *, json: bool) -> int:
    """Prints how much of what is stored, or what is known of each name. Raises `NotFound`."""
    with opened(config) as store:
        if names:
            found = [_described(store, name) for name in names]
            if json:
                print(json_text.dumps(found, indent=2))
            else:
                print("\n\n".join("\n".join(f"{key}: {value}" for key, value in one.items()) for one in found))
            return 0
        kinds = {}
        for shelf in store.shelves:
            there = list(shelf.found())
            kinds[shelf.register.index.kind] = {"count": len(there), "bytes": sum(entry.size_bytes for entry in there)}
        going = list(collect(store, Policy(None, aside_s=0.0), only_look=True))
        aside = {"count": len(going), "bytes": sum(one.size_bytes for one in going)}
    if json:
        print(json_text.dumps({"data": str(store.data)} | kinds | {"aside": aside}, indent=2))
        return 0
    print(store.data)
    for kind, counted in (kinds | {"set aside or unfinished": aside}).items():
        print(f"{_many(kind, counted['count']):>32}  {size(counted['bytes']):>10}")
    return 0


def verify_all(config: NodeConfig, *, json: bool) -> int:
    """Prints what is not as it was put; 0 when nothing was lost."""
    counted: Counter[str] = Counter()
    bytes_read = _Count()
    faults = []
    with opened(config) as store, progress("verify", total_bytes(store)) as bar:
        for one in verify(store, lambda count: bar.reached(bytes_read.add(count))):
            counted[one.kind] += 1
            if one.fault is not None:
                faults.append(one)
                if not json:
                    bar.say(f"{one.name}: {one.fault}, {one.what}")
    lost = sum(one.fault != UNNOTED for one in faults)
    if json:
        checked = {kind: counted[kind] for kind in _KINDS}
        report = {"ok": not lost, "checked": checked, "bytes": bytes_read.total, "faults": list(map(asdict, faults))}
        print(json_text.dumps(report, indent=2))
    else:
        what = ", ".join(_many(kind, counted[kind]) for kind in _KINDS)
        print(f"{what}, {size(bytes_read.total)}: " + (f"{lost} lost" if lost else "ok"))
    return int(lost > 0)


def gc(config: NodeConfig, ages: Ages, *, only_look: bool, json: bool) -> int:
    """Removes what need not be kept, and prints what that was."""
    kept_s = config.dataset_keep_s or None
    policy = Policy(kept_s if ages.datasets_s is None else ages.datasets_s, ages.programs_s, ages.models_s)
    removed: list[Removed] = []
    with opened(config) as store:
        for one in collect(store, policy, only_look=only_look):
            removed.append(one)
            if not json:
                print(f"{'would remove' if only_look else 'removed'} {one.kind} {one.name}, {size(one.size_bytes)}")
    total = sum(one.size_bytes for one in removed)
    if json:
        print(json_text.dumps({"removed": list(map(asdict, removed)), "bytes": total}, indent=2))
    else:
        print(f"{len(removed)} things, {size(total)}")
    return 0


def export_to(config: NodeConfig, target: str, *, json: bool) -> int:
    """Writes all that is stored into a file, which is whole or absent, or to standard output; 1 when something damaged
    had to be left out. What is said of it goes to standard error when the archive goes to standard output."""
    if target == STANDARD and sys.stdout.isatty():
        raise ValidationError("standard output is a terminal; give a file, or a program's input", "FILE")
    with (
        opened(config) as store,
        ended_by_signals(),
        written(target) as out,
        progress("export", total_bytes(store)) as bar,
    ):
        count = _Count()
        moved = list(export(store, out, lambda read: bar.reached(count.add(read))))
    _report("exported", moved, sys.stderr if target == STANDARD else sys.stdout, json=json)
    return int(any(one.fault for one in moved))


def import_from(config: NodeConfig, origin: str, *, json: bool) -> int:
    """Takes in an archive. Raises `ValidationError` for one that is damaged or none; what came before that stays."""
    with opened(config) as store, ended_by_signals(), _read(origin) as source:
        length = os.fstat(source.fileno()).st_size or None
        with progress("import", length) as bar:
            count = _Count()
            taken = take_in(store, source, config.dataset_quota_bytes, lambda read: bar.reached(count.add(read)))
            moved = list(taken)
    _report("imported", moved, sys.stdout, json=json)
    return 0


def _described(store: Store, name: str) -> dict[str, object]:
    for shelf in store.shelves:
        prefix = shelf.kind.prefix if isinstance(shelf, Contents) else "sha256:"
        if not name.startswith(prefix):
            continue
        lying = [entry for entry in shelf.found() if entry.name == name]
        entry: Entry | None = shelf.register.index.get(name) or next(iter(lying), None)
        if not lying or entry is None:
            break
        times = {"stored_at": moment(entry.stored_at_ns), "used_at": moment(entry.used_at_ns)}
        about: dict[str, object] = {}
        if shelf is store.programs:
            about = {key: as_json(value, key, lenient=True) for key, value in _summary(shelf, entry).items()}
        elif shelf is store.datasets:
            about = {"examples": store.datasets.describe(name).examples}
        return {"name": name, "bytes": lying[0].size_bytes} | times | about
    raise NotFound(f"nothing is stored under the name {name}")


def _summary(programs: Contents, entry: Entry) -> dict[str, object]:
    found = summary(programs.about(entry, PROGRAM_HEADER_BYTES) or b"")
    return {"signature" if key == "name" else key: value for key, value in found.items()}


def _report(done: str, moved: Sequence[Moved], out: TextIO, *, json: bool) -> None:
    faults = [one for one in moved if one.fault]
    known = sum(one.known for one in moved)
    total = sum(one.size_bytes for one in moved if not one.fault)
    if json:
        counted = Counter(one.kind for one in moved if not one.fault)
        report = {done: dict(counted), "bytes": total, "known": known, "left_out": list(map(asdict, faults))}
        out.write(json_text.dumps(report, indent=2) + "\n")
        return
    for one in faults:
        out.write(f"left out {one.name}: {one.fault}\n")
    before = f", {known} of them were here before" if known else ""
    out.write(f"{done} {len(moved) - len(faults)} things, {size(total)}{before}\n")


def _many(kind: str, count: int) -> str:
    plural = {"cache": "cached"}.get(kind, f"{kind}s" if kind in _KINDS and count != 1 else kind)
    return f"{count} {plural}"


@contextlib.contextmanager
def _read(origin: str) -> Iterator[BinaryIO]:
    if origin == STANDARD:
        yield sys.stdin.buffer
        return
    with open(origin, "rb") as file:
        yield file
