"""Whatever the bytes of a configuration are: they load, or every fault has a place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from gslb.fleet.config import ConfigError, Fault, build_fleet, parse_toml
from gslb.fleet.fleet_file import FleetFile
from gslb.fleet.host import DnsHost, EdgeHost
from tests.unit.fleet_files import FLEET

LINES = FLEET.splitlines(keepends=True)
WORDS = st.sampled_from(
    [
        "0",
        "-1",
        "nan",
        "inf",
        "1e400",
        '""',
        '"\\u0000"',
        "[]",
        "{}",
        "true",
        '"fra"',
        '"192.0.2.10"',
    ]
)


def faults_of(action: Callable[[], object]) -> list[Fault]:
    """The faults that `action` was refused with; none if it was not."""
    try:
        action()
    except ConfigError as error:
        return error.faults or [Fault("", "", "refused without a fault")]
    return []


def load(text: str) -> list[str]:
    """The faults of a text; none if it loads. Each has a place and a reason."""

    def action() -> None:
        shape = parse_toml(text.encode(), "fleet.toml", FleetFile)
        build_fleet(shape, dict.fromkeys(shape.zone, ""), "fleet.toml", "0", [])

    faults = faults_of(action)
    assert all(fault.path.startswith(("$", "byte")) for fault in faults)
    assert all(fault.reason for fault in faults)
    return [str(fault) for fault in faults]


def test_the_unspoiled_file_loads() -> None:
    assert load(FLEET) == []


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_and_never_more(raw: bytes) -> None:
    for shape in (FleetFile, DnsHost, EdgeHost):
        faults = faults_of(partial(parse_toml, raw, "any.toml", shape))

        assert all(fault.file == "any.toml" for fault in faults)


@given(number=st.integers(0, len(LINES) - 1))
def test_a_file_that_lacks_a_line_loads_or_tells_why(number: int) -> None:
    faults = load("".join(LINES[:number] + LINES[number + 1 :]))

    assert all(fault.startswith("fleet.toml: ") for fault in faults)


@given(number=st.integers(0, len(LINES) - 1), word=WORDS)
def test_a_file_with_another_value_loads_or_tells_why(number: int, word: str) -> None:
    key, equals, _ = LINES[number].partition(" = ")
    spoiled = f"{key} = {word}\n" if equals else LINES[number]

    faults = load("".join([*LINES[:number], spoiled, *LINES[number + 1 :]]))

    assert all(fault.startswith("fleet.toml: ") for fault in faults)


@given(cut=st.integers(0, len(FLEET)))
def test_a_file_that_was_cut_off_loads_or_tells_why(cut: int) -> None:
    faults = load(FLEET[:cut])

    assert all(fault.startswith("fleet.toml: ") for fault in faults)
