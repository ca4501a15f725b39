"""What a prompt says: its fields, their types, its instructions, its demos, and the examples shown inside its values.

Knows the layout that `dspy.ChatAdapter` and `dspy.JSONAdapter` write (DSPy 3.4) and the ways in which DSPy's
optimizers show examples to a proposer: lists of `Example({...})`, `Input Fields:` blocks, JSON records with feedback,
`Name: value` blocks. Knows no task: names, types and labels all come from the prompt. Does not know how an answer is
found.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

OBJECTIVE = "In adhering to this structure, your objective is:"
STRUCTURE = "All interactions will be structured in the following way"
INPUTS = "Your input fields are:"
OUTPUTS = "Your output fields are:"
JSON_STRUCTURE = "Outputs will be a JSON object with the following fields."
NOT_SUPPLIED = "Not supplied for this"  # what the adapters write for a demo's missing output
REQUESTS = (
    "Respond with the corresponding output fields, starting with",
    "Respond with a JSON object in the following",
)

_TRIES = 5
"""How often a literal is read at most: CPython 3.11 counts the depth of all threads' trees together, and now and then
finds that wrong."""

_FIELD = re.compile(r"^\d+\. `(\w+)` \((.+?)\):(.*)$", re.MULTILINE)
_MARKER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*$", re.MULTILINE)
_NOTE = re.compile(r"^\{(\w+)\}[ \t]+# note: the value you produce (.+)$", re.MULTILINE)


class UnreadablePromptError(ValueError):
    """The prompt is not one that DSPy's ChatAdapter or JSONAdapter writes; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a signature as the prompt describes it: name, Python type name, description, closed values.

    `options` holds the values of a Literal, an enum or a bool, and is empty for an open type. `note` is the adapter's
    line on the form of the value (a JSON schema for a composite type).
    """

    name: str
    type_name: str
    description: str = ""
    options: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Demo:
    """An example with its answers: input values by name, output values by name (those that are supplied)."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def text(self) -> str:
        """All input values as one text, in the order shown."""
        return "\n".join(self.inputs.values())


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt read whole. `as_json` says that the answer has to be one JSON object instead of marked sections."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    instructions: str
    demos: tuple[Demo, ...]
    values: Mapping[str, str]
    as_json: bool

    @property
    def text(self) -> str:
        """All values of the question itself as one text."""
        return "\n".join(self.values.values())


def read_prompt(system: str, turns: Sequence[tuple[str, str]]) -> Prompt:
    """Read a system message and its turns, each `(role, text)`, oldest first.

    Raises:
        UnreadablePromptError: No list of fields, no objective, or no question from the user at the end.
    """
    before, found, objective = system.partition(OBJECTIVE)
    if not found:
        raise UnreadablePromptError(f"system message of {len(system)} characters has no line {OBJECTIVE!r}")
    listing, found, structure = before.partition(STRUCTURE)
    input_list, has_outputs, output_list = listing.partition(OUTPUTS)
    if not found or INPUTS not in input_list or not has_outputs:
        raise UnreadablePromptError(f"system message of {len(system)} characters lists no input and output fields")
    notes = _read_notes(structure)
    inputs = tuple(_read_fields(input_list, {}))
    outputs = tuple(_read_fields(output_list, notes))
    if not outputs:
        raise UnreadablePromptError("the prompt names no output field")
    if not turns or turns[-1][0] != "user":
        raise UnreadablePromptError(f"{len(turns)} messages, the last one not from the user: there is no question")
    names = frozenset(field.name for field in inputs)
    answers = frozenset(field.name for field in outputs)
    return Prompt(
        inputs=inputs,
        outputs=outputs,
        instructions="\n".join(line.removeprefix(" " * 8) for line in objective.strip("\n ").splitlines()),
        demos=tuple(_read_demos(turns[:-1], names, answers)),
        values=_sections(_without_request(turns[-1][1]), names),
        as_json=JSON_STRUCTURE in structure,
    )


def _read_notes(structure: str) -> dict[str, str]:
    """The adapter's note on each output's form, by field name."""
    _, as_json, template = structure.partition(JSON_STRUCTURE)
    if as_json:
        try:
            # In a JSON template each note is a string of its own, with quotes escaped.
            structure = "\n".join(as_text(value) for value in json.loads(template).values())
        except ValueError:
            return {}
    return dict(_NOTE.findall(structure))


