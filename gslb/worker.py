"""One worker process of the DNS server: its own sockets, its own view of the fleet.

Owns what a worker is made of and how it reloads. Started by `gslb.supervisor` through fork; knows
nothing of its siblings, and shares only the counters' memory with them.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import uvloop

from gslb.answer import Answerer
from gslb.fleet.config import ConfigError, load_fleet
from gslb.fleet.host import DnsHost, fleet_path
from gslb.fleet.model import Fleet
from gslb.fleet.snapshot import Snapshot
from gslb.geo import Locator
from gslb.query import OUTCOMES
from gslb.render import compile_answers
from gslb.server import Endpoint, UdpListener, bind
from gslb.service import log
from gslb.service.follow import FleetFollower
from gslb.service.lifecycle import Part, live
from gslb.service.metrics import CounterRow
from gslb.service.stores import open_store
from gslb.tcp import TcpLimits, TcpListener
from gslb.zone import zone_faults

UNSENT, TCP_REFUSED = len(OUTCOMES), len(OUTCOMES) + 1
COUNTERS = (*(outcome.value for outcome in OUTCOMES), "unsent", "tcp_refused")
"""The names of a worker's counters: what became of each query, then what befell the sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What every process of one DNS server is started with."""

    config: Path
    host: DnsHost
    fleet: Fleet
    endpoints: tuple[Endpoint, ...]


def load_checked_fleet(path: Path) -> Fleet:
    """The fleet with zones that can be served. Raises ConfigError with every fault."""
    fleet = load_fleet(path)
    faults = zone_faults(fleet)
    if faults:
        raise ConfigError(faults)
    return fleet


class ParentWatch:
    """Takes signals up once they are handled, and ends this process when its parent dies; a Part.

    The parent holds the pipe's other end open for life; signals were blocked since the fork.
    """

    def __init__(self, lifeline: int) -> None:
        self._lifeline = lifeline

    async def run(self) -> None:
        """Watch until cancelled."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        loop = asyncio.get_running_loop()
        loop.add_reader(self._lifeline, os.kill, os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._lifeline)


def run_worker(duty: Duty, number: int, row: CounterRow, lifeline: int) -> int:
    """Serve as worker `number` until SIGTERM. Raises Refused or ConfigError before serving."""
    uvloop.run(_serve(duty, number, row, lifeline))
    return 0


async def _serve(duty: Duty, number: int, row: CounterRow, lifeline: int) -> None:
    dns, log_ = duty.host.dns, log.get().bind(worker=number)
    rng = random.Random()
    locator = Locator(duty.fleet)

    def on_snapshot(snapshot: Snapshot) -> None:
        nonlocal locator
        before = answerer.table
        if snapshot.fleet is not before.fleet:
            locator = Locator(snapshot.fleet)
        answerer.install(compile_answers(snapshot, locator, before))
        log_.debug("answers.rendered", generation=snapshot.generation)

    state = Path(duty.host.host.state_dir) / f"dns-worker-{number}.json"
    store = open_store(duty.host.store)
    follower = FleetFollower(duty.fleet, store, state_path=state, on_snapshot=on_snapshot)
    answerer = Answerer(
        compile_answers(follower.snapshot, locator),
        udp_payload_max=dns.udp_payload_max,
        nsid=dns.nsid,
        count=row.add,
    )
    limits = TcpLimits(idle_s=dns.tcp_idle_s, connections_max=dns.tcp_connections_max)
    parts: list[Part] = [follower, ParentWatch(lifeline)]
    tcp: list[TcpListener] = []
    for endpoint in duty.endpoints:
        datagrams = bind(endpoint, socket.SOCK_DGRAM, shared=True)
        parts.append(
            UdpListener(datagrams, endpoint, answerer, rng, unsent=lambda: row.add(UNSENT))
        )
        streams = bind(endpoint, socket.SOCK_STREAM, shared=True)
        tcp.append(
            TcpListener(streams, answerer, rng, limits, refused=lambda: row.add(TCP_REFUSED))
        )

    def reload() -> None:
        follower.replace_fleet(load_checked_fleet(fleet_path(duty.config, duty.host.host)))

    async def drain() -> None:
        for listener in tcp:
            await listener.drain()

    await live([*parts, *tcp], reload=reload, drain=drain)
    await store.close()
