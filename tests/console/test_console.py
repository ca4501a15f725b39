"""The console page in a real browser, on a real node that works for this host."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import pytest
from consoles import Console, evaluation, serving
from node_client import NodeClient
from tickets import KNOWN, optimization, prediction, slow

from erlbridge.codec import Atom

HOSTILE = (
    b"<img src=x onerror=\"document.body.dataset.hit='yes'\"></pre><script>document.body.dataset.hit='yes'</script>"
)
TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Node and browser, started beside each other; they serve all tests of this module."""
    console = Console.start(tmp_path_factory.mktemp("console"))
    yield console
    console.close()


@pytest.fixture
def console(opened: Console) -> Iterator[Console]:
    """The page, live. After each test: nothing was complained of, and nobody but the node was asked."""
    opened.browser.look()
    opened.browser.until("document.getElementById('connection').textContent === 'live'")
    yield opened
    assert opened.browser.complaints == []
    assert {address for address in opened.browser.addresses if not address.startswith(opened.address)} == set()


def test_the_page_shows_the_node_and_its_workers_over_time(console: Console) -> None:
    browser = console.browser
    health = console.node.health()
    assert browser.until("document.getElementById('status').textContent === 'healthy'")
    assert str(health[Atom("node")][Atom("os_pid")]) in browser.text("#about")
    assert browser.until("document.querySelectorAll('#workers-list > li').length === 4")  # two, a spare, the node
    assert browser.until("document.querySelectorAll('#workers-list .line').length === 8")
    label = browser.evaluate("document.querySelector('#workers-list svg').getAttribute('aria-label')")
    assert label.startswith("Memory of Worker 1 over ")


def test_a_job_is_drawn_while_it_runs_and_cancelled_by_its_button(console: Console) -> None:
    browser = console.browser
    search = optimization(lm=slow(20)[Atom("lm")], optimizer=Atom("mipro_v2"), cache=False)
    job = console.job("optimize_signature", search, b"night-run")
    assert browser.until(f"document.querySelector('{job} .dot')")
    dots = browser.evaluate(f"document.querySelectorAll('{job} .dot').length")
    assert browser.until(f"document.querySelectorAll('{job} .dot').length > {dots}")
    browser.click(f"{job} button")
    assert "optimize_signature, request" in browser.text("#cancel")
    browser.click("#cancel-yes")
    tag, error = console.node.answer(b"night-run")
    assert (tag, str(error[Atom("error_type")])) == ("error", "cancelled")
    assert browser.until(f"!document.querySelector('#jobs-running {job}')")
    assert browser.until(f"document.querySelector('#ended {job}').textContent.includes('cancelled')")
    assert browser.until("document.getElementById('news').textContent.includes('ended: cancelled')")


def test_what_waits_is_shown_and_cancelled_without_a_mouse(console: Console) -> None:
    node, browser = console.node, console.browser
    for name in (1001, 1002):
        console.job("evaluate_pipeline", evaluation(), name)
    waiting = console.job("evaluate_pipeline", evaluation(), b"third-in-line")
    assert browser.until(f"document.querySelector('#queue-rows {waiting}')")
    browser.evaluate(f"document.querySelector('{waiting} button').focus()")
    browser.press("Enter")
    assert browser.until("document.getElementById('cancel').open")
    assert browser.evaluate("document.activeElement.id") == "cancel-no"
    browser.press("Escape")
    assert browser.evaluate(f"document.activeElement === document.querySelector('{waiting} button')")
    browser.press("Enter")
    browser.press("Tab", shift=True)
    assert browser.evaluate("document.activeElement.id") == "cancel-yes"
    browser.press("Enter")
    assert node.answer(b"third-in-line")[1][Atom("error_type")] == Atom("cancelled")
    for name in (1001, 1002):
        node.ask("cancel", {Atom("id"): name})
    assert browser.until("!document.querySelector('#jobs-running li')")


def test_an_error_is_shown_with_its_traceback(console: Console) -> None:
    browser = console.browser
    tag, _ = console.node.ask("optimize_signature", optimization(2, metric=Atom("numeric")))
    assert tag == "error"
    assert browser.until("document.querySelector('#errors-list li').textContent.includes('dspy_optimization_error')")
    browser.click("#errors-list summary")
    traceback = "document.querySelector('#errors-list [aria-label=Traceback]').textContent"
    assert "Traceback (most recent call last)" in browser.until(traceback)


