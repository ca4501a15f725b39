"""The tables of docs/reference, out of the package itself: `python scripts/site/reference.py` writes them.

They are committed, so that they are read without a site, and a test holds them to the package. The pages of Python's
modules are made when the site is built, since they need its machinery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from erlbridge.errors import BridgeError, LMFailed
from erlbridge.node.config import default_data, default_workers, settings
from erlbridge.node.http.metrics import Metrics
from erlbridge.node.http.tallies import Histogram, Tallies

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = "<!-- python scripts/site/reference.py writes this page -->"

MODULES = {
    "codec": ("erlbridge.codec", "Terms to bytes and back, and the types that Python lacks."),
    "notation": ("erlbridge.codec.notation", "Terms as people write them, in Elixir and Erlang."),
    "structs": ("erlbridge.codec.structs", "Elixir's structs as Python's own values."),
    "annotate": ("erlbridge.codec.annotate", "Every byte of a term, explained."),
    "frames": ("erlbridge.wire.frames", "Frames out of bytes, without I/O."),
    "messages": ("erlbridge.wire.messages", "What frames say."),
    "answers": ("erlbridge.wire.answers", "What a node says, as a host reads it."),
    "capture": ("erlbridge.wire.capture", "Files of frames."),
    "vocabulary": ("erlbridge.wire.vocabulary", "The atoms that a node may emit."),
    "client": ("erlbridge.tools.client", "A host in Python."),
    "errors": ("erlbridge.errors", "Every error, with its atom and its recovery strategy."),
}
"""The public modules: of each its page, its name, and what it is for. A test wants all in them documented."""


def python_pages() -> Iterator[tuple[str, str]]:
    """Of each public module the page's path in the site, and its Markdown, which mkdocstrings fills; and their list."""
    rows = [(f"[`{module}`]({page}.md)", about) for page, (module, about) in MODULES.items()]
    about = "What is public of the package. Everything else may change from one version to the next."
    yield "reference/python/index.md", f"# Python\n\n{about}\n\n{_table(('module', 'what it holds'), rows)}"
    for page, (module, _about) in MODULES.items():
        yield (
            f"reference/python/{page}.md",
            f"# `{module}`\n\n::: {module}\n    options: {{show_root_heading: false}}\n",
        )


def tables() -> dict[str, str]:
    """Of each page in docs/reference its file's name and its Markdown."""
    return {"errors.md": errors(), "settings.md": setting_table(), "metrics.md": metrics()}


def errors() -> str:
    """Every error that may be an answer."""
    rows = [
        (
            f"`:{atom}`",
            "`:retry` or `:fatal`" if owner is LMFailed else f"`:{owner.strategy}`",
            _about(owner),
            f"`{owner.__name__}`, one of `{owner.__mro__[1].__name__}`",
        )
        for atom, owner in sorted(BridgeError.owners.items())
    ]
    return _page(
        "Errors",
        "Every `error_type` that a node answers with. A host goes by the error's own `recovery_strategy` and "
        "`retryable`; the class is what `erlbridge.tools.client` raises: a `HostError` where the host must send "
        "something else, a `WorkerError` where a job failed, a `NodeError` where the node cannot take it, an "
        "`OperatorError` where something on the machine is amiss. What `context` holds stands in "
        "[the wire](../wire.md#errors).",
        _table(("error_type", "recovery_strategy", "when", "class"), rows),
    )


def setting_table() -> str:
    """Every setting of a node."""
    shown = {
        "workers": (default_workers(), "one a processor, at most 4"),
        "data": (default_data(), "`$XDG_DATA_HOME/erlbridge`"),
    }
    rows = []
    for setting in settings().values():
        default = f"`{text}`" if (text := setting.kind.shown(setting.default)) else "none"
        if setting.name in shown:
            computed, default = shown[setting.name]
            assert setting.default == computed, f"{setting.name} has another default than its row says"
        rows.append((f"`{setting.name}`", default, setting.about, setting.kind.expected.replace("|", "\\|")))
    return _page(
        "Settings",
        "Every setting of a node, as a file has it. As an argument `worker_hard_bytes` is `--worker-hard-bytes`, in "
        "the environment `ERLBRIDGE_WORKER_HARD_BYTES`; [Configuration](../operations.md#configuration) says which is "
        "stronger.",
        _table(("setting", "default", "what it is", "taken"), rows),
    )


def metrics() -> str:
    """Every family of metrics at `/metrics`."""
    text, _kind = Metrics(_Sample()).text("text/plain")  # type: ignore[arg-type]
    rows = []
    for family in text_string_to_metric_families(text.decode()):
        if family.name.startswith("process_"):  # the operating system's, by the client library
            continue
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        if family.name == "erlbridge_build":
            labels = []  # a label for each version
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        name = family.name.removesuffix(suffix) + suffix
        rows.append((f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation))
    return _page(
        "Metrics",
        "Every metric at `/metrics` of a node whose setting `http` is set. [Metrics and traces]"
        "(../operating.md#metrics-and-traces) says how they are scraped, and which to be woken for. Beside "
        "them stand the client library's `process_…`, of the node itself.",
        _table(("metric", "type", "labels", "what it is"), sorted(rows)),
    )


class _Sample:
    """A chronicle in which everything has happened once, so that each family shows its labels."""

    def numbers(self) -> tuple[dict[str, Any], Tallies]:
        """As `Chronicle.numbers`."""
        tallies = Tallies()
        tallies.answered("predict", "ok", 1.0, 1, from_cache=True)
        tallies.durations["predict"] = Histogram()
        tallies.request_bytes["predict"] += 1
        for counts in tallies.usage.values():
            counts["predict"] += 1
        tallies.deaths["signal"] += 1
        tallies.logs["info"] += 1
        used = {"rss_bytes": 1, "cpu_percent": 1.0, "descriptors": 1, "max_descriptors": 1}
        health = {
            "status": "healthy",
            "uptime_ms": 1,
            "versions": {"erlbridge": "0"},
            "queue": {"waiting": 0, "running": 0, "capacity": 1},
            "pool": {"idle": 1, "busy": 0, "starting": 0, "stopping": 0},
            "calls": {"open": 0},
            "dropped_events": {"log": 0},
            "node": used,
            "forkserver": used,
            "workers": [used],
            "machine": {"available_bytes": 1, "disk_free_bytes": 1},
            "audit": {"lost": 0},
        }
        return health, tallies


def _about(owner: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((owner.__doc__ or "").partition("\n\n")[0].split())


def _page(title: str, about: str, table: str) -> str:
    return f"# {title}\n\n{WRITTEN}\n\n{about}\n\n{table}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    directory = ROOT / "docs" / "reference"
    directory.mkdir(exist_ok=True)
    for name, text in tables().items():
        (directory / name).write_text(text)
