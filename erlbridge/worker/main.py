"""The worker: reads a job, runs it, writes its outcome and its events. One job at a time, on the main thread.

It speaks the same frames and terms with the node as the node does with the host:

    {:deadline, deadline_ms, left_s}                  what the next job has; said only when it has a deadline
    {:trace, traceparent}                             the host's span that the next job is below; said only when named
    {:time, deadline_ms, left_s}                      what the job that runs has from now on; nil without a deadline
    {:run, verb, payload, %{name => bytes}}           the next job, with the programs and trained models it names, and
                                                      where the datasets lie
    :cancel                                           stop the job that runs at its next model call
    {:result, number, outcome}                        what became of a call, as `core.functions` writes it
    {:booted, report}                                 said once, before the first job; the report is `core.sandbox`'s
    {:progress, map}
    {:chunk, map}                                     a piece of an output that is streamed
    {:call, number, timeout_ms, name, arguments}      for the host; the number is never used again
    {:program, program_id, bytes}                     for the node to keep, as trained models are; said before the
                                                      answer that names it, and before the report on it
    {:log, level, text, logger, dropped}              from Python's logging; `dropped` more before it were too many
    {:ok, result}
    {:error, error_map}

A second thread reads while a job lasts, so that a cancel arrives; when the node is gone the process ends.
"""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from erlbridge.codec import Atom, term_to_binary
from erlbridge.core.datasets import Dataset, with_datasets
from erlbridge.core.jobs import Chunk, Outcome, Progress, parse_job
from erlbridge.core.sandbox import Report
from erlbridge.core.spelling import Spelling
from erlbridge.errors import (
    BridgeError,
    Cancelled,
    EncodeError,
    InternalError,
    PythonRuntimeError,
    SerializationError,
)
from erlbridge.limits import MAX_WORKER_FRAME_BYTES
from erlbridge.programs.run import run
from erlbridge.programs.traces import traced
from erlbridge.store.reports import report_name
from erlbridge.wire.messages import encode, error_map
from erlbridge.wire.vocabulary import atom, atom_keys
from erlbridge.worker.calls import Calls
from erlbridge.worker.datasets import StoredRows
from erlbridge.worker.deadline import Deadline
from erlbridge.worker.logs import Logs
from erlbridge.worker.outbox import Outbox
from erlbridge.worker.printing import flush_c_output
from erlbridge.worker.reading import Reading
from erlbridge.worker.stacks import Stacks
from erlbridge.worker.throttle import Throttle

_RUN, _CANCEL, _BOOTED, _STACKS = Atom("run"), Atom("cancel"), Atom("booted"), Atom("stacks")
_DEADLINE, _TIME, _TRACE = Atom("deadline"), Atom("time"), Atom("trace")
_OK, _ERROR = Atom("ok"), Atom("error")
_PROGRESS, _CHUNK, _PROGRAM, _RESULT = Atom("progress"), Atom("chunk"), Atom("program"), Atom("result")


class _Asked(NamedTuple):
    """A job as it comes."""

    verb: str
    payload: object
    programs: Mapping[str, bytes]
    traceparent: str | None


def work(wire: socket.socket, report: Report, stacks: Stacks) -> None:
    """Serves jobs from the node until it is gone; `report` says how this process is confined."""
    desk = _Desk(wire, stacks)
    desk.logs.install()
    desk.reading.start()
    desk.say((_BOOTED, report.to_term()))
    while True:
        desk.finish(_run(desk.reading.next_job(), desk))


