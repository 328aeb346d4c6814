"""What an edge keeps over a restart, and a disk that will not have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from site_fleet import FRA, WEB1, WEB2, WWW, fleet

from edge_lb.filter import HandRule
from edge_lb.memory import FILE, EdgeMemory, MemoryFile, keep_standings
from edge_lb.seats import Seats, assign
from gslb.fleet.health import Override, OverrideKind, RealState, Standing
from gslb.fleet.history import EdgeHistory, Turn, VipHistory
from gslb.fleet.model import FilterAction

DOWN = Standing(state=RealState.DOWN, streak=1, since_s=5.0, reason="status 503")
WILL = Override(
    kind=OverrideKind.REAL,
    name="web1",
    drained=True,
    by="anna",
    reason="upgrade",
    at_s=1.0,
    generation=9,
)
MEMORY = EdgeMemory(
    generation=1234,
    seats=assign(fleet(), FRA, Seats()),
    standings=keep_standings({(WWW, WEB1): DOWN}),
    wills=(WILL,),
    history=EdgeHistory(
        site=FRA,
        edge="edge1",
        generation=77,
        vips=(
            VipHistory(
                name="www",
                members={"web1": 100},
                turns=(Turn(at_s=5.0, changed={"web2": 100}),),
            ),
        ),
    ),
    serving_since={"www/web1": 12.5},
    filter_by_hand=(
        HandRule(
            prefix="198.18.0.0/15",
            action=FilterAction.LIMIT,
            until_s=1800.0,
            by="anna",
            reason="flood",
            packets_per_s=500,
            burst=50,
            vips=("www",),
        ),
    ),
)


def test_everything_comes_back(tmp_path: Path):
    MemoryFile(tmp_path).save(MEMORY)

    found = MemoryFile(tmp_path).load()

    assert found == MEMORY
    assert found.standings_of(fleet(), FRA) == {(WWW, WEB1): DOWN}


def test_standings_of_pairs_that_left_are_passed_over():
    memory = EdgeMemory(standings=keep_standings({(WWW, WEB2): DOWN}) | {"old/gone": _kept()})

    assert set(memory.standings_of(fleet(), FRA)) == {(WWW, WEB2)}


def _kept():
    return keep_standings({(WWW, WEB1): DOWN})["www/web1"]


def test_nothing_kept_is_an_empty_memory(tmp_path: Path):
    assert MemoryFile(tmp_path).load() == EdgeMemory()


def test_damaged_file_counts_as_nothing(tmp_path: Path):
    (tmp_path / FILE).write_bytes(b'{"generation": "many"}')

    assert MemoryFile(tmp_path).load() == EdgeMemory()


@pytest.mark.parametrize(
    ("was", "now", "reason"),
    [
        (b'"changed":{"web2":100}', b'"weights":{"web2":100}', "unknown field `weights`"),
        (b'"changed":{"web2":100}', b'"changed":{"web1":100}', "leaves web1 as it was"),
    ],
)
def test_a_history_of_another_form_counts_as_nothing_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], was: bytes, now: bytes, reason: str
):
    MemoryFile(tmp_path).save(MEMORY)
    kept = (tmp_path / FILE).read_bytes()
    assert was in kept
    (tmp_path / FILE).write_bytes(kept.replace(was, now))

    assert MemoryFile(tmp_path).load() == EdgeMemory()
    told = "".join(capsys.readouterr())
    assert "state.unreadable" in told
    assert reason in told
    assert "$.history.vips[0]" in told


def test_disk_that_refuses_is_told_and_survived_and_forgiven(tmp_path: Path):
    folder = tmp_path / "state"
    file = MemoryFile(folder)  # its folder is not there: every write fails

    file.save(MEMORY)
    trouble = file.trouble
    folder.mkdir()
    file.save(MEMORY)

    assert "state not saved" in trouble
    assert file.trouble == ""
    assert file.load() == MEMORY


def test_failed_write_leaves_the_last_good_one(tmp_path: Path):
    file = MemoryFile(tmp_path)
    file.save(MEMORY)
    (tmp_path / FILE).with_suffix(".draft").mkdir()

    file.save(EdgeMemory(generation=9999))

    assert "state not saved" in file.trouble
    assert MemoryFile(tmp_path).load() == MEMORY