def test_no_text_of_a_job_is_read_as_html(console: Console) -> None:
    node, browser = console.node, console.browser
    node.send((Atom("predict"), HOSTILE, {HOSTILE: HOSTILE}))
    node.answer(HOSTILE)
    job = console.job("evaluate_pipeline", evaluation(), b"<i>slanted</i>")
    browser.click(f"{job} button")
    assert "<i>slanted</i>" in browser.text("#cancel")
    browser.click("#cancel-yes")
    node.answer(b"<i>slanted</i>")
    assert browser.until("document.getElementById('errors-list').textContent.includes('onerror')")
    assert browser.evaluate("document.querySelectorAll('img, i, body script').length") == 0
    assert browser.evaluate("document.body.dataset.hit") is None


def test_frames_are_decoded_and_can_be_filtered_and_held(console: Console) -> None:
    node, browser = console.node, console.browser
    node.ask("predict", {**prediction(), Atom("data"): b"a-frame-to-find"})
    browser.evaluate("document.getElementById('frames').scrollIntoView()")
    assert browser.until("document.getElementById('frames-list').textContent.includes('a-frame-to-find')")
    browser.evaluate("document.getElementById('frames-filter').focus()")
    browser.write("a-frame-to-find")
    assert browser.until("document.querySelectorAll('#frames-list > li').length === 1")
    browser.click("#frames-list summary")
    text = browser.until("document.querySelector('#frames-list pre').textContent")
    assert text.startswith("{\n  :predict,\n  ")
    assert '\n    data: "a-frame-to-find"\n' in text
    browser.click("#frames-pause")
    assert browser.evaluate("document.getElementById('frames-pause').getAttribute('aria-pressed')") == "true"
    browser.click("#frames-pause")
    browser.evaluate("document.getElementById('frames-filter').value = ''")


UNFOLDED = [
    '{:ok, 1, %{list: [1, 2, 3], text: "a, {b", more: <<0, 1, 2>>}}',
    '{:ok, "' + "long " * 30 + '", %{nested: [{1, 2}, ' + "'a\\'], [', " * 20 + "...]}}",
    "[" * 200 + "1, 2" + "]" * 200,
    '"a text that never ends, {[ \\',
    "}} ] >> no opening {{{{ [ << " + "and no closing, " * 20,
]


@pytest.mark.parametrize("text", UNFOLDED, ids=["short", "texts", "deep", "cut", "unbalanced"])
def test_unfolding_a_term_changes_nothing_but_the_space_between(console: Console, text: str) -> None:
    unfolded = console.browser.evaluate(
        f"import('/console/unfold.js').then(({{ unfold }}) => unfold({json.dumps(text)}))"
    )
    assert "".join(unfolded.split()) == "".join(text.split())
    assert unfolded == text or len(text) > 92


def test_a_stored_program_is_listed_with_what_was_gained_and_its_report(console: Console) -> None:
    browser = console.browser
    payload = optimization(optimizer=Atom("labeled_few_shot"), report=True)
    tag, result = console.node.ask("optimize_signature", {**payload, Atom("validation_data"): KNOWN[44:]})
    assert tag == "ok"
    digits = result[Atom("program_id")].decode().removeprefix("program:")
    assert browser.until(f"document.getElementById('programs-rows').textContent.includes('{digits}')")
    assert "labeled_few_shot" in browser.text("#programs")
    assert "→" in browser.text("#programs")
    report = browser.until("document.querySelector('#programs-rows a').href")
    browser.open(report)
    assert "TicketTriage" in browser.text("h1")
    assert browser.evaluate("window.origin") == "null"  # what a job wrote has no part in the console
    browser.open(f"{console.address}/")


NAMELESS = """[...document.querySelectorAll(
    'a, button, input, progress, section, table, pre, [role=img], [tabindex="0"]')]
    .filter((one) => one.checkVisibility() && !one.closest('dialog:not([open])'))
    .filter((one) => !(one.getAttribute('aria-label') || one.labels?.length || one.closest('[aria-labelledby]')
        || one.textContent.trim())).map((one) => one.outerHTML.slice(0, 200))"""


def test_a_program_whose_scores_are_none_hides_no_other(console: Console) -> None:
    _, made = console.node.ask("optimize_signature", optimization(4, optimizer=Atom("labeled_few_shot")))
    scores = {Atom("score_before"): b"good", Atom("score_after"): [HOSTILE]}
    _, put = console.node.ask("put_program", {Atom("program"): {**made[Atom("program")], Atom("scores"): scores}})
    console.browser.open(f"{console.address}/")
    digits = put[Atom("program_id")].decode().removeprefix("program:")[:12]
    row = f"[...document.querySelectorAll('#programs-rows tr')].find((one) => one.textContent.includes('{digits}'))"
    assert console.browser.until(f"{row}?.textContent.includes('\\u2013 → \\u2013')")


