"""`waypost edge drain` and `undrain`, against an edge whose announcing goes on by the look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import pytest
from cli_world import NOW_S, STATUS, World

from gslb.fleet import views
from gslb.fleet.announcing import Announcing
from gslb.service.admin import AdminRefusal, AdminServer
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode
from gslb.service.metrics import Registry
from ops.cli import edge as command


def said(preference: str, reason: str, *, drained: bool, rate: float = 0.0) -> Announcing:
    return Announcing(
        edge="fra-edge1",
        boot="b",
        at_s=NOW_S - 0.4,
        preference=preference,
        since_s=NOW_S - 3.0,
        reason=reason,
        addresses=("192.0.2.10",),
        drained=drained,
        fault="",
        packets_per_s=rate,
        neighbors=(),
    )


ANNOUNCED = said("ANNOUNCED", "the data path works", drained=False, rate=1234.0)
LOWERED = said("LOWERED", "drained: forwards what still comes", drained=True, rate=56.4)
QUIETER = said("LOWERED", "drained: forwards what still comes", drained=True)
WITHDRAWN = said("WITHDRAWN", "drained: no packet of a VIP for 10 s", drained=True)


class Edge:
    """What the edge was told, and what it says at each look; the last for ever."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, str]]] = []
        self.looks = [ANNOUNCED]

    async def announcing(self, _params: Mapping[str, str]) -> Announcing:
        if not self.looks:
            raise AdminRefusal(ExitCode.UNSUPPORTED, "fra-edge1 announces nothing: no [bgp]")
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    async def drain(self, params: Mapping[str, str]) -> views.Done:
        if params["name"] == "fra-edge2" and not params["force"]:
            text = "draining fra-edge2 leaves no edge at fra; force it if meant"
            raise AdminRefusal(ExitCode.UNSAFE, text)
        self.told.append(("drain", dict(params)))
        return views.Done(message=f"drain of {params['name']}: nothing changes for any flow")

    async def undrain(self, params: Mapping[str, str]) -> views.Done:
        self.told.append(("undrain", dict(params)))
        return views.Done(message=f"undrain of {params['name']}: nothing changes for any flow")

    async def status(self, _params: Mapping[str, str]) -> views.Status:
        return STATUS


@pytest.fixture
async def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.delenv("WAYPOST_SOCKET", raising=False)
    monkeypatch.setenv("SUDO_USER", "ben")
    monkeypatch.setattr(command, "LOOK_S", 0.0)
    made = Edge()
    server = AdminServer(tmp_path / "edge.sock", EventLog(), Registry())
    server.show("/status", made.status)
    server.show("/announce", made.announcing)
    server.change("/edge/drain", made.drain)
    server.change("/edge/undrain", made.undrain)
    task = asyncio.create_task(server.run())
    await server.ready.wait()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_drain_is_told_with_who_and_why(edge: Edge, tmp_path: Path) -> None:
    done = await World(tmp_path).waypost("edge drain fra-edge1 --reason 'new kernel'")

    assert done.code == 0
    assert done.out == "drain of fra-edge1: nothing changes for any flow\n"
    ((verb, params),) = edge.told
    assert verb == "drain"
    assert params == {"name": "fra-edge1", "by": "ben", "reason": "new kernel", "force": ""}


async def test_a_drain_is_watched_until_it_is_withdrawn(edge: Edge, tmp_path: Path) -> None:
    edge.looks = [ANNOUNCED, ANNOUNCED, LOWERED, LOWERED, QUIETER, WITHDRAWN]
    done = await World(tmp_path).waypost("edge drain fra-edge1 --wait")

    assert done.code == 0
    assert done.out.splitlines()[1:] == [
        "fra-edge1: ANNOUNCED for 3 s, 1234 packets/s: the data path works",
        "fra-edge1: LOWERED for 3 s, 56 packets/s: drained: forwards what still comes",
        "fra-edge1: LOWERED for 3 s, 0 packets/s: drained: forwards what still comes",
        "fra-edge1: WITHDRAWN for 3 s, 0 packets/s: drained: no packet of a VIP for 10 s",
    ]


async def test_as_json_every_look_is_an_object(edge: Edge, tmp_path: Path) -> None:
    edge.looks = [LOWERED, LOWERED, WITHDRAWN]
    done = await World(tmp_path).waypost("--json edge drain fra-edge1 --wait")

    shown = [json.loads(line) for line in done.out.splitlines()]
    assert [view["schema"] for view in shown] == ["waypost/done/1"] + ["waypost/announcing/1"] * 2
    assert [view["preference"] for view in shown[1:]] == ["LOWERED", "WITHDRAWN"]


async def test_an_undrain_is_watched_until_it_is_announced(edge: Edge, tmp_path: Path) -> None:
    edge.looks = [WITHDRAWN, WITHDRAWN, ANNOUNCED]
    done = await World(tmp_path).waypost("edge undrain fra-edge1 --wait")

    assert done.code == 0
    assert edge.told[0][0] == "undrain"
    assert done.out.splitlines()[-1].startswith("fra-edge1: ANNOUNCED")


async def test_a_refusal_is_told_with_its_code(edge: Edge, tmp_path: Path) -> None:
    done = await World(tmp_path).waypost("edge drain fra-edge2")

    assert done.code == ExitCode.UNSAFE
    assert "leaves no edge at fra" in done.err
    assert edge.told == []


async def test_another_edge_is_not_watched_from_here(edge: Edge, tmp_path: Path) -> None:
    done = await World(tmp_path).waypost("edge drain fra-edge2 --force --wait")

    assert done.code == ExitCode.USAGE
    assert "wait on fra-edge2 itself" in done.err
    assert edge.told == []


async def test_an_edge_without_bgp_is_not_watched(edge: Edge, tmp_path: Path) -> None:
    edge.looks = []
    done = await World(tmp_path).waypost("edge drain fra-edge1 --wait")

    assert done.code == ExitCode.UNSUPPORTED
    assert "announces nothing" in done.err
    assert edge.told == []


async def test_a_silent_announcer_ends_the_watch_and_the_will_stands(
    edge: Edge, tmp_path: Path
) -> None:
    old = msgspec.structs.replace(ANNOUNCED, at_s=NOW_S - 60.0)
    edge.looks = [old]
    done = await World(tmp_path).waypost("edge drain fra-edge1 --wait")

    assert done.code == ExitCode.UNREACHABLE
    assert "the will stands" in done.err
    assert [verb for verb, _ in edge.told] == ["drain"]


@pytest.mark.parametrize("interrupted_at", [1, 2])
async def test_an_interrupt_leaves_the_drain_standing(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_at: int
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == interrupted_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    done = await World(tmp_path).waypost("edge drain fra-edge1 --wait")

    assert done.code == ExitCode.INTERRUPTED
    assert [verb for verb, _ in edge.told] == ["drain"]
