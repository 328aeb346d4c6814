"""Counts the flows that a real holds, again and again, and tells the edges by way of the store.

Owns the rounds, the real's report with its generation and sequence, and what is shown of both. A
Part of `edge_lb.real_agent`. What hinders the counting or the telling is said once and hinders
nothing else: without a fresh report edges keep the real in their owner chains.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from socket import AF_INET, AF_INET6

from edge_lb import socket_dump
from edge_lb.census import Census
from edge_lb.held import IP_PROTOCOLS
from edge_lb.namespaces import visited
from gslb.fleet.health import next_generation
from gslb.fleet.history import RealReport, VipFlows
from gslb.fleet.model import Fleet, Generation, Protocol, RealName, Vip
from gslb.fleet.store import StaleGeneration, Store, StoreUnavailable
from gslb.service import clock, log
from gslb.service.events import EventLog
from gslb.service.metrics import Registry, Sample

ROUND_S = 2.0  # from the start of one round to that of the next
SHARE_MAX = 0.1  # of one core, at most, for the rounds
TELL_S = 10.0  # a report without news is told again

_STATES = {Protocol.TCP: socket_dump.IN_FLIGHT, Protocol.UDP: socket_dump.ESTABLISHED}


class CensusTaker:
    """Counts for the VIPs that name one real in `fleet()`; without a `store` it tells nobody.

    Sockets in the network namespaces of these paths, where they are there, count too.
    """

    def __init__(
        self,
        real: RealName,
        fleet: Callable[[], Fleet],
        store: Store | None,
        events: EventLog,
        *,
        namespaces: Iterable[str] = (),
    ) -> None:
        self._real = real
        self._fleet = fleet
        self._store = store
        self._events = events
        self._namespaces = ("", *namespaces)  # our own first
        self._censuses = [Census(protocol) for protocol in Protocol]
        self._generation = next_generation(Generation(0), clock.unix_s())
        self._sequence = 0
        self._told: tuple[VipFlows, ...] | None = None
        self._told_s = 0.0
        self.flows: dict[str, VipFlows] = {}  # by VIP; empty while nothing is counted
        self.observed_at_s = 0.0
        self.round_s = 0.0  # that the last round took
        self.trouble = ""  # why flows are not counted
        self.store_trouble = ""

    @property
    def store_words(self) -> str:
        """The store, as the status tells it."""
        if self._store is None:
            return "not used: edges do not learn what flows are left here"
        return self.store_trouble or "ok"

    async def run(self) -> None:
        """Count and tell until cancelled."""
        while True:
            started_s = clock.monotonic_s()
            await self.round()
            spent_s = clock.monotonic_s() - started_s
            await asyncio.sleep(max(ROUND_S - spent_s, self.round_s / SHARE_MAX - spent_s, 0.0))

    async def round(self) -> None:
        """Count once, and tell what is news."""
        fleet = self._fleet()
        vips = tuple(vip for vip in fleet.vips.values() if self._real in vip.reals)
        try:
            counted = await asyncio.to_thread(self._count, vips)
        except OSError as error:
            text = error.strerror or str(error)
            if not self.trouble:
                log.get().warning("flows.not_counted", reason=text)
            self.trouble, self.flows = text, {}
            return
        self.trouble = ""
        self.flows = {flows.vip: flows for flows in counted}
        is_due = clock.monotonic_s() - self._told_s >= TELL_S
        if self._store is not None and (counted != self._told or is_due):
            await self._tell(self._store, fleet.reals[self._real].site, counted)

    def samples(self) -> Iterator[Sample]:
        """Flows by VIP, for the metrics."""
        for vip, flows in self.flows.items():
            yield {"vip": vip}, flows.flows

    def ages(self) -> Iterator[Sample]:
        """The age of each VIP's oldest flow, for the metrics."""
        now_s = clock.unix_s()
        for vip, flows in self.flows.items():
            yield {"vip": vip}, max(now_s - flows.oldest_s, 0.0) if flows.oldest_s else 0.0

    def _count(self, vips: tuple[Vip, ...]) -> tuple[VipFlows, ...]:
        """One round, in a thread: all live sockets, and of which VIPs they are."""
        started_s = time.thread_time()
        now_s = clock.unix_s()  # before the first look: what it tells is no older
        for census in self._censuses:
            census.watch(vips)
            if census.wants:
                number, states = IP_PROTOCOLS[census.protocol], _STATES[census.protocol]
                found: socket_dump.Sockets = {}
                for namespace in self._namespaces:
                    with visited(namespace) as is_there:
                        for family in (AF_INET, AF_INET6) if is_there else ():
                            found |= socket_dump.dump(family, number, states)
                census.take(found, now_s)
        counted = tuple(flows for census in self._censuses for flows in census.flows())
        self.observed_at_s, self.round_s = now_s, time.thread_time() - started_s
        return counted

    async def _tell(self, store: Store, site: str, counted: tuple[VipFlows, ...]) -> None:
        self._sequence += 1
        try:
            try:
                await store.publish_real(self._report(site, counted))
            except StaleGeneration as stale:
                # An earlier life of ours, under a clock that was ahead.
                above = Generation(max(stale.held, self._generation))
                self._generation = next_generation(above, clock.unix_s())
                self._events.add("generation.jumped", held=str(stale.held))
                with suppress(StaleGeneration):  # another agent of our name; the next beat tries
                    await store.publish_real(self._report(site, counted))
        except StoreUnavailable as error:
            if not self.store_trouble:
                self._events.add("store.lost", reason=str(error))
            self.store_trouble = str(error)
            return
        if self.store_trouble:
            self._events.add("store.back")
        self.store_trouble = ""
        self._told, self._told_s = counted, clock.monotonic_s()

    def _report(self, site: str, counted: tuple[VipFlows, ...]) -> RealReport:
        return RealReport(
            site=site,
            real=self._real,
            generation=self._generation,
            sequence=self._sequence,
            observed_at_s=self.observed_at_s,
            vips=counted,
        )


def register_census(registry: Registry, census: CensusTaker) -> None:
    """The metrics of what is counted."""
    registry.register("real_vip_flows", "flows that the real holds", "gauge", census.samples)
    registry.register(
        "real_vip_oldest_flow_seconds",
        "age of the oldest flow, at least: since the agent knows it",
        "gauge",
        census.ages,
    )
    registry.register(
        "real_census_seconds",
        "processor time of the last count of flows",
        "gauge",
        lambda: [({}, census.round_s)],
    )
    registry.register(
        "real_store_lost",
        "1 while the store cannot be written",
        "gauge",
        lambda: [({}, float(bool(census.store_trouble)))],
    )
