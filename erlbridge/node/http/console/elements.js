// Elements out of values, and values as people read them. Text is only ever text here: nothing is parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

/** An element with attributes and children; strings become text. `on` holds its listeners. */
export const h = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

/** The same of SVG. */
export const s = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

/** A name and a value of a `dl`: the row and its value's element. */
export function pair(name, value = "") {
  const cell = h("dd", {}, String(value));
  return { row: h("div", {}, h("dt", {}, name), cell), value: cell };
}

/** Sets a text where it differs, so that selections and screen readers are left alone. */
export function say(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

/** Sets an attribute where it differs; null takes it away. */
export function mark(node, name, value) {
  if (value == null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** What a node has numbered, by its number and time: one that was restarted counts from the beginning. */
export const numbered = ({ number, at }) => `${number} ${at}`;

/**
 * Makes the children of `parent` those of `items`, in order, and keeps the ones that were there: focus, open details and
 * scroll positions survive every update. `make` gives a node for an item, `update` (node, item) brings it up to date.
 */
export function keyed(parent, items, keyOf, make, update = () => {}) {
  const known = (parent.keyedNodes ??= new Map());
  const wanted = new Map();
  let place = null;
  for (const item of items) {
    const key = String(keyOf(item));
    if (wanted.has(key)) continue;
    const node = known.get(key) ?? make(item);
    update(node, item);
    wanted.set(key, node);
    const next = place === null ? parent.firstChild : place.nextSibling;
    if (node !== next) parent.insertBefore(node, next);
    place = node;
  }
  for (const [key, node] of known) if (!wanted.has(key)) node.remove();
  parent.keyedNodes = wanted;
}

// -- values as text

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes with a unit, such as `412 MiB`; what is not known is a dash, here and below. */
export function bytes(count) {
  if (count == null) return "–";
  let unit = 0;
  while (count >= 1000 && unit < UNITS.length - 1) (count /= 1024), (unit += 1);
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

/** A span of seconds, such as `3 min 04 s`. */
export function span(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${two((seconds % 86400) / 3600)} h`;
}

/** A score of 0 to 1 with two digits, of a hundredth exactly. In a program that was put there it may be anything. */
export const score = (value) => (typeof value !== "number" ? "–" : value.toFixed(value > 0.995 && value < 1 ? 3 : 2));

export const whole = (number) => (number == null ? "–" : Math.round(number).toLocaleString("en"));

export const percent = (value) => (value == null ? "–" : `${Math.round(value)} %`);

export const money = (usd) => (usd == null ? "–" : `$${usd.toFixed(usd && usd < 1 ? 4 : 2)}`);

/** A point of time, in seconds since 1970, as the reader's own clock has it. */
export function clock(seconds, digits = 0) {
  if (seconds == null) return "–";
  const time = new Date(seconds * 1000);
  const text = time.toTimeString().slice(0, 8);
  return digits ? `${text}.${String(time.getMilliseconds()).padStart(3, "0")}` : text;
}

export const day = (seconds) => (seconds == null ? "–" : `${new Date(seconds * 1000).toLocaleDateString("sv")} ${clock(seconds)}`);
