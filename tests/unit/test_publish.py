"""Publishing: generations and sequences, a store that goes and comes back, wills that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_struct
from site_fleet import FRA, TLS, WEB1, WEB2, WEB3, WWW, fleet

from edge_lb.history import unwritten
from edge_lb.publish import Publisher, Speaker
from edge_lb.report import Content, content
from edge_lb.wills import Wills
from gslb.fleet.health import EdgeReport, OverrideKind, RealState, Standing, VipState
from gslb.fleet.history import VipHistory
from gslb.fleet.snapshot import Holdings
from gslb.fleet.sqlite_store import SqliteStore
from gslb.fleet.store import Contents
from gslb.service.events import EventLog

PATIENCE_S = 10.0
UP = Standing(state=RealState.UP, since_s=1.0, reason="status 200")
DOWN = Standing(state=RealState.DOWN, since_s=2.0, reason="connection refused")
PAIRS = ((WWW, WEB1), (WWW, WEB2), (WWW, WEB3), (TLS, WEB1), (TLS, WEB2))


def said(standings=None, *, rate: float = 0.0, doubt: bool = False, drained=None) -> Content:
    known = dict.fromkeys(PAIRS, UP) | (standings or {})
    return content(fleet(), FRA, known, drained or {}, {WWW: rate}, doubt=doubt)


class Historian:
    """A time line that is set by hand."""

    def __init__(self) -> None:
        self.history = unwritten(FRA, "edge1")
        self.heard: dict[str, int] = {}

    def outrank(self, held: int, now_s: float) -> None:
        self.history = replace_struct(self.history, generation=held + 1)


class Edge:
    """A publisher over a SQLite store in a file."""

    def __init__(self, path: Path, *, generation: int = 0) -> None:
        self.path = path
        self.store = SqliteStore(path, timeout_s=1.0)
        self.wills = Wills(())
        self.events = EventLog()
        self.content = said()
        self.historian = Historian()
        self.remembered: list[int] = []
        self.publisher = Publisher(
            Speaker(site=FRA, edge="edge1", beat_s=30.0, lease_s=90.0),
            self.store,
            self.events,
            self.wills,
            self.historian,
            generation=generation,
            content=lambda: self.content,
            remember=self.remembered.append,
        )

    async def read(self) -> Contents:
        return await self.store.read()

    async def report(self) -> EdgeReport:
        (found,) = (await self.read()).reports
        return found

    def event_names(self) -> list[str]:
        return [record.name for record in self.events.since(0)]


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    made = Edge(tmp_path / "store.sqlite")
    yield made
    await made.store.close()


async def test_first_report_has_a_generation_that_was_remembered_before(edge: Edge):
    await edge.publisher.beat()

    found = await edge.report()
    assert edge.remembered == [found.generation]
    assert (found.site, found.edge, found.sequence, found.lease_s) == ("fra", "edge1", 1, 90.0)
    assert [vip.state for vip in found.vips] == [VipState.UP, VipState.UP]


async def test_beat_without_news_raises_the_sequence_only(edge: Edge):
    await edge.publisher.beat()
    first = await edge.report()
    edge.content = said(rate=12.5)

    await edge.publisher.beat()

    second = await edge.report()
    assert (second.generation, second.sequence) == (first.generation, 2)
    assert second.vips[0].packets_per_s == 12.5


async def test_changed_state_raises_the_generation(edge: Edge):
    await edge.publisher.beat()
    first = await edge.report()
    edge.content = said({(WWW, WEB1): DOWN})

    await edge.publisher.beat()

    second = await edge.report()
    assert second.generation > first.generation
    assert second.sequence == 1
    assert second.vips[0].state is VipState.DEGRADED


async def test_suspect_real_rides_along_without_a_new_generation(edge: Edge):
    await edge.publisher.beat()
    first = await edge.report()
    suspect = replace(UP, state=RealState.SUSPECT, reason="status 503")
    edge.content = said({(WWW, WEB1): suspect})

    await edge.publisher.beat()

    second = await edge.report()
    assert second.generation == first.generation
    assert second.vips[0].reals[0].state is RealState.SUSPECT


async def test_doubt_is_news(edge: Edge):
    await edge.publisher.beat()
    first = await edge.report()
    edge.content = said(doubt=True)

    await edge.publisher.beat()

    second = await edge.report()
    assert second.generation > first.generation
    assert second.doubt


async def test_forgotten_generation_jumps_above_what_the_store_holds(tmp_path: Path):
    far_future = 10**15  # milliseconds: a publisher whose clock was wrong
    before = Edge(tmp_path / "store.sqlite", generation=far_future)
    await before.publisher.beat()
    await before.store.close()
    after = Edge(tmp_path / "store.sqlite")

    await after.publisher.beat()

    assert (await after.report()).generation > far_future
    assert "generation.jumped" in after.event_names()
    await after.store.close()


async def test_lost_store_is_said_once_and_so_is_its_return(tmp_path: Path):
    folder = tmp_path / "away"
    edge = Edge(folder / "store.sqlite")  # its folder is not there: the store cannot be reached

    await edge.publisher.beat()
    await edge.publisher.beat()
    trouble = edge.publisher.trouble
    folder.mkdir()
    await edge.publisher.beat()
    await edge.publisher.beat()

    assert trouble
    assert not edge.publisher.trouble
    assert edge.event_names() == ["store.lost", "store.back"]
    assert (await edge.report()).sequence == 4
    await edge.store.close()


async def test_will_waits_for_the_store_and_is_written_then(tmp_path: Path):
    folder = tmp_path / "away"
    edge = Edge(folder / "store.sqlite")
    told = edge.wills.tell(
        OverrideKind.REAL,
        WEB1,
        drained=True,
        by="anna",
        reason="upgrade",
        now_s=5.0,
        held=Holdings(),
    )

    await edge.publisher.beat()
    waiting = edge.wills.unwritten
    folder.mkdir()
    await edge.publisher.beat()

    assert waiting == (told,)
    assert edge.wills.unwritten == ()
    assert (await edge.read()).overrides == (told,)
    await edge.store.close()


async def test_will_that_a_newer_one_overrules_is_given_up(tmp_path: Path):
    first, second = Edge(tmp_path / "store.sqlite"), Edge(tmp_path / "store.sqlite")
    newer = first.wills.tell(
        OverrideKind.REAL, WEB1, drained=False, by="bert", reason="", now_s=9.0, held=Holdings()
    )
    second.wills.tell(
        OverrideKind.REAL, WEB1, drained=True, by="anna", reason="", now_s=5.0, held=Holdings()
    )

    await first.publisher.beat()
    await second.publisher.beat()

    assert second.wills.unwritten == ()
    assert "drain.overruled" in second.event_names()
    assert (await first.read()).overrides == (newer,)
    await first.store.close()
    await second.store.close()


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_kick_publishes_long_before_the_beat(edge: Edge):
    await edge.publisher.beat()

    async with running(edge.publisher), asyncio.timeout(PATIENCE_S):
        async for held in edge.store.watch():
            if held.reports[0].vips[0].state is VipState.DEGRADED:
                break
            edge.content = said({(WWW, WEB1): DOWN})
            edge.publisher.kick()

    assert (await edge.report()).sequence == 1


def test_drain_is_laid_over_the_standing_whose_reason_stays():
    wills = Wills(())
    will = wills.tell(
        OverrideKind.REAL,
        WEB1,
        drained=True,
        by="anna",
        reason="upgrade",
        now_s=5.0,
        held=Holdings(),
    )
    health = said({(WWW, WEB1): DOWN}, drained={WEB1: will}).vips[0].reals[0]

    assert health.state is RealState.DRAINING
    assert health.reason == "drained by anna: upgrade; checks say DOWN: connection refused"


async def test_a_history_is_told_when_it_is_new(edge: Edge):
    await edge.publisher.beat()
    assert (await edge.read()).histories == ()

    edge.historian.history = replace_struct(
        edge.historian.history, generation=7, vips=(VipHistory(name="www", members={"web1": 100}),)
    )
    await edge.publisher.beat()
    await edge.publisher.beat()

    assert (await edge.read()).histories == (edge.historian.history,)


async def test_a_forgotten_history_gets_a_number_above_what_the_store_holds(edge: Edge):
    held = replace_struct(edge.historian.history, generation=70)
    await edge.store.publish_history(held)
    edge.historian.history = replace_struct(held, generation=7)

    await edge.publisher.beat()
    await edge.publisher.beat()

    assert [history.generation for history in (await edge.read()).histories] == [71]
    assert "history.jumped" in edge.event_names()
