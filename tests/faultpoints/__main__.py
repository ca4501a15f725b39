"""`python -m faultpoints`: tries every fault at every point, or a sample of them; writes the table into a page."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faultpoints.commands import COMMANDS, Commands, is_known
from faultpoints.conversations import CONVERSATIONS
from faultpoints.table import put_table
from faultpoints.trial import Recorded, Tried, record


def main() -> int:
    """0 when every promise was kept, 1 when one was broken."""
    names = [found.name for found in (*CONVERSATIONS, *COMMANDS)]
    parser = argparse.ArgumentParser(prog="faultpoints", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"of {', '.join(names)}; all of them when none is given")
    parser.add_argument("--sample", type=int, default=0, help="so many trials of each; 0: all")
    parser.add_argument(
        "--each", type=int, default=0, help="of an operation on a kind of file, its first so many; 0: all"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="trials in whose names this stands, such as 'rename datasets/* #1'")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--write", type=Path, help="the page that gets the table, between its two marks")
    options = parser.parse_args()
    tried: list[Tried] = []
    for name, subject in _subjects(options.what):
        plan = [(point, fault) for point, fault in subject.plan if options.only in f"{point}: {fault}"]
        if options.each:
            plan = [(point, fault) for point, fault in plan if point.number <= options.each]
        if options.sample:
            plan = random.Random(options.seed).sample(plan, min(options.sample, len(plan)))
        sys.stdout.write(f"{name}: {len(subject.points)} points, {len(plan)} trials\n")
        with ThreadPoolExecutor(options.at_once) as pool:
            for outcome in pool.map(lambda trial, subject=subject: subject.attempt(*trial), plan):
                tried.append(outcome)
                if outcome.broken or not outcome.met:
                    sys.stdout.write(f"{'BROKEN: ' if outcome.broken else ''}{outcome}\n")
                sys.stdout.flush()
    broken = [outcome for outcome in tried if outcome.broken]
    met = sum(outcome.met for outcome in tried)
    sys.stdout.write(
        f"seed {options.seed}: {len(tried)} trials, {met} met their point, {len(broken)} broke a promise\n"
    )
    if options.write is not None:
        put_table(options.write, tried)
    return 1 if broken else 0


def _subjects(names: list[str]) -> Iterator[tuple[str, Recorded | Commands]]:
    """What is tried, each made ready when it is its turn."""
    for conversation in CONVERSATIONS:
        if not names or conversation.name in names:
            yield conversation.name, record(conversation)
    for command in COMMANDS:
        if (not names or command.name in names) and is_known(command):
            commands = Commands(command)
            yield command.name, commands
            commands.close()


if __name__ == "__main__":
    sys.exit(main())
