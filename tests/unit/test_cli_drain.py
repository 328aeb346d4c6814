"""`waypost real drain`, against an edge whose real empties by the look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from cli_world import NOW_S, World

from gslb.fleet import views
from gslb.service.admin import AdminServer
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode, Refused
from gslb.service.metrics import Registry
from ops.cli import drain as command
from ops.cli.client import AdminClient
from ops.cli.seat import Seat


def left(flows: int, words: str, *, name: str = "fra-web1") -> views.DrainRow:
    return views.DrainRow(
        name=name,
        by="ben",
        reason="new kernel",
        at_s=NOW_S - 65.0,
        flows=flows,
        oldest_s=NOW_S - 7300.0 if flows > 0 else 0.0,
        quiet_since_s=NOW_S - 1.0 if flows == 0 else 0.0,
        words=words,
    )


COUNTING = left(-1, "counting")
TWO, ONE = left(2, "2 flows left"), left(1, "1 flow left")
QUIET = left(0, "quiet since 2027-01-15T07:59:59Z")
UNCOUNTED = left(-1, "not counted: the real's agent reports nothing")
OTHER = left(7, "7 flows left", name="fra-web2")


class Edge:
    """What is left at each look; the last for ever. None: somebody withdrew the drain."""

    def __init__(self) -> None:
        self.looks: list[views.DrainRow | None] = [COUNTING, TWO, TWO, ONE, QUIET]
        self.told = 0

    async def drains(self, _params: Mapping[str, str]) -> views.Drains:
        row = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return views.Drains(drains=(OTHER,) if row is None else (OTHER, row))

    async def drain(self, params: Mapping[str, str]) -> views.Done:
        self.told += 1
        return views.Done(message=f"drain of {params['name']}: 21845 slots move")


@pytest.fixture
async def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.delenv("WAYPOST_SOCKET", raising=False)
    monkeypatch.setattr(command, "LOOK_S", 0.0)
    made = Edge()
    server = AdminServer(tmp_path / "edge.sock", EventLog(), Registry())
    server.show("/drains", made.drains)
    server.change("/real/drain", made.drain)
    task = asyncio.create_task(server.run())
    await server.ready.wait()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_wait_a_script_gets_its_answer_at_once(edge: Edge, tmp_path: Path) -> None:
    done = await World(tmp_path).waypost("real drain fra-web1")

    assert (done.code, done.out) == (0, "drain of fra-web1: 21845 slots move\n")
    assert len(edge.looks) == 5


async def test_a_drain_is_watched_until_nothing_is_left(edge: Edge, tmp_path: Path) -> None:
    done = await World(tmp_path).waypost("real drain fra-web1 --wait")

    assert done.code == 0
    assert done.out.splitlines()[1:] == [
        "fra-web1: counting, drained for 1 m",
        "fra-web1: 2 flows left, the oldest 2 h, drained for 1 m",
        "fra-web1: 1 flow left, the oldest 2 h, drained for 1 m",
        "fra-web1: quiet since 2027-01-15T07:59:59Z, drained for 1 m",
        "fra-web1 is drained: no flow left",
    ]


async def test_as_json_every_change_is_an_object(edge: Edge, tmp_path: Path) -> None:
    done = await World(tmp_path).waypost("--json real drain fra-web1 --wait")

    shown = [json.loads(line) for line in done.out.splitlines()]
    assert [view["schema"] for view in shown] == ["waypost/done/1"] + ["waypost/drains/1"] * 4
    assert [[row["flows"] for row in view["drains"]] for view in shown[1:]] == [[-1], [2], [1], [0]]


async def test_a_wait_that_is_over_ends_with_its_own_code(edge: Edge, tmp_path: Path) -> None:
    edge.looks = [ONE]
    done = await World(tmp_path).waypost("real drain fra-web1 --wait --for 0s")

    assert done.code == ExitCode.TIMEOUT == 16
    assert done.err == "waypost: fra-web1 is not quiet after 0 s: 1 flow left; the drain stands\n"


async def test_nobody_counts_is_said_and_ends_no_wait_well(edge: Edge, tmp_path: Path) -> None:
    edge.looks = [UNCOUNTED]
    done = await World(tmp_path).waypost("real drain fra-web1 --wait --for 0s")

    assert done.code == ExitCode.TIMEOUT
    assert "fra-web1: not counted: the real's agent reports nothing" in done.out


async def test_an_undrain_ends_the_watch(edge: Edge, tmp_path: Path) -> None:
    edge.looks = [TWO, None]
    done = await World(tmp_path).waypost("real drain fra-web1 --wait")

    assert done.code == ExitCode.FAILED
    assert done.err == "waypost: the drain of fra-web1 was withdrawn meanwhile\n"


async def test_an_interrupt_leaves_the_drain_and_says_so(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupted)
    done = await World(tmp_path).waypost("real drain fra-web1 --wait")

    assert done.code == ExitCode.INTERRUPTED
    assert done.err.endswith(
        "the drain of fra-web1 stands; `waypost real undrain fra-web1` ends it\n"
    )


async def test_a_time_without_a_wait_is_wrong_use(edge: Edge, tmp_path: Path) -> None:
    done = await World(tmp_path).waypost("real drain fra-web1 --for 30m")

    assert (done.code, edge.told) == (ExitCode.USAGE, 0)


@pytest.mark.parametrize(
    ("looks", "first_s"), [([COUNTING, TWO, ONE], 60.0), ([UNCOUNTED, UNCOUNTED], 0.0)]
)
async def test_a_terminal_is_shown_the_first_count_on_one_line(
    edge: Edge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks: list[views.DrainRow | None],
    first_s: float,
) -> None:
    monkeypatch.setattr(Seat, "is_terminal", True)
    monkeypatch.setattr(command, "FIRST_S", first_s)
    edge.looks = list(looks)
    done = await World(tmp_path).waypost("real drain fra-web1")

    message, line, end = done.out.split("\n")
    written = [text.partition(",")[0] for text in line.split("\r\x1b[K")[1:]]
    assert (done.code, message, end) == (0, "drain of fra-web1: 21845 slots move", "")
    if first_s:
        assert written == ["fra-web1: counting", "fra-web1: 2 flows left"]
    else:
        assert written == ["fra-web1: not counted: the real's agent reports nothing"]


async def test_an_agent_that_restarts_is_waited_for(edge: Edge, tmp_path: Path) -> None:
    edge.looks = [TWO, QUIET]
    client = AdminClient(tmp_path / "edge.sock", timeout_s=5.0)
    watch = command.Watch(Seat(run_dir=tmp_path, now_s=lambda: NOW_S), client, "fra-web1")
    assert (await asyncio.to_thread(watch.look)).flows == 2

    watch.client = AdminClient(tmp_path / "gone.sock", timeout_s=5.0)
    assert (await asyncio.to_thread(watch.look)).flows == 2
    watch.client = client

    assert (await asyncio.to_thread(watch.look)).is_quiet


async def test_an_edge_that_never_answered_is_not_waited_for(tmp_path: Path) -> None:
    client = AdminClient(tmp_path / "gone.sock", timeout_s=5.0)
    watch = command.Watch(Seat(run_dir=tmp_path), client, "fra-web1")

    with pytest.raises(Refused) as refusal:
        watch.look()

    assert refusal.value.code is ExitCode.UNREACHABLE
