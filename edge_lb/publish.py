"""Says to the fleet what this edge believes: at once on change, and with every beat of the lease.

Owns the generation and sequence of this edge's report, and the writing of its history and of wills
that the store does not hold yet. A Part of the edge's agent. A lost store is said once; the edge
goes on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Protocol

from edge_lb.report import Content, Essence
from edge_lb.wills import Wills
from gslb.fleet.health import EdgeReport, next_generation
from gslb.fleet.history import EdgeHistory
from gslb.fleet.model import Generation
from gslb.fleet.store import StaleGeneration, Store, StoreUnavailable
from gslb.service import clock
from gslb.service.events import EventLog

TELL_AGAIN_S = 60.0  # how long a store that lost a history stays without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who reports, and how often. Seconds."""

    site: str
    edge: str
    beat_s: float
    lease_s: float


class Historian(Protocol):
    """Who writes this edge's history."""

    @property
    def history(self) -> EdgeHistory:
        """What other edges shall know."""

    @property
    def heard(self) -> Mapping[str, int]:
        """What is known of other edges: the generation of each one's history."""

    def outrank(self, held: int, now_s: float) -> None:
        """The store holds this generation: the history's own shall be above it."""


class Publisher:
    """`content()` is asked at every beat; `remember(generation)` before a new one is spoken."""

    def __init__(
        self,
        speaker: Speaker,
        store: Store,
        events: EventLog,
        wills: Wills,
        historian: Historian,
        *,
        generation: int,
        content: Callable[[], Content],
        remember: Callable[[int], None],
    ) -> None:
        self._speaker = speaker
        self._store = store
        self._events = events
        self._wills = wills
        self._historian = historian
        self._history_told = 0  # its generation
        self._history_told_s = -inf  # monotonic
        self._content = content
        self._remember = remember
        self._kicked = asyncio.Event()
        self._speaking = asyncio.Lock()  # reports leave in the order of their numbers
        self._spoken: Essence | None = None
        self._sequence = 0
        self._lost = False
        self.generation = generation
        self.trouble = ""

    def kick(self) -> None:
        """Something changed: do not wait for the beat."""
        self._kicked.set()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._kicked.clear()
            await self.beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._speaker.beat_s):
                    await self._kicked.wait()

    async def beat(self) -> None:
        """Publish once, and write what waits; never raises for a lost store."""
        async with self._speaking:
            await self._beat()

    async def _beat(self) -> None:
        content = self._content()
        if content.essence != self._spoken:
            self._spoken = content.essence
            self._renumber(self.generation)
        self._sequence += 1
        try:
            await self._publish_history()
            await self._publish(content)
            await self._write_wills()
        except StoreUnavailable as error:
            self.trouble = str(error)
            if not self._lost:
                self._events.add("store.lost", reason=str(error))
            self._lost = True
        else:
            self.trouble = ""
            if self._lost:
                self._events.add("store.back")
            self._lost = False

    async def _publish(self, content: Content) -> None:
        """Above a report of ours that the store holds and we forgot, if there is one."""
        try:
            await self._store.publish(self._report(content))
        except StaleGeneration as stale:
            self._renumber(max(stale.held, self.generation))
            self._events.add("generation.jumped", held=str(stale.held), now=str(self.generation))
            with suppress(StaleGeneration):  # another writer of our name; the next beat tries again
                await self._store.publish(self._report(content))

    async def _publish_history(self) -> None:
        """What is new, and now and then what is not: a store may have been emptied."""
        history, now_s = self._historian.history, clock.monotonic_s()
        is_told = history.generation == self._history_told
        if not history.generation or (is_told and now_s - self._history_told_s < TELL_AGAIN_S):
            return
        try:
            await self._store.publish_history(history)
        except StaleGeneration as stale:  # the next beat tells it
            self._historian.outrank(stale.held, clock.unix_s())
            self._events.add("history.jumped", held=str(stale.held))
        else:
            self._history_told, self._history_told_s = history.generation, now_s

    async def _write_wills(self) -> None:
        for will in self._wills.unwritten:
            try:
                await self._store.put_override(will)
            except StaleGeneration as stale:
                self._events.add("drain.overruled", **{will.kind: will.name}, held=str(stale.held))
            self._wills.written(will)
            self._remember(self.generation)

    def _renumber(self, above: int) -> None:
        self.generation = next_generation(Generation(above), clock.unix_s())
        self._sequence = 0
        self._remember(self.generation)

    def _report(self, content: Content) -> EdgeReport:
        return EdgeReport(
            site=self._speaker.site,
            edge=self._speaker.edge,
            config_hash=content.config_hash,
            generation=self.generation,
            sequence=self._sequence,
            observed_at_s=clock.unix_s(),
            lease_s=self._speaker.lease_s,
            doubt=content.doubt,
            vips=content.vips,
            heard=dict(self._historian.heard),
        )
