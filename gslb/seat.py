"""The admin seat of the DNS server: a process of its own that shows, explains and reloads.

Owns the admin routes and the daemon's events. Forked by `gslb.supervisor`; queries never wait for
it, and its death stops no answer.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import uvloop

from gslb.fleet.host import fleet_path
from gslb.fleet.snapshot import Snapshot
from gslb.fleet.views import Done, Drops, Explanation, RealList, Status, VipList
from gslb.geo import Locator
from gslb.render import Rendered, compile_answers
from gslb.service import clock
from gslb.service.admin import AdminRefusal, AdminServer
from gslb.service.events import EventLog
from gslb.service.follow import FleetFollower
from gslb.service.lifecycle import ExitCode, Part, live
from gslb.service.metrics import CounterTable, Registry, Sample
from gslb.service.stores import open_store
from gslb.show import (
    asker,
    counter_rows,
    explain,
    real_list,
    site_rows,
    trouble,
    vip_list,
    vip_rows,
)
from gslb.worker import Duty, ParentWatch, load_checked_fleet


class News:
    """Hears of children from the supervisor's pipe and makes events of it; a Part."""

    def __init__(self, pipe: int, events: EventLog) -> None:
        self._pipe = pipe
        self._events = events
        self._rest = b""

    async def run(self) -> None:
        """Listen until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe, self._hear)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._pipe)

    def _hear(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._pipe, 65536)).split(b"\n")
        for line in lines:
            detail = msgspec.json.decode(line, type=dict[str, str])
            self._events.add(detail.pop("event"), **detail)


class Seat:
    """What the admin routes answer from."""

    def __init__(self, duty: Duty, counters: CounterTable, events: EventLog) -> None:
        self._duty = duty
        self._counters = counters
        self._events = events
        self._started_s = clock.monotonic_s()
        self._config_at_s = clock.unix_s()
        state = Path(duty.host.host.state_dir) / "dns-seat.json"
        self.store = open_store(duty.host.store)
        self.follower = FleetFollower(
            duty.fleet, self.store, state_path=state, on_snapshot=self._on_snapshot
        )
        self._shown = self.follower.snapshot
        self._table: Rendered = compile_answers(self._shown, Locator(duty.fleet))

    def serve_on(self, admin: AdminServer, registry: Registry) -> None:
        """Declare every route and metric of the DNS daemon."""
        admin.show("/status", self._status)
        admin.show("/vips", self._vips)
        admin.show("/reals", self._reals)
        admin.show("/drops", self._drops)
        admin.show("/explain", self._explain)
        admin.change("/reload", self._reload)
        registry.register(
            "dns_queries_total", "queries by what became of them", "counter", self._queries
        )
        registry.register("dns_generation", "generation of the answers", "gauge", self._generation)

    def reload(self) -> None:
        """Take the configuration from disk. Raises ConfigError and keeps the running one."""
        duty = self._duty
        fleet = load_checked_fleet(fleet_path(duty.config, duty.host.host))
        self._config_at_s = clock.unix_s()
        self.follower.replace_fleet(fleet)
        self._events.add("config.loaded", config_hash=fleet.config_hash)

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        before, self._shown = self._shown, snapshot
        locator = self._table.locator
        if snapshot.fleet is not before.fleet:
            locator = Locator(snapshot.fleet)
        self._table = compile_answers(snapshot, locator, self._table)
        for name, view in snapshot.vips.items():
            was = before.vips.get(name)
            if was is None or was.state is not view.state:
                old = was.state if was is not None else ""
                self._events.add(
                    "health.changed", vip=name, was=old, state=view.state, reason=view.reason
                )

    async def _status(self, _params: Mapping[str, str]) -> Status:
        snapshot, host = self.follower.snapshot, self._duty.host.host
        lines = trouble(snapshot, self.follower.store_trouble, self.follower.malformed)
        return Status(
            role="dns",
            host=host.name,
            site="",
            version=_version(),
            generation=snapshot.generation,
            config_hash=snapshot.fleet.config_hash,
            config_at_s=self._config_at_s,
            store=self.follower.store_trouble or "ok",
            uptime_s=clock.monotonic_s() - self._started_s,
            well=not lines,
            trouble=lines,
            vips=vip_rows(snapshot),
            sites=site_rows(snapshot, clock.monotonic_s()),
            counters=counter_rows(self._counters.totals()),
        )

    async def _vips(self, _params: Mapping[str, str]) -> VipList:
        return vip_list(self.follower.snapshot)

    async def _reals(self, _params: Mapping[str, str]) -> RealList:
        return real_list(self.follower.snapshot)

    async def _drops(self, _params: Mapping[str, str]) -> Drops:
        return Drops(counters=counter_rows(self._counters.totals()), unit="queries")

    async def _explain(self, params: Mapping[str, str]) -> Explanation:
        name, kind = params.get("name", ""), params.get("type", "A") or "A"
        if not name:
            raise AdminRefusal(ExitCode.USAGE, "name is missing: which name shall be explained?")
        try:
            client = asker(params.get("client") or "0.0.0.0")
            snapshot, rng = self.follower.snapshot, random.Random()
            return explain(name, kind, client, self._table, snapshot, rng)
        except ValueError as error:
            raise AdminRefusal(ExitCode.USAGE, str(error)) from None

    async def _reload(self, _params: Mapping[str, str]) -> Done:
        fleet = load_checked_fleet(fleet_path(self._duty.config, self._duty.host.host))
        os.kill(os.getppid(), signal.SIGHUP)  # the supervisor passes it on to every process
        return Done(message=f"configuration {fleet.config_hash} is good; every process loads it")

    def _queries(self) -> list[Sample]:
        return [({"outcome": name}, float(n)) for name, n in self._counters.totals().items()]

    def _generation(self) -> list[Sample]:
        return [({}, float(self.follower.snapshot.generation))]


def run_seat(duty: Duty, counters: CounterTable, news: int, lifeline: int) -> int:
    """Serve the admin socket until SIGTERM."""
    uvloop.run(_serve(duty, counters, news, lifeline))
    return 0


async def _serve(duty: Duty, counters: CounterTable, news: int, lifeline: int) -> None:
    events, registry = EventLog(), Registry()
    seat = Seat(duty, counters, events)
    admin = AdminServer(Path(duty.host.host.admin_socket), events, registry)
    seat.serve_on(admin, registry)
    events.add("dns.started", listen=" ".join(str(endpoint) for endpoint in duty.endpoints))
    parts: list[Part] = [seat.follower, admin, News(news, events), ParentWatch(lifeline)]
    await live(parts, reload=seat.reload)
    await seat.store.close()


def _version() -> str:
    try:
        return version("waypost")
    except PackageNotFoundError:
        return "source"
