// What happened: recent errors with their tracebacks, the last frames decoded, log lines.

import { byId, bytes, clock, h, keyed, mark, numbered, pair, say } from "./elements.js";
import { unfold } from "./unfold.js";

const LOG_TONES = { error: "bad", warning: "warn" };

function facts(pairs) {
  const known = Object.entries(pairs).filter(([, value]) => value != null);
  return h("dl", { class: "pairs" }, ...known.map(([name, value]) => pair(name, value).row));
}

/** A row that is made whole when it is first opened: most never are. */
function row(summary, more) {
  const details = h("details", {}, h("summary", {}, ...summary));
  const fill = () => {
    if (details.open) details.append(h("div", { class: "more" }, ...more().filter(Boolean)));
    if (details.open) details.removeEventListener("toggle", fill);
  };
  details.addEventListener("toggle", fill);
  return h("li", {}, details);
}

const block = (text, label) => h("pre", { tabindex: "0", role: "region", "aria-label": label }, text);

function makeError(error) {
  const summary = [
    h("span", { class: "number quiet" }, clock(error.at)),
    h("span", { class: "badge", "data-tone": error.error_type === "cancelled" ? "warn" : "bad" }, error.error_type),
    h("span", {}, error.verb ?? "no request"),
    h("span", { class: "cut grow" }, error.message),
  ];
  return row(summary, () => [
    facts({ Id: error.id, At: clock(error.at, 3) }),
    block(error.message, "Message"),
    error.traceback ? block(error.traceback, "Traceback") : h("p", { class: "quiet" }, "It came without a traceback."),
  ]);
}

/** Draws the errors, the newest first. */
export function drawErrors({ errors }) {
  byId("errors-none").hidden = errors.length > 0;
  const count = byId("errors-count");
  say(count, errors.length || "");
  mark(count, "data-tone", errors.length ? "bad" : null);
  keyed(byId("errors-list"), errors, numbered, makeError);
}

function makeLog(log) {
  const from = [log.logger, log.worker == null ? null : `worker ${log.worker}`].filter(Boolean).join(", ");
  return h(
    "li",
    { class: "line" },
    h("span", { class: "number quiet" }, clock(log.at)),
    h("span", { class: "badge", "data-tone": LOG_TONES[log.level] ?? "quiet" }, log.level),
    h("span", { class: "quiet from cut" }, from),
    h("span", { class: "text" }, log.text.trim()),
  );
}

/** Draws the log, the newest line first. */
export function drawLogs({ logs }) {
  byId("logs-none").hidden = logs.length > 0;
  say(byId("logs-count"), logs.length || "");
  keyed(byId("logs-list"), logs, numbered, makeLog);
}

function makeFrame(frame) {
  const summary = [
    h("span", { class: "number quiet" }, clock(frame.at, 3)),
    h("span", { class: "way" }, frame.outgoing ? "node → host" : "host → node"),
    h("span", { class: "number" }, bytes(frame.bytes)),
    h("span", { class: "kind" }, frame.kind),
    h("code", { class: "cut grow" }, frame.text),
  ];
  const title = `Frame ${frame.number}`;
  return row(summary, () => [facts({ Frame: frame.number, Bytes: frame.bytes }), block(unfold(frame.text), title)]);
}

/** The frames, with a filter and a button that holds them while somebody reads. */
export class Frames {
  #latest = [];
  #held = null;

  constructor() {
    byId("frames-form").addEventListener("submit", (event) => event.preventDefault());
    byId("frames-filter").addEventListener("input", () => this.#show());
    byId("frames-pause").addEventListener("click", ({ currentTarget }) => {
      this.#held = this.#held ? null : this.#latest;
      mark(currentTarget, "aria-pressed", this.#held !== null);
      this.#show();
    });
  }

  /** New frames, the oldest first. */
  draw(frames) {
    this.#latest = frames.toReversed();
    if (!this.#held) this.#show();
  }

  #show() {
    const wanted = byId("frames-filter").value.trim().toLowerCase();
    const known = this.#held ?? this.#latest;
    const found = known.filter(({ kind, text }) => `${kind} ${text}`.toLowerCase().includes(wanted));
    byId("frames-none").hidden = found.length > 0;
    say(byId("frames-none"), known.length ? "None of the last frames has that." : "No frame yet.");
    say(byId("frames-shown"), wanted ? `${found.length} of ${known.length}` : "");
    say(byId("frames-count"), known.length || "");
    keyed(byId("frames-list"), found, numbered, makeFrame);
  }
}
