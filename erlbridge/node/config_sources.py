"""Where a node's settings come from: a file, the environment, the command's arguments, each stronger than the last.

Knows how each of them writes a value and names its place; `config` and `core.settings` say what values are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from erlbridge.core.settings import Directory, File, Unfit
from erlbridge.errors import ValidationError
from erlbridge.node.config import PREFIX, NodeConfig, Setting, settings
from erlbridge.wire.place import nearest

FILE_VARIABLE: Final = PREFIX + "CONFIG"
_NO_SETTINGS: Final = frozenset(
    PREFIX + name for name in ("CONFIG", "CODEC", "PYTHON", "NODE_PID", "WORKER_DATA", "REQUIRE_COMPILED")
)
"""Variables of ours that say something else, however much they look like a setting."""
_MAX_FILE_BYTES: Final = 64 * 1024
_SHOWN_CHARACTERS: Final = 60
_SLIP: Final = 0.8
"""How much alike a variable must be to a setting to be taken for a slip: `WORKRES` is, `SOAK_S` is not `STALL_S`."""


@dataclass(frozen=True, slots=True)
class Given:
    """One value that somebody has given a setting.

    Args:
        name: The setting's, or what its writer took for it.
        value: Text, or a file's plain data.
        origin: Who gave it, as `config show` says.
        place: The name as its writer knows it, for errors.
        base: The directory that a path is relative to; the working directory when None.
    """

    name: str
    value: object
    origin: str
    place: str
    base: Path | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration, and for each setting where its value came from."""

    config: NodeConfig
    origins: Mapping[str, str]


def resolve(arguments: Mapping[str, str], environment: Mapping[str, str], file: Path | None = None) -> Resolved:
    """The configuration in force: the defaults, over them what the file says, the environment, the arguments.

    Args:
        arguments: Texts by the setting's name; what was not given is not there.
        environment: Of which what begins with `ERLBRIDGE_` is read.
        file: TOML or YAML, by its ending; `$ERLBRIDGE_CONFIG` when not given.

    Raises `ValidationError`, which names the place, for an unknown setting, a value that is not taken, and a file that
    cannot be read.
    """
    known = settings()
    values: dict[str, object] = {name: setting.default for name, setting in known.items()}
    origins = dict.fromkeys(known, "default")
    if file is None and (named := environment.get(FILE_VARIABLE)):
        file = Path(named)
    given = [
        *(_of_file(file) if file is not None else ()),
        *_of_environment(environment, known),
        *(
            Given(name, text, f"argument {known[name].argument}", known[name].argument)
            for name, text in arguments.items()
        ),
    ]
    for entry in given:
        if entry.name not in known:
            raise ValidationError(f"there is no such setting{nearest(entry.name, known)}", entry.place)
        values[entry.name] = _read(known[entry.name], entry)
        origins[entry.name] = entry.origin
    config = NodeConfig(**values)  # type: ignore[arg-type]  # each was read by its own field's kind
    if config.store_index and not config.store_blobs:
        raise ValidationError(
            f"expected an address, as store_index is set ({origins['store_index']}): who shares the list of what is "
            "stored shares that too; for a directory that all machines mount it is file:///…",
            "store_blobs",
        )
    if 0 < config.worker_hard_bytes < config.worker_soft_bytes:
        if origins["worker_soft_bytes"] == "default":
            origins["worker_soft_bytes"] = "default: half of worker_hard_bytes"
            return Resolved(replace(config, worker_soft_bytes=config.worker_hard_bytes // 2), origins)
        raise ValidationError(
            f"expected at most worker_hard_bytes ({config.worker_hard_bytes}, {origins['worker_hard_bytes']}), "
            f"got {config.worker_soft_bytes} ({origins['worker_soft_bytes']})",
            "worker_soft_bytes",
        )
    return Resolved(config, origins)


def _read(setting: Setting, given: Given) -> object:
    try:
        value = setting.kind.read(given.value)
    except Unfit as error:
        raise ValidationError(str(error), given.place) from None
    if isinstance(setting.kind, Directory) or (isinstance(setting.kind, File) and value):
        try:
            path = Path(str(value)).expanduser()
        except RuntimeError:
            raise ValidationError("expected a path, got the home of a user who is not there", given.place) from None
        path = path if given.base is None else given.base / path
        return str(path) if isinstance(setting.kind, File) else path
    return value


def _of_environment(environment: Mapping[str, str], known: Mapping[str, Setting]) -> Iterator[Given]:
    """What the environment sets. A variable of another's is left alone, but one that looks like a setting's is taken
    for a slip of the pen, and refused."""
    variables = {setting.variable: setting for setting in known.values()}
    for variable, text in environment.items():
        if variable in variables:
            yield Given(variables[variable].name, text, f"environment {variable}", variable)
            continue
        if not variable.startswith(PREFIX) or variable in _NO_SETTINGS:
            continue
        # Compared without the prefix, which makes any two of them alike.
        if near := nearest(variable.removeprefix(PREFIX).lower(), known, alike=_SLIP):
            raise ValidationError(f"there is no such setting{near}", variable)


def _of_file(file: Path) -> Iterator[Given]:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:  # before anything is read: it may be the wire
        raise ValidationError(f"expected a file that ends in .toml, .yaml or .yml, got {file.suffix!r}", str(file))
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ValidationError(f"a file of more than {_MAX_FILE_BYTES} bytes", str(file))
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ValidationError(f"the configuration cannot be read: {error.strerror}", str(file)) from None
    except UnicodeDecodeError as error:
        raise ValidationError(f"expected UTF-8: {error.reason} at offset {error.start}", str(file)) from None
    for name, value, line in reader(text, file):
        place = f"{file}:{line}" if line else str(file)
        shown = name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
        yield Given(name, value, place, f"{place}: {shown}", file.absolute().parent)


def _toml(text: str, file: Path) -> Iterator[tuple[str, object, int]]:
    import tomllib  # noqa: PLC0415 - for those who have such a file

    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of an integer that Python does not read
        raise ValidationError(f"no TOML: {error}", str(file)) from None
    for name, value in document.items():
        yield name, value, 0  # tomllib tells no lines


def _yaml(text: str, file: Path) -> Iterator[tuple[str, object, int]]:
    from erlbridge.core.yaml_text import read_yaml  # noqa: PLC0415 - the same

    if all(line.lstrip().startswith("#") or not line.strip() for line in text.splitlines()):
        return  # nothing but comments, which YAML takes for no document
    root = read_yaml(text, str(file))
    if root.value is None:
        return
    if not isinstance(root.value, dict):
        raise ValidationError("expected a map of settings", str(file))
    for name, pair in root.value.items():
        yield name, pair.value.data(), pair.line


_READERS: Final = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
