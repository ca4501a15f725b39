"""Which files a confined worker can reach: code, the system's own files, what its environment names, and no more.

Found once, before workers are forked, and given to each. Looks at paths; restricts nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

_SYSTEM: Final = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc", "/nix/store", "/gnu/store",
    "/proc", "/sys", "/dev/urandom", "/dev/random", "/dev/zero", "/dev/full",
)  # fmt: skip
"""Programs' own files, configuration such as certificates and the resolver's, facts of the machine. Not `/home`,
`/root`, `/opt`, `/var`, `/run`, `/srv`, `/tmp`, where people's and other services' files lie."""

_REPLACED: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/localtime", "/etc/nsswitch.conf")
"""Often links to where a service of the machine writes them anew, which makes another file of the same name."""

_DIRECTORIES: Final = ("SSL_CERT_DIR", "HF_HOME", "TIKTOKEN_CACHE_DIR", "DENO_DIR")
"""Variables that name directories which workers may read."""

_NAMES_A_FILE: Final = re.compile(r"_(FILE|CREDENTIALS|BUNDLE|CERT)\Z")
"""Variables that name a file which workers may read, such as the certificates to trust or a provider's credentials."""

_LOADERS: Final = ("lib*/ld-*.so*", "lib/*/ld-*.so*")
"""What the kernel executes to start a program that is linked to shared libraries."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Paths outside of the data directory. `executable` ones are read as well."""

    readable: tuple[Path, ...] = ()
    executable: tuple[Path, ...] = ()


def find_reach(environment: Mapping[str, str]) -> Reach:
    """The reach of a worker whose code is what this process has loaded and could load."""
    found = [*map(Path, _SYSTEM), *_code(), *_certificates(), *map(_directory_behind, _REPLACED)]
    found += _named(environment)
    return Reach(tuple(_without_inner(found)), tuple(_programs()))


def finds_deno() -> str | None:
    """The program that runs what the module `program_of_thought` has a model write, where DSPy will find it."""
    try:
        return str(import_module("deno").find_deno_bin())
    except (ImportError, AttributeError, FileNotFoundError):
        return shutil.which("deno")


def _code() -> Iterator[Path]:
    """The interpreter, everything on the module path, links in it (as some installers make them), and packages that
    finders of their own have found elsewhere, such as those installed editable."""
    yield from map(Path, (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix))
    yield Path(os.path.realpath(sys.executable)).parent.parent / "lib"
    for entry in filter(None, sys.path):
        path = Path(entry)
        yield path
        if os.path.isdir(path) and os.access(path, os.R_OK):
            with os.scandir(path) as children:
                yield from (Path(os.path.realpath(child)) for child in children if child.is_symlink())
    yield from map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")))
    for module in list(sys.modules.values()):
        for place in list(getattr(module, "__path__", None) or ()):
            if isinstance(place, str):
                yield Path(os.path.realpath(place))


def _certificates() -> Iterator[Path]:
    paths = ssl.get_default_verify_paths()
    yield from map(Path, filter(None, (paths.cafile, paths.capath, paths.openssl_cafile, paths.openssl_capath)))


def _directory_behind(name: str) -> Path:
    return Path(os.path.realpath(name)).parent


def _named(environment: Mapping[str, str]) -> Iterator[Path]:
    """The files that variables for them name, as `GOOGLE_APPLICATION_CREDENTIALS` does, and some directories."""
    for name, value in environment.items():
        path = Path(value)
        if not path.is_absolute():
            continue
        try:
            if _NAMES_A_FILE.search(name) and path.is_file():
                yield path
                if path.is_symlink():
                    yield path.parent  # a mounted secret is renewed by pointing the link elsewhere
            elif name in _DIRECTORIES and path.is_dir():
                yield path
        except (OSError, ValueError):
            continue


def _programs() -> Iterator[Path]:
    if deno := finds_deno():
        yield Path(os.path.realpath(deno))
        for pattern in _LOADERS:
            yield from Path("/").glob(pattern)


def _without_inner(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths that no other one contains; each costs every worker's start a few system calls."""
    kept: set[Path] = set()
    for path in sorted({Path(os.path.abspath(path)) for path in paths}, key=lambda path: len(path.parts)):
        if kept.isdisjoint((path, *path.parents)) and os.path.exists(path):
            kept.add(path)
            yield path
