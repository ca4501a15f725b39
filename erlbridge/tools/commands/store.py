"""The arguments of `erlbridge store …`."""

from __future__ import annotations

import argparse
import re
from typing import Final

from erlbridge.tools.command import Subcommands, printed, runs, subcommand, subcommands, takes_data, takes_json

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_SPAN: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw]?)\Z")


def declare(parser: argparse.ArgumentParser) -> None:
    """`show`, `verify`, `gc`, `export` and `import`."""
    commands = subcommands(parser)
    shown = subcommand(
        commands,
        "show",
        "what is stored, by kind; or what is known of some programs, models and datasets",
        examples="erlbridge store show\nerlbridge store show program:9f86d081884c7d65… --json",
    )
    shown.add_argument("names", nargs="*", metavar="NAME", help="such as program:…, offline:… or sha256:…, whole")
    takes_json(shown)
    takes_data(shown)
    runs(shown, _show)
    verified = subcommand(
        commands,
        "verify",
        "read everything; what is damaged is set aside, and the index made right; exits with 1 for what was lost",
        examples="erlbridge store verify\nerlbridge store verify --data /var/lib/erlbridge --json",
    )
    takes_json(verified)
    takes_data(verified)
    runs(verified, _verify)
    _declare_gc(commands)
    exported = subcommand(
        commands,
        "export",
        "write programs, models and datasets into one file, a tar; damaged ones are left out, and it exits with 1",
        examples="erlbridge store export backup.tar\nerlbridge store export - | zstd > backup.tar.zst",
    )
    exported.add_argument("file", metavar="FILE", help="- is standard output")
    takes_json(exported)
    takes_data(exported)
    runs(exported, _export)
    imported = subcommand(
        commands,
        "import",
        "take in what `export` has written; what is there already stays",
        examples="erlbridge store import backup.tar\nzstd -dc backup.tar.zst | erlbridge store import -",
    )
    imported.add_argument("file", metavar="FILE", help="- is standard input")
    takes_json(imported)
    takes_data(imported)
    runs(imported, _import)


def _declare_gc(commands: Subcommands) -> None:
    collected = subcommand(
        commands,
        "gc",
        "remove what need not be kept: datasets that nobody uses, what was set aside or left unfinished a day ago",
        examples=(
            "erlbridge store gc --dry-run\nerlbridge store gc --datasets-older-than 7d\n"
            "erlbridge store gc --programs-older-than 52w --models-older-than 52w"
        ),
    )
    collected.add_argument(
        "--datasets-older-than", type=_span, metavar="AGE", help="since they were used last (dataset_keep_s)"
    )
    for kind in ("programs", "models"):
        collected.add_argument(
            f"--{kind}-older-than", type=_span, metavar="AGE", help="since they were used last; else all of them stay"
        )
    collected.add_argument("--dry-run", action="store_true", help="only say what would go")
    takes_json(collected)
    takes_data(collected)
    runs(collected, _gc)


def _show(options: argparse.Namespace) -> int:
    from erlbridge.tools import store  # noqa: PLC0415 - what the help does without

    return printed(options, lambda resolved: store.show(resolved.config, options.names, json=options.json))


def _verify(options: argparse.Namespace) -> int:
    from erlbridge.tools import store  # noqa: PLC0415

    return printed(options, lambda resolved: store.verify_all(resolved.config, json=options.json))


def _gc(options: argparse.Namespace) -> int:
    from erlbridge.tools import store  # noqa: PLC0415

    ages = store.Ages(options.datasets_older_than, options.programs_older_than, options.models_older_than)
    return printed(
        options, lambda resolved: store.gc(resolved.config, ages, only_look=options.dry_run, json=options.json)
    )


def _export(options: argparse.Namespace) -> int:
    from erlbridge.tools import store  # noqa: PLC0415

    return printed(options, lambda resolved: store.export_to(resolved.config, options.file, json=options.json))


def _import(options: argparse.Namespace) -> int:
    from erlbridge.tools import store  # noqa: PLC0415

    return printed(options, lambda resolved: store.import_from(resolved.config, options.file, json=options.json))


def _span(text: str) -> float:
    """An age in seconds.

    >>> _span("36h"), _span("1.5d"), _span("90")
    (129600.0, 129600.0, 90.0)
    """
    found = _SPAN.match(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected an age such as 36h, 30d or 52w, got {text!r}")
    return float(found[1]) * _UNITS[found[2]]
