"""The offline LM's learner and reader: rule lines, votes, and the examples that optimizers show to a proposer."""

import doctest
import json
import tracemalloc
from types import ModuleType

import dspy
import pytest
from dspy.lm15 import InvalidRequestError, Message, Request
from hypothesis import given
from hypothesis import strategies as st

from erlbridge.programs import offline, offline_learner, offline_prompt, remembering
from erlbridge.programs.offline import OfflineEngine
from erlbridge.programs.offline_learner import (
    Rule,
    features,
    induce_rules,
    merge_rules,
    read_rules,
    similarities,
    stem,
    vote,
)
from erlbridge.programs.offline_prompt import read_examples

PLAIN = st.text(
    st.characters(codec="utf-8", exclude_characters='"\n\r', exclude_categories=["Cs", "Cc", "Z"]), min_size=1
)


@pytest.mark.parametrize("module", [offline, offline_learner, offline_prompt, remembering])
def test_the_examples_in_the_docstrings_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@given(PLAIN, st.lists(PLAIN, min_size=1, max_size=5))
def test_a_written_rule_line_reads_back_as_the_same_rule(value: str, words: list[str]) -> None:
    rule = Rule("colour", value, tuple(words))
    assert read_rules(f"Before. {rule}{rule}\nAfter.") == (rule, rule)


@pytest.mark.parametrize(
    "line",
    [
        'If the input mentions "sour" or "tea", fruit is lemon.',
        'if the input mentions "sour", "tea", then the fruit is "lemon".',
        '3. If the input mentions "sour", or "tea", `fruit` is lemon',
    ],
)
def test_a_rule_line_written_by_hand_is_read(line: str) -> None:
    assert read_rules(line) == (Rule("fruit", "lemon", ("sour", "tea")),)


def test_rules_are_induced_from_words_that_mark_one_value() -> None:
    examples = [
        ("the sour drink", {"fruit": "lemon"}),
        ("a sour cake, peeled", {"fruit": "lemon"}),
        ("peeled by a monkey", {"fruit": "banana"}),
        ("monkeys share the cake", {"fruit": "banana"}),
    ]
    lemon, banana = induce_rules(examples)
    assert lemon.words[0] == "sour"
    assert banana.words[0] == "monkey"
    assert not {"the", "peeled", "cake"} & {*lemon.words, *banana.words}


def test_prose_makes_no_rule() -> None:
    assert induce_rules([("a b c words", {"essay": "word " * 40}), ("more words", {"essay": 'said "no"'})]) == ()


def test_merging_gives_a_contested_word_to_the_stronger_claim() -> None:
    one, two = Rule("f", "one", ("alpha", "beta")), Rule("f", "two", ("gamma", "delta", "beta"))
    assert merge_rules([one, two]) == (one, Rule("f", "two", ("gamma", "delta")))
    even = Rule("f", "two", ("alphas", "gamma"))
    assert merge_rules([one, even]) == (Rule("f", "one", ("beta",)), Rule("f", "two", ("gamma",)))


def test_a_vote_without_demos_and_rules_has_no_winner() -> None:
    assert vote("words", "fruit", [], ()).winner is None
    assert vote("words", "fruit", [("words", "pear")], (), allowed=["plum"]).winner is None


def test_one_demo_close_by_outvotes_many_far_away() -> None:
    demos = [("rain over the hills", "wet")] + [(f"sun over field {i} and over the sea", "dry") for i in range(9)]
    ballot = vote("rain over the field", "weather", demos, ())
    assert ballot.winner == "wet"
    assert ballot.demos == (0,)


TRAINED = [dspy.Example(text='it\'s "sour"\n', n=1, fruit="lemon").with_inputs("text", "n")]


@pytest.mark.parametrize(
    "values",
    [
        {"examples": repr(TRAINED)},
        {"examples_text": 'Input Fields:\ntext: it\'s "sour"\nn: 1\n\n=========\nOutput Fields:\nfruit: lemon\n\n'},
        {"module": "Predict(text, n) -> fruit", "task_demos": 'Text: it\'s "sour"\nN: 1\nFruit: lemon\n\n'},
        {"program_inputs": '{"text": "it\'s \\"sour\\"", "n": 1}', "oracle_metadata": '{"fruit": "lemon"}'},
    ],
    ids=["MIPROv2 trainset", "InferRules", "MIPROv2 demos", "SIMBA"],
)
def test_an_example_is_read_in_each_form_that_an_optimizer_shows(values: dict[str, str]) -> None:
    (example,) = read_examples(values)
    assert {name: value.strip() for name, value in example.inputs.items()} == {"text": 'it\'s "sour"', "n": "1"}
    assert example.outputs == {"fruit": "lemon"}


@pytest.mark.parametrize(
    ("feedback", "label"),
    [
        ("expected lemon, got pear", "lemon"),
        ("Expected 'lemon' but got 'pear'.", "lemon"),
        ("expected lemon but got 'pear'", "lemon"),
        ('Wrong. The correct answer is "lemon".', "lemon"),
        ("Expected fruit to be `lemon`, not pear", "lemon"),
        ("fruit: expected: lemon; got: pear", "lemon"),
        ("It should have been «green lemon».", "green lemon"),
        ("expected fruit: lemon", "lemon"),
        ("Correct.", "pear"),
        ("This is right", "pear"),
    ],
)
def test_feedback_that_names_the_right_value_makes_an_example(feedback: str, label: str) -> None:
    record = {
        "Inputs": {"text": "sour"},
        "Generated Outputs": {"reasoning": "so", "fruit": "pear"},
        "Feedback": feedback,
    }
    (example,) = read_examples({"examples_with_feedback": json.dumps([record])})
    assert example.outputs["fruit"] == label


@pytest.mark.parametrize("feedback", ["", "This is incorrect.", "0.0"])
def test_feedback_that_names_no_value_teaches_nothing(feedback: str) -> None:
    record = {"Inputs": {"text": "sour"}, "Generated Outputs": {"fruit": "pear"}, "Feedback": feedback}
    assert read_examples({"examples_with_feedback": json.dumps([record])}) == ()


@given(st.text(), st.text(), st.sampled_from(["str", "dict[str, str]", "list[int]", "Literal['a", "bool", "Odd"]))
def test_whatever_a_prompt_holds_it_is_answered_or_refused_as_invalid(value: str, note: str, kind: str) -> None:
    system = (
        f"Your input fields are:\n1. `module_names` (str): {note}\nYour output fields are:\n"
        f"1. `advice` ({kind}): {note}\nAll interactions will be structured in the following way, with the values.\n\n"
        f"{{advice}}        # note: the value you produce {note}\n"
        f"In adhering to this structure, your objective is: {note}"
    )
    user = Message.user(f"[[ ## module_names ## ]]\n{value}")
    try:
        response = OfflineEngine().complete(Request(model="offline", system=system, messages=(user,)))
    except InvalidRequestError:
        return
    assert "advice" in response.message.text


def test_what_is_remembered_of_texts_is_bounded_by_their_length() -> None:
    """A worker kept the last 8,192 texts whole, however long: each job with 20 kB inputs left it 6 MB larger."""
    tracemalloc.start()
    try:
        for number in range(100):
            long = f"{number} " + " " * 300_000
            features(long)
            similarities("what is it", (long, f"another {number}"))
            stem(long)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 19_000_000


def test_texts_that_are_asked_for_again_and_again_are_remembered() -> None:
    demos = tuple(f"{number} " + "word " * 4_000 for number in range(16))
    assert all(features(text) is features(text) for text in demos)
