// The node's state as this page knows it, and how an event changes it. Draws nothing.

const ENDED = 50;
const ERRORS = 50;
const LOGS = 200;
const HISTORY = 300;

/** Nothing known yet. */
export const unknown = () => ({
  at: null,
  health: null,
  history: { queue: [], node: [], workers: {} },
  jobs: [],
  ended: [],
  errors: [],
  logs: [],
});

/** The state after an event of this name: a new value, the old one is left as it was. */
export function after(state, name, told) {
  switch (name) {
    case "state":
      return { ...unknown(), ...told };
    case "pulse":
      return { ...state, ...told, history: longer(state.history, told) };
    case "job":
      return { ...state, jobs: withJob(state.jobs, told) };
    case "ended":
      return {
        ...state,
        jobs: state.jobs.filter(({ job }) => job !== told.job),
        ended: newest(state.ended.filter(({ job }) => job !== told.job), told, ENDED),
      };
    case "error":
      return { ...state, errors: newest(state.errors, told, ERRORS) };
    case "log":
      return { ...state, logs: newest(state.logs, told, LOGS) };
    default:
      return state; // a newer node may tell more
  }
}

const newest = (list, one, most) => [one, ...list].slice(0, most);

/** A job in its old place or at the end; its curve is told only when it has grown. */
function withJob(jobs, told) {
  const known = jobs.find(({ job }) => job === told.job);
  const one = { ...told, curve: told.curve ?? known?.curve ?? [] };
  return known ? jobs.map((job) => (job === known ? one : job)) : [...jobs, one];
}

/** The history with one more second. A pulse comes oftener when something happens; the samples stay a second apart. */
function longer(history, { at, health }) {
  if (!health || at - (history.node.at(-1)?.[0] ?? 0) < 0.9) return history;
  const more = (rows, row) => [...(rows ?? []), row].slice(-HISTORY);
  const use = (one) => [at, one?.rss_bytes ?? null, one?.cpu_percent ?? null];
  const workers = (health.workers ?? []).map((one) => [one.worker, more(history.workers[one.worker], use(one))]);
  return {
    queue: more(history.queue, [at, health.queue?.waiting ?? 0, health.queue?.running ?? 0]),
    node: more(history.node, use(health.node)),
    workers: Object.fromEntries(workers),
  };
}
