"""A node with its console in a browser, and the host that gives it work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from chromium import Chromium
from node_client import NodeClient
from tickets import SIGNATURE, TICKETS, slow

from erlbridge.codec import Atom


@dataclass
class Console:
    """A node, its console in a browser, and the host between them."""

    node: NodeClient
    browser: Chromium
    address: str

    @classmethod
    def start(cls, home: Path) -> Self:
        """Starts node and browser beside each other, with their files below `home`, and opens the page."""
        node = NodeClient("--workers", "2", "--http", "127.0.0.1:0", data=home / "data")
        (home / "chromium").mkdir()
        console = cls(node, Chromium(home / "chromium"), f"http://{serving(node)}")
        node.send((Atom("credit"), 100_000))
        node.wait_until_healthy()
        console.browser.look()
        console.browser.open(f"{console.address}/")
        return console

    def job(self, verb: str, payload: dict[Any, Any], name: object) -> str:
        """Sends a request under an id and gives the selector of its job on the page, once that is drawn."""
        self.node.send((Atom(verb), name, payload))
        text = name.decode() if isinstance(name, bytes) else str(name)
        jobs = "[...document.querySelectorAll('[data-job]')]"
        number = self.browser.until(f"{jobs}.find((one) => one.textContent.includes({text!r}))?.dataset.job")
        return f'[data-job="{number}"]'

    def close(self) -> None:
        """Ends both."""
        self.browser.close()
        self.node.close()


def serving(node: NodeClient) -> str:
    """Waits until a node has begun; gives where it serves its console."""
    return str(node.ready()[Atom("http")].decode())


def evaluation(latency_ms: int = 200) -> dict[Any, Any]:
    """A payload of evaluate_pipeline that runs for long: 104 calls, whoever has made them before."""
    config = {**slow(latency_ms), Atom("cache"): False}
    return {Atom("signature"): SIGNATURE, Atom("data"): TICKETS, Atom("config"): config}
