"""`python -m soak`: soaks a node, prints what came of it, and writes docs/reliability.md when given measures."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from soak.report import report, summary
from soak.run import soak


def main() -> int:
    """0 when every promise was kept, 1 when one was broken."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--measures", type=Path, help="what the fault matrix's tests measured, JSON lines")
    parser.add_argument("--write", type=Path, help="where the report goes")
    options = parser.parse_args()
    soaked = soak(options.minutes * 60, options.seed, progress=True)
    sys.stdout.write("\n" + summary(soaked) + "\n")
    if options.write is not None:
        lines = options.measures.read_text().splitlines() if options.measures is not None else []
        options.write.write_text(report(lines, soaked))
    for broken in soaked.broken():
        sys.stdout.write(f"BROKEN: {broken}\n")
    return 1 if soaked.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
