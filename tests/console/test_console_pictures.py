"""Pictures of the console at work, for the one who changes it and for the docs: scripts/screenshots takes those."""

from __future__ import annotations

import os
from pathlib import Path

from consoles import Console, evaluation
from tickets import KNOWN, optimization, slow

from erlbridge.codec import Atom

DIRECTORY = os.environ.get("ERLBRIDGE_SCREENSHOTS", "")
DRAWN = "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
VALIDATED = {Atom("training_data"): KNOWN[:44], Atom("validation_data"): KNOWN[44:]}


def test_pictures_of_the_console_are_taken(root: Path, tmp_path: Path) -> None:
    directory = Path(DIRECTORY) if DIRECTORY else tmp_path
    console = Console.start(tmp_path)
    node, browser = console.node, console.browser

    def take(name: str, selector: str | None = None) -> None:
        browser.evaluate(
            "window.scrollTo(0, 0)" if selector is None else f"document.querySelector('{selector}').scrollIntoView()"
        )
        browser.evaluate(DRAWN)
        (directory / f"{name}.png").write_bytes(browser.screenshot())

    for optimizer in ("labeled_few_shot", "bootstrap_few_shot"):
        tag, _ = node.ask("optimize_signature", {**optimization(optimizer=Atom(optimizer), report=True), **VALIDATED})
        assert tag == "ok"
    node.ask("optimize_signature", optimization(2, metric=Atom("numeric")))
    search = {**optimization(lm=slow(60)[Atom("lm")], optimizer=Atom("mipro_v2"), cache=False), **VALIDATED}
    job = console.job("optimize_signature", search, b"triage-of-the-night")
    browser.until(f"document.querySelectorAll('{job} .dot').length >= 6")
    for name in (b"check-before-release", b"check-of-last-week"):
        console.job("evaluate_pipeline", evaluation(80), name)
    browser.until(f"document.querySelectorAll('{job} .dot').length >= 9")
    browser.until("document.querySelectorAll('#jobs-running .dot').length >= 14")
    browser.look(width=1280, height=860)
    take("console-light")
    browser.look(width=1280, height=860, dark=True)
    take("console-dark")
    browser.look(width=390, height=844, phone=True)
    take("console-phone")
    browser.look(width=1280, height=860)
    browser.evaluate("document.querySelector('#errors-list details').open = true")
    # Where the sources lie on the machine of whoever takes the pictures is nobody's business.
    traceback = "document.querySelector('#errors-list [aria-label=Traceback]')"
    browser.until(traceback)
    browser.evaluate(f"{traceback}.textContent = {traceback}.textContent.replaceAll({f'{root}/'!r}, '')")
    browser.evaluate("document.getElementById('frames-filter').value = 'optimize_signature'")
    browser.evaluate("document.getElementById('frames-filter').dispatchEvent(new Event('input'))")
    browser.evaluate("document.querySelector('#frames-list details').open = true")
    take("console-records", "#errors")
    assert browser.complaints == []
    console.close()
