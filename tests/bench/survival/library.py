"""Where the simulation is C: libraries beside this file, compiled when they are older than it.

Owns the compiling and loading. Called by `lru` and `maglev`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cffi

from bpf.compile import LIBRARY_FLAGS, compile_source

SOURCES = Path(__file__).parent
BUILD = Path(__file__).parents[3] / "build"


def loaded(name: str, declarations: str) -> tuple[cffi.FFI, Any]:
    """The library of `name`.c, with what it declares."""
    source, library = SOURCES / f"{name}.c", BUILD / f"survival_{name}.so"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        compile_source(source, library, LIBRARY_FLAGS)
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    return ffi, ffi.dlopen(str(library))
