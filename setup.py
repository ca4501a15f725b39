"""Builds the compiled twin of the codec. All else is in pyproject.toml.

Without a C compiler the package installs all the same and uses the pure twin. ERLBRIDGE_REQUIRE_COMPILED=1 makes a
build that fails an error; CI and releases set it. ERLBRIDGE_PURE=1 leaves the compiled twin out, for the wheel that any
Python on any machine takes.
"""

from __future__ import annotations

import os
from glob import glob

from setuptools import Extension, setup

COMPILED = Extension(
    "erlbridge.codec._compiled",
    sources=sorted(glob("erlbridge/codec/csrc/*.c")),
    depends=sorted(glob("erlbridge/codec/csrc/*.h")),
    extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra", "-fvisibility=hidden"],
    optional=os.environ.get("ERLBRIDGE_REQUIRE_COMPILED") != "1",
)

setup(ext_modules=[] if os.environ.get("ERLBRIDGE_PURE") == "1" else [COMPILED])