def _read_fields(listing: str, notes: Mapping[str, str]) -> Iterator[Field]:
    for name, type_name, description in _FIELD.findall(listing):
        note = notes.get(name, "")
        yield Field(name, type_name, description.strip(), _options(type_name, note), note)


def _options(type_name: str, note: str) -> tuple[str, ...]:
    """The closed values of a type: `Literal['a', 'b']` from the type itself, an enum from the adapter's note."""
    if type_name == "bool":
        return ("True", "False")
    if type_name.startswith("Literal["):
        try:
            return tuple(str(value) for value in _literal(type_name.removeprefix("Literal")))
        except (ValueError, SyntaxError):
            pass  # a value the adapter could not quote: the note still lists them all
    head, found, values = note.partition("one of: ")
    return tuple(values.split("; ")) if found and head.startswith("must") else ()


def _read_demos(turns: Sequence[tuple[str, str]], names: frozenset[str], answers: frozenset[str]) -> Iterator[Demo]:
    for (role, asked), (next_role, answered) in pairwise(turns):
        if role != "user" or next_role != "assistant":
            continue
        outputs = _json_outputs(answered, answers) or _sections(answered, answers)
        supplied = {name: value for name, value in outputs.items() if not value.startswith(NOT_SUPPLIED)}
        yield Demo(_sections(_without_request(asked), names), supplied)


def _json_outputs(text: str, names: frozenset[str]) -> dict[str, str]:
    if not text.lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {name: as_text(value) for name, value in found.items() if name in names}


def as_text(value: object) -> str:
    """A JSON value as an adapter would write it in a section: text as it is, the rest as JSON or `str`."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _sections(text: str, names: frozenset[str]) -> dict[str, str]:
    """The values under `[[ ## name ## ]]` lines; a marker of an unknown name is text."""
    starts = [m for m in _MARKER.finditer(text) if m.group(1) in names or m.group(1) == "completed"]
    ends = [*(m.start() for m in starts[1:]), len(text)][: len(starts)]  # a text without any marker has no section
    found: dict[str, str] = {}
    for marker, end in zip(starts, ends, strict=True):
        if marker.group(1) in names:
            found.setdefault(marker.group(1), text[marker.end() : end].strip())
    return found


def _without_request(text: str) -> str:
    """The user's turn without the adapter's closing request for output fields."""
    cut = max(text.rfind("\n\n" + request) for request in REQUESTS)
    return text if cut < 0 else text[:cut]


# --- examples shown inside the values of a proposal prompt ---------------------------------------------------------

_EXAMPLE = re.compile(r"Example\((\{.*?\})\) \(input_keys=\{(.*?)\}\)", re.DOTALL)
_BLOCK = re.compile(r"Input Fields:\n(.*?)\n\n=+\nOutput Fields:\n(.*?)(?=\n\nInput Fields:|\Z)", re.DOTALL)
_ARROW = re.compile(r"\(([\w, ]+)\) -> ([\w, ]+)")
_LABELLED = re.compile(r"^([A-Za-z][\w ]*):[ \t]*(.*)$")
_NAMED = r"\b(?:expected|correct (?:answer|label|value|output)|should (?:be|have been)|gold)\b"
_EXPECTED_QUOTED = re.compile(
    _NAMED + r"(?:(?!\bgot\b|\bbut\b|[,;\"'`«\n]).){0,40}[\"'`«]([^\"'`«»\n]+)[\"'`»]", re.IGNORECASE
)
_EXPECTED = re.compile(
    _NAMED + r"\s*(?:is|was)?\s*:?\s*(?:\w+\s*[:=]\s*)?([^\"'`«».,;\n]+?)(?=\s+(?:but|got|instead|not)\b|[.,;\n]|$)",
    re.IGNORECASE,
)
_WRONG = re.compile(r"\b(?:incorrect|wrong|not correct|mismatch)\b", re.IGNORECASE)
_RIGHT = re.compile(r"\b(?:correct|right|matches|score(?:d)?:? 1)\b", re.IGNORECASE)


def read_examples(values: Mapping[str, str]) -> tuple[Demo, ...]:
    """Every example that the values of a prompt show, in the forms that DSPy's optimizers use; most often none."""
    found: list[Demo] = []
    arrow = next((m for value in values.values() if (m := _ARROW.search(value))), None)
    for value in values.values():
        found += _example_reprs(value)
        found += _field_blocks(value)
        found += _feedback_records(value)
        if arrow:
            found += _labelled_blocks(value, arrow.group(1).split(", "), arrow.group(2).split(", "))
    found += _trajectory(values)
    return tuple(found)


