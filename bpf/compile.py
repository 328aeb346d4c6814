"""Compiles the BPF programs, and the library that builds rings: `python -m bpf.compile`.

Owns the compiler's command line. Called by the build, tests and benchmarks; never on a production
host, where the objects arrive compiled. An object is rebuilt only when a source of this folder is
newer.
"""

import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).parent
OBJECTS = SOURCES / "obj"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-fno-strict-aliasing", *WARNINGS, "-c")
LIBRARY_FLAGS = ("-O2", "-g", "-shared", "-fPIC", "-nostdlib", *WARNINGS)


def object_path(program: str) -> Path:
    """Where the compiled object of `program` ("lb", "real", "pass") is."""
    return OBJECTS / f"{program}.bpf.o"


def library_path(library: str) -> Path:
    """Where the compiled library of `library` ("rings") is."""
    return OBJECTS / f"{library}.so"


def compile_stale() -> tuple[str, ...]:
    """Compiles what is missing or older than its sources; the names of the objects made."""
    newest_header = max(header.stat().st_mtime for header in SOURCES.glob("*.h"))
    OBJECTS.mkdir(exist_ok=True)
    made: list[str] = []
    for source in sorted(SOURCES.glob("*.c")):
        is_program = source.name.endswith(".bpf.c")
        target = OBJECTS / source.with_suffix(".o" if is_program else ".so").name
        newest = max(newest_header, source.stat().st_mtime)
        if target.exists() and target.stat().st_mtime >= newest:
            continue
        compile_source(source, target, FLAGS if is_program else LIBRARY_FLAGS)
        made.append(target.name)
    return tuple(made)


def compile_source(source: Path, target: Path, flags: Sequence[str] = FLAGS) -> None:
    """One clang run, into a file beside the target so that a failure leaves the old object."""
    fresh = target.with_suffix(".new")
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    prefix = f"-ffile-prefix-map={SOURCES}=bpf"
    command = ["clang", *flags, include, f"-I{SOURCES}", prefix, str(source), "-o", str(fresh)]
    subprocess.run(command, check=True, cwd=SOURCES)
    fresh.replace(target)


def main() -> int:
    """Exit code 0 when every object is up to date, 1 when clang is missing or refuses."""
    try:
        made = compile_stale()
    except FileNotFoundError:
        sys.stderr.write("clang is not installed: apt-get install clang libbpf-dev\n")
        return 1
    except subprocess.CalledProcessError:
        sys.stderr.write("clang refused a source, see above\n")
        return 1
    for name in made:
        sys.stdout.write(f"BPF {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
