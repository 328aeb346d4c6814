"""Compiles the BPF programs, and libraries of the host: `python -m bpf.compile`.

Owns the compiler's command line, and which build of a library this processor runs. Called by the
build, tests and benchmarks; never on a production host, where the objects arrive compiled. An
object is rebuilt only when a source of this folder is newer.
"""

import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent
OBJECTS = SOURCES / "obj"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-fno-strict-aliasing", *WARNINGS, "-c")
LIBRARY_FLAGS = (
    "-O2",
    "-g",
    "-shared",
    "-fPIC",
    "-nostdlib",
    "-ffp-contract=off",  # so that sums of fractions are those of Python
    *WARNINGS,
)
PROCESSOR = Path("/proc/cpuinfo")
WIDER: Mapping[str, Mapping[str, tuple[str, ...]]] = {"x86_64": {"avx2": ("-mavx2",)}}
"""Libraries are built once more, by machine, for a feature that not all its processors have."""


def object_path(program: str) -> Path:
    """Where the compiled object of `program` ("lb", "real", "pass") is."""
    return OBJECTS / f"{program}.bpf.o"


def library_path(library: str) -> Path:
    """Where the build of `library` ("rings") is that is the fastest here."""
    return library_builds(library)[-1]


def library_builds(library: str) -> tuple[Path, ...]:
    """Every build of `library` that this processor runs: the plain one first, all alike."""
    plain = OBJECTS / f"{library}.so"
    wider = [plain.with_suffix(f".{feature}.so") for feature in _wider() if feature in _features()]
    return plain, *wider


def _wider() -> Mapping[str, tuple[str, ...]]:
    return WIDER.get(platform.machine(), {})


@cache
def _features() -> frozenset[str]:
    """What the kernel says of this processor."""
    return frozenset(PROCESSOR.read_text().split())


def _targets(source: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """What is made of a source, and with which flags."""
    target = OBJECTS / source.name
    if source.name.endswith(".bpf.c"):
        yield target.with_suffix(".o"), FLAGS
        return
    yield target.with_suffix(".so"), LIBRARY_FLAGS
    for feature, flags in _wider().items():
        yield target.with_suffix(f".{feature}.so"), (*LIBRARY_FLAGS, *flags)


def compile_stale() -> tuple[str, ...]:
    """Compiles what is missing or older than its sources; the names of the objects made."""
    newest_header = max(header.stat().st_mtime for header in SOURCES.glob("*.h"))
    OBJECTS.mkdir(exist_ok=True)
    made: list[str] = []
    for source in sorted(SOURCES.glob("*.c")):
        newest = max(newest_header, source.stat().st_mtime)
        for target, flags in _targets(source):
            if target.exists() and target.stat().st_mtime >= newest:
                continue
            compile_source(source, target, flags)
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
