// The console: hears the node, keeps what it knows, and draws that at most once a frame.

import { byId, bytes, clock, h, keyed, mark, pair, say, span, whole } from "./elements.js";
import { drawJobs } from "./jobs.js";
import { ask, cancel, listen } from "./live.js";
import { drawPrograms } from "./programs.js";
import { drawErrors, drawLogs, Frames } from "./records.js";
import { after, unknown } from "./state.js";
import { drawWorkers } from "./workers.js";

const TONES = { healthy: "good", degraded: "warn", overloaded: "bad" };
const STORING = ["optimize_signature", "train_model", "run_pipeline", "put_program"];
const PROGRAMS_EVERY_MS = 30_000;
const NEWS_EVERY_MS = 1500;
const PACE_MS = 1000;
const LONG_S = 2;

let state = unknown();
let aheadS = 0; // this machine's clock before the node's
let drawing = false;
let link = null;
const asked = new Set();
const frames = new Frames();

// -- news, for those who hear the page

const news = [];
setInterval(() => {
  if (!news.length) return;
  const told = news.splice(0);
  const rest = told.length > 3 ? [`and ${told.length - 3} more`] : [];
  byId("news").append(h("span", {}, `${[...told.slice(0, 3), ...rest].join("; ")}. `));
  while (byId("news").childElementCount > 20) byId("news").firstChild.remove();
}, NEWS_EVERY_MS);

/** What is worth a word: not each of the thousand predictions of a minute. */
function announce(name, told) {
  const before = state.jobs.find((one) => one.job === told.job);
  if (name === "job" && told.state === "running" && before?.state !== "running" && told.verb !== "predict")
    news.push(`${told.verb} ${told.id} runs`);
  if (name === "ended" && (told.outcome !== "ok" || told.ended_at - told.arrived_at > LONG_S))
    news.push(`${told.verb} ${told.id} ended: ${told.outcome}`);
  if (name === "pulse" && state.health && told.health.status !== state.health.status)
    news.push(`The node is ${told.health.status}: ${told.health.message}`);
}

// -- what is shown above all

function drawHeader({ health, at }) {
  if (!health) return;
  const lost = link === "lost";
  say(byId("status"), lost ? "unknown" : health.status);
  mark(byId("status"), "data-tone", lost ? "quiet" : (TONES[health.status] ?? "quiet"));
  say(byId("message"), lost ? `last heard at ${clock(at)}` : health.message);
  const { node, dspy, python } = health.versions;
  say(byId("about"), `${node} with DSPy ${dspy} on Python ${python}, pid ${health.node.os_pid}, up for ${span(health.uptime_ms / 1000)}`);
  document.title = `${lost ? "? " : state.errors.length || health.status !== "healthy" ? "! " : ""}erlbridge: ${health.status}`;
}

function makeFigure({ name }) {
  const value = document.createTextNode("");
  const more = h("small");
  const { row, value: cell } = pair(name);
  cell.append(value, more);
  row.parts = { value, more };
  return row;
}

function updateFigure(node, { value, more }) {
  say(node.parts.value, value);
  say(node.parts.more, more ?? "");
}

function drawFigures({ health, jobs }) {
  if (!health) return;
  const { queue, pool, machine, calls, dropped_events: dropped } = health;
  const lost = Object.values(dropped).reduce((sum, one) => sum + one, 0);
  const calling = jobs.reduce((sum, job) => sum + (job.lm_calls ?? 0), 0);
  const figures = [
    { name: "Running", value: whole(queue.running), more: `${pool.idle} idle, ${pool.starting} starting` },
    { name: "Waiting", value: whole(queue.waiting), more: `of at most ${whole(queue.capacity)}` },
    { name: "LM calls", value: whole(calling), more: "of the jobs that run" },
    { name: "Calls to Elixir", value: whole(calls.open), more: calls.late ? `${whole(calls.late)} too late` : "open" },
    { name: "Restarts", value: whole(health.restarts), more: `${pool.recycled} recycled` },
    { name: "Dropped events", value: whole(lost), more: lost ? "the host grants too little credit" : "" },
    { name: "Free memory", value: bytes(machine.available_bytes), more: `of ${bytes(machine.memory_bytes)}` },
    { name: "Free disk", value: bytes(machine.disk_free_bytes), more: "for the data directory" },
  ];
  keyed(byId("figures-list"), figures, ({ name }) => name, makeFigure, updateFigure);
}

// -- drawing

function draw() {
  drawing = false;
  const now = Date.now() / 1000 - aheadS;
  drawHeader(state);
  drawFigures(state);
  drawJobs(state, now, asked, wantCancel);
  drawWorkers(state);
  drawErrors(state);
  drawLogs(state);
}

function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

// -- cancelling

let wanted = null;

function wantCancel(number) {
  const job = state.jobs.find((one) => one.job === number);
  if (!job) return;
  wanted = number;
  say(byId("cancel-job"), `${job.verb}, request ${job.id}`);
  byId("cancel").returnValue = "";
  byId("cancel").showModal();
}

byId("cancel").addEventListener("close", async () => {
  const number = wanted;
  if (byId("cancel").returnValue !== "yes" || number === null) return;
  asked.add(number);
  drawSoon();
  try {
    await cancel(number);
    news.push("The job was asked to stop");
    say(byId("notice"), "");
  } catch (error) {
    asked.delete(number);
    say(byId("notice"), `That job could not be cancelled: ${error.message}`);
    drawSoon();
  }
});

// -- the connection

function onLink(now, pauseMs) {
  if (now !== link && link !== null) news.push(now === "live" ? "Connected again" : "The connection to the node is lost");
  link = now;
  const text = now === "live" ? "live" : `connection lost, next try in ${span(pauseMs / 1000)}`;
  say(byId("connection"), text);
  mark(byId("connection"), "data-tone", now === "live" ? "good" : "bad");
  document.body.toggleAttribute("data-stale", now !== "live");
  drawSoon();
}

function onEvent(name, told) {
  announce(name, told);
  if (name === "state" || name === "pulse") aheadS = Date.now() / 1000 - told.at;
  state = after(state, name, told);
  if (name === "ended") asked.delete(told.job);
  if (name === "state") asked.clear();
  if (name === "state" || (name === "ended" && STORING.includes(told.verb))) lookAtPrograms();
  if (name === "state" || name === "pulse") lookAtFrames();
  drawSoon();
}

// -- what is asked for, and not told

/** Calls at once, and of what is wanted within a second after that once more at its end: the node has other work. */
function paced(call) {
  let waiting = false;
  let again = false;
  return async function run() {
    again = waiting;
    if (waiting) return;
    waiting = true;
    try {
      await call();
    } finally {
      setTimeout(() => {
        waiting = false;
        if (again) run();
      }, PACE_MS);
    }
  };
}

let framesOnScreen = true;
new IntersectionObserver(([entry]) => (framesOnScreen = entry.isIntersecting)).observe(byId("frames"));

const lookAtFrames = paced(async () => {
  if (document.hidden || (!framesOnScreen && byId("frames-list").childElementCount)) return;
  const told = await ask("api/frames");
  if (told) frames.draw(told.frames);
});

const lookAtPrograms = paced(async () => {
  const told = await ask("api/programs");
  if (told) drawPrograms(told);
});

setInterval(() => link === "live" && lookAtPrograms(), PROGRAMS_EVERY_MS);
listen({ onEvent, onLink });
