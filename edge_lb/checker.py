"""Checks every target for ever, each in a loop of its own with jitter, and hands on the results.

Owns the loops, their spacing and the bound on checks at once. A Part of the edge's agent; it never
judges. Targets can be replaced while it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random

import aiohttp

from edge_lb.checks import CheckResult, open_session, run_check
from edge_lb.judge import Target
from gslb.service import clock

AT_ONCE_MAX = 256  # checks in flight: sockets, and CPU stolen from the data plane
JITTER = 0.1  # each interval is stretched or shortened by up to this share
START_SPREAD_S = 0.2  # first checks are spread over this time: soon, but not all in one instant


class Checker:
    """`on_result(target, result)` hears of every check, in the event loop's thread.

    `mark_of` tells the mark that leads packets through the tunnel to a seat's real.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        on_result: Callable[[Target, CheckResult], None],
        rng: Random,
        mark_of: Callable[[int], int],
    ) -> None:
        self.passed = 0
        self.failed = 0
        self._wanted = frozenset(targets)
        self._changed = asyncio.Event()
        self._on_result = on_result
        self._rng = rng
        self._mark_of = mark_of
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)

    def retarget(self, targets: Iterable[Target]) -> None:
        """Check these from now on; loops of targets that stay are not disturbed."""
        wanted = frozenset(targets)
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        """Check until cancelled."""
        loops: dict[Target, asyncio.Task[None]] = {}
        async with open_session() as session, asyncio.TaskGroup() as group:
            while True:
                for target in set(loops) - self._wanted:
                    loops.pop(target).cancel()
                for target in self._wanted - set(loops):
                    loops[target] = group.create_task(self._watch(target, session))
                await self._changed.wait()
                self._changed.clear()

    async def _watch(self, target: Target, session: aiohttp.ClientSession) -> None:
        spread_s = min(START_SPREAD_S, target.check.interval_s)
        await asyncio.sleep(self._rng.uniform(0, spread_s))
        while True:
            started_s = clock.monotonic_s()
            async with self._slots:
                mark = self._mark_of(target.seat) if target.seat else 0
                result = await run_check(target.check, target.address, session, mark)
            self.passed += result.ok
            self.failed += not result.ok
            self._on_result(target, result)
            stretch = self._rng.uniform(1 - JITTER, 1 + JITTER)
            spent_s = clock.monotonic_s() - started_s
            await asyncio.sleep(max(0.0, target.check.interval_s * stretch - spent_s))
