"""`python -m faultpoints`: tries every fault at every point, or a sample of them; writes the table into a page."""

from __future__ import annotations

import argparse
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faultpoints.conversations import CONVERSATIONS
from faultpoints.table import put_table
from faultpoints.trial import Tried, attempt, record


def main() -> int:
    """0 when every promise was kept, 1 when one was broken."""
    names = [conversation.name for conversation in CONVERSATIONS]
    parser = argparse.ArgumentParser(prog="faultpoints", description=__doc__)
    parser.add_argument("conversations", nargs="*", choices=[[], *names], help="all of them when none is given")
    parser.add_argument("--sample", type=int, default=0, help="so many trials of each conversation; 0: all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="trials in whose names this stands, such as 'rename datasets/* #1'")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--write", type=Path, help="the page that gets the table, between its two marks")
    options = parser.parse_args()
    tried: list[Tried] = []
    for conversation in CONVERSATIONS:
        if options.conversations and conversation.name not in options.conversations:
            continue
        recorded = record(conversation)
        plan = [(point, fault) for point, fault in recorded.plan if options.only in f"{point}: {fault}"]
        if options.sample:
            plan = random.Random(options.seed).sample(plan, min(options.sample, len(plan)))
        sys.stdout.write(f"{conversation.name}: {len(recorded.points)} points, {len(plan)} trials\n")
        with ThreadPoolExecutor(options.at_once) as pool:
            for outcome in pool.map(lambda trial, what=recorded: attempt(what, *trial), plan):
                tried.append(outcome)
                if outcome.broken:
                    sys.stdout.write(f"BROKEN: {outcome}\n")
                elif not outcome.met:
                    sys.stdout.write(f"not met: {outcome}\n")
                sys.stdout.flush()
    broken = [outcome for outcome in tried if outcome.broken]
    met = sum(outcome.met for outcome in tried)
    sys.stdout.write(f"seed {options.seed}: {len(tried)} trials, {met} met their point, {len(broken)} broke a promise\n")
    if options.write is not None:
        put_table(options.write, tried)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
