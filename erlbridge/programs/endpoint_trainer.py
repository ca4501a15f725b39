"""Fine-tuning at OpenAI, or at any endpoint that speaks its files and fine-tuning jobs.

Not DSPy's own `OpenAIProvider`: it uses one client for the whole process, with address, key, organisation and headers
of the environment, whatever the request says; it sleeps twenty seconds at a time; and its jobs go on when ours is
stopped. Not the `openai` client either, which takes organisation, project and headers from the environment and follows
redirects with the training data. Five requests need no more than `httpx`.

Address and key are those that the request names for the model. When the job is stopped, the training is cancelled at
the endpoint; the uploaded data is deleted however it ends.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from erlbridge.core.configs import Config
from erlbridge.core.lms import parse_lm
from erlbridge.errors import LMFailed, ValidationError
from erlbridge.programs.guard import Guard
from erlbridge.programs.predictions import text
from erlbridge.programs.trainers import OPTIONS_PATH, Conversation, Trained, Trainer
from erlbridge.wire.place import Place, listed

PREFIX: Final = "openai/"

_OPENAI: Final = "https://api.openai.com/v1"
_HYPERPARAMETERS: Final = ("n_epochs", "batch_size", "learning_rate_multiplier")
_SETTINGS: Final = ("suffix", "seed")
_EXPECTED: Final = {"suffix": "a text of 1 to 64 characters", "seed": "an integer from 0"}
_RUNNING_STATES: Final = ("validating_files", "queued", "running", "paused")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}\Z")

_MAX_ANSWER_BYTES: Final = 1024 * 1024
"""Longest answer that is read. A job's description takes a few kilobytes."""

_SHOWN_CHARACTERS: Final = 500
_ATTEMPTS: Final = 4
_PATIENT_ATTEMPTS: Final = 9
"""Attempts to hear of a training that goes on meanwhile: about two minutes."""

_BACKOFF: Final = wait_exponential(multiplier=0.25, max=30.0)
_LONGEST_WAIT_MS: Final = 30_000
"""Longest wait that an endpoint may ask for; beyond it the error goes to the host."""

_FIRST_POLL_S: Final = 0.05
_LONGEST_POLL_S: Final = 10.0
_POLL_GROWTH: Final = 1.5
_NAP_S: Final = 0.02
_FAREWELL_S: Final = 2.0
"""How long the last requests of a stopped training may take, within the grace of a cancelled job."""

_log = logging.getLogger(__name__)


class EndpointTrainer(Trainer):
    """Trains one model at one endpoint.

    Args:
        guard: The job's.
        address: The `api_base`; None is OpenAI itself.
        key: Sent there and nowhere else.
        timeout_s: How long one request may take.
    """

    def __init__(self, guard: Guard, *, address: str | None, key: str | None, timeout_s: float) -> None:
        super().__init__(guard)
        self._address, self._key, self._timeout_s = address, key, timeout_s

    def check(self, config: Config) -> None:
        """Refuses a training without a key of its own, a limit that it cannot keep, and options that nobody knows."""
        if self._key is None:
            raise ValidationError(
                "a training sends data away under a key: give `api_key`, or name its variable in `api_key_env`",
                "payload.config.lm",
            )
        if config.budget.max_cost_usd is not None:
            raise ValidationError(
                "no price is known for a training; limit the job by max_seconds or max_lm_calls instead",
                "payload.config.budget.max_cost_usd",
            )
        options = config.options.get("train_kwargs")
        for name, value in (options if isinstance(options, Mapping) else {}).items():
            _check_option(name, value)

    def train(self, model: str, data: Sequence[Conversation], options: Mapping[str, Any]) -> Trained:
        """Uploads the data, has the model trained and waits for it."""
        assert self._key is not None  # noqa: S101 - `check` has seen to it
        with (
            self.guard.minding_connections(),
            _Endpoint(self._address or _OPENAI, self._key, self._timeout_s, self.guard) as endpoint,
        ):
            found = _train(endpoint, self.guard, model.removeprefix(PREFIX), data, options)
        return Trained(_named(found), len(data), tokens=_count(found.get("trained_tokens")))


