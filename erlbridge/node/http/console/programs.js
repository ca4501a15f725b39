// The stored programs, with what was gained and the report of each that has one.

import { byId, day, h, keyed, say, score } from "./elements.js";

function make(program) {
  const { program_id: id, scores, stored_at_ms: stored } = program;
  const { score_before: before, score_after: after } = scores ?? {};
  const gained = before == null ? score(after) : `${score(before)} → ${score(after)}`;
  const digits = id.replace("program:", "");
  const report = program.report
    ? h("a", { href: `api/report?program=${encodeURIComponent(id)}`, target: "_blank", rel: "noopener", "aria-label": `Report of ${digits.slice(0, 12)}` }, "open")
    : h("span", { class: "quiet" }, "none");
  return h(
    "tr",
    {},
    h("td", {}, program.name ?? "–"),
    h("td", {}, program.optimizer ?? "–"),
    h("td", { class: "number" }, gained),
    h("td", { class: "number" }, day(stored / 1000)),
    h("td", {}, h("code", { title: id, class: "id" }, digits.slice(0, 12), h("span", { class: "unseen" }, digits.slice(12)))),
    h("td", {}, report),
  );
}

/** Draws the programs, the newest first; `more` says that there are others. */
export function drawPrograms({ programs, more }) {
  byId("programs-none").hidden = programs.length > 0;
  byId("programs-table").hidden = !programs.length;
  byId("programs-more").hidden = !more;
  say(byId("programs-count"), programs.length ? `${programs.length}${more ? "+" : ""}` : "");
  keyed(byId("programs-rows"), programs, (program) => `${program.program_id} ${program.report}`, make);
}