def _run(asked: _Asked, desk: _Desk) -> bytes:
    """The frame that answers a job, whatever happens in it."""
    verb, payload, programs, traceparent = asked
    failure: BridgeError
    try:
        with traced(verb, traceparent), ExitStack() as opened:
            job = parse_job(verb, _with_datasets(payload, programs, opened))
            outcome: Outcome = run(job, desk, programs, Spelling.of(payload))
        for name, content in outcome.models.items():
            desk.keep(name, content)
        if outcome.program_id is not None:
            desk.keep(outcome.program_id, outcome.program or b"")
            if outcome.report is not None:
                desk.keep(report_name(outcome.program_id), outcome.report)
        frame = encode((_OK, outcome.result), head=1)
        if len(frame) <= MAX_WORKER_FRAME_BYTES:
            return frame
        failure = SerializationError(
            f"result of {len(frame)} bytes, limit {MAX_WORKER_FRAME_BYTES}; ask for less at once",
            context={"limit": MAX_WORKER_FRAME_BYTES},
        )
    except BridgeError as error:
        failure = error
    except BaseException as error:  # noqa: BLE001 - SystemExit in user code is one more failed job
        failure = PythonRuntimeError(f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    try:
        return encode((_ERROR, error_map(failure)), head=1)
    except (EncodeError, KeyError) as error:
        unsaid = InternalError(f"the job failed, and its error cannot be sent: {type(error).__name__}: {error}")
        return encode((_ERROR, error_map(unsaid)), head=1)


def _with_datasets(payload: object, told: Mapping[str, bytes], opened: ExitStack) -> object:
    """The payload with the datasets that it names, open until the job is over."""
    found: dict[str, Dataset] = {}

    def find(name: str) -> Dataset:
        if name not in found:
            dataset = Dataset.heard(told[name])
            rows = StoredRows(dataset)
            opened.callback(rows.close)
            found[name] = replace(dataset, rows=rows)
        return found[name]

    return with_datasets(payload, find)


class _Desk:
    """The worker's end of the wire: what runs asks it whether to go on, and tells it how far it is."""

    def __init__(self, wire: socket.socket, stacks: Stacks) -> None:
        self._stacks = stacks
        self._outbox = Outbox(wire)
        self.logs = Logs(self._outbox.offer)
        self._traceparent: str | None = None
        self._cancelled = threading.Event()
        self._throttle = Throttle()
        self._calls = Calls(self._outbox.send)
        self._deadline = Deadline(self._calls.stop)
        self.reading = Reading(wire, self._take, self._deadline)

    def _take(self, term: object) -> _Asked | None:
        match term:
            case Atom() if term == _CANCEL:
                self._cancelled.set()
                self._calls.stop(Cancelled("cancelled as asked"))
            case Atom() if term == _STACKS:
                self._stacks.write()
            case (Atom() as kind, int() as deadline_ms, float() as left_s) if kind == _DEADLINE:
                self._deadline.of_next(deadline_ms, left_s)
            case (Atom() as kind, int() | None as deadline_ms, float() | None as left_s) if kind == _TIME:
                self._deadline.of_this(deadline_ms, left_s)
            case (Atom() as kind, bytes() as traceparent) if kind == _TRACE:
                self._traceparent = traceparent.decode()
            case (Atom() as kind, int() as number, outcome) if kind == _RESULT:
                self._calls.take(number, outcome)
            case (_, Atom() as verb, payload, dict() as programs):
                # Frames arrive in order: a cancel before this one meant an earlier job.
                self._cancelled.clear()
                self._calls.begin()
                self._deadline.begin()
                named = {key.decode(): value for key, value in programs.items()}
                above, self._traceparent = self._traceparent, None
                return _Asked(str(verb), payload, named, above)
        return None

    def say(self, term: object) -> None:
        self._outbox.send(term_to_binary(term))

    def finish(self, frame: bytes) -> None:
        """Sends a job's outcome; progress that was held back for it is void now, and so are its calls."""
        self._deadline.end()
        self._calls.stop(InternalError("the job is over"))
        self._throttle.reset()
        self.logs.settle()
        flush_c_output()
        self._outbox.send(frame)

    # -- core.jobs.Observer

    def progress(self, state: Progress) -> None:
        if self._throttle.lets_pass(state):
            self._outbox.send(encode((_PROGRESS, progress_map(state)), head=1))

    def chunk(self, piece: Chunk) -> None:
        state = atom_keys({"field": piece.field, "text": piece.text, "is_last": piece.is_last})
        self._outbox.send(encode((_CHUNK, state), head=1))

    def keep(self, program_id: str, program: bytes) -> None:
        self.say((_PROGRAM, program_id, program))

    def stop_reason(self) -> BridgeError | None:
        return Cancelled("cancelled as asked") if self._cancelled.is_set() else self._deadline.reason()

    def call(self, name: Atom | bytes, arguments: list[object], timeout_ms: int | None) -> Future[object]:
        self.reading.listen()
        return self._calls.ask(name, arguments, timeout_ms)


def progress_map(state: Progress) -> dict[object, object]:
    """Progress as the host sees it."""
    return atom_keys(
        {
            "stage": atom(state.stage),
            "done": state.done,
            "total": state.total,
            "score": state.score,
            "best_score": state.best_score,
            "lm_calls": state.lm_calls,
            "cost_usd": state.cost_usd,
            "message": state.message,
        }
    )
