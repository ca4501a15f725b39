"""Debian's Chromium without a window, driven through its own DevTools protocol.

The protocol is spoken over two pipes (`--remote-debugging-pipe`): JSON messages, each ended by a NUL. So there is no
port, no driver program and no further package. Whatever the page throws, logs as an error or asks for is kept.
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 30.0
_FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers often have 64 MiB of it
    "--hide-scrollbars",
    "--mute-audio",
    "--lang=en-GB",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # what is not the node is not there
)
_WAIT: Final = """new Promise((found) => {
    const end = performance.now() + WITHIN_MS;
    const look = () => {
        let value = null;
        try { value = (WANTED); } catch (error) { /* what it asks about is not there yet */ }
        if (value) found(value instanceof Node ? true : value);
        else if (performance.now() > end) found(null);
        else setTimeout(look, 16);
    };
    look();
})"""


class PageError(AssertionError):
    """What was asked of the page raised there."""


def executable() -> str | None:
    """Where Chromium is; None when it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """A browser with one page.

    Attributes:
        complaints: What the page threw, logged as a warning or an error, or broke of its own content security policy.
        addresses: Every address that the page asked for.
    """

    def __init__(self, home: Path) -> None:
        found = executable()
        assert found, "Chromium is not installed: on Debian, apt-get install chromium"
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self._number = 0
        self._session: str | None = None
        self._unread = b""
        self._messages: deque[dict[str, Any]] = deque()
        self._happened: deque[dict[str, Any]] = deque(maxlen=1000)
        reads, self._out = _high_pipe()
        self._in, writes = _high_pipe()
        # The browser wants descriptors 3 and 4; a shell puts them there, without code between fork and exec here.
        root = ("--no-sandbox",) if os.getuid() == 0 else ()
        arguments = [found, *_FLAGS, *root, f"--user-data-dir={home}", "about:blank"]
        with (home / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash", *arguments],
                pass_fds=(reads, writes),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(home)},
                start_new_session=True,
            )
        os.close(reads)
        os.close(writes)
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    # -- the page

    def open(self, address: str) -> None:
        """Goes there and waits until the page and what it names are loaded."""
        self._happened.clear()
        answer = self.call("Page.navigate", url=address)
        assert "errorText" not in answer, f"{address}: {answer['errorText']}"
        self._until_event("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for. Raises `PageError`."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if details := answer.get("exceptionDetails"):
            raise PageError(f"{expression}: {_text_of(details)}")
        return answer["result"].get("value")

    def until(self, expression: str, within_s: float = PATIENCE_S) -> Any:
        """The expression's value, once it is one that counts as true; of a node, that it is there."""
        value = self.evaluate(_WAIT.replace("WITHIN_MS", str(int(within_s * 1000))).replace("WANTED", expression))
        if not value:
            raise PageError(f"not within {within_s} s: {expression}\n{self.text()[:3000]}\n{self.complaints}")
        return value

    def text(self, selector: str = "body") -> str:
        """What a reader sees of an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        """Presses the mouse in the middle of an element, which must be there and not be covered."""
        place = self.until(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)}); if (!node) return null;"
            " node.scrollIntoView({block: 'center', behavior: 'instant'}); const box = node.getBoundingClientRect();"
            " const x = box.x + box.width / 2, y = box.y + box.height / 2;"
            " return node.contains(document.elementFromPoint(x, y)) && [x, y]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Presses a key: `Tab`, `Enter`, `Escape`, `Space`, or what it writes."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32}
        text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
        name = " " if key == "Space" else key
        common = {"key": name, "code": key, "windowsVirtualKeyCode": codes.get(key, 0), "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def write(self, text: str) -> None:
        """Types a text into what has the focus."""
        self.call("Input.insertText", text=text)

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, phone: bool = False) -> None:
        """Sets the window's size in CSS pixels, what the user's system prefers, and whether it is a phone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    def screenshot(self, *, whole: bool = False) -> bytes:
        """The page as PNG: what the window shows, or all of it."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])

    def accessible(self) -> list[dict[str, Any]]:
        """The page as assistive technology gets it: nodes with `role` and `name`."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            {"role": node["role"]["value"], "name": node.get("name", {}).get("value", "")}
            for node in nodes
            if not node.get("ignored") and "role" in node
        ]

    def close(self) -> None:
        """Ends the browser with all its processes."""
        with contextlib.suppress(OSError, AssertionError):
            self._session = None
            self.call("Browser.close")
        os.close(self._out)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            os.close(self._in)

    # -- the protocol

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Asks the browser, or its page, and waits for the answer."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        view = memoryview(json.dumps(message).encode() + b"\0")
        while view:
            view = view[os.write(self._out, view) :]
        while True:
            answer = self._receive(method)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def _until_event(self, method: str) -> None:
        while not any(event["method"] == method for event in self._happened):
            self._receive(method)

    def _receive(self, waiting_for: str) -> dict[str, Any]:
        """The next message; what is an event is noted too."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        while not self._messages:
            readable, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"nothing from Chromium, waiting for {waiting_for}"
            data = os.read(self._in, 1 << 20)
            assert data, f"Chromium has ended, waiting for {waiting_for}; see chromium.log in its directory"
            *whole, self._unread = (self._unread + data).split(b"\0")
            self._messages.extend(json.loads(text) for text in whole)
        message = self._messages.popleft()
        if "method" in message:
            self._happened.append(message)
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, event: dict[str, Any]) -> None:
        match method:
            case "Runtime.exceptionThrown":
                self.complaints.append(_text_of(event["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if event["type"] in ("error", "warning", "assert"):
                self.complaints.append(" ".join(str(item.get("value", item)) for item in event["args"]))
            case "Log.entryAdded" if event["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.addresses.append(event["request"]["url"])


def _text_of(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])


def _high_pipe() -> tuple[int, int]:
    """A pipe whose ends are not among the descriptors that the browser's shell gives new meanings to."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
