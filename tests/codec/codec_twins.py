"""The comparison of the codec's twins, and terms whose maps repeat their keys; for the tests and for the fuzzer."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence

from erlbridge.codec import Atom, Fun, ImproperList, TermMap, _compiled, _pure


def outcome(call: Callable[..., object], *args: object, **options: object) -> tuple[object, ...]:
    """What a call gives, as a value that tells all that may differ: an error's class, text and offset, or the value."""
    try:
        return ("value", call(*args, **options))
    except Exception as error:  # noqa: BLE001 - whatever it is, both must give the same
        cause = type(error.__cause__), str(error.__cause__)
        return (type(error), str(error), getattr(error, "offset", None), cause)


def alike(one: tuple[object, ...], two: tuple[object, ...]) -> bool:
    """Whether two outcomes are one: values to the last type, sign and order of keys, however deep they nest."""
    if one[0] != "value" or two[0] != "value":
        return one == two
    stack: list[tuple[object, object]] = [(one[1], two[1])]
    while stack:
        left, right = stack.pop()
        if type(left) is not type(right):
            return False
        inside, other = _inside(left), _inside(right)
        if inside is None or other is None:
            # repr tells 0.0 from -0.0, and references that are equal from those that are the same.
            if left != right or (type(left) is not int and repr(left) != repr(right)):
                return False
        elif len(inside) != len(other):
            return False
        else:
            stack.extend(zip(inside, other, strict=True))
    return True


def _inside(term: object) -> list[object] | None:
    """What a container holds, in its order; None for any other value."""
    match term:
        case list() | tuple():
            return list(term)
        case dict() | TermMap():
            return [value for pair in term.items() for value in pair]
        case ImproperList():
            return [*term.elements, term.tail]
        case Fun():
            fields = [term.arity, term.uniq, term.index, term.module, term.old_index, term.old_uniq, term.pid]
            return [*fields, *term.free]
    return None


def decoded_alike(data: bytes, **options: object) -> bool:
    """Asserts that both twins read these bytes alike, and write alike what they read; whether they are a term."""
    one, two = outcome(_compiled.binary_to_term, data, **options), outcome(_pure.binary_to_term, data, **options)
    assert alike(one, two), f"{data.hex()}, {options}: compiled {one!r:.300}, pure {two!r:.300}"
    if one[0] != "value":
        return False
    encoded_alike(one[1])
    return True


def encoded_alike(term: object, **options: object) -> None:
    one, two = outcome(_compiled.term_to_binary, term, **options), outcome(_pure.term_to_binary, term, **options)
    assert one == two, (term, options)


def scanned_alike(data: bytes, edges: Sequence[int] = (), start: int = 1, **options: int) -> None:
    """Asserts that the scans of both twins stop alike wherever the data are cut, and find the same starts of terms."""
    scans = [module.Scan(start, **options) for module in (_compiled, _pure)]
    for edge in (*edges, len(data)):
        advanced = [(outcome(scan.advance, data[:edge]), scan.pos, scan.left) for scan in scans]
        assert advanced[0] == advanced[1], f"{data[:edge].hex()}, {start}, {options}: {advanced}"
        if advanced[0][0] != ("value", False):
            break
    scans = [module.Scan(start, **options) for module in (_compiled, _pure)]
    for scan in scans:
        scan.restart(start)
    offsets: list[array[int]] = [array("Q"), array("Q")]
    for most in (1, 0, 3, 2, 9, len(data)):
        found = [
            (outcome(scan.starts, data, most, there), scan.pos, scan.left, there)
            for scan, there in zip(scans, offsets, strict=True)
        ]
        assert found[0] == found[1], f"{data.hex()}, {start}, {most}, {options}: {found}"


def records(rng: random.Random, depth: int = 0) -> object:
    """Maps that repeat their keys, nearly: other orders, duplicates, odd keys, maps of the same keys inside."""
    names = [Atom(name) for name in ("id", "question", "answer", "score", "a_rather_longer_name_of_a_field", "é")]
    names += [b"id", b"question", Atom("x")]
    count = rng.randint(1, 5)
    first = rng.sample(names, count)
    rows = []
    for _ in range(rng.randint(1, 9)):
        keys = list(first)
        match rng.randint(0, 9):
            case 0:
                rng.shuffle(keys)
            case 1:
                keys[rng.randrange(count)] = rng.choice([*names, 1, 1.0, True, None, (1,)])
            case 2:
                keys = rng.sample(names, rng.randint(1, 5))
        row = {}
        for key in keys:
            match rng.randint(0, 8 if depth < 2 else 4):
                case 0:
                    row[key] = rng.randint(-300, 300)
                case 1:
                    row[key] = rng.random()
                case 2:
                    row[key] = rng.choice(names)
                case 3:
                    row[key] = b"text"
                case 4:
                    row[key] = []
                case 5 | 6:
                    row[key] = records(rng, depth + 1)
                case 7:
                    row[key] = {inner: rng.randint(0, 3) for inner in first}
                case 8:
                    row[key] = (Atom("ok"), {inner: [rng.random()] for inner in keys})
        rows.append(row)
    return rows
