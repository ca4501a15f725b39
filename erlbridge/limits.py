"""Every cap of the bridge with its reason, in one place. Knows numbers; imports nothing of ours."""

from __future__ import annotations

from typing import Final

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Longest frame taken or sent. What is larger travels as a transfer and never stalls a scheduler."""

MAX_WORKER_FRAME_BYTES: Final = 256 * 1024 * 1024
"""Longest frame between node and worker: a request with the programs it names, or a result before it is cut down."""

MAX_ID_SHARE: Final = 8
"""An id may take up to this part of a frame: an answer holds its request's id, and must have room for more."""

MAX_DEPTH: Final = 10_000
"""Deepest nesting of a decoded term. Far beyond any real payload, yet it bounds the decoder's own stack."""

MAX_TERM_BYTES: Final = 256 * 1024 * 1024
"""Most bytes that a compressed term may unpack to; a few kilobytes can otherwise claim gigabytes."""

MAX_INFLATION: Final = 1032
"""Largest ratio that deflate can reach. A compressed term that declares more is lying, and is refused unread."""

MAX_KEYS: Final = 10_000
"""Most keys of a map that is read as a request, a config, a signature or an example."""

MAX_SIGNATURE_CHARACTERS: Final = 64 * 1024
"""Longest signature given as text."""

MAX_ENUM_VALUES: Final = 10_000
"""Most values of an enum; each of them stands in every prompt."""

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
"""Longest YAML text. Workflows have some kilobytes; a parser without libyaml takes eleven seconds for this much."""

MAX_DOCUMENT_NODES: Final = 100_000
"""Most values of a workflow, aliases of YAML counted as often as they stand for something: nine lines of them can
otherwise claim a billion."""

MAX_DOCUMENT_DEPTH: Final = 60
"""Deepest nesting of a workflow; a value of an example may be nested 64 deep."""

MAX_WORKFLOW_STEPS: Final = 256
"""Most steps of a workflow."""

MAX_WORKFLOW_REFERENCES: Final = 2000
"""Most `{{…}}` of a workflow that name steps or inputs; each may have to be compared with every step's name."""

MAX_PROMPT_CHARACTERS: Final = 4 * 1024 * 1024
"""Longest prompt that a workflow's step hands to the host beside the outputs so far: more than any model reads, and
with these still a frame."""

MAX_ATOM_CHARACTERS: Final = 255
"""The BEAM's own limit on an atom's length, in characters."""

MAX_ATOM_CACHE: Final = 4096
"""Distinct atoms the decoder keeps interned; a peer that sends ever new ones costs time, never memory."""

MAX_INTEGER_BYTES: Final = 4_194_296
"""Longest integer that the BEAM reads back; it says `badarg` to one byte more."""

MAX_DECIMAL_BYTES: Final = 64 * 1024
"""Longest integer that is shown in decimal, some 158,000 digits; a longer one is shown in hexadecimal, which takes time
in proportion to its length."""

MAX_DECIMAL_DIGITS: Final = 1_000_000
"""Longest integer that is read in decimal: half a second of work. Hexadecimal is read in proportion to its length."""

MAX_NOTATION_CHARACTERS: Final = 64 * 1024 * 1024
"""Longest text that is read as a term. Terms take some ten times as much memory as their text."""

MAX_KEY_NESTING: Final = 8
"""How deep maps may stand in keys of maps in keys of maps. Each level copies what identifies its keys once more:
without a limit a hostile peer's megabytes become gigabytes."""

MAX_QUEUE: Final = 64
"""Requests that may wait for a worker. Beyond it the node answers `overloaded` at once instead of growing."""

MAX_SPAN_MS: Final = 366 * 86_400_000
"""Longest deadline or grace that a request may name, a year; more is a mistake, and no clock has to count further."""

MAX_WAIT_S: Final = 3600.0
"""Longest single wait of the node's loop; `poll(2)` counts milliseconds in 32 bits."""

CREDIT: Final = 256
"""Events the node may send before the host grants more."""

PROGRESS_CREDIT: Final = 16
"""The last of the credit, which log lines leave to progress: a job that prints much must not hide how far it is."""

MAX_LOG_LINE_BYTES: Final = 8 * 1024
"""Longest line of captured output passed on as one log event; the rest of the line is dropped."""

MAX_LOG_LINES_PER_S: Final = 500
"""Lines of one process that become log events in the long run; each costs node and host more than its printing did."""

MAX_LOG_LINES: Final = 500
"""Lines that it may print at once before that holds: a traceback of each thread, a table."""

MAX_WAITING_TEXT_BYTES: Final = 64 * 1024
"""Streamed text of one field that waits for credit. Longer text goes to the host as a debt of credit: chunks are never
lost, and joining ever longer texts would cost time by their square."""

MAX_UNSENT_EVENT_BYTES: Final = 1024 * 1024
"""What may wait for a host that does not read before it gets no further events, whatever credit it has granted."""

MAX_UNSENT_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""The same before its further requests are left unread in the pipe."""

MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""The same before workers' answers are left unread in their sockets: the host's own reading then sets the pace."""

MAX_SHUTDOWNS: Final = 64
"""Shutdowns whose answers may wait for the node's end: their ids stay in memory, for as long as the grace is."""

MAX_ASKERS: Final = 1000
"""Requests that may wait for one job under one idempotency key: as many as a bridge of `priv_stub` has in flight."""

