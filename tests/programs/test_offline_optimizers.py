"""DSPy's own optimizers, driven by the offline LM: each improves a program on data that it was not shown."""

import logging
import pathlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal

import dspy
import numpy as np
import pytest

import erlbridge
from erlbridge.programs.offline import offline_lm
from erlbridge.programs.offline_learner import features

TSV = pathlib.Path(erlbridge.__file__).parent / "data" / "support_tickets.tsv"
ROWS = [line.split("\t") for line in TSV.read_text(encoding="utf-8").splitlines()]
LABELS = ("billing", "technical", "account", "shipping")
TICKETS = [
    dspy.Example(subject=subject, body=body, category=category).with_inputs("subject", "body")
    for subject, body, category in ROWS[1:]
]
TRAIN, HELD_OUT = TICKETS[:64], TICKETS[64:]

# Another task with other names: the language of a short message. Three labels, ten messages each, seven for training.
MESSAGES = {
    "en": (
        "the train leaves at nine and we are late|where is the book that you gave me|she would like to have some water"
        "|it was a good day for the children|they have no time to read the letter|the house by the sea is too small"
        "|what do you think of this new song|he said that the water was not warm|we read the book to the children"
        "|the day at the sea was good for me"
    ),
    "de": (
        "der Zug fährt um neun und wir sind spät|wo ist das Buch, das du mir gegeben hast|sie möchte gern etwas Wasser"
        "|es war ein guter Tag für die Kinder|sie haben keine Zeit, den Brief zu lesen|das Haus am Meer ist zu klein"
        "|was denkst du über dieses neue Lied|er sagte, dass das Wasser nicht warm war|wir lesen den Kindern das Buch"
        "|der Tag am Meer war gut für mich"
    ),
    "es": (
        "el tren sale a las nueve y llegamos tarde|dónde está el libro que me diste|ella quiere un poco de agua"
        "|fue un buen día para los niños|no tienen tiempo de leer la carta|la casa junto al mar es muy pequeña"
        "|qué piensas de esta nueva canción|dijo que el agua no estaba caliente|leemos el libro a los niños"
        "|el día en el mar fue bueno para mí"
    ),
}
BY_ROUND = list(zip(*(text.split("|") for text in MESSAGES.values()), strict=True))
TONGUES = [
    dspy.Example(message=text, tongue=tongue).with_inputs("message")
    for texts in BY_ROUND
    for tongue, text in zip(MESSAGES, texts, strict=True)
]


def ticket_signature(output: Any = Literal[LABELS]) -> Any:  # type: ignore[valid-type]
    """A new class each time: InferRules writes its rules onto the signature class that it was given."""
    text = (str, dspy.InputField())
    return dspy.Signature({"subject": text, "body": text, "category": (output, dspy.OutputField())}, "Sort the ticket.")


def tongue_signature() -> Any:
    tongue = Literal["en", "de", "es"]
    return dspy.Signature({"message": (str, dspy.InputField()), "tongue": (tongue, dspy.OutputField())}, "Name it.")


def correct(example: Any, prediction: Any, trace: Any = None) -> float:
    label = "category" if "category" in example else "tongue"
    return float(example[label] == prediction[label])


def explained(example: Any, prediction: Any, trace: Any = None, name: Any = None, steps: Any = None) -> Any:
    label = "category" if "category" in example else "tongue"
    feedback = f"expected {example[label]}, got {prediction[label]}"
    return dspy.Prediction(score=correct(example, prediction), feedback=feedback)


def score(program: Any, examples: list[Any]) -> float:
    return float(dspy.Evaluate(devset=examples, metric=correct, num_threads=1, display_progress=False)(program).score)


def vectors(texts: list[str]) -> Any:
    rows = np.zeros((len(texts), 512), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for feature in features(text):
            row[zlib.crc32(feature.encode()) % 512] += 1
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)


@pytest.fixture(autouse=True)
def _lm() -> Iterator[None]:
    logging.disable(logging.WARNING)
    with dspy.context(lm=offline_lm(), num_threads=1):
        yield
    logging.disable(logging.NOTSET)


Compile = Callable[[Any, list[Any], list[Any]], Any]


def labeled(student: Any, train: list[Any], val: list[Any]) -> Any:
    return dspy.LabeledFewShot(k=16).compile(student, trainset=train + val)


def bootstrap(student: Any, train: list[Any], val: list[Any]) -> Any:
    optimizer = dspy.BootstrapFewShot(metric=correct, max_bootstrapped_demos=4, max_labeled_demos=16)
    return optimizer.compile(student, trainset=train + val)


def random_search(student: Any, train: list[Any], val: list[Any]) -> Any:
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=correct, max_bootstrapped_demos=4, max_labeled_demos=16, num_candidate_programs=4, num_threads=1
    )
    return optimizer.compile(student, trainset=train, valset=val)


def mipro(student: Any, train: list[Any], val: list[Any]) -> Any:
    optimizer = dspy.MIPROv2(metric=correct, auto=None, num_candidates=5, num_threads=1)
    return optimizer.compile(student, trainset=train, valset=val, num_trials=8, minibatch=False)


