"""What only the Redis store can meet: a silent server, a wrong password, lost messages."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
import uvloop

from gslb.fleet.health import EdgeReport
from gslb.fleet.redis_store import RedisStore
from gslb.fleet.store import StoreUnavailable
from tests.contract.stands import PATIENCE_S, RedisStand, report, will

RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: a close sends a RST
TURNS_OF_A_RESET = 200  # of the loop: to close, to read the RST, to tell of it, and some more


@pytest.fixture
async def stand() -> AsyncIterator[RedisStand]:
    stand = RedisStand()
    await stand.start()
    yield stand
    await stand.stop()


async def test_a_server_that_hangs_is_a_lost_store_until_it_goes_on(stand: RedisStand) -> None:
    store = stand.open(timeout_s=0.2)
    await store.publish(report("edge1"))

    os.kill(stand.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(StoreUnavailable, match="no answer within"):
                await store.read()
            with pytest.raises(StoreUnavailable):
                await store.publish(report("edge1", generation=2))
    finally:
        os.kill(stand.pid, signal.SIGCONT)
    await store.publish(report("edge1", generation=3))

    assert (await store.read()).reports == (report("edge1", generation=3),)


async def test_a_server_that_forgot_its_scripts_is_taught_again(stand: RedisStand) -> None:
    store = stand.open()
    await store.publish(report("edge1"))
    async with stand.client() as client:
        await client.script_flush()

    await store.publish(report("edge1", generation=2))

    assert (await store.read()).reports == (report("edge1", generation=2),)


async def test_a_change_without_a_message_is_found_by_the_guard(stand: RedisStand) -> None:
    store = stand.open()
    await store.publish(report("edge1"))
    watch = aiter(store.watch())
    async with asyncio.timeout(PATIENCE_S):
        await anext(watch)

        await stand.put_raw("overrides", "real:web1", b"not a record")
        contents = await anext(watch)

    assert contents.malformed == 1
    await watch.aclose()


async def test_the_beats_of_many_edges_need_few_reads(stand: RedisStand) -> None:
    reader, writer = stand.open(), stand.open()
    watch = aiter(reader.watch())
    await anext(watch)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(writer.publish(report(f"edge{n:02}")) for n in range(30)))
        turns = 0
        while len((await anext(watch)).reports) < 30:
            turns += 1

    assert turns < 10
    await watch.aclose()


async def test_fleets_with_other_prefixes_share_a_server_and_nothing_else(
    stand: RedisStand,
) -> None:
    await stand.open(prefix="north").publish(report("edge1"))

    assert (await stand.open(prefix="south").read()).reports == ()


async def test_a_key_of_another_type_is_said(stand: RedisStand) -> None:
    store = stand.open()
    async with stand.client() as client:
        await client.set("waypost:reports", "text")

    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await store.read()
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await store.publish(report("edge1"))


async def test_a_wrong_password_is_said_without_showing_it() -> None:
    stand = RedisStand(password="the-right-one")
    await stand.start()
    try:
        with pytest.raises(StoreUnavailable) as refusal:
            await stand.open(password="the-wrong-one").read()
        await stand.open().put_override(will("web1"))

        assert "the-wrong-one" not in str(refusal.value)
        assert (await stand.open().read()).overrides == (will("web1"),)
    finally:
        await stand.stop()


async def test_a_password_in_the_url_is_never_shown() -> None:
    url = "redis://user:hidden@127.0.0.1:1/0"
    store = RedisStore(url, password=None, prefix="waypost", timeout_s=0.5)

    with pytest.raises(StoreUnavailable) as refusal:
        await store.read()
    await store.close()

    assert "127.0.0.1:1" in str(refusal.value)
    assert "hidden" not in str(refusal.value)


class ResettingRelay:
    """A relay to a Redis that can reset what it carries, as a firewall or a dying host does."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._clients: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen on loopback; returns the port."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def reset(self) -> None:
        """Reset every connection, and take new ones; returns once the loop has seen the resets."""
        while self._clients:
            client = self._clients.pop()
            raw = client.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            client.transport.abort()
        for _ in range(TURNS_OF_A_RESET):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Listen no longer, and let go of all that is carried."""
        assert self._server is not None
        self._server.close()
        await self.reset()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.append(writer)
        from_redis, to_redis = await asyncio.open_unix_connection(self._path)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        await asyncio.gather(carry(reader, to_redis), carry(from_redis, writer))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_was_reset_while_idle_is_made_anew(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def use_after_a_reset() -> tuple[EdgeReport, ...]:
        stand = RedisStand()
        await stand.start()
        relay = ResettingRelay(stand.path)
        store = RedisStore(
            f"redis://127.0.0.1:{await relay.start()}/0",
            password=None,
            prefix="waypost",
            timeout_s=2.0,
        )
        try:
            await store.publish(report("edge1"))
            await relay.reset()
            return (await store.read()).reports
        finally:
            await store.close()
            await relay.stop()
            await stand.stop()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        held = runner.run(use_after_a_reset())

    assert held == (report("edge1"),)