def _literal(text: str) -> Any:
    """What a literal of Python stands for. Raises `ValueError` or `SyntaxError` for what is none."""
    for _ in range(_TRIES - 1):
        try:
            return ast.literal_eval(text)
        except SystemError:
            continue
    return ast.literal_eval(text)


def _example_reprs(value: str) -> Iterator[Demo]:
    """`[Example({'text': 'x', 'label': 'y'}) (input_keys={'text'}), ...]`, as MIPROv2 shows a batch of its trainset."""
    for body, keys in _EXAMPLE.findall(value):
        try:
            record = _literal(body)
        except (ValueError, SyntaxError):
            continue  # a value without a literal form (an image, an object): this example cannot be read back
        inputs = {key.strip(" '\"") for key in keys.split(",")}
        yield Demo(
            {key: as_text(item) for key, item in record.items() if key in inputs},
            {key: as_text(item) for key, item in record.items() if key not in inputs},
        )


def _field_blocks(value: str) -> Iterator[Demo]:
    """`Input Fields:` / `Output Fields:` blocks of `name: value` lines, as InferRules shows its trainset."""
    for asked, answered in _BLOCK.findall(value):
        yield Demo(_labelled_lines(asked), _labelled_lines(answered))


def _labelled_blocks(value: str, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[Demo]:
    """Paragraphs of `Name: value` lines, as MIPROv2 shows bootstrapped demos; the arrow gives the names."""
    for block in value.split("\n\n"):
        lines = _labelled_lines(block, frozenset([*inputs, *outputs]))
        demo = Demo({k: v for k, v in lines.items() if k in inputs}, {k: v for k, v in lines.items() if k in outputs})
        if demo.inputs and demo.outputs:
            yield demo


def _labelled_lines(block: str, names: frozenset[str] | None = None) -> dict[str, str]:
    """`Name: value` lines by field name; a line without a (known) name continues the value above it."""
    found: dict[str, str] = {}
    last = ""
    for line in block.splitlines():
        match = _LABELLED.match(line)
        name = match.group(1).strip().lower().replace(" ", "_") if match else ""
        if match and name and (names is None or name in names):
            last = name
            found[name] = match.group(2).strip()
        elif last:
            found[last] += "\n" + line
    return {name: value.strip() for name, value in found.items()}


def _feedback_records(value: str) -> Iterator[Demo]:
    """JSON records `Inputs`, `Generated Outputs`, `Feedback`, as GEPA reflects on; the feedback says what was right.

    A record whose feedback names an expected value, or calls the output correct, becomes an example; others teach
    nothing and are left out.
    """
    if not value.startswith("[{"):
        return
    try:
        records = json.loads(value)
    except ValueError:
        return
    for record in records:
        if not isinstance(record, dict):
            continue
        asked, answered = record.get("Inputs"), record.get("Generated Outputs")
        if not isinstance(asked, dict) or not isinstance(answered, dict):
            continue
        feedback = str(record.get("Feedback", ""))
        expected = _EXPECTED_QUOTED.search(feedback) or _EXPECTED.search(feedback)
        outputs = {name: as_text(item) for name, item in answered.items()}
        if expected and outputs:
            # The last output is the answer; what comes before it (a reasoning) leads there.
            outputs = {list(outputs)[-1]: expected.group(1).strip()}
        elif _WRONG.search(feedback) or not _RIGHT.search(feedback):
            continue
        yield Demo({name: as_text(item) for name, item in asked.items()}, outputs)


def _trajectory(values: Mapping[str, str]) -> Iterator[Demo]:
    """One example given as two JSON objects, its inputs and its labels, as SIMBA shows beside two trajectories."""
    try:
        asked, labels = json.loads(values["program_inputs"]), json.loads(values["oracle_metadata"])
    except (KeyError, ValueError):
        return
    if isinstance(asked, dict) and isinstance(labels, dict):
        yield Demo({k: as_text(v) for k, v in asked.items()}, {k: as_text(v) for k, v in labels.items()})
