"""A small in-context learner: texts become features, demos vote, rule lines are followed, examples become rule lines.

Everything it knows comes with the call. A text's features are its word stems and the character trigrams of its words;
a demo votes for its value with its cosine similarity to the question, features weighted by how rare they are among the
demos; a rule line `If the input mentions "sour" or "peel", fruit is "lemon".` votes for its value with the number of
its words that the question mentions. Knows no prompt layout, no field, no label, and holds nothing between calls but
bounded caches of pure functions.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

from erlbridge.programs.remembering import remembered

WORDS_PER_RULE = 40  # a rule line stays readable, and an instruction of a few of them under a thousand words
LONGEST_RULED_VALUE = 60  # longer outputs are prose, which no rule line can give back
TRIGRAM_WEIGHT = 0.5  # trigrams forgive inflection and typing errors; words stay the stronger sign
FADE = 10.0  # the eleventh word of a rule line, they stand strongest first, speaks half as loud as the first
RULE_SHARE = 2.0  # a rule line sums up many examples, a demo is one: rules weigh more when both speak

# Words that carry grammar and no subject. Similarity learns their weight from the demos; a rule made from three
# examples cannot, so rules are never made of these.
_GRAMMAR_TEXT = """
    a about after again all also am an and any are as at be because been before being but by can
    cannot could did do does doing done during each even ever every few for from get gets getting
    give go got had has have having he her here hers hi hello him his how however i if in into is it
    its just let like may me might more most much must my need never no nor not now of off on once
    one only or other our out over own please re s same see seem shall she should since so some
    still such t than thank thanks that the their them then there these they this those though to
    too until up us very want was we well were what when where whether which while who whom why will
    with without would yet you your yours
"""
_GRAMMAR = frozenset(_GRAMMAR_TEXT.split())
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_ENDINGS = ("ations", "ation", "ments", "ment", "ings", "ing", "edly", "ies", "ied", "ions", "ion", "ers", "ed", "es")
_RULE = re.compile(
    r"if the input mentions ((?:\"[^\"\n]+\"(?:,? or |, )?)+), "
    r"(?:then )?(?:the )?`?(\w+)`? is (?:\"([^\"\n]+)\"|([^\".\n]+))",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\"([^\"\n]+)\"")


_REMEMBERED_BYTES: Final = 6 * 2**20
_ENTRY_BYTES: Final = 100
"""Of a set or a map, with the short text that is its key."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule line: any of `words` in the input speaks for `value` in the output `field`; strongest words first."""

    field: str
    value: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        words = " or ".join(f'"{word}"' for word in self.words)
        return f'If the input mentions {words}, {self.field} is "{self.value}".'


@dataclass(frozen=True, slots=True)
class Ballot:
    """What the demos and rules say about one output: shares by value, the best first, and who spoke for the best.

    `demos` are positions in the list of demos, the most similar first; `words` are rule words found in the question.
    Both are empty, and so is `shares`, when nothing in the prompt speaks.
    """

    shares: Mapping[str, float]
    demos: tuple[int, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def winner(self) -> str | None:
        """The value with the largest share, None when nothing speaks."""
        return next(iter(self.shares), None)


@remembered(_REMEMBERED_BYTES, lambda word, _: 2 * (len(word) + _ENTRY_BYTES))
def stem(word: str) -> str:
    """A crude English stem, the same for the common inflections of a word; it needs to be stable, not pretty.

    >>> stem("boxes") == stem("boxed") == stem("box")
    True
    """
    word = word.lower().removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    else:
        if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
            word = word[:-1]
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiou":
        word = word[:-1]
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1]
    return word


def words_of(text: str) -> list[str]:
    """The words of a text in order, lower case, with digits and inner apostrophes."""
    return _WORD.findall(text.lower())


@remembered(_REMEMBERED_BYTES, lambda text, found: len(text) + _ENTRY_BYTES * (1 + len(found)))
def features(text: str) -> frozenset[str]:
    """Stems and, marked with `#`, the trigrams of the longer words; word borders count as characters."""
    found: set[str] = set()
    for word in words_of(text):
        found.add(stem(word))
        if len(word) > 3 and word not in _GRAMMAR:
            edged = f"<{word}>"
            found.update(f"#{edged[i : i + 3]}" for i in range(len(edged) - 2))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Memory:
    """The demos of one prompt: the weight of each feature, rare ones heavy, and the length of each demo."""

    weights: Mapping[str, float]
    lengths: tuple[float, ...]


@remembered(
    _REMEMBERED_BYTES,
    lambda texts, found: sum(map(len, texts)) + _ENTRY_BYTES * (len(texts) + len(found.weights)),
)
def _memorise(texts: tuple[str, ...]) -> _Memory:
    seen = Counter(feature for text in texts for feature in features(text))
    weights = {
        feature: log((len(texts) + 1) / (count + 0.5)) * (TRIGRAM_WEIGHT if feature[0] == "#" else 1.0)
        for feature, count in seen.items()
    }
    lengths = tuple(sqrt(sum(weights[f] for f in features(text))) or 1.0 for text in texts)
    return _Memory(weights, lengths)


def similarities(question: str, texts: tuple[str, ...]) -> list[float]:
    """How much each text shares with the question, each in proportion to its own length; no upper bound, 0 is none."""
    memory = _memorise(texts)
    asked = features(question)
    weights = memory.weights
    return [
        sum(weights[f] for f in asked & features(text)) / length
        for text, length in zip(texts, memory.lengths, strict=True)
    ]


