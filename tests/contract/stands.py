"""Stands for the store's contract: how each implementation is opened, lost, brought back, damaged.

Owned by the contract tests. A stand starts what it needs and ends it itself; nothing outlives it.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis

from gslb.fleet.health import EdgeReport, Override, OverrideKind
from gslb.fleet.history import EdgeHistory, RealReport, Turn, VipFlows, VipHistory, pack_slots
from gslb.fleet.redis_store import RedisStore
from gslb.fleet.sqlite_store import SqliteStore
from gslb.fleet.store import Store

PATIENCE_S = 10.0
"""A bound on every wait, so that a fault ends a test; no test waits for it to pass."""


def report(edge: str, *, generation: int = 1, sequence: int = 1, doubt: bool = False) -> EdgeReport:
    """A small report."""
    return EdgeReport(
        site="fra",
        edge=edge,
        config_hash="0123456789ab",
        generation=generation,
        sequence=sequence,
        observed_at_s=1_800_000_000.0,
        lease_s=5.0,
        doubt=doubt,
        vips=(),
    )


def will(name: str, *, generation: int = 1, drained: bool = True, by: str = "anna") -> Override:
    """An operator's will for a real."""
    return Override(
        kind=OverrideKind.REAL,
        name=name,
        drained=drained,
        by=by,
        reason="kernel upgrade",
        at_s=1_800_000_000.0,
        generation=generation,
    )


def history(edge: str, *, generation: int = 1, weight: int = 10) -> EdgeHistory:
    """One VIP, of which one real was taken at Unix time 1,800,000,000."""
    turn = Turn(at_s=1_800_000_000.0, changed={"web2": 0})
    vip = VipHistory(name="www", members={"web1": weight, "web2": 10}, turns=(turn,))
    return EdgeHistory(site="fra", edge=edge, generation=generation, vips=(vip,))


def flows(real: str, *, site: str = "fra", generation: int = 1, sequence: int = 1) -> RealReport:
    """A real's word on three flows of one VIP, on a ring of eight slots."""
    slots = pack_slots(bytes((0, 2, 0, 0, 1, 0, 0, 0)))
    held = VipFlows(vip="www", flows=3, oldest_s=1_800_000_000.5, slots=slots)
    return RealReport(
        site=site,
        real=real,
        generation=generation,
        sequence=sequence,
        observed_at_s=1_800_000_002.0,
        vips=(held,),
    )


_SQLITE_KINDS = {
    "reports": "report",
    "overrides": "override",
    "histories": "history",
    "reals:fra": "real:fra",
}


class Stand(Protocol):
    """One implementation in its surroundings."""

    def open(self) -> Store:
        """Another process's view of the same store; closed by the stand."""

    async def start(self) -> None:
        """Bring the store up, empty."""

    async def keep(self) -> None:
        """Keep a copy of the content, to come back with later."""

    async def lose(self) -> None:
        """Make the store vanish."""

    async def come_back(self, *, with_kept: bool) -> None:
        """Make the store reachable again: empty, or with what was kept."""

    async def put_raw(self, table: str, name: str, body: bytes) -> None:
        """Put any bytes as a record, as a broken publisher would; `table` as Redis names it."""

    async def stop(self) -> None:
        """Close every opened store and leave nothing behind."""


class SqliteStand:
    """A file in a directory of its own; losing it moves the whole directory away."""

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="waypost-sqlite-"))
        self.path = self._base / "here" / "store.sqlite"
        self._opened: list[SqliteStore] = []

    def open(self) -> Store:
        store = SqliteStore(self.path, timeout_s=2.0)
        self._opened.append(store)
        return store

    async def start(self) -> None:
        self.path.parent.mkdir()

    async def keep(self) -> None:
        with sqlite3.connect(self.path) as connection:
            connection.execute("VACUUM INTO ?", (str(self._base / "kept.sqlite"),))
        connection.close()

    async def lose(self) -> None:
        self.path.parent.rename(self._base / "lost")

    async def come_back(self, *, with_kept: bool) -> None:
        self.path.parent.mkdir()
        if with_kept:
            shutil.copy(self._base / "kept.sqlite", self.path)

    async def put_raw(self, table: str, name: str, body: bytes) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        row = (_SQLITE_KINDS[table], name, 0, 0, body)
        connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", row)
        connection.close()

    async def stop(self) -> None:
        for store in self._opened:
            await store.close()
        shutil.rmtree(self._base)


class RedisStand:
    """A redis-server of its own on a Unix socket."""

    def __init__(self, *, password: str | None = None) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="waypost-redis-"))
        self._password = password
        self._process: asyncio.subprocess.Process | None = None
        self._opened: list[RedisStore] = []
        self.path = str(self._base / "redis.sock")
        self.url = f"unix://{self.path}"

    def open(
        self, *, timeout_s: float = 2.0, password: str | None = None, prefix: str = "waypost"
    ) -> Store:
        password = password or self._password
        store = RedisStore(self.url, password=password, prefix=prefix, timeout_s=timeout_s)
        self._opened.append(store)
        return store

    def client(self) -> Redis:
        return Redis.from_url(self.url, password=self._password)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            "redis-server",
            *("--port", "0", "--unixsocket", self.path),
            *("--dir", str(self._base), "--save", "", "--appendonly", "no", "--databases", "1"),
            *(("--requirepass", self._password) if self._password else ()),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._process.stdout:
                if b"eady to accept connections" in line or b"ready to accept" in line:
                    return
        raise AssertionError("redis-server did not start")

    async def keep(self) -> None:
        async with self.client() as client:
            await client.save()
        (self._base / "dump.rdb").rename(self._base / "kept.rdb")

    async def lose(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.communicate()
        self._process = None

    async def come_back(self, *, with_kept: bool) -> None:
        if with_kept:
            shutil.copy(self._base / "kept.rdb", self._base / "dump.rdb")
        await self.start()

    async def put_raw(self, table: str, name: str, body: bytes) -> None:
        async with self.client() as client:
            await client.hset(f"waypost:{table}", name, body)

    async def stop(self) -> None:
        for store in self._opened:
            await store.close()
        if self._process is not None:
            await self.lose()
        shutil.rmtree(self._base)
