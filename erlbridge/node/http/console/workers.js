// The workers and the node: what each does, with its memory and processor use over time.

import { trace } from "./charts.js";
import { byId, bytes, h, keyed, mark, percent, say, span } from "./elements.js";

const TONES = { idle: "good", busy: "busy", cancelling: "warn", stopping: "bad", healthy: "good", degraded: "warn", overloaded: "bad" };
const LEAST_SCALE_BYTES = 2 ** 26;

function figure(name) {
  const plot = h("div");
  const value = h("b");
  return { node: h("figure", {}, plot, h("figcaption", {}, h("span", {}, name), value)), plot, value };
}

function make() {
  const parts = {
    name: h("h3"),
    state: h("span", { class: "badge" }),
    pid: h("span", { class: "quiet last mono" }),
    doing: h("p", { class: "quiet cut" }),
    memory: figure("Memory"),
    cpu: figure("CPU"),
  };
  const head = h("div", { class: "head" }, parts.name, parts.state, parts.pid);
  const node = h("li", {}, head, parts.doing, h("div", { class: "twin" }, parts.memory.node, parts.cpu.node));
  node.parts = parts;
  return node;
}

function update(node, one) {
  const { parts } = node;
  say(parts.name, one.name);
  say(parts.state, one.state);
  mark(parts.state, "data-tone", TONES[one.state] ?? "quiet");
  say(parts.pid, one.pid == null ? "" : `pid ${one.pid}`);
  say(parts.doing, one.doing);
  mark(parts.doing, "title", one.doing);
  say(parts.memory.value, bytes(one.memory));
  say(parts.cpu.value, percent(one.cpu));
  if (parts.drawn === one.history) return;
  parts.drawn = one.history;
  const memory = one.history.map(([at, use]) => [at, use]);
  const cpu = one.history.map(([at, , use]) => [at, use]);
  const peak = (rows) => Math.max(0, ...rows.map(([, use]) => use ?? 0));
  const over = one.history.length > 1 ? ` over ${span(one.history.at(-1)[0] - one.history[0][0])}` : "";
  const says = (what, now, most) => `${what} of ${one.name}${over}: now ${now}, at most ${most}`;
  parts.memory.plot.replaceChildren(
    trace(memory, says("Memory", bytes(one.memory), bytes(peak(memory))), LEAST_SCALE_BYTES),
  );
  parts.cpu.plot.replaceChildren(trace(cpu, says("Processor use", percent(one.cpu), percent(peak(cpu))), 100));
}

/** A process as it is drawn. */
const shape = (name, state, doing, told, history) => ({
  name,
  state,
  doing,
  history: history ?? [],
  pid: told?.os_pid,
  memory: told?.rss_bytes,
  cpu: told?.cpu_percent,
});

function doingOf(worker, jobs) {
  const job = jobs.find((one) => one.state === "running" && one.worker === worker.worker);
  const done = `${worker.jobs} ${worker.jobs === 1 ? "job" : "jobs"} so far`;
  return job ? `${job.verb} ${job.id}` : done;
}

/** Draws every process that there is. */
export function drawWorkers({ health, history, jobs }) {
  if (!health) return;
  const workers = (health.workers ?? []).map((worker) =>
    shape(`Worker ${worker.worker}`, worker.state, doingOf(worker, jobs), worker, history.workers[worker.worker]),
  );
  const uptime = `up for ${span(health.uptime_ms / 1000)}`;
  const node = shape("Node", health.status, uptime, health.node, history.node);
  say(byId("workers-count"), `${health.pool?.busy ?? 0}/${workers.length}`);
  keyed(byId("workers-list"), [...workers, node], (one) => one.name, make, update);
}
