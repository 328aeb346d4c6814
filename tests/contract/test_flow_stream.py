"""The stream of shared flows on a real redis-server: in order, bounded, and lost without harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gslb.fleet.flow_stream import BEGINNING, Bounds, FlowStream, order
from gslb.fleet.model import SiteName
from gslb.fleet.store import StoreUnavailable
from tests.contract.stands import PATIENCE_S, RedisStand

ROOMY = Bounds(messages=10_000, age_s=600.0)


@pytest.fixture
async def stand() -> AsyncIterator[RedisStand]:
    made = RedisStand()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def stream(stand: RedisStand) -> AsyncIterator[FlowStream]:
    made = open_stream(stand)
    yield made
    await made.close()


def open_stream(stand: RedisStand, site: str = "fra") -> FlowStream:
    return FlowStream(
        stand.url, password=None, prefix="waypost", site=SiteName(site), timeout_s=2.0
    )


def message(number: int, size: int = 1) -> dict[bytes, bytes]:
    return {b"number": b"%d" % number, b"\xff\x00": b"\xfe" * size}


async def all_of(stream: FlowStream) -> list[int]:
    """Every number in the stream, in order."""
    numbers: list[int] = []
    last, newest = BEGINNING, await stream.newest()
    while order(last) < order(newest):
        for message_id, found in await stream.read_after(last):
            numbers.append(int(found[b"number"]))
            last = message_id
    return numbers


async def test_messages_are_read_in_order_byte_for_byte(stream: FlowStream) -> None:
    wanted = [message(number, size=1000) for number in range(100)]
    await stream.append(wanted[:40], ROOMY)
    await stream.append(wanted[40:], ROOMY)

    (first_id, first), *_ = await stream.read_after(BEGINNING)

    assert first == wanted[0]
    assert await all_of(stream) == list(range(100))
    assert [int(m[b"number"]) for _, m in (await stream.read_after(first_id))[:2]] == [1, 2]


async def test_a_reader_is_woken_by_what_another_appends(stand: RedisStand) -> None:
    reader, writer = open_stream(stand), open_stream(stand)

    async def first() -> dict[bytes, bytes]:
        while not (found := await reader.read_after(BEGINNING)):
            pass
        return dict(found[0][1])

    async with asyncio.timeout(PATIENCE_S):
        waiting = asyncio.create_task(first())
        await writer.append([message(1)], ROOMY)
        assert await waiting == message(1)
    await reader.close()
    await writer.close()


async def test_sites_do_not_hear_each_other(stand: RedisStand, stream: FlowStream) -> None:
    other = open_stream(stand, "sin")
    await other.append([message(1)], ROOMY)

    assert await stream.newest() == BEGINNING
    await other.close()


async def test_a_stream_keeps_no_more_than_its_messages(stream: FlowStream) -> None:
    bounds = Bounds(messages=50, age_s=600.0)
    for number in range(0, 600, 20):
        await stream.append([message(at, size=5000) for at in range(number, number + 20)], bounds)

    kept = await all_of(stream)

    assert kept[-1] == 599
    assert len(kept) <= 50 + 100  # Redis lets go of whole nodes


async def test_old_messages_go_when_new_ones_come(stand: RedisStand, stream: FlowStream) -> None:
    async with stand.client() as client:
        for number in range(200):
            await client.xadd(
                "waypost:flows:fra", {**message(number, size=5000)}, id=f"{1000 + number}-0"
            )

    await stream.append([message(200)], Bounds(messages=10_000, age_s=60.0))

    assert await all_of(stream) == [200]


async def test_a_stream_that_nobody_writes_ends_by_itself(
    stand: RedisStand, stream: FlowStream
) -> None:
    await stream.append([message(1)], Bounds(messages=10, age_s=60.0))

    async with stand.client() as client:
        left_ms = await client.pttl("waypost:flows:fra")

    assert 0 < left_ms <= 60_000


async def test_a_lost_redis_is_told_and_comes_back(stand: RedisStand, stream: FlowStream) -> None:
    await stream.append([message(1)], ROOMY)
    await stand.lose()

    with pytest.raises(StoreUnavailable, match=r"redis\.sock"):
        await stream.append([message(2)], ROOMY)
    with pytest.raises(StoreUnavailable):
        await stream.read_after(BEGINNING)
    with pytest.raises(StoreUnavailable):
        await stream.newest()
    await stand.come_back(with_kept=False)
    await stream.append([message(3)], ROOMY)

    assert await all_of(stream) == [3]
