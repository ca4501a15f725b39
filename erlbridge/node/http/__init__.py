"""The node's HTTP side, loaded only when the setting `http` gives an address: health, metrics, state, events, console.

    GET  /healthz       200 `ok`; 503 when the node's loop does not answer within a second. Needs no token.
    GET  /readyz        200 `ready`; 503 with the reason. Needs no token.
    GET  /metrics       Prometheus' text or OpenMetrics, by `Accept`
    GET  /api/state     what is shown, whole, as JSON: below
    GET  /api/events    the same and then what changes, as server-sent events: below
    GET  /api/frames    {"frames": [frame, …]}: the last 64 of the host's wire, oldest first
    GET  /api/programs  {"programs": [program, …], "more": bool}: the newest 50 as list_programs has them, and
                        "report": bool of each
    GET  /api/report    the report on the program that `?program=` names, as HTML without an origin
    GET  /              the console, whose files lie in `console/` and below the path of that name
    POST /api/cancel    {"job": number} -> {"status": "cancelling"}; 404 when it is over. Needs `X-Erlbridge: 1` and
                        `Content-Type: application/json`, which no page of another origin can send

State. Times `at` are seconds since 1970, spans seconds. null is not known or not there.

    {"at": 1767225600.123,
     "health": {…},                     health_check's answer: docs/wire/verbs.md; atoms and binaries are texts
     "history": {                       one entry a second, the last 300, oldest first
         "queue": [[at, waiting, running], …],
         "node": [[at, rss_bytes, cpu_percent], …],
         "workers": {"1": [[at, rss_bytes, cpu_percent], …]}},
     "jobs": [job, …],                  running ones, then the first 100 that wait
     "ended": [job, …],                 the last 50, newest first
     "errors": [error, …],              the last 50, newest first
     "logs": [log, …]}                  the last 200, newest first

    job:   {"job": 7,                   this node's number of it, for cancelling; never used again
            "id": "…",                  the request's id as text
            "verb": "optimize_signature", "source": "…" | null, "state": "waiting" | "running" | "ended",
            "worker": 1 | null, "arrived_at": at, "started_at": at | null, "ended_at": at | null,
            "outcome": null | "ok" | an error_type,
            "stage", "done", "total", "score", "best_score", "lm_calls", "cost_usd", "message": as in progress,
            "curve": [[elapsed_s, stage, score | null, best_score | null, lm_calls, cost_usd | null], …]}
                                        at most 240 points, thinned out evenly when there are more
    error: {"number": 3, "at", "job": number | null, "id", "verb": "…" | null, "error_type", "message",
            "traceback": "…" | null}
    log:   {"number": 4, "at", "level", "worker", "job": id as text | null, "logger", "text"}
    frame: {"number": 5, "at", "outgoing": true, "bytes": 123, "kind": "ok" | "predict" | …, "text": notation}

Events. Whoever connects, again too, gets `state` first; there is nothing to catch up with. 48 may follow at once; one
more gets 503 with `Retry-After`.

    state   the state, whole
    pulse   {"at", "health"}            each second, and soon after something changed
    job     a job that began, or came on; `curve` is there only when it has grown
    ended   a job that is over, whole
    error   an error
    log     a log line

A handler for more paths goes into `routes.ROUTES`.
"""
