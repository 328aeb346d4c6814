"""The store in Redis: for a fleet whose daemons are on many hosts.

Owns the hashes `PREFIX:reports`, `PREFIX:overrides`, `PREFIX:histories` and `PREFIX:reals:SITE`,
the channel `PREFIX:changed` that tells of all but the last, and the script that compares and sets
on the server. Opened through `gslb.service.stores` only. It never judges a record and never deletes
one: leases are the reader's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

from gslb.fleet.health import EdgeReport, Override
from gslb.fleet.history import EdgeHistory, RealReport
from gslb.fleet.redis_link import connect, place_of, translated
from gslb.fleet.store import (
    Contents,
    Reading,
    StaleGeneration,
    decode_real_reports,
    encode,
)

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

GUARD_S = 2.0
"""A watch reads again after this long without a message: pub/sub may lose one, a read cannot."""

GATHER_S = 0.05
"""A watch waits this long after a message, so that the beats of many edges cost one read."""

# KEYS: hash, and the channel if watches are told. ARGV: field, body, generation, sequence, and "1"
# where rivals are refused.
# A held record that is not JSON is replaced. cjson reads numbers as doubles: exact to 2^53, and a
# generation is milliseconds of Unix time, about 2^41.
_COMPARE_AND_SET = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local good, record = pcall(cjson.decode, held)
  if good and type(record) == 'table' and type(record.generation) == 'number' then
    local generation = tonumber(ARGV[3])
    local sequence = tonumber(ARGV[4])
    local held_sequence = tonumber(record.sequence) or 0
    local older = generation < record.generation
      or (generation == record.generation and sequence < held_sequence)
    local rival = ARGV[5] == '1' and generation == record.generation and held ~= ARGV[2]
    if older or rival then
      return string.format('%.0f', record.generation)
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if KEYS[2] then
  redis.call('PUBLISH', KEYS[2], ARGV[1])
end
return false
"""


class RedisStore:
    """A `gslb.fleet.store.Store` on the Redis at `url`. `timeout_s` bounds every exchange."""

    def __init__(self, url: str, *, password: str | None, prefix: str, timeout_s: float) -> None:
        self._where = place_of(url)
        self._timeout_s = timeout_s
        self._reports = f"{prefix}:reports"
        self._overrides = f"{prefix}:overrides"
        self._histories = f"{prefix}:histories"
        self._reals = f"{prefix}:reals"
        self.malformed_reals = 0
        self._reading = Reading()
        self._channel = f"{prefix}:changed"
        self._redis = connect(url, password=password, timeout_s=timeout_s)
        self._script = self._redis.register_script(_COMPARE_AND_SET)

    async def publish(self, report: EdgeReport) -> None:
        """Replace this edge's report. Raises StaleGeneration for (generation, sequence) below."""
        name = f"report {report.edge}"
        rank = (report.generation, report.sequence)
        await self._put(self._reports, report.edge, name, rank, encode(report))

    async def put_override(self, override: Override) -> None:
        """Replace the will for (kind, name).

        Raises StaleGeneration for an older generation, and for the same one with another content:
        of two operators at once the first wins, everywhere alike.
        """
        field = f"{override.kind}:{override.name}"
        rank = (override.generation, 0)
        name = f"override {field}"
        await self._put(self._overrides, field, name, rank, encode(override), unique=True)

    async def publish_history(self, history: EdgeHistory) -> None:
        """Replace this edge's history.

        Raises StaleGeneration for an older generation, and for another content at the held one.
        """
        name = f"history {history.edge}"
        rank = (history.generation, 0)
        await self._put(self._histories, history.edge, name, rank, encode(history), unique=True)

    async def publish_real(self, report: RealReport) -> None:
        """Replace this real's report. Raises StaleGeneration for (generation, sequence) below."""
        key, name = f"{self._reals}:{report.site}", f"report of real {report.real}"
        rank = (report.generation, report.sequence)
        await self._put(key, report.real, name, rank, encode(report), told=False)

    async def real_reports(self, site: str) -> tuple[RealReport, ...]:
        """The newest report of each real of a site, by name; malformed ones are left out."""
        with self._translated():
            async with asyncio.timeout(self._timeout_s):
                bodies = await cast(
                    Awaitable[list[bytes]], self._redis.hvals(f"{self._reals}:{site}")
                )
        # Megabytes of many reals: the loop goes on meanwhile.
        good, self.malformed_reals = await asyncio.to_thread(decode_real_reports, site, bodies)
        return good

    async def read(self) -> Contents:
        """All that is held now; malformed records are counted and left out, never raised."""
        with self._translated():
            async with asyncio.timeout(self._timeout_s), self._redis.pipeline() as pipe:
                pipe.hvals(self._reports)
                pipe.hvals(self._overrides)
                pipe.hvals(self._histories)
                reports, overrides, histories = await pipe.execute()
        return self._reading.contents(reports, overrides, histories)

    async def watch(self) -> AsyncIterator[Contents]:
        """The content now, then again soon after each change, for ever."""
        async with self._redis.pubsub() as pubsub:
            with self._translated():
                async with asyncio.timeout(self._timeout_s):
                    await pubsub.subscribe(self._channel)
            held = await self.read()
            yield held
            while True:
                with self._translated():
                    await self._wait_for_word(pubsub)
                fresh = await self.read()
                if fresh != held:
                    held = fresh
                    yield held

    async def close(self) -> None:
        """Close the connections; the store may not be used afterwards."""
        await self._redis.aclose()

    @staticmethod
    async def _wait_for_word(pubsub: PubSub) -> None:
        """Return after a message, or `GUARD_S`. A new subscription after a reconnect is one too."""
        if await pubsub.get_message(timeout=GUARD_S) is None:
            return
        await asyncio.sleep(GATHER_S)
        while await pubsub.get_message(timeout=0.0) is not None:
            pass

    async def _put(
        self,
        key: str,
        field: str,
        name: str,
        rank: tuple[int, int],
        body: bytes,
        *,
        unique: bool = False,
        told: bool = True,
    ) -> None:
        """`unique` refuses another content at the held rank; `told` wakes every watch."""
        arguments: tuple[bytes | str | int, ...] = (field, body, *rank, "1" if unique else "0")
        with self._translated():
            async with asyncio.timeout(self._timeout_s):
                held = await cast(
                    Awaitable[bytes | None],
                    self._script(keys=[key, self._channel] if told else [key], args=arguments),
                )
        if held is not None:
            raise StaleGeneration(name, rank[0], int(held))

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._where, self._timeout_s)
