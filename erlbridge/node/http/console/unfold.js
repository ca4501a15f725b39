// A term in Elixir's notation over several lines. Looks for brackets and texts only, and so takes what was left out too.

const WIDTH = 92;
const OPENING = ["<<", "{", "[", "("];
const CLOSING = [">>", "}", "]", ")"];

const one = (marks, text, at) => marks.find((mark) => text.startsWith(mark, at));

/** The place behind a text or charlist that begins here. */
function behindQuoted(text, at) {
  const quote = text[at];
  for (at += 1; at < text.length && text[at] !== quote; at += 1) if (text[at] === "\\") at += 1;
  return at + 1;
}

/** Where each bracket closes, by the place where it opens. */
function pairs(text) {
  const found = new Map();
  const open = [];
  for (let at = 0; at < text.length; ) {
    const mark = one(OPENING, text, at) ?? one(CLOSING, text, at);
    if (OPENING.includes(mark)) open.push(at);
    else if (mark && open.length) found.set(open.pop(), at + mark.length);
    at = text[at] === '"' || text[at] === "'" ? behindQuoted(text, at) : at + (mark?.length ?? 1);
  }
  return found;
}

/** The text with each container that is too long for a line opened up, one part of it on each line. */
export function unfold(text) {
  const ends = pairs(text);
  const out = [];
  let depth = 0;
  const turn = () => out.push("\n", "  ".repeat(depth));
  for (let at = 0; at < text.length; ) {
    const opening = one(OPENING, text, at);
    let end = at + 1;
    if (text[at] === '"' || text[at] === "'") end = behindQuoted(text, at);
    else if (opening && ends.get(at) - at <= WIDTH - 2 * depth) end = ends.get(at);
    else if (opening) end = at + opening.length;
    const part = text.slice(at, end);
    const closing = CLOSING.includes(part) || part === ">" ? one(CLOSING, text, at) : undefined;
    if (closing && depth > 0) {
      depth -= 1;
      turn();
      out.push(closing);
      end = at + closing.length;
    } else out.push(part);
    if (opening === part && ends.has(at)) {
      depth += 1;
      turn();
    }
    if (part === "," && depth > 0) {
      turn();
      while (text[end] === " ") end += 1;
    }
    at = end;
  }
  return out.join("");
}
