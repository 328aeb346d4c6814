"""The store in one SQLite file: the embedded default, for the daemons of one host.

Owns the file's schema, its transactions and how a change by another process is noticed. Opened
through `gslb.service.stores` only. It never judges a record, never deletes one, and never repairs
a file that SQLite calls damaged: it says so and the callers keep what they hold.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from gslb.fleet.health import EdgeReport, Override
from gslb.fleet.history import EdgeHistory, RealReport
from gslb.fleet.store import (
    Contents,
    Reading,
    StaleGeneration,
    StoreUnavailable,
    decode_real_reports,
    encode,
)

T = TypeVar("T")

POLL_S = 0.2
"""Between two looks for a change: `PRAGMA data_version` and a stat, about 20 microseconds."""

_REPORT = "report"
_OVERRIDE = "override"
_HISTORY = "history"
_REAL = "real:"  # and the site

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID
"""

_HELD = "SELECT generation, sequence, body FROM records WHERE kind = ? AND name = ?"
_PUT = "INSERT OR REPLACE INTO records (kind, name, generation, sequence, body) VALUES (?,?,?,?,?)"
_ALL = "SELECT kind, body FROM records WHERE kind IN ('report', 'override', 'history')"
_REALS = "SELECT body FROM records WHERE kind = ?"

_Identity = tuple[int, int]  # device and inode: which file the path names
_Stamp = tuple[_Identity, int, int]
_Rows = list[tuple[str, bytes]]  # of `_ALL`, in the order of the primary key


class SqliteStore:
    """A `gslb.fleet.store.Store` in the file `path`, shared by any number of processes.

    A writer creates a missing file when its directory exists; a reader never does, so a vanished
    file is a lost store and not an empty one. `timeout_s` bounds the wait for a lock. All SQLite
    work happens in one thread of its own. `close` must be awaited.
    """

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-store")
        self._connection: sqlite3.Connection | None = None
        self._identity: _Identity = (0, 0)
        self._own_writes = 0  # data_version counts the changes of other connections only
        self.malformed_reals = 0
        self._reading = Reading()

    async def publish(self, report: EdgeReport) -> None:
        """Replace this edge's report. Raises StaleGeneration for (generation, sequence) below."""
        rank = (report.generation, report.sequence)
        await self._run(lambda: self._put(_REPORT, report.edge, rank, encode(report)))

    async def put_override(self, override: Override) -> None:
        """Replace the will for (kind, name).

        Raises StaleGeneration for an older generation, and for the same one with another content:
        of two operators at once the first wins, everywhere alike.
        """
        name = f"{override.kind}:{override.name}"
        rank = (override.generation, 0)
        await self._run(lambda: self._put(_OVERRIDE, name, rank, encode(override), unique=True))

    async def publish_history(self, history: EdgeHistory) -> None:
        """Replace this edge's history.

        Raises StaleGeneration for an older generation, and for another content at the held one.
        """
        rank, body = (history.generation, 0), encode(history)
        await self._run(lambda: self._put(_HISTORY, history.edge, rank, body, unique=True))

    async def publish_real(self, report: RealReport) -> None:
        """Replace this real's report. Raises StaleGeneration for (generation, sequence) below."""
        rank, kind = (report.generation, report.sequence), _REAL + report.site
        await self._run(lambda: self._put(kind, report.real, rank, encode(report)))

    async def real_reports(self, site: str) -> tuple[RealReport, ...]:
        """The newest report of each real of a site, by name; malformed ones are left out."""
        good, self.malformed_reals = await self._run(lambda: self._read_reals(site))
        return good

    async def read(self) -> Contents:
        """All that is held now; malformed records are counted and left out, never raised."""
        return await self._run(lambda: self._decoded(self._rows()))

    async def watch(self) -> AsyncIterator[Contents]:
        """The content now, then again within `POLL_S` after each change, for ever."""
        seen: _Stamp | None = None
        rows: _Rows | None = None
        while True:
            seen, fresh = await self._run(partial(self._rows_if_changed, seen))
            if fresh is not None and fresh != rows:
                rows = fresh
                yield await self._run(partial(self._decoded, fresh))
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """Close the file; the store may not be used afterwards."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._translated(work)
        )

    def _translated(self, work: Callable[[], T]) -> T:
        """Run `work`; anything SQLite or the file system says becomes StoreUnavailable."""
        try:
            return work()
        except FileNotFoundError as error:
            self._disconnect()
            text = f"{self._path} is not there; the first edge that publishes makes it"
            raise StoreUnavailable(text) from error
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise StoreUnavailable(f"{self._path}: {error}") from error

    def _put(
        self,
        kind: str,
        name: str,
        rank: tuple[int, int],
        body: bytes,
        *,
        unique: bool = False,
    ) -> None:
        """`unique` refuses another content at the held rank."""
        connection = self._connect(create=True)
        connection.execute("BEGIN IMMEDIATE")
        try:
            held = connection.execute(_HELD, (kind, name)).fetchone()
            if held is not None:
                held_rank = (int(held[0]), int(held[1]))
                rivals = unique and rank == held_rank and bytes(held[2]) != body
                if rank < held_rank or rivals:
                    raise StaleGeneration(f"{kind} {name}", rank[0], held_rank[0])
            connection.execute(_PUT, (kind, name, *rank, body))
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        self._own_writes += 1
        # An emptied log cannot be replayed into another file that an operator puts in this place.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _rows(self) -> _Rows:
        return self._connect(create=False).execute(_ALL).fetchall()

    def _decoded(self, rows: _Rows) -> Contents:
        def bodies(wanted: str) -> list[bytes]:
            return [body for kind, body in rows if kind == wanted]

        return self._reading.contents(bodies(_REPORT), bodies(_OVERRIDE), bodies(_HISTORY))

    def _read_reals(self, site: str) -> tuple[tuple[RealReport, ...], int]:
        found = self._connect(create=False).execute(_REALS, (_REAL + site,)).fetchall()
        return decode_real_reports(site, (body for (body,) in found))

    def _rows_if_changed(self, seen: _Stamp | None) -> tuple[_Stamp, _Rows | None]:
        """The stamp is taken before the read: a change between both is seen twice, never missed."""
        connection = self._connect(create=False)
        version = int(connection.execute("PRAGMA data_version").fetchone()[0])
        stamp = (self._identity, version, self._own_writes)
        return stamp, (None if stamp == seen else self._rows())

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        """The connection to the file that `path` names now, opened anew if it is another one."""
        if self._connection is not None:
            try:
                same = self._stat() == self._identity
            except FileNotFoundError:
                same = False
            if same:
                return self._connection
            self._disconnect()
        if not create:
            self._stat()  # a missing file: FileNotFoundError, before SQLite makes one
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            try:
                return self._open()
            except sqlite3.OperationalError as error:
                # The switch to WAL does not wait for a lock, so two first starters may collide.
                self._disconnect()
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline_s:
                    raise
                time.sleep(0.01)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a lost last beat is sent again
        connection.execute(_SCHEMA)
        self._identity = self._stat()
        return connection

    def _stat(self) -> _Identity:
        found = self._path.stat()
        return found.st_dev, found.st_ino

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
