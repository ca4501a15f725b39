"""An endpoint that chats as the offline LM and fine-tunes as OpenAI does: files, jobs, and models that come of them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import Any

from offline_endpoint import OfflineEndpoint
from program_jobs import Reply, failure

from erlbridge.programs.offline_memory import Memory, learned

STATES = ("validating_files", "queued", "running", "succeeded")


@dataclass
class Tuning:
    """One job: what it was asked for, how often its state was asked, and whether it was cancelled."""

    body: dict[str, Any]
    asked: int = 0
    cancelled: bool = False


@dataclass
class Account:
    """What the endpoint holds, and how it behaves."""

    states: tuple[str, ...] = STATES
    """A job's state at each request for it; the last one stays."""
    error: Mapping[str, str] | None = None
    model: object = "ft:x:org::1"
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    jobs: dict[str, Tuning] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    faults: dict[str, list[Reply]] = field(default_factory=dict)
    """Replies that come first, by method and path, such as `GET /fine_tuning/jobs`."""


class TuningEndpoint(OfflineEndpoint):
    """Beside the chat, `/files` and `/fine_tuning/jobs`."""

    def __init__(self) -> None:
        super().__init__()
        self.account = Account()
        self.cleared = threading.Event()
        endpoint, plain = self, self._server.RequestHandlerClass

        class Handler(plain):  # type: ignore[valid-type, misc]
            def do_POST(self) -> None:
                if self.path.endswith("/chat/completions"):
                    super().do_POST()
                else:
                    self.tune()

            def tune(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                reply = endpoint.tune(self.command, self.path.removeprefix("/v1"), dict(self.headers), body)
                if reply.hangs:
                    endpoint.over.wait(30)
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                except OSError:
                    pass  # the client did not wait

            def do_GET(self) -> None:
                self.tune()

            def do_DELETE(self) -> None:
                self.tune()

        self._server.RequestHandlerClass = Handler

    def tune(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answers one request about files and jobs."""
        with self._lock:
            account = self.account
            account.paths.append(f"{method} {path}")
            account.headers.append(headers)
            for fault, replies in account.faults.items():
                if replies and f"{method} {path}".startswith(fault):
                    return replies.pop(0)
            match method, path.strip("/").split("/"):
                case "POST", ["files"]:
                    number = f"file-{len(account.files) + 1}"
                    account.files[number] = _conversations(headers["Content-Type"], body)
                    return _json({"id": number, "object": "file"})
                case "DELETE", ["files", number]:
                    account.deleted.append(number)
                    self.cleared.set()
                    return _json({"id": number, "deleted": True})
                case "POST", ["fine_tuning", "jobs"]:
                    number = f"ftjob-{len(account.jobs) + 1}"
                    account.jobs[number] = Tuning(json.loads(body))
                    return _json({"id": number, "status": account.states[0]})
                case "POST", ["fine_tuning", "jobs", number, "cancel"]:
                    account.jobs[number].cancelled = True
                    return _json({"id": number, "status": "cancelled"})
                case "GET", ["fine_tuning", "jobs", number]:
                    return self._state(number)
            return failure(404, f"nothing at {path}")

    def _state(self, number: str) -> Reply:
        account, job = self.account, self.account.jobs[number]
        job.asked += 1
        state = account.states[min(job.asked, len(account.states) - 1)]
        told: dict[str, Any] = {"id": number, "status": state, "error": account.error}
        if state == "succeeded":
            data = account.files[job.body["training_file"]]
            told |= {"fine_tuned_model": account.model, "trained_tokens": 77 * len(data)}
            self._engine.remember(str(account.model), Memory(learned(data)))
        return _json(told)


def _conversations(content_type: str, body: bytes) -> list[dict[str, Any]]:
    """The lines of the uploaded file; its purpose must be the right one."""
    parts = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=policy.HTTP)
    found = {re.search(r'name="(\w+)"', str(part["Content-Disposition"]))[1]: part for part in parts.iter_parts()}  # type: ignore[index]
    assert found["purpose"].get_payload() == "fine-tune"
    lines = found["file"].get_payload(decode=True)
    return [json.loads(line) for line in lines.splitlines()]


def _json(found: Mapping[str, Any]) -> Reply:
    return Reply(body=json.dumps(found).encode())
