"""What an optimization did and bought, as values: what a report is drawn from, and what is stored of it.

Texts are cut and lists bounded where a record is made, so that a run of any size gives a report of some hundred
kilobytes. A stored record comes from a worker, which nobody trusts: it is read back as any other input is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias, TypeVar

from erlbridge.codec import binary_to_term, term_to_binary
from erlbridge.limits import MAX_REPORT_BYTES
from erlbridge.wire.place import Place

FORMAT: Final = 1

MAX_TRIALS: Final = 1000
MAX_MOMENTS: Final = 512
"""Beside the last one."""
MAX_ROWS: Final = 60
MAX_PROMPTS: Final = 64
MAX_DEMOS: Final = 24
MAX_FIELDS: Final = 64
MAX_TEXT: Final = 2000
"""Characters of one value of an example."""
MAX_ROW_TEXT: Final = 8000
"""Characters of all values of one row or demo; of all demos together fifty times as many."""
MAX_PROMPT_TEXT: Final = 32_000
"""Characters of one prompt; of all prompts together ten times as many."""
MAX_STAGE: Final = 100
"""Characters of a stage's name."""
MAX_RECORD_TEXT: Final = 1_500_000
"""Characters of all texts of a record: rows, prompts and demos have 1,200,000 where they are as long as they may be."""
MAX_RECORD_FIELDS: Final = 10_000
"""Values of all rows, and of all demos, half of it each: every one is an element of a page, and whoever asks for that
waits while it is made."""

Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, both as text, in their order."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Trial:
    """A program that a search scored. `whole` is whether on all examples; a score on some of them does not compare."""

    number: int
    score: float
    whole: bool
    at_s: float
    lm_calls: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What a job had spent at a time. `cost_usd` is None from where no price was known."""

    at_s: float
    stage: str
    lm_calls: int
    cached_calls: int
    tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One example: what was asked and expected, and what the program answered before and after."""

    index: int
    inputs: Fields
    expected: Fields
    before: Fields
    after: Fields
    score_before: float
    score_after: float

    @property
    def change(self) -> float:
        """How much better the answer has become, -1.0 to 1.0."""
        return self.score_after - self.score_before


@dataclass(frozen=True, slots=True)
class Demo:
    """An example that the model is shown. `bootstrapped` is whether the program answered it itself, in a run that the
    metric accepted; else it is one of the training data."""

    fields: Fields
    bootstrapped: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """One predictor: what its model is told before and after, and the demos that it is shown now. `demo_count` is how
    many there are, `demos` the first of them."""

    name: str
    before: str
    after: str
    demos: tuple[Demo, ...]
    demo_count: int


@dataclass(frozen=True, slots=True)
class Record:
    """One optimization.

    Attributes:
        name: The signature's or pipeline's.
        module, optimizer, metric: As the config names them.
        score_before, score_after: 0.0 to 1.0, on `examples` examples.
        improved, same, worse: On how many of these the score went up, stayed, or went down.
        rows: Those with the greatest change.
        lm_calls, cached_calls, tokens, cost_usd, duration_ms: What was spent in all; None is a price that nobody knows.
        trial_count: How many trials there were; `trials` may leave some out.
    """

    name: str
    module: str
    optimizer: str
    metric: str
    seed: int
    score_before: float
    score_after: float
    examples: int
    improved: int
    same: int
    worse: int
    lm_calls: int
    cached_calls: int
    tokens: int
    cost_usd: float | None
    duration_ms: int
    trial_count: int
    trials: tuple[Trial, ...]
    moments: tuple[Moment, ...]
    rows: tuple[Row, ...]
    prompts: tuple[Prompt, ...]

    @property
    def change(self) -> float:
        """How much better the program has become, -1.0 to 1.0."""
        return self.score_after - self.score_before


def cut(text: str, limit: int = MAX_TEXT, length: int | None = None) -> str:
    """The beginning of a text that is longer than so many characters, with how many more there were. `length` is the
    text's where only its beginning is at hand.

    >>> cut("abcdef", 4)
    'abcd… (2 more characters)'
    """
    length = len(text) if length is None else length
    return text if length <= limit else f"{text[:limit]}… ({length - limit} more characters)"


def pack(record: Record) -> bytes:
    """The bytes that are stored of a record."""
    return term_to_binary({"format": FORMAT, **asdict(record)}, deterministic=True)