MAX_META_BYTES: Final = 1024
"""Longest text in a request's `meta`. It stays with the request for as long as that waits: names, not data."""

MAX_QUEUED_BYTES: Final = 512 * 1024 * 1024
"""Jobs that wait, as frames for their workers: 64 of them could hold a gigabyte otherwise."""

MAX_OPEN_CALLS_OF_JOB: Final = 256
"""Elixir functions that one job may wait for at once: as many as it may have threads."""

MAX_OPEN_CALLS: Final = 1024
"""The same for all jobs of a node: the host runs a process for each, and calls are never dropped."""

NESTED_WORKERS: Final = 4
"""Workers beside the others for what Elixir functions ask while jobs wait for them. A function that leads to itself
would otherwise go on until the memory is full."""

MAX_REASON_CHARACTERS: Final = 2000
"""How much of an Elixir function's reason for a failure an error repeats."""

CANCEL_GRACE_S: Final = 3.0
"""How long a cancelled job may take to stop at its next model call before its worker is killed."""

TRACE_GRACE_S: Final = 0.2
"""How long an answer or a kill waits for the stack of a worker that is late or stalled."""

DEATH_GRACE_S: Final = 2.0
"""How long a killed worker may take to be reported dead before its job is answered without that. The kernel may need a
second to take back gigabytes; what hangs longer hangs in a disk or a stopped parent."""

MAX_STACK_CHARACTERS: Final = 16 * 1024
"""How much of a worker's stack an error repeats."""

MAX_PRIORITY: Final = 10
"""Priorities go from the negative of this to this: few enough that each gets its turn."""

PROGRAMS_REMEMBERED: Final = 64
"""Programs by which the scheduler knows a worker again; older ones are forgotten."""

SHUTDOWN_GRACE_S: Final = 10.0
"""How long a draining shutdown waits for running jobs when the host names no grace of its own."""

BOOT_TIMEOUT_S: Final = 60.0
"""How long a worker may take to be ready, the loading of DSPy on a slow disk included, before it is given up."""

PROGRESS_INTERVAL_S: Final = 0.05
"""Least time between two progress events of one stage of a job; what falls between is folded into the next."""

MAX_LISTED: Final = 1000
"""Most programs or datasets of one list: for each a file may be opened. The answer says where to go on."""

LISTED: Final = 100
"""The same where the request names no limit."""

PROGRAM_HEADER_BYTES: Final = 64 * 1024
"""What is read of a stored program to list it. Its demos, which make programs large, stand behind what is listed."""

LM_TIMEOUT_S: Final = 60.0
"""Read timeout of a model endpoint when the request names none. DSPy's own ten minutes hide a dead endpoint."""

MAX_RESPONSE_BYTES: Final = 32 * 1024 * 1024
"""Longest answer of a model endpoint, a picture's included; an endless one would fill the worker's memory."""

MAX_CHUNK_BYTES: Final = 1024 * 1024
"""Longest chunk of a transfer: some milliseconds of work for whoever takes it, and other frames pass in between."""

MAX_TRANSFER_NAME_BYTES: Final = 256
"""Longest name of a transfer."""

MAX_EXAMPLE_BYTES: Final = 16 * 1024 * 1024
"""Longest example of a dataset: one would fit into a frame, and a worker reads one at a time."""

MAX_OPEN_TRANSFERS: Final = 32
"""Transfers whose files are open, two each; one beyond is closed, and read again from the disk when it goes on."""

MAX_WAITING_CHUNK_BYTES: Final = 64 * 1024 * 1024
"""What may wait for the disk before the host is told to slow down."""

MAX_TRANSFER_WINDOW: Final = 16
"""Chunks of one transfer that may wait for the disk; one more is `overloaded`: no transfer takes all the room."""

MAX_ZSTD_WINDOW_LOG: Final = 23
"""Longest window of a Zstandard stream, 8 MiB as a power of two: each transfer that is open holds one. `zstd` needs
more from level 20 on only."""

MAX_WAITING_DISK_REQUESTS: Final = 1024
"""The same of requests of any size."""

TRANSFER_KEPT_S: Final = 86_400.0
"""How long a transfer that nobody goes on with stays on the disk, and how long a finished one is remembered by name."""

MAX_OUTGOING_BYTES: Final = 512 * 1024 * 1024
"""Answers above the frame limit that wait to go out as chunks; one more is refused as too long."""

MAX_ANSWERS: Final = 200_000
"""Models' answers that a data directory keeps; the oldest are dropped."""

MAX_ANSWERS_BYTES: Final = 256 * 1024 * 1024
"""Bytes of those answers, at 1 to 3 kB each."""

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""Longest answer that is kept; one of images or sound would drive out thousands of others."""

MAX_RESULTS: Final = 2000
"""Results that a data directory keeps for requests with an idempotency key, and as many more in the cache."""

MAX_RESULTS_BYTES: Final = 256 * 1024 * 1024
"""Bytes of those results; an optimization's has some 10 kB to 1 MB."""

MAX_REPORT_BYTES: Final = 8 * 1024 * 1024
"""Longest report that is kept of an optimization; what it may hold of a run of any size is less."""

MAX_STOP_MARGIN_S: Final = 1.0
"""A job stops by itself so long before its deadline, or at a tenth of its time if that is less: its error can then hold
the best program so far, and be written and read before the deadline passes."""

MAX_BOOT_FAILURES: Final = 5
"""Rounds of workers that may die before one boots; after that the node ends instead of restarting for ever."""
