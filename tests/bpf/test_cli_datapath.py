"""`waypost datapath` where no daemon answers: pins read, the self test, everything taken off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bpf.program import Program
from bpf.workbench import Workbench
from gslb.service.lifecycle import ExitCode
from tests.unit.cli_world import World

pytestmark = pytest.mark.bpf


@pytest.fixture
def pinned(pin_dir: Path) -> Path:
    with Program.load("real", pin_dir=pin_dir):
        return pin_dir


def test_pins_are_shown_without_a_daemon(pinned: Path, tmp_path: Path) -> None:
    outcome = World(tmp_path).waypost_now(f"datapath show --json --pin-dir {pinned}")

    view = json.loads(outcome.out)
    verdicts = next(row for row in view["maps"] if row["name"] == "verdicts")
    assert outcome.code == 0
    assert (view["interface"], view["pin_dir"]) == ("", str(pinned))
    assert verdicts["kind"] == "per-CPU array"
    assert verdicts["bytes"] > 0


def test_pins_are_drawn_as_a_table(pinned: Path, tmp_path: Path) -> None:
    outcome = World(tmp_path).waypost_now(f"datapath show --pin-dir {pinned}")

    assert outcome.out.startswith(f"not attached   program -   pins {pinned}\n\nMAP")


def test_unload_leaves_nothing_and_says_so_again(pinned: Path, tmp_path: Path) -> None:
    world = World(tmp_path)

    first = world.waypost_now(f"datapath unload --pin-dir {pinned}")
    second = world.waypost_now(f"datapath unload --pin-dir {pinned} --json")

    assert (first.code, first.out) == (0, f"unloaded {pinned}\n")
    assert json.loads(second.out)["message"] == f"nothing was pinned in {pinned}"
    assert not pinned.exists()


def test_a_program_that_moves_packets_is_unloaded_by_force_only(
    pinned: Path, tmp_path: Path
) -> None:
    world = World(tmp_path)
    with Workbench() as bench, Program.load("real", pin_dir=pinned) as program:
        bench.release("in0")
        program.attach("in0", pinned)

        refused = world.waypost_now(f"datapath unload --pin-dir {pinned}")
        shown = world.waypost_now(f"datapath show --pin-dir {pinned}")
        forced = world.waypost_now(f"datapath unload --pin-dir {pinned} --force")

    assert refused.code == ExitCode.UNSAFE
    assert "in0 moves packets" in refused.err
    assert shown.out.startswith("xdp native on in0")
    assert forced.code == 0


def test_pins_that_are_not_there_are_told_with_the_mend(pin_dir: Path, tmp_path: Path) -> None:
    outcome = World(tmp_path).waypost_now(f"datapath show --pin-dir {pin_dir}")

    assert outcome.code == ExitCode.FAILED
    assert "name another by --pin-dir" in outcome.err


def test_the_self_test_shows_every_case_and_their_sum(objects: None, tmp_path: Path) -> None:
    outcome = World(tmp_path).waypost_now("datapath selftest")

    assert outcome.code == 0, outcome.out
    assert outcome.out.splitlines()[-1].endswith("cases are as they must be")
    assert "failed" not in outcome.out