def unpack(data: bytes) -> Record:
    """The record of stored bytes. Raises `ValidationError` with the path of what is wrong, or `DecodeError`."""
    if len(data) > MAX_REPORT_BYTES:
        raise Place(len(data), "report").refused(f"at most {MAX_REPORT_BYTES} bytes")
    known = _Known(Place(binary_to_term(data, max_bytes=MAX_REPORT_BYTES), "report"), _Room())
    if known.at("format").integer() != FORMAT:
        raise known.at("format").refused(f"the format {FORMAT}")
    return Record(
        name=known.text("name"),
        module=known.text("module"),
        optimizer=known.text("optimizer"),
        metric=known.text("metric"),
        seed=known.count("seed"),
        score_before=known.score("score_before"),
        score_after=known.score("score_after"),
        examples=known.count("examples"),
        improved=known.count("improved"),
        same=known.count("same"),
        worse=known.count("worse"),
        lm_calls=known.count("lm_calls"),
        cached_calls=known.count("cached_calls"),
        tokens=known.count("tokens"),
        cost_usd=known.cost("cost_usd"),
        duration_ms=known.count("duration_ms"),
        trial_count=known.count("trial_count"),
        trials=known.each("trials", MAX_TRIALS, _trial),
        moments=known.each("moments", MAX_MOMENTS + 1, _moment),
        rows=known.each("rows", MAX_ROWS, _row),
        prompts=known.each("prompts", MAX_PROMPTS, _prompt),
    )


@dataclass(slots=True)
class _Room:
    """What is left of what a record may hold in all: a page of it is made by the thread that all others wait for."""

    text: int = MAX_RECORD_TEXT
    fields: int = MAX_RECORD_FIELDS

    def take(self, place: Place, *, text: int = 0, fields: int = 0) -> None:
        self.text -= text
        self.fields -= fields
        if self.text < 0:
            raise place.refused(f"at most {MAX_RECORD_TEXT} characters in all texts up to here")
        if self.fields < 0:
            raise place.refused(f"at most {MAX_RECORD_FIELDS} values in all rows and demos up to here")


class _Known:
    """The entries of a map, each read as what it has to be."""

    def __init__(self, place: Place, room: _Room) -> None:
        self._place = place
        self._entries = place.entries()
        self._room = room

    def at(self, key: str) -> Place:
        return self._place.required(self._entries, key)

    def text(self, key: str, most: int = 2 * MAX_TEXT) -> str:
        return self._text(self.at(key), most)

    def count(self, key: str) -> int:
        return self.at(key).integer(minimum=0, maximum=2**53)

    def number(self, key: str) -> float:
        return self.at(key).number(minimum=0, maximum=1e12)

    def score(self, key: str) -> float:
        return self.at(key).number(minimum=0, maximum=1)

    def cost(self, key: str) -> float | None:
        return None if self.at(key).term is None else self.number(key)

    def fields(self, key: str) -> Fields:
        place = self.at(key)
        found = list(_items(place, MAX_FIELDS))
        self._room.take(place, fields=len(found))
        return tuple(self._field(item) for item in found)

    def each(self, key: str, most: int, read: Callable[[_Known], Item]) -> tuple[Item, ...]:
        return tuple(read(_Known(item, self._room)) for item in _items(self.at(key), most))

    def _field(self, place: Place) -> tuple[str, str]:
        if not (isinstance(place.term, tuple) and len(place.term) == 2):
            raise place.refused("a name and a value")
        name, value = _items(place, 2)
        return self._text(name, 2 * MAX_TEXT), self._text(value, 2 * MAX_TEXT)

    def _text(self, place: Place, most: int) -> str:
        found = place.text()
        if len(found) > most:
            raise place.refused(f"at most {most} characters")
        self._room.take(place, text=len(found))
        return found


def _items(place: Place, most: int) -> Iterator[Place]:
    """The elements of a list, or of a tuple, which is how ours are written."""
    elements = place.term if isinstance(place.term, tuple) else place.elements()
    if len(elements) > most:
        raise place.refused(f"at most {most} elements")
    return Place(list(elements), place.path).items()


def _trial(known: _Known) -> Trial:
    return Trial(
        known.count("number"),
        known.score("score"),
        known.at("whole").boolean(),
        known.number("at_s"),
        known.count("lm_calls"),
    )


def _moment(known: _Known) -> Moment:
    return Moment(
        known.number("at_s"),
        known.text("stage", MAX_STAGE),
        known.count("lm_calls"),
        known.count("cached_calls"),
        known.count("tokens"),
        known.cost("cost_usd"),
    )


def _row(known: _Known) -> Row:
    return Row(
        known.count("index"),
        known.fields("inputs"),
        known.fields("expected"),
        known.fields("before"),
        known.fields("after"),
        known.score("score_before"),
        known.score("score_after"),
    )


def _demo(known: _Known) -> Demo:
    return Demo(known.fields("fields"), known.at("bootstrapped").boolean())


def _prompt(known: _Known) -> Prompt:
    return Prompt(
        known.text("name"),
        known.text("before", 2 * MAX_PROMPT_TEXT),
        known.text("after", 2 * MAX_PROMPT_TEXT),
        known.each("demos", MAX_DEMOS, _demo),
        known.count("demo_count"),
    )