def mipro_without_demos(student: Any, train: list[Any], val: list[Any]) -> Any:
    optimizer = dspy.MIPROv2(
        metric=correct, auto=None, num_candidates=5, max_bootstrapped_demos=0, max_labeled_demos=0, num_threads=1
    )
    return optimizer.compile(student, trainset=train, valset=val, num_trials=8, minibatch=False)


def gepa(student: Any, train: list[Any], val: list[Any]) -> Any:
    optimizer = dspy.GEPA(metric=explained, max_metric_calls=400, reflection_lm=dspy.settings.lm, num_threads=1)
    return optimizer.compile(student, trainset=train, valset=val)


def infer_rules(student: Any, train: list[Any], val: list[Any]) -> Any:
    optimizer = dspy.InferRules(
        metric=correct, num_candidates=2, num_threads=1, max_bootstrapped_demos=0, max_labeled_demos=0
    )
    return optimizer.compile(student, trainset=train, valset=val)


def knn(student: Any, train: list[Any], val: list[Any]) -> Any:
    optimizer = dspy.KNNFewShot(
        k=8, trainset=train + val, vectorizer=dspy.Embedder(vectors), metric=correct, max_bootstrapped_demos=0
    )
    return optimizer.compile(student)


def simba(student: Any, train: list[Any], val: list[Any]) -> Any:
    optimizer = dspy.SIMBA(metric=correct, bsize=32, num_candidates=6, max_steps=8, num_threads=1)
    return optimizer.compile(student, trainset=train + val)


GOOD = [labeled, bootstrap, random_search, mipro, mipro_without_demos, gepa, infer_rules, knn]


def test_the_shipped_tickets_are_whole_and_balanced_in_both_parts() -> None:
    assert ROWS[0] == ["subject", "body", "category"]
    assert all(len(row) == 3 and all(row) for row in ROWS)
    assert len({(row[0], row[1]) for row in ROWS}) == len(ROWS) == 105
    assert Counter(example.category for example in TRAIN) == dict.fromkeys(LABELS, 16)
    assert Counter(example.category for example in HELD_OUT) == dict.fromkeys(LABELS, 10)


def test_without_demos_and_rules_a_program_scores_about_chance() -> None:
    scores = []
    for seed in range(3):
        with dspy.context(lm=offline_lm(seed=seed)):
            scores += [score(module(ticket_signature()), TICKETS) for module in (dspy.Predict, dspy.ChainOfThought)]
    assert 20 <= sum(scores) / len(scores) <= 30
    assert 12 <= min(scores) <= max(scores) <= 38


def test_labels_that_no_prompt_states_are_never_guessed() -> None:
    assert score(dspy.Predict(ticket_signature(str)), HELD_OUT) == 0


@pytest.mark.parametrize("compile_", GOOD)
def test_an_optimizer_lifts_the_program_over_three_quarters_on_held_out_tickets(compile_: Compile) -> None:
    program = compile_(dspy.Predict(ticket_signature()), TRAIN[:40], TRAIN[40:])
    assert score(program, HELD_OUT) >= 75


@pytest.mark.parametrize("compile_", [labeled, bootstrap, mipro])
def test_so_it_does_where_the_labels_are_plain_text(compile_: Compile) -> None:
    program = compile_(dspy.Predict(ticket_signature(str)), TRAIN[:40], TRAIN[40:])
    assert score(program, HELD_OUT) >= 75


@pytest.mark.parametrize("compile_", [labeled, bootstrap, mipro, gepa])
def test_so_it_does_with_a_chain_of_thought(compile_: Compile) -> None:
    program = compile_(dspy.ChainOfThought(ticket_signature()), TRAIN[:40], TRAIN[40:])
    assert score(program, HELD_OUT) >= 75


@pytest.mark.parametrize("compile_", [labeled, bootstrap, random_search, mipro, infer_rules, knn])
def test_so_it_does_on_another_task_with_other_names(compile_: Compile) -> None:
    program = compile_(dspy.Predict(tongue_signature()), TONGUES[:15], TONGUES[15:21])
    assert score(program, TONGUES[21:]) >= 75


def test_simba_improves_the_program_if_less() -> None:
    program = dspy.Predict(ticket_signature())
    assert score(simba(program, TRAIN[:40], TRAIN[40:]), HELD_OUT) > score(program, HELD_OUT) + 10


def test_copro_runs_to_its_end_though_its_proposer_sees_no_data() -> None:
    optimizer = dspy.COPRO(metric=correct, breadth=2, depth=2)
    settings = {"num_threads": 1, "display_progress": False}
    program = optimizer.compile(dspy.Predict(ticket_signature()), trainset=TRAIN[:16], eval_kwargs=settings)
    assert score(program, HELD_OUT) <= 45


def test_two_compiles_give_the_same_program() -> None:
    states = [mipro(dspy.Predict(ticket_signature()), TRAIN[:40], TRAIN[40:]).dump_state() for _ in range(2)]
    assert states[0] == states[1]


def test_mipro_finds_an_instruction_that_carries_rule_lines() -> None:
    program = mipro_without_demos(dspy.Predict(ticket_signature()), TRAIN[:40], TRAIN[40:])
    assert "If the input mentions" in program.signature.instructions
    assert all(f'category is "{label}"' in program.signature.instructions for label in LABELS)
