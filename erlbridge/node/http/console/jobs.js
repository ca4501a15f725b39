// The jobs: those that run, each with its score curve; those that wait; those that are over.

import { scores } from "./charts.js";
import { byId, clock, h, keyed, mark, money, numbered, pair, say, score, span, whole } from "./elements.js";

const AXIS = ["1", ".75", ".5", ".25", "0"];

function makeJob(job, onCancel) {
  const pairs = ["Best score", "LM calls", "Cost", "Running for", "Waited", "Worker"].map((name) => [name, pair(name)]);
  const parts = {
    verb: h("h3"),
    stage: h("span", { class: "badge", "data-tone": "busy" }),
    cancel: h("button", { type: "button", class: "danger last", on: { click: () => onCancel(job.job) } }, "Cancel"),
    id: h("p", { class: "quiet cut mono" }),
    bar: h("progress"),
    message: h("p", { class: "quiet" }),
    plot: h("div"),
    best: h("span", { class: "key best" }, "best so far"),
    end: h("span"),
    pairs: Object.fromEntries(pairs),
  };
  const keys = h("span", { class: "keys" }, parts.best, h("span", { class: "key told" }, "score"));
  const axis = h("div", { class: "axis", "aria-hidden": "true" }, ...AXIS.map((at) => h("span", {}, at)));
  parts.curve = h("div", { class: "curve" }, axis, parts.plot, h("div", { class: "foot" }, keys, parts.end));
  const head = h("div", { class: "head" }, parts.verb, parts.stage, parts.cancel);
  const rows = h("dl", { class: "pairs" }, ...pairs.map(([, { row }]) => row));
  const node = h("li", { "data-job": job.job }, head, parts.id, parts.bar, parts.message, parts.curve, rows);
  node.parts = parts;
  return node;
}

function curveLabel(job, curve) {
  const told = curve.map(([, , value]) => value).filter((value) => value != null);
  const best = curve.at(-1)[3];
  const range = told.length ? `, the first ${score(told[0])}, the last ${score(told.at(-1))}` : "";
  return `Scores of ${job.verb}: ${told.length} told${range}${best == null ? "" : `; the best so far ${score(best)}`}`;
}

function drawCurve(parts, job) {
  if (parts.drawn === job.curve) return;
  parts.drawn = job.curve;
  const curve = job.curve.filter(([, , value, best]) => value != null || best != null);
  parts.curve.hidden = curve.length < 2;
  if (curve.length < 2) return;
  parts.plot.replaceChildren(scores(curve, curveLabel(job, curve)));
  parts.best.hidden = curve.at(-1)[3] == null;
  say(parts.end, `after ${span(curve.at(-1)[0])}`);
}

function updateJob(node, { job, now, asked }) {
  const { parts } = node;
  const cancelling = asked.has(job.job);
  const stage = job.stage ?? "starting";
  say(parts.verb, job.verb);
  say(parts.stage, cancelling ? "cancelling" : job.total ? `${stage} ${job.done ?? 0}/${job.total}` : stage);
  mark(parts.stage, "data-tone", cancelling ? "warn" : "busy");
  parts.cancel.disabled = cancelling;
  mark(parts.cancel, "aria-label", `Cancel ${job.verb} ${job.id}`);
  say(parts.id, job.source ? `${job.id} of ${job.source}` : job.id);
  mark(parts.id, "title", job.id);
  mark(parts.bar, "aria-label", `${stage} of ${job.verb}`);
  mark(parts.bar, "max", job.total || null);
  mark(parts.bar, "value", job.total ? (job.done ?? 0) : null);
  parts.message.hidden = !job.message;
  say(parts.message, job.message ?? "");
  drawCurve(parts, job);
  const values = {
    "Best score": job.best_score == null ? null : score(job.best_score),
    "LM calls": job.lm_calls == null ? null : whole(job.lm_calls),
    Cost: job.cost_usd ? money(job.cost_usd) : null,
    "Running for": span(Math.max(0, now - job.started_at)),
    Waited: job.started_at - job.arrived_at > 1 ? span(job.started_at - job.arrived_at) : null,
    Worker: job.worker,
  };
  for (const [name, value] of Object.entries(values)) {
    parts.pairs[name].row.hidden = value == null;
    say(parts.pairs[name].value, value ?? "");
  }
}

/** A row of a table with so many cells, one of them numbers where `kinds` says so. */
function makeRow(job, kinds) {
  const cells = kinds.map((kind) => h("td", { class: kind || null }));
  const node = h("tr", { "data-job": job.job }, ...cells);
  node.parts = cells;
  return node;
}

function makeWaiting(job, onCancel) {
  const node = makeRow(job, ["", "mono", "", "number"]);
  node.button = h("button", { type: "button", class: "danger", on: { click: () => onCancel(job.job) } }, "Cancel");
  node.append(h("td", {}, node.button));
  return node;
}

function updateWaiting(node, { job, now, asked }) {
  const texts = [job.verb, job.id, job.source ?? "–", span(Math.max(0, now - job.arrived_at))];
  texts.forEach((text, at) => say(node.parts[at], text));
  node.button.disabled = asked.has(job.job);
  mark(node.button, "aria-label", `Cancel ${job.verb} ${job.id}`);
}

function makeEnded(job) {
  const node = makeRow(job, ["number", "", "mono", "", "number", "number", "number"]);
  const tone = job.outcome === "ok" ? "good" : job.outcome === "cancelled" ? "warn" : "bad";
  const took = job.started_at == null ? null : job.ended_at - job.started_at;
  const best = job.best_score ?? job.score;
  const calls = job.lm_calls == null ? "–" : whole(job.lm_calls);
  [clock(job.ended_at), job.verb, job.id, "", span(took), score(best), calls].forEach((text, at) => say(node.parts[at], text));
  node.parts[3].append(h("span", { class: "badge", "data-tone": tone }, job.outcome));
  return node;
}

/** Draws all jobs. `asked` are the numbers of those that were asked to stop; `onCancel` gets the number of another. */
export function drawJobs({ jobs, ended }, now, asked, onCancel) {
  const seen = jobs.map((job) => ({ job, now, asked }));
  const running = seen.filter(({ job }) => job.state === "running");
  const waiting = seen.filter(({ job }) => job.state === "waiting");
  byId("jobs-none").hidden = jobs.length > 0;
  byId("queue").hidden = !waiting.length;
  byId("ended").hidden = !ended.length;
  say(byId("jobs-count"), jobs.length || "");
  say(byId("ended-count"), ended.length);
  const number = ({ job }) => numbered({ number: job.job, at: job.arrived_at });
  keyed(byId("jobs-running"), running, number, ({ job }) => makeJob(job, onCancel), updateJob);
  keyed(byId("queue-rows"), waiting, number, ({ job }) => makeWaiting(job, onCancel), updateWaiting);
  keyed(byId("ended-rows"), ended, (job) => number({ job }), makeEnded);
}
