"""An embedded offline LM for demos and tests: a nearest-neighbour voter with rule lines, behind DSPy's engine contract.

What it is: an in-context learner that reads only its prompt. It takes field names, types, instructions and demos from
what the adapter wrote, answers by a vote over the demos and the rule lines in the instructions, and, asked for an
instruction (by MIPROv2's proposer, GEPA's reflection, InferRules, SIMBA or COPRO), writes rule lines induced from the
examples that this prompt shows. Without demos and rules it guesses among the values that the prompt states.

Trained (`offline_memory`), it also knows pairs by heart and lets them vote where the prompt's own demos do.

What it is not: a language model. It understands nothing, knows no language and no facts, and the scores it reaches say
nothing about a real model. It shows that a program, its optimizer and the bridge around them work, at no cost and with
the same result each time: an answer depends on the prompt, the temperature and the seed only.

Tokens in `Usage` are words separated by white space.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, TypeAlias

import dspy  # type: ignore[import-untyped]
from dspy.lm15 import (  # type: ignore[import-untyped]
    InvalidRequestError,
    Message,
    Request,
    Response,
    StreamDeltaEvent,
    StreamEndEvent,
    StreamStartEvent,
    TextDelta,
    TextPart,
    Usage,
)

from erlbridge.programs.offline_learner import Ballot, Rule, induce_rules, merge_rules, read_rules, vote
from erlbridge.programs.offline_memory import Memory
from erlbridge.programs.offline_prompt import Field, Prompt, UnreadablePromptError, read_examples, read_prompt

StreamEvent: TypeAlias = StreamStartEvent | StreamDeltaEvent | StreamEndEvent  # lm15 exports the members, not the union
MODEL = "offline"
REASONING = "reasoning"  # the field that dspy.ChainOfThought adds
_ASKS_FOR_INSTRUCTIONS = re.compile(r"instruction|advice|rules?\b", re.IGNORECASE)
_ATTEMPT = re.compile(r"Instruction #\d+: (.*?)»?$", re.MULTILINE)
_UNTRAINED = Memory()
_PIECE = re.compile(r"\S+\s*|\s+")
_TEXT = re.compile(r"str$|Union\[(?:.*\W)?str\W")
_NUMBERS = {"int": "0", "float": "0.0"}
# What can honestly be advised about a task of which only the instruction is known.
_COUNSEL = (
    "Read every input field before answering.",
    "Answer with the value that the input supports best.",
    "Decide by the main concern of the input, not by its tone.",
    "Give only the value asked for.",
    "Compare the input with the examples given, if there are any.",
)


class OfflineEngine:
    """Engine of a DSPy LM that answers from its prompt alone; safe to share between threads and between LMs.

    Args:
        seed: Moves the guesses made where the prompt supports no answer; two seeds are two models of equal worth.
        latency_s: Seconds to sleep in each call, for a paced LM in demos and tests.

    A request whose prompt DSPy's ChatAdapter or JSONAdapter did not write is refused with `InvalidRequestError`, which
    DSPy raises as `LMInvalidRequestError` and does not retry.

    >>> lm = dspy.LM("offline", engine=OfflineEngine(), cache=False)
    >>> sort = dspy.Predict("note -> fruit")
    >>> sort.demos = [dspy.Example(note="sour and yellow", fruit="lemon"), dspy.Example(note="crisp", fruit="apple")]
    >>> with dspy.context(lm=lm):
    ...     sort(note="a yellow one").fruit
    'lemon'
    """

    def __init__(self, *, seed: int = 0, latency_s: float = 0.0) -> None:
        if latency_s < 0:
            raise ValueError(f"latency of {latency_s} s, expected 0 or more")
        self.seed = seed
        self.latency_s = latency_s
        self._memories: dict[str, Memory] = {}

    def remember(self, model: str, memory: Memory) -> None:
        """Answers as the trained model of this name where an LM of that name asks."""
        self._memories[model] = memory

    def memory(self, model: str) -> Memory:
        """What the model of this name has learned; nothing when it was not trained."""
        return self._memories.get(model, _UNTRAINED)

    def complete(self, request: Request) -> Response:
        """Answer one request; raises `InvalidRequestError` for a prompt it cannot read."""
        if self.latency_s:
            time.sleep(self.latency_s)
        system, turns = _texts(request)
        try:
            prompt = read_prompt(system, turns)
        except UnreadablePromptError as error:
            raise InvalidRequestError(
                f"the offline LM reads only prompts of DSPy's chat and JSON adapters: {error}"
            ) from error
        key = f"{MODEL}\0{self.seed}\0{request.config.temperature}\0{system}\0{turns}"
        memory = self.memory(request.model)
        text = known_by_heart(prompt, memory) or write(memory.remind(prompt), _Dice(key))
        asked, answered = len(system.split()) + sum(len(turn.split()) for _, turn in turns), len(text.split())
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart(text)]),
            finish_reason="stop",
            usage=Usage(input_tokens=asked, output_tokens=answered, total_tokens=asked + answered),
        )

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """The same answer word by word, as streaming engines give it."""
        response = self.complete(request)
        yield StreamStartEvent(model=response.model)
        for piece in _PIECE.findall(response.message.text or ""):
            yield StreamDeltaEvent(delta=TextDelta(text=piece))
        yield StreamEndEvent(finish_reason="stop", usage=response.usage)

    def close(self) -> None:
        """Nothing to close: the engine holds no connection."""

    def __deepcopy__(self, memo: dict[int, Any]) -> OfflineEngine:
        return self

    def dump_state(self) -> dict[str, Any]:
        """What `load_state` needs to build the same engine again; there are no secrets."""
        return {"seed": self.seed, "latency_s": self.latency_s}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> OfflineEngine:
        """An engine that answers as the dumped one did."""
        return cls(seed=int(state.get("seed", 0)), latency_s=float(state.get("latency_s", 0.0)))


class AsyncOfflineEngine:
    """The asynchronous counterpart that DSPy wants beside an engine for `acall`; the sleep blocks the loop."""

    def __init__(self, engine: OfflineEngine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        """As `OfflineEngine.complete`."""
        return self.engine.complete(request)

    async def stream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """As `OfflineEngine.stream`."""
        for event in self.engine.stream(request):
            yield event

    async def aclose(self) -> None:
        """Nothing to close."""

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncOfflineEngine:
        return self

    def dump_state(self) -> dict[str, Any]:
        """As `OfflineEngine.dump_state`."""
        return self.engine.dump_state()

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> AsyncOfflineEngine:
        """As `OfflineEngine.load_state`."""
        return cls(OfflineEngine.load_state(state))


def offline_lm(*, seed: int = 0, latency_s: float = 0.0, **options: Any) -> dspy.LM:
    """An LM on a new OfflineEngine, uncached (a call costs less than a look into DSPy's cache).

    `options` are further arguments of `dspy.LM`, such as `temperature`, `callbacks` or `num_retries`.
    """
    engine = OfflineEngine(seed=seed, latency_s=latency_s)
    return dspy.LM(MODEL, engine=engine, async_engine=AsyncOfflineEngine(engine), **{"cache": False, **options})


def _texts(request: Request) -> tuple[str, list[tuple[str, str]]]:
    """The system text and the turns of a request; parts that are not text (images, files) are not seen."""
    system = request.system or ""
    text = system if isinstance(system, str) else "".join(part.text for part in system if isinstance(part, TextPart))
    return text, [(message.role, message.text or "") for message in request.messages]


class _Dice:
    """Guesses that look random and are a function of the prompt: each question draws its own."""

    def __init__(self, key: str) -> None:
        self._key = key.encode("utf-8", "surrogatepass")

    def pick(self, purpose: str, options: tuple[str, ...]) -> str:
        digest = hashlib.blake2b(self._key + b"\0" + purpose.encode(), digest_size=8).digest()
        return options[int.from_bytes(digest) % len(options)]


def write(prompt: Prompt, dice: _Dice) -> str:
    """The answer to a prompt in the form its adapter asked for."""
    rules = read_rules(prompt.instructions)
    ballots = {field.name: _ballot(prompt, field, rules) for field in prompt.outputs}
    values: dict[str, str] = {}
    for field in prompt.outputs:
        winner = ballots[field.name].winner
        values[field.name] = winner if winner is not None else _unsupported(prompt, field, dice)
    last = prompt.outputs[-1].name
    if REASONING in values and last != REASONING:
        values[REASONING] = _reason(ballots[last], last, values[last])
    return _in_form(prompt, values)


def known_by_heart(prompt: Prompt, memory: Memory) -> str | None:
    """The answer to a prompt whose question was learned word for word."""
    found = memory.answer(prompt)
    return None if found is None else _in_form(prompt, {field.name: found[field.name] for field in prompt.outputs})


def _in_form(prompt: Prompt, values: Mapping[str, str]) -> str:
    if prompt.as_json:
        return json.dumps({f.name: _json_value(f, values[f.name]) for f in prompt.outputs}, ensure_ascii=False)
    sections = [f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def _ballot(prompt: Prompt, field: Field, rules: tuple[Rule, ...]) -> Ballot:
    if field.name == REASONING:
        return Ballot({})
    demos = [(demo.text, demo.outputs[field.name]) for demo in prompt.demos if field.name in demo.outputs]
    return vote(prompt.text, field.name, demos, rules, field.options)


def _reason(ballot: Ballot, field: str, value: str) -> str:
    parts = []
    if ballot.demos:
        parts.append("it is closest to example " + ", ".join(str(i + 1) for i in ballot.demos[:3]))
    if ballot.words:
        parts.append("it mentions " + ", ".join(f"'{word}'" for word in ballot.words[:5]))
    if not parts:
        return f"Nothing in the prompt speaks for any {field}, so this is a guess."
    return f"The {field} is {value} because {' and '.join(parts)}."


def _unsupported(prompt: Prompt, field: Field, dice: _Dice) -> str:
    """A value where neither demos nor rules speak: a guess among stated values, or text about what the prompt shows."""
    if field.options:
        return dice.pick(field.name, field.options)
    if field.type_name in _NUMBERS:
        return _NUMBERS[field.type_name]
    asked = _ASKS_FOR_INSTRUCTIONS.search(f"{field.name} {field.description}") and "prefix" not in field.name
    if asked and field.type_name == "dict[str, str]":
        # Advice is added to an instruction that has the earlier rules: only what this prompt shows is new.
        advice = "\n".join([dice.pick("counsel", _COUNSEL), *(str(rule) for rule in _shown(prompt))])
        return json.dumps(dict.fromkeys(_module_names(prompt), advice), ensure_ascii=False)
    if not _TEXT.match(field.type_name):
        return json.dumps(_smallest(field.note))
    if asked:
        return _proposal(prompt, dice)
    learnt = _learnt(prompt)
    if learnt:
        return "\n".join(str(rule) for rule in learnt)
    return " ".join(prompt.text.split()[:12]) or "unknown"


def _shown(prompt: Prompt) -> tuple[Rule, ...]:
    """Rules that the examples inside the prompt's values bear out."""
    examples = read_examples(prompt.values)
    return induce_rules([(e.text, {k: v for k, v in e.outputs.items() if k != REASONING}) for e in examples])


def _learnt(prompt: Prompt) -> tuple[Rule, ...]:
    """Rules that the values of the prompt state, joined with those its examples bear out."""
    stated = [rule for value in prompt.values.values() for rule in read_rules(value)]
    return merge_rules([*stated, *_shown(prompt)])


def _proposal(prompt: Prompt, dice: _Dice) -> str:
    """An instruction: the one the prompt starts from, a word of counsel, and the rule lines it can vouch for."""
    base = ""
    for name, value in prompt.values.items():
        if name.endswith("instruction"):
            base = value
        elif attempts := _ATTEMPT.findall(value):
            base = attempts[-1]
    bare = [line for line in base.splitlines() if line.strip() not in _COUNSEL and not read_rules(line)]
    return "\n".join([*bare, dice.pick("counsel", _COUNSEL), *(str(rule) for rule in _learnt(prompt))])


def _module_names(prompt: Prompt) -> list[str]:
    """The modules that a prompt asks advice for, each by name, as SIMBA lists them."""
    try:
        names = json.loads(prompt.values.get("module_names", "[]"))
    except ValueError:
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _smallest(note: str) -> Any:
    """The smallest value of the JSON schema in an adapter's note; null when there is none to read."""
    try:
        schema = json.loads(note[note.index("{") :])
    except ValueError:
        return None
    return _instance(schema, schema.get("$defs", {}))


def _instance(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _instance(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    if "anyOf" in schema:
        return None if {"type": "null"} in schema["anyOf"] else _instance(schema["anyOf"][0], definitions)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if "prefixItems" in schema:
        return [_instance(item, definitions) for item in schema["prefixItems"]]
    if schema.get("type") == "object":
        inner = schema.get("properties", {})
        return {name: _instance(inner[name], definitions) for name in schema.get("required", []) if name in inner}
    return {"array": [], "string": "", "integer": 0, "number": 0.0, "boolean": False}.get(schema.get("type", ""))


def _json_value(field: Field, text: str) -> Any:
    if field.type_name == "bool":
        return text.lower() == "true"
    if field.options or _TEXT.match(field.type_name):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
