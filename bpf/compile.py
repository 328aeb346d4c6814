"""Compiles the BPF programs: `python -m bpf.compile`.

Owns the compiler's command line. Called by the build and by tests; never on a production host,
where the objects arrive compiled. An object is rebuilt only when a source of this folder is newer.
"""

import platform
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent
OBJECTS = SOURCES / "obj"
FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror")


def object_path(program: str) -> Path:
    """Where the compiled object of `program` ("lb", "real", "pass") is."""
    return OBJECTS / f"{program}.bpf.o"


def compile_stale() -> tuple[str, ...]:
    """Compiles what is missing or older than its sources; the names of the objects made."""
    newest_header = max(header.stat().st_mtime for header in SOURCES.glob("*.h"))
    OBJECTS.mkdir(exist_ok=True)
    made: list[str] = []
    for source in sorted(SOURCES.glob("*.bpf.c")):
        target = OBJECTS / source.with_suffix(".o").name
        newest = max(newest_header, source.stat().st_mtime)
        if target.exists() and target.stat().st_mtime >= newest:
            continue
        _compile(source, target)
        made.append(target.name)
    return tuple(made)


def _compile(source: Path, target: Path) -> None:
    """One clang run, into a file beside the target so that a failure leaves the old object."""
    fresh = target.with_suffix(".new")
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    prefix = f"-ffile-prefix-map={SOURCES}=bpf"
    command = ["clang", *FLAGS, include, prefix, "-c", str(source), "-o", str(fresh)]
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
        sys.stderr.write("clang refused a BPF program, see above\n")
        return 1
    for name in made:
        sys.stdout.write(f"BPF {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
