// What the node tells over HTTP: its state and what changes of it as server-sent events, and the rest when it is asked for.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const SILENCE_MS = 10_000;
const EVENTS = ["state", "pulse", "job", "ended", "error", "log"];

/**
 * Listens until the page is closed. `onEvent` gets the name and the value of each event, `onLink` hears "live", or "lost"
 * with the milliseconds until the next try. Whoever connects again gets the state whole. A stream that is open but silent
 * counts as lost: the node has a pulse every second.
 */
export function listen({ onEvent, onLink }) {
  let source = null;
  let pause = FIRST_PAUSE_MS;
  let retry;
  let heardAt = 0;

  function lost() {
    if (!source) return;
    source.close();
    source = null;
    onLink("lost", pause);
    retry = setTimeout(open, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }

  function open() {
    if (source) return;
    clearTimeout(retry);
    heardAt = performance.now();
    source = new EventSource("api/events");
    const mine = source;
    for (const name of EVENTS)
      source.addEventListener(name, (event) => {
        if (event.data === undefined || mine !== source) return; // an `error` of the connection has no data
        if (name === "state") onLink("live");
        pause = FIRST_PAUSE_MS;
        heardAt = performance.now();
        onEvent(name, JSON.parse(event.data));
      });
    source.onerror = (event) => event.data === undefined && mine === source && lost();
  }

  setInterval(() => performance.now() - heardAt > SILENCE_MS && lost(), 1000);
  // Back from the background or from sleep, nobody wants to wait for the next try.
  const again = () => document.visibilityState === "visible" && open();
  document.addEventListener("visibilitychange", again);
  window.addEventListener("online", again);
  open();
}

/** What a GET gives as JSON; null when the node has no such thing or is away. */
export async function ask(path) {
  try {
    const answer = await fetch(path, { headers: { Accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** Asks the node to cancel a job by its number; throws what it said when that is not to be. */
export async function cancel(job) {
  const headers = { "Content-Type": "application/json", "X-Erlbridge": "1" };
  const answer = await fetch("api/cancel", { method: "POST", headers, body: JSON.stringify({ job }) });
  if (answer.status === 404) throw new Error("it is over already");
  if (!answer.ok) throw new Error((await answer.text()) || `HTTP ${answer.status}`);
}
