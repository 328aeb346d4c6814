"""The store's contract, held by every implementation."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from gslb.fleet import store as contract
from gslb.fleet.snapshot import Holdings
from gslb.fleet.store import Contents, StaleGeneration, StoreUnavailable
from tests.contract.stands import (
    PATIENCE_S,
    RedisStand,
    SqliteStand,
    Stand,
    flows,
    history,
    report,
    will,
)


@pytest.fixture(params=[SqliteStand, RedisStand], ids=["sqlite", "redis"])
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    stand: Stand = request.param()
    await stand.start()
    yield stand
    await stand.stop()


async def test_what_one_process_publishes_another_reads(stand: Stand) -> None:
    await stand.open().publish(report("edge1"))
    await stand.open().put_override(will("web1"))
    await stand.open().publish_history(history("edge1"))

    contents = await stand.open().read()

    assert contents == Contents(
        reports=(report("edge1"),), overrides=(will("web1"),), histories=(history("edge1"),)
    )


async def test_records_come_back_in_one_order_whatever_order_they_came_in(stand: Stand) -> None:
    store = stand.open()
    for edge in ("edge2", "edge3", "edge1"):
        await store.publish(report(edge))
        await store.put_override(will(edge))
        await store.publish_history(history(edge))

    contents = await store.read()

    assert [held.edge for held in contents.reports] == ["edge1", "edge2", "edge3"]
    assert [held.name for held in contents.overrides] == ["edge1", "edge2", "edge3"]
    assert [held.edge for held in contents.histories] == ["edge1", "edge2", "edge3"]


async def test_a_newer_report_takes_the_place_of_the_older(stand: Stand) -> None:
    store = stand.open()
    await store.publish(report("edge1", generation=1, sequence=9))
    await store.publish(report("edge1", generation=2, sequence=1))

    assert (await store.read()).reports == (report("edge1", generation=2, sequence=1),)


@pytest.mark.parametrize(("generation", "sequence"), [(6, 9), (7, 2)])
async def test_an_older_report_is_refused_and_changes_nothing(
    stand: Stand, generation: int, sequence: int
) -> None:
    await stand.open().publish(report("edge1", generation=7, sequence=3))

    with pytest.raises(StaleGeneration) as refusal:
        await stand.open().publish(report("edge1", generation=generation, sequence=sequence))

    assert (refusal.value.offered, refusal.value.held) == (generation, 7)
    assert "edge1" in str(refusal.value)
    assert (await stand.open().read()).reports == (report("edge1", generation=7, sequence=3),)


async def test_generations_of_milliseconds_are_compared_exactly(stand: Stand) -> None:
    now_ms = 1_795_437_274_123
    store = stand.open()
    await store.publish(report("edge1", generation=now_ms))

    with pytest.raises(StaleGeneration) as refusal:
        await store.publish(report("edge1", generation=now_ms - 1))

    assert refusal.value.held == now_ms


async def test_the_same_report_may_be_published_again(stand: Stand) -> None:
    store = stand.open()
    await store.publish(report("edge1"))
    await store.publish(report("edge1"))

    assert (await store.read()).reports == (report("edge1"),)


async def test_an_older_will_is_refused(stand: Stand) -> None:
    store = stand.open()
    await store.put_override(will("web1", generation=5))

    with pytest.raises(StaleGeneration):
        await store.put_override(will("web1", generation=4, drained=False))

    assert (await store.read()).overrides == (will("web1", generation=5),)


async def test_of_two_wills_at_once_the_first_stays(stand: Stand) -> None:
    await stand.open().put_override(will("web1", by="anna"))

    with pytest.raises(StaleGeneration):
        await stand.open().put_override(will("web1", by="ben", drained=False))
    await stand.open().put_override(will("web1", by="anna"))

    assert (await stand.open().read()).overrides == (will("web1", by="anna"),)


async def test_a_withdrawn_will_stays_as_a_record(stand: Stand) -> None:
    store = stand.open()
    await store.put_override(will("web1", generation=1))
    await store.put_override(will("web1", generation=2, drained=False))

    assert (await store.read()).overrides == (will("web1", generation=2, drained=False),)


async def test_a_newer_history_takes_the_place_of_the_older_alone(stand: Stand) -> None:
    store = stand.open()
    await store.publish_history(history("edge1", generation=7))

    with pytest.raises(StaleGeneration) as refusal:
        await stand.open().publish_history(history("edge1", generation=6))
    await store.publish_history(history("edge1", generation=8, weight=20))

    assert (refusal.value.offered, refusal.value.held) == (6, 7)
    assert (await store.read()).histories == (history("edge1", generation=8, weight=20),)


async def test_a_history_that_did_not_change_is_not_decoded_again(stand: Stand) -> None:
    store = stand.open()
    await store.publish_history(history("edge1"))
    await store.publish_history(history("edge2"))
    before = (await store.read()).histories

    await store.publish_history(history("edge2", generation=2))
    after = (await store.read()).histories

    assert after == (history("edge1"), history("edge2", generation=2))
    assert after[0] is before[0]


async def test_of_two_histories_of_one_generation_the_first_stays(stand: Stand) -> None:
    await stand.open().publish_history(history("edge1", weight=10))

    with pytest.raises(StaleGeneration):
        await stand.open().publish_history(history("edge1", weight=20))
    await stand.open().publish_history(history("edge1", weight=10))

    assert (await stand.open().read()).histories == (history("edge1", weight=10),)


async def test_what_reals_report_is_read_by_site_and_is_no_content(stand: Stand) -> None:
    store = stand.open()
    for real in ("web3", "web1", "web2"):
        await store.publish_real(flows(real))
    await store.publish_real(flows("far1", site="sin"))

    read = await stand.open().real_reports("fra")

    assert read == (flows("web1"), flows("web2"), flows("web3"))
    assert await store.real_reports("sin") == (flows("far1", site="sin"),)
    assert await store.real_reports("nowhere") == ()
    assert await store.read() == Contents()


@pytest.mark.parametrize(("generation", "sequence"), [(6, 9), (7, 2)])
async def test_an_older_report_of_a_real_is_refused(
    stand: Stand, generation: int, sequence: int
) -> None:
    store = stand.open()
    await store.publish_real(flows("web1", generation=7, sequence=3))

    with pytest.raises(StaleGeneration) as refusal:
        await stand.open().publish_real(flows("web1", generation=generation, sequence=sequence))
    await store.publish_real(flows("web1", generation=7, sequence=4))

    assert (refusal.value.offered, refusal.value.held) == (generation, 7)
    assert await store.real_reports("fra") == (flows("web1", generation=7, sequence=4),)


async def test_malformed_reports_of_reals_are_left_out_and_counted(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stand.open()
    await store.publish_real(flows("web1"))
    limit = 4 * len(contract.encode(flows("web1")))
    monkeypatch.setattr(contract, "REAL_REPORT_OCTETS_MAX", limit)
    await stand.put_raw("reals:fra", "web2", b"{")
    await stand.put_raw("reals:fra", "web3", contract.encode(flows("web3")) + b" " * limit)
    await stand.put_raw("reals:fra", "web4", contract.encode(flows("web4", site="sin")))

    read = await store.real_reports("fra")

    assert read == (flows("web1"),)
    assert store.malformed_reals == 3
    await store.publish_real(flows("web2"))
    assert await store.real_reports("fra") == (flows("web1"), flows("web2"))
    assert store.malformed_reals == 2


async def test_a_watch_tells_of_a_history_and_never_of_a_real_s_report(stand: Stand) -> None:
    store, other = stand.open(), stand.open()
    await store.publish(report("edge1"))
    watch = aiter(store.watch())
    async with asyncio.timeout(PATIENCE_S):
        first = await anext(watch)

        for sequence in range(1, 20):
            await store.publish_real(flows("web1", sequence=2 * sequence))
            await other.publish_real(flows("web1", sequence=2 * sequence + 1))
        await other.publish_history(history("edge1"))
        second = await anext(watch)

    assert first.histories == ()
    assert second.histories == (history("edge1"),)
    await watch.aclose()


async def test_a_watch_begins_with_the_content_of_now(stand: Stand) -> None:
    await stand.open().publish(report("edge1"))

    async with asyncio.timeout(PATIENCE_S):
        first = await anext(aiter(stand.open().watch()))

    assert first.reports == (report("edge1"),)


async def test_a_watch_tells_of_what_another_process_changes(stand: Stand) -> None:
    writer = stand.open()
    await writer.publish(report("edge1"))
    watch = aiter(stand.open().watch())
    async with asyncio.timeout(PATIENCE_S):
        await anext(watch)

        await writer.publish(report("edge2"))
        after_report = await anext(watch)
        await writer.put_override(will("web1"))
        after_will = await anext(watch)

    assert [held.edge for held in after_report.reports] == ["edge1", "edge2"]
    assert after_will.overrides == (will("web1"),)
    await watch.aclose()


async def test_a_watch_tells_of_what_its_own_process_changes(stand: Stand) -> None:
    store = stand.open()
    await store.publish(report("edge1"))
    watch = aiter(store.watch())
    async with asyncio.timeout(PATIENCE_S):
        await anext(watch)

        await store.publish(report("edge1", generation=2))
        after = await anext(watch)

    assert after.reports == (report("edge1", generation=2),)
    await watch.aclose()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"generation": "seven"}',
        b'{"generation": 1e400}',
        b'{"site":"fra","edge":"edge1","surprise":1}',
        b"[" * 3000,
    ],
)
async def test_a_malformed_record_is_counted_and_hides_no_other(stand: Stand, body: bytes) -> None:
    store = stand.open()
    await store.publish(report("edge1"))
    await store.put_override(will("web1"))
    await stand.put_raw("reports", "edge2", body)
    await stand.put_raw("overrides", "real:web2", body)
    await stand.put_raw("histories", "edge2", body)

    contents = await store.read()

    assert contents == Contents(reports=(report("edge1"),), overrides=(will("web1"),), malformed=3)


@pytest.mark.parametrize(
    "vip",
    [
        b'{"members":{"web1":0},"name":"www","turns":[]}',
        b'{"members":{"web1":-1},"name":"www","turns":[]}',
        b'{"members":{"web1":70000},"name":"www","turns":[]}',
        b'{"members":{},"name":"www","turns":[{"at_s":1.0,"changed":{}}]}',
        b'{"members":{},"name":"www","turns":[{"at_s":1.0,"changed":{"web1":-1}}]}',
        b'{"members":{},"name":"www","turns":[{"at_s":1.0,"changed":{"web1":0}}]}',
        b'{"members":{},"name":"www","turns":[{"at_s":1e400,"changed":{"web1":1}}]}',
        b'{"members":{"web1":1},"name":"www","turns":[{"at_s":1.0,"changed":{"web1":1}}]}',
        b'{"members":{},"name":"w","turns":[{"at_s":2.0,"changed":{"a":1}},{"at_s":1.0,"changed":{"a":2}}]}',
        b'{"members":{"web1":1},"name":"www","turns":[{"at_s":1.0,"weights":{"web2":1}}]}',
    ],
)
async def test_a_history_that_cannot_have_been_is_counted_and_hides_no_other(
    stand: Stand, vip: bytes
) -> None:
    store = stand.open()
    await store.publish_history(history("edge1"))
    body = b'{"edge":"edge2","generation":7,"site":"fra","vips":[%b]}' % vip
    await stand.put_raw("histories", "edge2", body)

    contents = await store.read()

    assert contents == Contents(histories=(history("edge1"),), malformed=1)


@pytest.mark.parametrize("body", [b"\xff", b"7", b"{}", b'{"generation":"x"}'])
async def test_a_publisher_replaces_a_malformed_record(stand: Stand, body: bytes) -> None:
    store = stand.open()
    await store.publish(report("edge1"))
    await stand.put_raw("reports", "edge1", body)

    await store.publish(report("edge1", generation=2))

    assert await store.read() == Contents(reports=(report("edge1", generation=2),))


async def test_a_lost_store_is_said_by_every_method(stand: Stand) -> None:
    store = stand.open()
    await store.publish(report("edge1"))
    watch = aiter(store.watch())
    await anext(watch)

    await stand.lose()

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StoreUnavailable):
            await anext(watch)
        with pytest.raises(StoreUnavailable):
            await store.read()
        with pytest.raises(StoreUnavailable):
            await store.publish(report("edge1", generation=2))
        with pytest.raises(StoreUnavailable):
            await store.put_override(will("web1"))
        with pytest.raises(StoreUnavailable):
            await store.publish_history(history("edge1"))
        with pytest.raises(StoreUnavailable):
            await store.publish_real(flows("web1"))
        with pytest.raises(StoreUnavailable):
            await store.real_reports("fra")


async def test_a_store_that_was_never_there_is_said_and_found_when_it_comes(stand: Stand) -> None:
    await stand.lose()
    store = stand.open()
    with pytest.raises(StoreUnavailable):
        await store.read()

    await stand.come_back(with_kept=False)
    await store.publish(report("edge1"))

    assert (await store.read()).reports == (report("edge1"),)


async def test_a_store_that_comes_back_empty_takes_nothing_from_its_readers(stand: Stand) -> None:
    store = stand.open()
    await store.publish(report("edge1"))
    await store.publish(report("edge2"))
    before = await store.read()
    held = Holdings().merge(before.reports, before.overrides, 0.0)
    await stand.lose()
    with pytest.raises(StoreUnavailable):
        await store.read()

    await stand.come_back(with_kept=False)
    await store.publish(report("edge1", generation=2))
    after = await store.read()
    held = held.lost(1.0).merge(after.reports, after.overrides, 2.0)

    assert after.reports == (report("edge1", generation=2),)
    assert {edge: item.report.generation for edge, item in held.reports.items()} == {
        "edge1": 2,
        "edge2": 1,
    }


async def test_a_store_that_comes_back_with_old_data_revives_nothing(stand: Stand) -> None:
    store = stand.open()
    await store.publish(report("edge1", generation=1))
    await store.put_override(will("web1", generation=1))
    await store.publish_history(history("edge1", generation=1))
    await stand.keep()
    await store.publish(report("edge1", generation=2))
    await store.put_override(will("web1", generation=2, drained=False))
    await store.publish_history(history("edge1", generation=2))
    now = await store.read()
    held = Holdings().merge(now.reports, now.overrides, 0.0, histories=now.histories)
    await stand.lose()
    with pytest.raises(StoreUnavailable):
        await store.read()

    await stand.come_back(with_kept=True)
    old = await store.read()
    held = held.merge(old.reports, old.overrides, 1.0, histories=old.histories)

    assert old.reports == (report("edge1", generation=1),)
    assert held.reports["edge1"].report.generation == 2
    assert held.drained(will("web1").kind, "web1") is None
    assert held.histories == {"edge1": history("edge1", generation=2)}
    assert held.refused == 3


async def test_a_publisher_with_an_older_generation_is_refused_after_the_return(
    stand: Stand,
) -> None:
    store = stand.open()
    await store.publish(report("edge1", generation=9))
    await stand.keep()
    await stand.lose()
    await stand.come_back(with_kept=True)

    with pytest.raises(StaleGeneration):
        await store.publish(report("edge1", generation=8))

    assert (await store.read()).reports == (report("edge1", generation=9),)


async def test_a_new_watch_after_the_return_sees_changes_again(stand: Stand) -> None:
    reader, writer = stand.open(), stand.open()
    await writer.publish(report("edge1"))
    await stand.keep()
    watch = aiter(reader.watch())
    await anext(watch)
    await stand.lose()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StoreUnavailable):
            await anext(watch)
    await stand.come_back(with_kept=True)

    async with asyncio.timeout(PATIENCE_S):
        watch = aiter(reader.watch())
        first = await anext(watch)
        await writer.publish(report("edge1", generation=2))
        second = await anext(watch)

    assert [first.reports[0].generation, second.reports[0].generation] == [1, 2]
    await watch.aclose()


async def test_of_many_writers_at_once_the_newest_wins(stand: Stand) -> None:
    stores = [stand.open() for _ in range(4)]

    async def publish(number: int) -> None:
        with suppress(StaleGeneration):
            await stores[number % 4].publish(report("edge1", generation=number))

    await asyncio.gather(*(publish(number) for number in range(1, 41)))

    assert (await stores[0].read()).reports == (report("edge1", generation=40),)


_WRITER = """
import asyncio, sys
from tests.contract.stands import report
from gslb.fleet.redis_store import RedisStore
from gslb.fleet.sqlite_store import SqliteStore
from pathlib import Path
async def main(kind, where, edge):
    store = (
        SqliteStore(Path(where), timeout_s=5.0)
        if kind == "SqliteStand"
        else RedisStore(where, password=None, prefix="waypost", timeout_s=5.0)
    )
    for generation in range(1, 21):
        await store.publish(report(edge, generation=generation))
    await store.close()
asyncio.run(main(*sys.argv[1:]))
"""


async def test_several_processes_may_start_and_write_at_once(stand: Stand) -> None:
    where = str(stand.path) if isinstance(stand, SqliteStand) else stand.url
    kind = type(stand).__name__
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _WRITER, kind, where, f"edge{n}")
        for n in range(4)
    ]

    codes = [await child.wait() for child in children]

    assert codes == [0, 0, 0, 0]
    assert (await stand.open().read()).reports == tuple(
        report(f"edge{n}", generation=20) for n in range(4)
    )
