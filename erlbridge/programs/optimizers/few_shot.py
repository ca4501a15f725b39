"""The optimizers that choose demos: labeled ones, bootstrapped ones, searched sets of them, the nearest of them."""

from __future__ import annotations

from typing import Any, Final

from dspy import teleprompt  # type: ignore[import-untyped]

from erlbridge.programs.optimizers.search import Found, Search

_CANDIDATES: Final = 8
"""Programs of a random search when the request names none. DSPy's 16 double the cost for little on small data."""

_NEIGHBOURS: Final = 8
"""Demos of a nearest-neighbour program when the request names no `k`."""

_VOTERS: Final = 3
"""Programs of an ensemble that is made of a search: the fewest that can have a majority."""


def labeled(search: Search, student: Any) -> Found:
    """LabeledFewShot: a sample of the trainset as demos."""
    options = search.config.options
    optimizer = teleprompt.LabeledFewShot(k=options.get("k", search.config.max_labeled_demos))
    return Found(optimizer.compile(student, trainset=search.shuffled, sample=options.get("sample", True)))


def bootstrap(search: Search, student: Any) -> Found:
    """BootstrapFewShot: demos that the program wrote itself and the metric accepted."""
    bootstraps = len(search.trainset) * search.integer("max_rounds", 1)
    search.guard.progress.compiling(full_size=len(search.valset), bootstraps=bootstraps, trials=None)
    optimizer = teleprompt.BootstrapFewShot(**search.bootstrapping, max_errors=search.max_errors)
    return Found(optimizer.compile(student, trainset=search.shuffled))


def random_search(search: Search, student: Any) -> Found:
    """BootstrapFewShotWithRandomSearch: the best of several bootstraps."""
    search.guard.progress.compiling(full_size=len(search.valset), bootstraps=None, trials=random_search_trials(search))
    optimizer = random_search_optimizer(search)
    return Found(optimizer.compile(student, trainset=search.shuffled, valset=search.valset))


def random_search_trials(search: Search) -> int:
    """How many programs a random search scores: besides its candidates no demos, labeled demos, and one bootstrap in
    the given order."""
    return search.integer("num_candidate_programs", _CANDIDATES) + 3


def random_search_optimizer(search: Search) -> Any:
    """DSPy's random search with the options of the request."""
    return teleprompt.BootstrapFewShotWithRandomSearch(
        **search.bootstrapping,
        num_candidate_programs=search.integer("num_candidate_programs", _CANDIDATES),
        num_threads=search.threads,
        max_errors=search.max_errors,
        stop_at_score=search.percent("stop_at_score"),
    )


def optuna(search: Search, student: Any) -> Found:
    """BootstrapFewShotWithOptuna: one demo for each predictor, chosen by a search over one bootstrap's demos."""
    from optuna.samplers import TPESampler  # noqa: PLC0415 - optional

    class Seeded(teleprompt.BootstrapFewShotWithOptuna):  # type: ignore[misc]
        """DSPy makes its study without a seed; a study may change its sampler before its first trial draws."""

        def objective(self, trial: Any) -> Any:
            if trial.number == 0:
                trial.study.sampler = TPESampler(seed=search.config.seed)
            return super().objective(trial)

    trials = search.integer("num_candidate_programs", _CANDIDATES)
    bootstraps = len(search.trainset) * search.integer("max_rounds", 1)
    search.guard.progress.compiling(full_size=len(search.valset), bootstraps=bootstraps, trials=trials)
    optimizer = Seeded(**search.bootstrapping, num_candidate_programs=trials, num_threads=search.threads)
    found = optimizer.compile(
        student, max_demos=search.config.max_demos, trainset=search.shuffled, valset=search.valset
    )
    return Found(found)


def knn(search: Search, student: Any) -> Found:
    """KNNFewShot: for each input, the examples that are most like it. DSPy patches the program's `forward`, which no
    state holds, and bootstraps anew at each prediction; here the program becomes one of the module `knn`."""
    return Found(student, neighbours=min(search.integer("k", _NEIGHBOURS), len(search.trainset)))


def ensemble(search: Search, student: Any) -> Found:
    """Ensemble: the best programs of a random search, which vote."""
    best = random_search(search, student).program
    # The search tries the same demos more than once when there are few examples; a program has one vote.
    states: list[Any] = []
    for candidate in best.candidate_programs:
        state = candidate["program"].dump_state()
        if state not in states:
            states.append(state)
    return Found(best, voters=tuple(states[: search.integer("size", _VOTERS)]))
