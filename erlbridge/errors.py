"""Every error of the bridge, each owning one wire atom and one recovery strategy.

The branches say who must act: the host (it sent something wrong), the worker or the node (something of ours failed),
or the operator (something is missing or misconfigured). `to_term` lives in `wire.messages`; this module imports
nothing of ours, so that the codec can raise from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

RETRY = "retry"
FALLBACK = "fallback"
RESTART_PROCESS = "restart_process"
FATAL = "fatal"
STRATEGIES = (RETRY, FALLBACK, RESTART_PROCESS, FATAL)


class BridgeError(Exception):
    """Root of the bridge's errors.

    A subclass that names `error_type` owns that wire atom; a second owner is refused at import. A subclass without
    one (such as `DecodeError`) shares its parent's.

    Args:
        message: What happened, with the number and the limit where there is one, and what to do about it.
        context: Details for the host, as a mapping of published names to terms.
        traceback: Python's traceback of the cause, where one helps.
        retry_after_ms: When the host may try again, in milliseconds.
    """

    error_type: ClassVar[str] = ""
    strategy: ClassVar[str] = FATAL
    owners: ClassVar[dict[str, type[BridgeError]]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        atom = cls.__dict__.get("error_type")
        if atom is None:
            return
        if atom in BridgeError.owners:
            raise TypeError(f"{cls.__name__} claims {atom!r}, which {BridgeError.owners[atom].__name__} owns")
        if cls.strategy not in STRATEGIES:
            raise TypeError(f"{cls.__name__} has strategy {cls.strategy!r}, expected one of {STRATEGIES}")
        BridgeError.owners[atom] = cls

    def __init__(
        self,
        message: str,
        *,
        context: Mapping[str, object] | None = None,
        traceback: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.context: dict[str, object] = dict(context or {})
        self.traceback = traceback
        self.retry_after_ms = retry_after_ms

    @property
    def recovery_strategy(self) -> str:
        """What the host should do: `retry`, `fallback`, `restart_process` or `fatal`."""
        return self.strategy

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed when sent again."""
        return self.recovery_strategy == RETRY


# -- the host must act: what it sent cannot be taken --------------------------------------------------------------


class HostError(BridgeError):
    """The host sent something that cannot be taken."""


class SerializationError(HostError):
    """Not a term, not encodable as one, or over a limit."""

    error_type = "serialization_error"


class DecodeError(SerializationError):
    """Bytes that are not a term in External Term Format.

    Attributes:
        offset: Index of the byte at which the input stopped making sense.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} at offset {offset}", context={"offset": offset})
        self.offset = offset


class EncodeError(SerializationError):
    """A Python value that no Erlang term stands for."""


class NotationError(SerializationError):
    """Text that is no term in the notation it was read in.

    Attributes:
        bare: What is wrong, without the place.
        line: The line at which the text stopped making sense, counted from 1.
        column: The character of that line, counted from 1.
    """

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}", context={"line": line, "column": column})
        self.bare = message
        self.line = line
        self.column = column


class ValidationError(HostError):
    """A term, but not a valid request.

    Attributes:
        path: The place in the request, such as `payload.training_data[3].category`.
    """

    error_type = "validation_error"

    def __init__(self, message: str, path: str) -> None:
        super().__init__(f"{path}: {message}", context={"path": path})
        self.path = path


class UnknownVerb(HostError):
    """A verb that this node does not know."""

    error_type = "unknown_verb"


class DuplicateId(HostError):
    """An id that is still in flight was used again."""

    error_type = "duplicate_id"


class NotFound(HostError):
    """A program, dataset or request that the node does not hold."""

    error_type = "not_found"


class FrameError(HostError):
    """The framing is lost; there is no next boundary, so the node says this and exits."""

    error_type = "frame_error"


class TransferError(HostError):
    """A transfer's chunks do not fit together, or hold no dataset; `context.reason` says which."""

    error_type = "transfer_error"


class Cancelled(HostError):
    """The job ended because the host asked for it; `context` holds the best result so far."""

    error_type = "cancelled"
    strategy = FALLBACK


class BudgetExceeded(HostError):
    """The job reached a limit that its request set; `context` holds the best result so far."""

    error_type = "budget_exceeded"
    strategy = FALLBACK


class CallbackFailed(HostError):
    """An Elixir function that DSPy called failed."""

    error_type = "callback_error"
    strategy = FALLBACK


# -- the worker failed ---------------------------------------------------------------------------------------------


class WorkerError(BridgeError):
    """A job failed in its worker."""


class OptimizationError(WorkerError):
    """DSPy refused or failed the work."""

    error_type = "dspy_optimization_error"
    strategy = FALLBACK


class PythonRuntimeError(WorkerError):
    """Any other exception in the worker."""

    error_type = "python_runtime_error"
    strategy = RESTART_PROCESS


class ProcessCrashed(WorkerError):
    """The worker died; `context.reason` says how."""

    error_type = "process_crashed"
    strategy = RETRY


class DeadlineExceeded(WorkerError):
    """The request's deadline passed."""

    error_type = "timeout_error"
    strategy = RETRY


class LMFailed(WorkerError):
    """The model endpoint failed.

    Args:
        kind: `rate_limit`, `auth`, `billing`, `server`, `timeout`, `transport`, `configuration` or `invalid_request`.
        transient: Whether the endpoint may answer when asked again.
    """

    error_type = "lm_error"

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        transient: bool,
        traceback: str | None = None,
        retry_after_ms: int | None = None,
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(
            message, context={**(context or {}), "kind": kind}, traceback=traceback, retry_after_ms=retry_after_ms
        )
        self.kind = kind
        self.transient = transient

    @property
    def recovery_strategy(self) -> str:
        return RETRY if self.transient else FATAL


# -- the node cannot take it now, or has a fault of its own ---------------------------------------------------------


class NodeError(BridgeError):
    """The node cannot take the request now."""


class Overloaded(NodeError):
    """The queue is full; nothing was started."""

    error_type = "overloaded"
    strategy = RETRY


class ShuttingDown(NodeError):
    """The node is going away."""

    error_type = "shutting_down"
    strategy = RETRY


class InternalError(NodeError):
    """A fault of the bridge itself."""

    error_type = "internal_error"


# -- the operator must act --------------------------------------------------------------------------------------------


class OperatorError(BridgeError):
    """Something is missing or misconfigured on this machine."""


class StorageFailed(OperatorError):
    """The disk refuses: it is full, or may not be written. What was stored before is as it was."""

    error_type = "storage_error"
    strategy = RETRY


class MissingPackage(OperatorError):
    """A Python package is missing; the message says what to install."""

    error_type = "import_error"