def test_everything_has_a_name_and_headings_are_in_order(console: Console) -> None:
    browser = console.browser
    job = console.job("evaluate_pipeline", evaluation(), b"named")
    assert browser.evaluate(NAMELESS) == []
    levels = browser.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    buttons = [node["name"] for node in browser.accessible() if node["role"] == "button"]
    assert 'Cancel evaluate_pipeline "named"' in buttons
    roles = {node["role"] for node in browser.accessible()}
    assert {"banner", "main", "navigation", "log", "alert", "search"} <= roles
    console.node.ask("cancel", {Atom("id"): b"named"})
    assert browser.until(f"!document.querySelector('#jobs-running {job}')")


def test_the_keyboard_goes_from_the_top_to_everything(console: Console) -> None:
    browser = console.browser
    browser.evaluate("document.activeElement.blur(), window.scrollTo(0, 0)")
    browser.evaluate("document.body.setAttribute('tabindex', '-1'), document.body.focus()")
    reached = []
    for _ in range(12):
        browser.press("Tab")
        reached.append(browser.evaluate("document.activeElement.getAttribute('href') ?? document.activeElement.id"))
        outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", reached[-1]
    assert reached[:7] == ["#jobs", "#jobs", "#workers", "#errors", "#frames", "#programs", "#logs"]


CONTRASTS = """(() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const parts = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const light = (rgb) => { const [r, g, b] = rgb.slice(0, 3).map((one) => one / 255)
        .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = (node) => { for (; node; node = node.parentElement) {
        const rgba = parts(getComputedStyle(node).backgroundColor); if (rgba[3] === 255) return rgba; }
        return [255, 255, 255, 255]; };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest('script, noscript')) continue;
        const [one, two] = [light(parts(getComputedStyle(node).color)), light(behind(node))];
        const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        found.push([contrast, node.outerHTML.slice(0, 120)]);
    }
    return found.sort(([one], [two]) => one - two);
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(console: Console, dark: bool) -> None:
    console.browser.look(dark=dark)
    found = console.browser.evaluate(CONTRASTS)
    assert len(found) > 50
    assert [pair for pair in found if pair[0] < 4.5] == []


TOO_WIDE = """[...document.querySelectorAll('body *')]
    .filter((one) => one.checkVisibility() && !one.closest('nav, .wide, .unseen'))
    .filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 200))"""


def test_it_fits_a_phone(console: Console) -> None:
    console.browser.look(width=360, height=740, phone=True)
    assert console.browser.evaluate(TOO_WIDE) == []
    assert console.browser.evaluate("document.documentElement.scrollWidth") == 360
    buttons = "[...document.querySelectorAll('button')].filter((one) => one.checkVisibility())"
    assert min(console.browser.evaluate(f"{buttons}.map((one) => one.offsetHeight)")) >= 40


def test_a_node_with_a_token_is_found_again_when_it_comes_back(
    console: Console, start_node: Callable[..., NodeClient]
) -> None:
    browser = console.browser
    guarded = ("--workers", "1", "--spare-workers", "0", "--http-token-env", "CONSOLE_TOKEN")
    address = serving(first := start_node(*guarded, "--http", "127.0.0.1:0", CONSOLE_TOKEN=TOKEN))
    browser.open(f"http://{address}/?token={TOKEN}")
    assert browser.evaluate("location.href") == f"http://{address}/"
    assert browser.until("document.getElementById('connection').textContent === 'live'")
    first.ask("an_unknown_verb", {})
    assert browser.until("document.getElementById('errors-list').textContent.includes('an_unknown_verb')")
    first.close()
    assert browser.until("document.getElementById('connection').textContent.startsWith('connection lost')")
    assert browser.text("#status") == "unknown"
    second = start_node(*guarded, "--http", address, CONSOLE_TOKEN=TOKEN)
    second.ready()
    assert browser.until("document.getElementById('connection').textContent === 'live'")
    assert browser.until("document.getElementById('news').textContent.includes('Connected again')")
    assert browser.until(f"document.getElementById('about').textContent.includes('pid {second.node_pid}')")
    second.ask("predict", {})
    assert browser.until("document.getElementById('errors-list').textContent.includes('validation_error')")
    assert "an_unknown_verb" not in browser.text("#errors")  # though the second counts its errors from one too
    # What the browser itself says of what it could not load meanwhile.
    assert {complaint.partition(" http")[0] for complaint in browser.complaints} <= {
        "Failed to load resource: net::ERR_CONNECTION_REFUSED",
        "Failed to load resource: net::ERR_INCOMPLETE_CHUNKED_ENCODING",
        "Failed to load resource: net::ERR_CONNECTION_RESET",
    }
    browser.complaints.clear()
    browser.addresses.clear()
    browser.open(f"{console.address}/")