def _train(
    endpoint: _Endpoint, guard: Guard, model: str, data: Sequence[Conversation], options: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The description of the job that succeeded. Whatever else happens, nothing of it goes on at the endpoint."""
    guard.progress.training("uploading")
    lines = b"".join(json.dumps(dict(item)).encode() + b"\n" for item in data)
    upload = {"file": ("training.jsonl", lines, "application/jsonl")}
    uploaded = endpoint.ask(
        "POST", "/files", retried=_is_transient, leaves="/files", files=upload, data={"purpose": "fine-tune"}
    )
    body: dict[str, Any] = {"model": model, "training_file": _id(uploaded)}
    body |= {name: options[name] for name in _SETTINGS if name in options}
    if chosen := {name: options[name] for name in _HYPERPARAMETERS if name in options}:
        body["hyperparameters"] = chosen
    # Refused for its rate it has not begun; after any other failure it may have, and is not paid for twice.
    job = endpoint.ask("POST", "/fine_tuning/jobs", retried=_is_rate_limit, leaves="/fine_tuning/jobs", json=body)
    guard.unpriced()
    number, wait_s = _id(job), _FIRST_POLL_S
    while (status := job.get("status")) != "succeeded":
        if status in ("failed", "cancelled"):
            endpoint.forget("/fine_tuning/jobs")
            raise _failed(number, str(status), job.get("error"))
        guard.progress.training(str(status) if status in _RUNNING_STATES else "waiting")
        guard.sleep(wait_s)
        wait_s = min(wait_s * _POLL_GROWTH, _LONGEST_POLL_S)
        job = endpoint.ask("GET", f"/fine_tuning/jobs/{number}", retried=_is_transient, attempts=_PATIENT_ATTEMPTS)
    endpoint.forget("/fine_tuning/jobs")
    guard.progress.training("succeeded")
    return job


class _Endpoint:
    """One address under one key. A request in flight keeps nobody from stopping; what was left there is cleared away
    at the end: a job that goes on is cancelled, a file deleted."""

    def __init__(self, address: str, key: str, timeout_s: float, guard: Guard) -> None:
        self._guard = guard
        self._client = httpx.Client(
            base_url=address.rstrip("/"),
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            timeout=timeout_s,
            follow_redirects=False,
        )
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="erlbridge-training")
        self._left: dict[str, Future[Mapping[str, Any]]] = {}

    def __enter__(self) -> _Endpoint:
        return self

    def __exit__(self, *raised: object) -> None:
        clearing = self._threads.submit(self._clear)
        try:
            clearing.result(_FAREWELL_S)
        except TimeoutError:
            _log.warning("what the training left at the endpoint is not cleared away after %s s", _FAREWELL_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if clearing.done():
            self._client.close()

    def forget(self, path: str) -> None:
        """Nothing that was made under this path goes on."""
        self._left.pop(path, None)

    def ask(
        self,
        method: str,
        path: str,
        *,
        retried: Callable[[BaseException], bool],
        attempts: int = _ATTEMPTS,
        leaves: str | None = None,
        **content: Any,
    ) -> Mapping[str, Any]:
        """The endpoint's answer. Raises `LMFailed`, or the guard's `Stop` as soon as there is a reason.

        Args:
            method: As HTTP has it.
            path: Below the address.
            retried: Which failures are tried again.
            attempts: How often at most.
            leaves: Under which path the request leaves something behind.
            content: Passed to httpx.
        """
        retrying = Retrying(
            stop=stop_after_attempt(attempts),
            retry=retry_if_exception(retried),
            wait=_wait_s,
            sleep=self._guard.sleep,
            reraise=True,
        )
        return retrying(self._attempt, method, path, leaves, content)

    def _attempt(self, method: str, path: str, leaves: str | None, content: Mapping[str, Any]) -> Mapping[str, Any]:
        self._guard.check()
        future = self._threads.submit(self._send, method, path, content)
        if leaves is not None:
            self._left[leaves] = future
        while True:
            try:
                return future.result(_NAP_S)
            except TimeoutError:
                self._guard.check()

    def _send(self, method: str, path: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            with self._client.stream(method, path, **content) as response:
                body = b""
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise _lm_failed("server", f"more than {_MAX_ANSWER_BYTES} bytes of answer")
        except httpx.TimeoutException as error:
            raise _lm_failed("timeout", f"{method} {path}: {type(error).__name__}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _lm_failed("transport", f"{method} {path}: {type(error).__name__}: {error}") from error
        found = _object(body)
        if not response.is_success:
            raise _refused(response, f"{method} {path}", found)
        if found is None:
            raise _lm_failed("server", f"{method} {path}: no JSON object, but {len(body)} bytes", transient=False)
        return found

    def _clear(self) -> None:
        """Cancels the job first: it costs money. One whose beginning was still being asked for is waited for."""
        for path, method, end in (("/fine_tuning/jobs", "POST", "/cancel"), ("/files", "DELETE", "")):
            future = self._left.pop(path, None)
            if future is None or future.exception() is not None:
                continue
            try:
                self._send(method, f"{path}/{_id(future.result())}{end}", {"timeout": _FAREWELL_S})
            except LMFailed as failure:
                _log.warning("what the training left at the endpoint may still be there: %s %s", path, failure.kind)


# -- what an endpoint says --------------------------------------------------------------------------------------------


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _id(found: Mapping[str, Any]) -> str:
    number = found.get("id")
    if not isinstance(number, str) or not _ID.match(number):
        raise _lm_failed("server", "the endpoint gave no id that can be used", transient=False)
    return number


def _named(job: Mapping[str, Any]) -> str:
    """The trained model as later requests name it."""
    name = job.get("fine_tuned_model")
    try:
        if isinstance(name, str) and name:
            return parse_lm(Place(f"{PREFIX}{name.removeprefix(PREFIX)}", "fine_tuned_model")).model
    except ValidationError:
        pass
    raise _lm_failed("server", "the training succeeded, and the endpoint names no model that can be used", False)


def _count(found: object) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**63 else None


def _short(said: object) -> str:
    """Words of an endpoint that an error may repeat; a lone surrogate in them could not be sent."""
    return text(str(said or "")[:_SHOWN_CHARACTERS])


def _failed(number: str, status: str, error: object) -> LMFailed:
    said = error if isinstance(error, Mapping) else {}
    code, message = str(said.get("code") or ""), _short(said.get("message"))
    return LMFailed(
        f"the training {number} {'failed' if status == 'failed' else 'was cancelled'} at the endpoint"
        + (f": {message}" if message else ""),
        kind="invalid_request" if code.startswith("invalid") else "server",
        transient=False,
        context={"job": number},
    )


def _refused(response: httpx.Response, what: str, found: Mapping[str, Any] | None) -> LMFailed:
    status = response.status_code
    said = (found or {}).get("error")
    error = said if isinstance(said, Mapping) else {}
    message = _short(error.get("message") or said)
    match status:
        case 401 | 403:
            kind = "auth"
        case 402:
            kind = "billing"
        case 429:
            kind = "billing" if error.get("code") == "insufficient_quota" else "rate_limit"
        case 408:
            kind = "timeout"
        case 404 | 405 | 501:
            kind, message = "configuration", message or "nothing at this address speaks OpenAI's fine-tuning"
        case _ if 300 <= status < 400:
            kind, message = "configuration", "redirects are not followed"
        case _:
            kind = "server" if status >= 500 else "invalid_request"
    waits = response.headers.get("Retry-After", "")
    retry_after_ms = int(waits) * 1000 if waits.isdecimal() and len(waits) < 6 else None
    return _lm_failed(
        kind, f"{what}: status {status}{f': {message}' if message else ''}", retry_after_ms=retry_after_ms
    )


def _lm_failed(
    kind: str, message: str, transient: bool | None = None, *, retry_after_ms: int | None = None
) -> LMFailed:
    passing = kind in ("rate_limit", "server", "timeout", "transport") if transient is None else transient
    return LMFailed(f"training: {message}", kind=kind, transient=passing, retry_after_ms=retry_after_ms)


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, LMFailed) and error.transient and (error.retry_after_ms or 0) <= _LONGEST_WAIT_MS


def _is_rate_limit(error: BaseException) -> bool:
    return _is_transient(error) and isinstance(error, LMFailed) and error.kind == "rate_limit"


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after_ms if isinstance(error, LMFailed) else None
    return _BACKOFF(state) if asked is None else asked / 1000


def _check_option(name: str, value: object) -> None:
    path = f"{OPTIONS_PATH}.{name}"
    if name not in (*_HYPERPARAMETERS, *_SETTINGS):
        known = (*_HYPERPARAMETERS, *_SETTINGS)
        raise ValidationError(f"unknown option; known are {listed(known)}", path)
    if name == "suffix":
        good = isinstance(value, str) and 0 < len(value) <= 64
    elif name == "seed":
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    else:
        good = value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6)
    if not good:
        raise ValidationError(f"expected {_EXPECTED.get(name, 'a number above 0, or auto')}", path)
