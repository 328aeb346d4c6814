"""Hears what reals say of the flows they hold, for the chains that wait for it.

Owns how often the store is asked. A Part of the edge's agent. It asks only while some slot has a
chain: reports of reals are large, and tell nothing to an edge whose slots never moved. A lost store
changes nothing: what was heard stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_lb.chaining import Words, words_of
from gslb.fleet.history import RealReport
from gslb.fleet.store import Store, StoreUnavailable

ASK_S = 5.0  # how late an entry may leave a chain after its real has lost its last flow


class Hearing:
    """`wanted()`: whether anything depends on it; `hear(words)`: what is said now."""

    def __init__(
        self,
        store: Store,
        site: str,
        *,
        wanted: Callable[[], bool],
        hear: Callable[[Words], None],
    ) -> None:
        self._store = store
        self._site = site
        self._wanted = wanted
        self._hear = hear

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(ASK_S)
            if self._wanted():
                await self.ask()

    async def ask(self) -> None:
        """Ask once; never raises for a lost store."""
        reports = await self.reports()
        if reports is not None:
            self._hear(words_of(reports))

    async def reports(self) -> tuple[RealReport, ...] | None:
        """What reals say now; None while the store is away."""
        try:
            return await self._store.real_reports(self._site)
        except StoreUnavailable:
            return None
