"""What only the SQLite store can meet: files that vanish, are replaced, are full or damaged."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gslb.fleet.sqlite_store import SqliteStore
from gslb.fleet.store import StoreUnavailable
from tests.contract.stands import PATIENCE_S, report


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, timeout_s=0.2)
    yield store
    await store.close()


async def test_a_reader_never_creates_the_file(store: SqliteStore, path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="is not there"):
        await store.read()

    assert not path.exists()


async def test_a_writer_needs_the_directory(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "missing" / "store.sqlite", timeout_s=0.2)

    with pytest.raises(StoreUnavailable, match="unable to open"):
        await store.publish(report("edge1"))
    await store.close()


async def test_an_empty_file_is_an_empty_store(store: SqliteStore, path: Path) -> None:
    path.touch()

    assert (await store.read()).reports == ()


async def test_a_file_that_is_no_database_is_said_and_left_alone(
    store: SqliteStore, path: Path
) -> None:
    path.write_bytes(b"not a database, and longer than a header of one hundred bytes" * 9)
    before = path.read_bytes()

    with pytest.raises(StoreUnavailable, match="not a database"):
        await store.read()
    with pytest.raises(StoreUnavailable, match="not a database"):
        await store.publish(report("edge1"))

    assert path.read_bytes() == before


async def test_a_replaced_file_is_read_anew_by_a_running_watch(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await store.publish(report("edge1"))
    watch = aiter(store.watch())
    await anext(watch)
    other = SqliteStore(tmp_path / "other.sqlite", timeout_s=0.2)
    await other.publish(report("edge2"))
    await other.close()

    (tmp_path / "other.sqlite").replace(path)

    async with asyncio.timeout(PATIENCE_S):
        contents = await anext(watch)
    assert [held.edge for held in contents.reports] == ["edge2"]
    await watch.aclose()


async def test_a_deleted_file_ends_a_watch_and_a_writer_makes_a_new_one(
    store: SqliteStore, path: Path
) -> None:
    await store.publish(report("edge1"))
    watch = aiter(store.watch())
    await anext(watch)

    path.unlink()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StoreUnavailable):
            await anext(watch)
    await store.publish(report("edge2"))

    assert [held.edge for held in (await store.read()).reports] == ["edge2"]


async def test_a_lock_held_for_too_long_is_said(store: SqliteStore, path: Path) -> None:
    await store.publish(report("edge1"))
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        await store.publish(report("edge1", generation=2))
    readable = await store.read()
    rival.execute("ROLLBACK")
    rival.close()
    await store.publish(report("edge1", generation=3))

    assert readable.reports[0].generation == 1
    assert (await store.read()).reports[0].generation == 3


_FULL = """
import asyncio, resource, sys
from pathlib import Path
from tests.contract.stands import report
from gslb.fleet.sqlite_store import SqliteStore
from gslb.fleet.store import StoreUnavailable
async def main():
    store = SqliteStore(Path(sys.argv[1]), timeout_s=0.2)
    await store.publish(report("edge1"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        await store.publish(report("edge1", generation=2))
    except StoreUnavailable as error:
        print("unavailable")
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await store.publish(report("edge1", generation=3))
    print((await store.read()).reports[0].generation)
    await store.close()
asyncio.run(main())
"""


def test_a_full_disk_is_a_lost_store_until_there_is_room_again(path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=False
    )

    assert child.stdout.split() == ["unavailable", "3"], child.stderr
