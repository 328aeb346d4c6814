"""The daemon's memory of what changed: a bounded log that the admin socket can follow.

Owns numbering and the bound. Changes only: nothing per packet or per query belongs here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from gslb.fleet.views import EventRecord
from gslb.service import clock, log

CAPACITY = 1000  # a bad hour of a site with 100 reals, about 200 kB


class EventLog:
    """Events in order; the oldest fall out beyond `capacity`. For one event loop's thread."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._records: deque[EventRecord] = deque(maxlen=capacity)
        self._last = 0
        self._changed = asyncio.Event()

    def add(self, name: str, **detail: str) -> EventRecord:
        """Remember and log one event, like `health.changed`."""
        self._last += 1
        record = EventRecord(number=self._last, at_s=clock.unix_s(), name=name, detail=detail)
        self._records.append(record)
        log.get().info(name, **detail)
        self._changed.set()
        self._changed = asyncio.Event()
        return record

    def since(self, number: int) -> tuple[EventRecord, ...]:
        """The events numbered above `number` that are still held."""
        return tuple(record for record in self._records if record.number > number)

    async def follow(self, number: int) -> AsyncIterator[EventRecord]:
        """The events above `number`, then each new one, for ever."""
        while True:
            changed = self._changed
            for record in self.since(number):
                number = record.number
                yield record
            await changed.wait()
