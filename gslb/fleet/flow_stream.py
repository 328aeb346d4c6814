"""Shared flows on their way between the edges of a site: one Redis Stream a site.

Owns the stream `PREFIX:flows:SITE` and its bounds: entries by number and by age, and the whole of
it by time. Opened through `gslb.service.stores` only. It never looks into a message; what one says
is `edge_lb.shared_codec`. Every method may raise StoreUnavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from gslb.fleet.model import SiteName
from gslb.fleet.redis_link import connect, place_of, translated

BEGINNING = "0-0"
AT_ONCE = 32  # messages of one read: a few megabytes at most

Message = Mapping[bytes, bytes]
_Entry = tuple[bytes, Message]  # with its id


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of the stream is kept: `messages` at most, and none older than `age_s`."""

    messages: int
    age_s: float


class FlowStream:
    """The stream of one site on the Redis at `url`. `timeout_s` bounds every exchange."""

    def __init__(
        self, url: str, *, password: str | None, prefix: str, site: SiteName, timeout_s: float
    ) -> None:
        self._where = place_of(url)
        self._timeout_s = timeout_s
        self._key = f"{prefix}:flows:{site}"
        self._redis = connect(url, password=password, timeout_s=timeout_s)

    async def append(self, messages: Sequence[Message], bounds: Bounds) -> None:
        """Add messages in order, and let go of what is beyond the bounds.

        After an error some of them may be there: to add them again does no harm.
        """
        with self._translated():
            async with asyncio.timeout(self._timeout_s), self._redis.pipeline() as pipe:
                for message in messages:
                    fields = cast(Any, message)
                    pipe.xadd(self._key, fields, maxlen=bounds.messages, approximate=True)
                pipe.pexpire(self._key, int(bounds.age_s * 1000))
                last, _ = (await pipe.execute())[-2:]
                oldest = _moment_ms(last.decode()) - int(bounds.age_s * 1000)
                await self._redis.xtrim(self._key, minid=max(oldest, 0), approximate=True)

    async def read_after(self, last: str) -> list[tuple[str, Message]]:
        """Some messages after this one, with their ids; waits for a while if there are none."""
        wait_ms = max(int(self._timeout_s * 500), 1)
        with self._translated():
            async with asyncio.timeout(self._timeout_s * 2):
                found = await self._redis.xread({self._key: last}, count=AT_ONCE, block=wait_ms)
        streams = cast(list[tuple[bytes, list[_Entry]]], found)
        return [(raw.decode(), message) for _, entries in streams for raw, message in entries]

    async def newest(self) -> str:
        """The id of the newest message; BEGINNING if there is none."""
        with self._translated():
            async with asyncio.timeout(self._timeout_s):
                found = await self._redis.xrevrange(self._key, count=1)
        entries = cast(list[_Entry], found)
        return entries[0][0].decode() if entries else BEGINNING

    async def close(self) -> None:
        """Close the connections; the stream may not be used afterwards."""
        await self._redis.aclose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """As `redis_link.translated`, and a cancellation is never lost in it."""
        with translated(self._where, self._timeout_s):
            yield
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # which wait_for of Python 3.11 may swallow
            raise asyncio.CancelledError


def order(message_id: str) -> tuple[int, int]:
    """Ids in the order of the stream."""
    moment, _, number = message_id.partition("-")
    return int(moment), int(number)


def _moment_ms(message_id: str) -> int:
    return order(message_id)[0]
