// Small charts as SVG. Lines keep their width however wide a chart is drawn; what a chart shows is said in its label too.

import { s } from "./elements.js";

const WIDTH = 100;
const HEIGHT = 100;

const near = (number) => Math.round(number * 100) / 100;

function frame(kind, label, ...children) {
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: `chart ${kind}`, role: "img" };
  return s("svg", { ...box, "aria-label": label }, ...children);
}

const line = (points, name) =>
  s("path", { d: `M${points.map(([x, y]) => `${near(x)} ${near(y)}`).join("L")}`, class: name });

/** Places [time, value] pairs in the chart's box. */
function placed(points, first, last, most) {
  const width = Math.max(last - first, 1e-9);
  return points.map(([time, value]) => [((time - first) / width) * WIDTH, HEIGHT - (Math.min(value, most) / most) * HEIGHT]);
}

/** A value over time as an area, from nought to `scale` or what was reached. `points` are [seconds, value]. */
export function trace(points, label, scale) {
  const known = points.filter(([, value]) => value != null);
  if (known.length < 2) return frame("trace", label);
  const top = Math.max(scale, ...known.map(([, value]) => value));
  const way = placed(known, known[0][0], known.at(-1)[0], top);
  return frame("trace", label, line([[0, HEIGHT], ...way, [WIDTH, HEIGHT]], "area"), line(way, "line"));
}

/**
 * Scores of a job: a dot for each that was told, joined within a stage, and the best so far as steps. `points` are
 * [seconds, stage, score or null, best or null].
 */
export function scores(points, label) {
  const grid = [0, 25, 50, 75, 100].map((y) => line([[0, y], [WIDTH, y]], "grid"));
  const place = (at, value) => placed([[at, value]], points[0][0], points.at(-1)[0], 1)[0];
  const told = points.filter(([, , value]) => value != null);
  const stages = [...new Set(told.map(([, stage]) => stage))];
  const joined = stages.map((name) => line(told.filter(([, stage]) => stage === name).map(([at, , value]) => place(at, value)), "joined"));
  const dots = told.map(([at, , value]) => line([place(at, value), place(at, value)], "dot"));
  const steps = [];
  for (const [at, , , best] of points) {
    if (best == null) continue;
    const [x, y] = place(at, best);
    if (steps.length) steps.push([x, steps.at(-1)[1]]);
    steps.push([x, y]);
  }
  return frame("scores", label, ...grid, ...joined, ...dots, steps.length > 1 && line(steps, "best"));
}
