"""`python -m repl_transcript FILE`: captures a real node, has the REPL look at what was said, and writes that down."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from node_client import NodeClient
from tickets import optimization, prediction

from erlbridge.codec import Atom

COMMANDS = (
    ("The last of what was said, then what went wrong.", ("frames last=12", "frames error")),
    ("How long which verbs took.", ("stats",)),
    (
        "One request from its arrival to its answer, on the host's wire and the worker's. The gap shows where its time "
        "went: the node's worker had to boot first.",
        ("timeline 1",),
    ),
    ("A frame in both notations.", ("show {second}", "show -2 erlang")),
    ("Bytes that are no term: where they stop making sense, and what was expected there.", ("hex {broken}",)),
    ("Where two answers differ.", ("diff {first} {second}",)),
    (
        "A term that is typed is encoded at once, and sent to a fresh node, which the REPL starts.",
        ("{:health_check, 99, %{}}", "send {:predict, 100, %{signature: 1}}", "timeline 100"),
    ),
    ("The whole capture against a fresh node: does it still answer as it did?", ("replay",)),
)
_HEAD = """\
# A session of the REPL

Made by `scripts/repl_transcript` from a real node: its worker optimizes a program offline and answers with it, a
request is refused, and bytes come that are no term. In a terminal it has colours, and lines are cut at its width;
here they are cut at 150 characters.
"""
_WIDTH = 150
_LINES = 40


def converse(capture: Path, data: Path) -> None:
    """Has a node captured while it works."""
    node = NodeClient("--workers", "1", "--capture", str(capture), data=data)
    node.ready()
    node.send((Atom("credit"), 10_000))
    _, made = node.ask("optimize_signature", optimization(24, optimizer=Atom("labeled_few_shot"), seed=1))
    stored = {key: value for key, value in prediction().items() if key != Atom("signature")}
    node.ask("predict", prediction())
    node.ask("predict", {**stored, Atom("program"): made[Atom("program_id")]})
    node.ask("predict", {**stored, Atom("program"): b"program:" + b"0" * 64})
    node.send_frame(b"\x83h\x03w\x07predicta\x05t\x00\x00\x00\x02w\x05inputm\x00\x00\x00\x40cut")
    node.answer(None)
    node.ask("health_check", {})
    node.close()


def carried_out(capture: Path, *lines: str, json: bool = False) -> str:
    """What the REPL prints."""
    command = [
        sys.executable,
        "-m",
        "erlbridge",
        "repl",
        str(capture),
        "--node",
        "--workers 1",
        *(["--json"] if json else []),
    ]
    ran = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    return ran.stdout


def number(capture: Path, filter_text: str) -> str:
    """The number of the frame that a filter means."""
    return carried_out(capture, f"frames {filter_text} last=1", json=True).split('"n": "')[1].split('"')[0]


def transcript(capture: Path) -> str:
    """The session as Markdown."""
    names = {
        "broken": number(capture, "kind=broken"),
        "first": number(capture, "id=2 head=ok"),
        "second": number(capture, "id=3 head=ok"),
    }
    parts = [_HEAD]
    for about, lines in COMMANDS:
        parts.append(f"{about}\n\n```")
        for line in lines:
            for name, value in names.items():
                line = line.replace(f"{{{name}}}", value)  # noqa: PLW2901 - the line with its numbers
            printed = carried_out(capture, line) if not line.startswith("timeline 100") else sent_timeline(capture)
            cut = [each if len(each) <= _WIDTH else each[: _WIDTH - 1] + "…" for each in printed.splitlines()]
            more = [f"… {len(cut) - _LINES} more lines"] if len(cut) > _LINES else []
            parts.append("\n".join((f"erlbridge> {line}", *cut[:_LINES], *more, "")))
        parts[-1] = parts[-1].rstrip() + "\n```\n"
    return "\n".join(parts)


def sent_timeline(capture: Path) -> str:
    """What was sent is part of the session that sent it."""
    printed = carried_out(capture, "send {:predict, 100, %{signature: 1}}", "timeline 100")
    return "#" + printed.rpartition("\n#")[2]


def main() -> None:
    """Writes the file that is named."""
    with tempfile.TemporaryDirectory() as directory:
        capture = Path(directory) / "node.ecap"
        converse(capture, Path(directory) / "data")
        Path(sys.argv[1]).write_text(transcript(capture).replace(directory, "/captures"))


if __name__ == "__main__":
    main()
