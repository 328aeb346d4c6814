"""The parent's admin routes and metrics: what operators see and change of the HTTPS service.

Owns the filling of the views from the parent's follower, its crew and the shared counters. Built
by `httpdns.__main__`; shows never change anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gslb.fleet.views import CounterRow, Done, Drops, RealList, Status, VipList
from gslb.service import clock
from gslb.service.admin import AdminServer
from gslb.service.follow import FleetFollower
from gslb.service.metrics import CounterTable, Registry, Sample
from gslb.show import real_list, site_rows, trouble, vip_list, vip_rows
from httpdns.certificates import days_left
from httpdns.crew import Crew
from httpdns.protocol import Outcome
from httpdns.settings import Settings
from httpdns.worker import version

EXPIRY_WARNING_DAYS = 14.0  # half of the last third of a 90-day certificate
_DNS = "dns_"


@dataclass(slots=True, kw_only=True)
class Seat:
    """All that an operator is shown. `settings` is swapped by a reload."""

    settings: Settings
    crew: Crew
    follower: FleetFollower
    counters: CounterTable
    started_s: float
    config_at_s: float

    def serve(self, admin: AdminServer, reload: Callable[[], None]) -> None:
        """Put the routes on the admin socket; `reload` raises ConfigError where it refuses."""

        async def change(_params: Mapping[str, str]) -> Done:
            reload()
            return Done(message=f"reloaded; config {self.settings.fleet.config_hash}")

        admin.show("/status", self._status)
        admin.show("/vips", self._vips)
        admin.show("/reals", self._reals)
        admin.show("/drops", self._drops)
        admin.change("/reload", change)

    def measure(self, registry: Registry) -> None:
        """Declare every metric of this daemon."""
        registry.register(
            "https_requests", "Requests by outcome.", "counter", self._request_samples
        )
        registry.register(
            "https_dns_messages", "DNS messages in /dns-query.", "counter", self._dns_samples
        )
        registry.register(
            "https_worker_restarts",
            "Workers that died.",
            "counter",
            lambda: _one(self.crew.restarts),
        )
        registry.register(
            "https_workers", "Workers that live.", "gauge", lambda: _one(self.crew.serving)
        )
        registry.register(
            "https_certificate_expiry_seconds",
            "When the certificate in use ends, in Unix seconds.",
            "gauge",
            lambda: _one(self.crew.pair.not_after_s),
        )
        registry.register(
            "https_generation",
            "The snapshot's generation.",
            "gauge",
            lambda: _one(self.follower.snapshot.generation),
        )
        registry.register(
            "https_store_ok",
            "Whether the store can be read.",
            "gauge",
            lambda: _one(not self.follower.store_trouble),
        )

    async def _status(self, _params: Mapping[str, str]) -> Status:
        snapshot = self.follower.snapshot
        found = trouble(snapshot, self.follower.store_trouble, self.follower.malformed)
        found += self._own_trouble()
        address = self.settings.address
        where = f"[{address}]" if ":" in address else address
        return Status(
            role="https",
            host=self.settings.host.name,
            site="",
            version=version(),
            generation=snapshot.generation,
            config_hash=snapshot.fleet.config_hash,
            config_at_s=self.config_at_s,
            store=self.follower.store_trouble or "ok",
            uptime_s=clock.monotonic_s() - self.started_s,
            well=not found,
            trouble=found,
            vips=vip_rows(snapshot),
            sites=site_rows(snapshot, clock.monotonic_s()),
            counters=self._rows(),
            datapath=f"https on {where}:{self.settings.port}, {self.crew.serving} workers",
        )

    def _own_trouble(self) -> tuple[str, ...]:
        lines: list[str] = []
        if self.crew.serving < self.settings.workers:
            lines.append(f"workers: {self.crew.serving} of {self.settings.workers} live")
        left = days_left(self.crew.pair)
        if left < EXPIRY_WARNING_DAYS:
            lines.append(f"certificate: {left:.1f} days left, for {self.crew.pair.subject}")
        return tuple(lines)

    async def _vips(self, _params: Mapping[str, str]) -> VipList:
        return vip_list(self.follower.snapshot)

    async def _reals(self, _params: Mapping[str, str]) -> RealList:
        return real_list(self.follower.snapshot)

    async def _drops(self, _params: Mapping[str, str]) -> Drops:
        return Drops(counters=self._rows(), unit="requests")

    def _rows(self) -> tuple[CounterRow, ...]:
        totals = self.counters.totals()
        return tuple(
            CounterRow(name=outcome.value, packets=totals[outcome.value], bytes=0)
            for outcome in Outcome
        )

    def _request_samples(self) -> Iterator[Sample]:
        for name, total in self.counters.totals().items():
            if not name.startswith(_DNS):
                yield {"outcome": name}, float(total)

    def _dns_samples(self) -> Iterator[Sample]:
        for name, total in self.counters.totals().items():
            if name.startswith(_DNS):
                yield {"outcome": name.removeprefix(_DNS)}, float(total)


def _one(number: float) -> list[Sample]:
    return [({}, float(number))]