def read_rules(text: str) -> tuple[Rule, ...]:
    """Every rule line in a text, in order, wherever it stands; one text may hold thousands."""
    return tuple(
        Rule(field, (quoted or bare).strip(), tuple(_QUOTED.findall(words)))
        for words, field, quoted, bare in _RULE.findall(text)
    )


def vote(
    question: str,
    field: str,
    demos: Sequence[tuple[str, str]],
    rules: Iterable[Rule],
    allowed: Sequence[str] = (),
) -> Ballot:
    """Let demos, each `(input text, value)`, and the rules on `field` vote; with `allowed`, only for these values."""
    kept = [(i, text, value) for i, (text, value) in enumerate(demos) if not allowed or value in allowed]
    likeness = similarities(question, tuple(text for _, text, _ in kept))
    by_demo: dict[str, float] = defaultdict(float)
    counts = Counter(value for _, _, value in kept)
    for (_, _, value), like in zip(kept, likeness, strict=True):
        # The mean of squares: near demos decide, and a value does not win by having many demos that are far away.
        by_demo[value] += (like * like + 1e-6) / counts[value]
    by_rule, spoken = _vote_of_rules(question, field, rules, allowed)
    shares: dict[str, float] = defaultdict(float)
    for votes, weight in ((by_demo, 1.0), (by_rule, RULE_SHARE)):
        total = sum(votes.values())
        for value, votes_for in votes.items():
            shares[value] += weight * votes_for / total
    ordered = dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
    best = next(iter(ordered), None)
    followed = sorted((-like, i) for (i, _, value), like in zip(kept, likeness, strict=True) if value == best and like)
    return Ballot(ordered, tuple(i for _, i in followed), spoken.get(best or "", ()))


def _vote_of_rules(
    question: str, field: str, rules: Iterable[Rule], allowed: Sequence[str]
) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    said = f" {' '.join(stem(word) for word in words_of(question))} "
    votes: dict[str, float] = {}
    spoken: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        if rule.field.lower() != field.lower() or (allowed and rule.value not in allowed):
            continue
        before = spoken.get(rule.value, ())  # a rule stated twice speaks once
        heard = {
            word: FADE / (FADE + place)
            for place, word in enumerate(rule.words)
            if word not in before and f" {' '.join(map(stem, words_of(word)))} " in said
        }
        if heard:
            spoken[rule.value] = (*before, *heard)
            votes[rule.value] = votes.get(rule.value, 0.0) + sum(heard.values())
    return votes, spoken


def induce_rules(examples: Sequence[tuple[str, Mapping[str, str]]]) -> tuple[Rule, ...]:
    """Rule lines that the examples, each `(input text, outputs)`, bear out: for each value the words that mark it.

    A word marks a value when at least two thirds of the examples that contain it have that value; words seen in more
    examples come first. Outputs longer than LONGEST_RULED_VALUE are left out.
    """
    rules: list[Rule] = []
    for field in dict.fromkeys(name for _, outputs in examples for name in outputs):
        labelled = [(text, outputs[field]) for text, outputs in examples if _is_ruled(outputs.get(field, ""))]
        totals: Counter[str] = Counter()
        per_value: dict[str, Counter[str]] = {}
        spelling: dict[str, str] = {}
        for text, value in labelled:
            # Numbers are amounts and dates: they mark the one example, not its value.
            words = {
                stem(w): w for w in reversed(words_of(text)) if w not in _GRAMMAR and len(w) > 2 and not w.isdigit()
            }
            totals.update(list(words))
            per_value.setdefault(value, Counter()).update(list(words))
            for key, word in words.items():
                spelling.setdefault(key, word)
        for value, counts in per_value.items():
            marks = [key for key, count in counts.items() if 3 * count >= 2 * totals[key]]
            marks.sort(key=lambda key: (-counts[key], totals[key], -len(key), key))
            if marks:
                rules.append(Rule(field, value, tuple(spelling[key] for key in marks[:WORDS_PER_RULE])))
    return tuple(rules)


def _is_ruled(value: str) -> bool:
    return 0 < len(value) <= LONGEST_RULED_VALUE and not set(value) & set('"\n')


def merge_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """One rule for each field and value; a word claimed for two values goes to where it stands stronger, or nowhere.

    Strength is how many of the given rules hold the word, then how near to the front.
    """
    held: dict[tuple[str, str], dict[str, list[int]]] = {}
    spelling: dict[str, str] = {}
    for rule in rules:
        places = held.setdefault((rule.field, rule.value), {})
        for place, word in enumerate(rule.words):
            key = " ".join(stem(w) for w in words_of(word))
            spelling.setdefault(key, word)
            places.setdefault(key, []).append(place)
    merged: list[Rule] = []
    for (field, value), places in held.items():
        rivals = [other for (f, v), other in held.items() if f == field and v != value]
        strengths = {
            key: (-len(at), min(at))
            for key, at in places.items()
            if all(key not in other or (-len(at), min(at)) < (-len(other[key]), min(other[key])) for other in rivals)
        }
        kept = sorted(strengths, key=lambda key: (*strengths[key], key))[:WORDS_PER_RULE]
        if kept:
            merged.append(Rule(field, value, tuple(spelling[key] for key in kept)))
    return tuple(merged)
