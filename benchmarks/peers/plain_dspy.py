"""The compiles of `optimizers.py` in plain DSPy: what a program without a bridge would do, in one process.

    python benchmarks/peers/plain_dspy.py OPTIMIZER URL

Prints the seconds, by the clock and of the processor, from when DSPy was there to the end.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dspy

TICKETS = Path(__file__).resolve().parents[2] / "erlbridge" / "data" / "support_tickets.tsv"
LEARN, CHOOSE, ALL = 44, 64, 104
"""Tickets to learn from end at 44, those to choose by at 64, those held out at 104."""

LABELS = ("account", "billing", "shipping", "technical")
INSTRUCTIONS = "Read a customer's support ticket and choose the team that it belongs to."
THREADS = 8

OPTIONS: dict[str, dict[str, Any]] = {
    "labeled_few_shot": {},
    "bootstrap_few_shot": {},
    "bootstrap_few_shot_with_random_search": {"num_candidate_programs": 8},
    "bootstrap_few_shot_with_optuna": {"num_candidate_programs": 16},
    "knn_few_shot": {"k": 8},
    "ensemble": {"num_candidate_programs": 8, "size": 3},
    "copro": {"breadth": 4, "depth": 3},
    "mipro_v2": {"num_candidates": 6, "num_trials": 12},
    "simba": {"bsize": 32, "num_candidates": 4, "max_steps": 4},
    "gepa": {"max_metric_calls": 400},
    "infer_rules": {"num_candidates": 6},
}


def tickets() -> list[dict[str, str]]:
    return list(csv.DictReader(TICKETS.read_text(encoding="utf-8").splitlines(), delimiter="\t"))


class Triage(dspy.Module):
    """The program; its predictor has the name that it has in the node, because some optimizers show it to the model."""

    def __init__(self) -> None:
        super().__init__()
        fields = {
            "subject": (str, dspy.InputField()),
            "body": (str, dspy.InputField()),
            "category": (Literal[LABELS], dspy.OutputField()),  # type: ignore[valid-type]
        }
        signature = dspy.Signature(fields, INSTRUCTIONS)
        self.answer = dspy.Predict(signature)

    def forward(self, **inputs: Any) -> Any:
        return self.answer(**inputs)


def plain(optimizer: str, url: str) -> None:
    """Scores, compiles, scores."""
    began, worked = time.monotonic(), time.process_time()
    examples = [dspy.Example(**row).with_inputs("subject", "body") for row in tickets()]
    train, choose = examples[:LEARN], examples[LEARN:CHOOSE]
    lm = dspy.LM("openai/x", api_base=url, api_key="none", cache=False, timeout=60)
    options = OPTIONS[optimizer]

    def correct(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001 - DSPy's shape
        return float(example.category == prediction.category)

    def explained(gold: Any, pred: Any, trace: Any = None, name: Any = None, steps: Any = None) -> Any:  # noqa: ARG001
        score = correct(gold, pred)
        said = "This output is correct." if score else f"expected {gold.category}, got {pred.category}."
        return dspy.Prediction(score=score, feedback=said) if name else score

    demos = {"metric": correct, "max_bootstrapped_demos": 4, "max_labeled_demos": 16}
    bounded = {**demos, "max_errors": 65}
    search = dspy.BootstrapFewShotWithRandomSearch(
        **bounded, num_candidate_programs=options.get("num_candidate_programs", 8), num_threads=THREADS
    )

    def vote(student: Any) -> Any:
        found = search.compile(student, trainset=train, valset=choose)
        states: list[Any] = []
        for candidate in found.candidate_programs:
            if candidate["program"].dump_state() not in [state.dump_state() for state in states]:
                states.append(candidate["program"])
        return dspy.Ensemble(reduce_fn=dspy.majority).compile(states[: options["size"]])

    def words(texts: list[str]) -> Any:
        from erlbridge.programs.neighbours import vectors  # noqa: PLC0415 - for this one alone

        return vectors(texts)

    compiles: dict[str, Callable[[Any], Any]] = {
        "labeled_few_shot": lambda student: dspy.LabeledFewShot(k=16).compile(student, trainset=train),
        "bootstrap_few_shot": lambda student: dspy.BootstrapFewShot(**bounded).compile(student, trainset=train),
        "bootstrap_few_shot_with_random_search": lambda student: search.compile(student, trainset=train, valset=choose),
        "bootstrap_few_shot_with_optuna": lambda student: dspy.teleprompt.BootstrapFewShotWithOptuna(
            **demos, num_candidate_programs=options["num_candidate_programs"], num_threads=THREADS
        ).compile(student, max_demos=4, trainset=train, valset=choose),
        "knn_few_shot": lambda student: dspy.KNNFewShot(
            k=options["k"], trainset=train, vectorizer=dspy.Embedder(words, caching=False), max_bootstrapped_demos=0
        ).compile(student),
        "ensemble": vote,
        "copro": lambda student: dspy.COPRO(metric=correct, **options).compile(
            student, trainset=train, eval_kwargs={"num_threads": THREADS, "display_progress": False}
        ),
        "mipro_v2": lambda student: dspy.MIPROv2(
            **bounded, auto=None, num_candidates=options["num_candidates"], num_threads=THREADS, init_temperature=1.0
        ).compile(student, trainset=train, valset=choose, num_trials=options["num_trials"], minibatch=False),
        "simba": lambda student: dspy.SIMBA(metric=correct, num_threads=THREADS, **options).compile(
            student, trainset=train
        ),
        "gepa": lambda student: dspy.GEPA(metric=explained, reflection_lm=lm, num_threads=THREADS, **options).compile(
            student, trainset=train, valset=choose
        ),
        "infer_rules": lambda student: dspy.InferRules(**bounded, num_threads=THREADS, **options).compile(
            student, trainset=train, valset=choose
        ),
    }
    with dspy.context(lm=lm, num_threads=THREADS):
        score = dspy.Evaluate(devset=choose, metric=correct, num_threads=THREADS, display_progress=False)
        score(Triage())
        score(compiles[optimizer](Triage()))
    print(time.monotonic() - began, time.process_time() - worked, file=sys.__stdout__)


if __name__ == "__main__":
    plain(*sys.argv[1:])
