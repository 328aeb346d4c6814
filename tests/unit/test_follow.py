"""Following a store: a real SQLite file that comes, goes and returns, under a clock of our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gslb.fleet.config import build_fleet, parse_toml
from gslb.fleet.fleet_file import FleetFile
from gslb.fleet.health import EdgeReport, RealHealth, RealState, VipHealth, VipState
from gslb.fleet.history import EdgeHistory, VipHistory
from gslb.fleet.model import Fleet, VipName
from gslb.fleet.snapshot import Snapshot
from gslb.fleet.sqlite_store import SqliteStore
from gslb.service.follow import FleetFollower

FLEET = b"""
[fleet]
name = "test"
[site.fra]
location = { country = "DE", lat = 50.11, lon = 8.68 }
edges = ["edge1"]
[real.web1]
site = "fra"
address = "10.0.0.11"
[vip.web]
site = "fra"
address = "192.0.2.10"
port = 80
reals = ["web1"]
"""
WEB = VipName("web")


def fleet() -> Fleet:
    shape = parse_toml(FLEET, "fleet.toml", FleetFile)
    return build_fleet(shape, {}, "fleet.toml", "abc", [])


def report(state: RealState, generation: int) -> EdgeReport:
    vip = VipState.UP if state is RealState.UP else VipState.DOWN
    real = RealHealth(name="web1", state=state, since_s=0.0, reason="test")
    return EdgeReport(
        site="fra",
        edge="edge1",
        config_hash="abc",
        generation=generation,
        sequence=1,
        observed_at_s=0.0,
        lease_s=3.0,
        doubt=False,
        vips=(VipHealth(name="web", state=vip, since_s=0.0, reals=(real,)),),
    )


class Stand:
    """A follower on a SQLite file, with a clock that the test moves."""

    def __init__(self, tmp_path: Path) -> None:
        self.now_s = 1000.0
        self.folder = tmp_path / "store"
        self.folder.mkdir(exist_ok=True)
        self.writer = SqliteStore(self.folder / "store.sqlite", timeout_s=1.0)
        self.reader = SqliteStore(self.folder / "store.sqlite", timeout_s=1.0)
        self.heard: asyncio.Queue[Snapshot] = asyncio.Queue()
        self.pasts = asyncio.Event()
        self.follower = FleetFollower(
            fleet(),
            self.reader,
            state_path=tmp_path / "fleet.json",
            on_snapshot=self.heard.put_nowait,
            on_histories=self.pasts.set,
            now_s=lambda: self.now_s,
        )

    def state(self) -> VipState:
        return self.follower.snapshot.vips[WEB].state

    async def hear(self, state: VipState) -> None:
        async with asyncio.timeout(5):
            while self.state() is not state:
                await self.heard.get()


@asynccontextmanager
async def following(tmp_path: Path) -> AsyncIterator[Stand]:
    stand = Stand(tmp_path)
    task = asyncio.create_task(stand.follower.run())
    try:
        yield stand
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stand.writer.close()
        await stand.reader.close()


async def test_what_an_edge_publishes_becomes_the_snapshot(tmp_path: Path) -> None:
    async with following(tmp_path) as stand:
        assert stand.state() is VipState.UNKNOWN

        await stand.writer.publish(report(RealState.UP, 1))
        await stand.hear(VipState.UP)
        await stand.writer.publish(report(RealState.DOWN, 2))
        await stand.hear(VipState.DOWN)

        assert stand.follower.snapshot.generation == 2


async def test_a_lease_that_ends_makes_the_vip_stale(tmp_path: Path) -> None:
    async with following(tmp_path) as stand:
        await stand.writer.publish(report(RealState.UP, 1))
        await stand.hear(VipState.UP)

        stand.now_s += 3.1
        stand.follower.judge()

        assert stand.state() is VipState.STALE


async def test_a_lost_store_freezes_leases_and_its_return_starts_them_anew(tmp_path: Path) -> None:
    async with following(tmp_path) as stand:
        await stand.writer.publish(report(RealState.UP, 1))
        await stand.hear(VipState.UP)

        gone = stand.folder.rename(tmp_path / "gone")
        async with asyncio.timeout(5):
            while stand.follower.snapshot.store_ok:
                await asyncio.sleep(0.01)
        stand.now_s += 3600
        stand.follower.judge()
        assert stand.state() is VipState.UP
        assert stand.follower.store_trouble

        gone.rename(stand.folder)
        async with asyncio.timeout(5):
            while not stand.follower.snapshot.store_ok:
                await asyncio.sleep(0.01)
        assert stand.state() is VipState.UP
        stand.now_s += 3.1
        stand.follower.judge()
        assert stand.state() is VipState.STALE


async def test_a_restart_without_a_store_starts_from_the_copy_on_disk(tmp_path: Path) -> None:
    async with following(tmp_path) as stand:
        await stand.writer.publish(report(RealState.DOWN, 7))
        await stand.hear(VipState.DOWN)
    (tmp_path / "store").rename(tmp_path / "gone")

    again = Stand(tmp_path)

    assert again.state() is VipState.DOWN
    assert again.follower.snapshot.generation == 7
    assert not again.follower.snapshot.store_ok


async def test_a_change_is_kept_on_disk_at_once(tmp_path: Path) -> None:
    async with following(tmp_path) as stand:
        for generation, state in enumerate((RealState.UP, RealState.DOWN, RealState.UP), 1):
            await stand.writer.publish(report(state, generation))
            await stand.hear(VipState.UP if state is RealState.UP else VipState.DOWN)

            assert Stand(tmp_path).state() is stand.state()


async def test_a_history_wakes_its_own_listener_and_is_kept_on_disk(tmp_path: Path) -> None:
    vip = VipHistory(name="web", members={"web1": 100})
    past = EdgeHistory(site="fra", edge="edge1", generation=5, vips=(vip,))
    async with following(tmp_path) as stand:
        await stand.writer.publish(report(RealState.UP, 1))
        await stand.hear(VipState.UP)
        told = stand.heard.qsize()

        await stand.writer.publish_history(past)
        async with asyncio.timeout(5):
            await stand.pasts.wait()

        assert stand.heard.qsize() == told
        assert stand.follower.snapshot.holdings.histories == {"edge1": past}
    (tmp_path / "store").rename(tmp_path / "gone")

    again = Stand(tmp_path)

    assert again.follower.snapshot.holdings.histories == {"edge1": past}


async def test_a_copy_on_disk_from_before_histories_is_read(tmp_path: Path) -> None:
    async with following(tmp_path) as stand:
        await stand.writer.publish(report(RealState.DOWN, 7))
        await stand.hear(VipState.DOWN)
    kept = tmp_path / "fleet.json"
    older = json.loads(kept.read_text())
    del older["histories"]
    kept.write_text(json.dumps(older))

    assert Stand(tmp_path).state() is VipState.DOWN


async def test_a_damaged_copy_on_disk_is_survived(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_bytes(b"\x00{")

    stand = Stand(tmp_path)

    assert stand.state() is VipState.UNKNOWN
