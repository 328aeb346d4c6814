"""What the reals of a site say of the flows that they hold, read from the store.

Owns the newest report of each real, whether it is fresh, and since when a real is quiet. A Part of
the edge's agent. It asks only while somebody wants to know: reports are large, and tell nothing to
an edge whose slots never moved and whose reals nobody drains. A lost store is told by
`edge_lb.publish`; here what was heard last stays, and grows old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_lb.maglev import RING_SLOTS
from gslb.fleet.history import RealReport, VipFlows, unpack_slots
from gslb.fleet.store import Store, StoreUnavailable
from gslb.service import clock

WATCHED_S = 2.0  # between two looks while a drain stands
CHAINED_S = 5.0  # how late an entry may leave a chain after its real has lost its last flow
IDLE_S = 1.0  # how late it is noticed that somebody wants to know
SILENT_S = 30.0  # a real tells every ten seconds at least: one that said nothing so long is silent


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFlows:
    """A real's newest report; `received_s` is monotonic, `quiet_since_s` Unix time."""

    report: RealReport
    received_s: float
    quiet_since_s: float | None  # None while there are flows

    def of(self, vip: str) -> VipFlows | None:
        """What it says of one VIP."""
        return next((flows for flows in self.report.vips if flows.vip == vip), None)

    @property
    def flows(self) -> int:
        """Over all VIPs."""
        return sum(vip.flows for vip in self.report.vips)

    @property
    def oldest_s(self) -> float | None:
        """Since when the oldest flow is known; None without one."""
        known = [vip.oldest_s for vip in self.report.vips if vip.oldest_s is not None]
        return min(known, default=None)


class RealFlows:
    """Asks every `pace()` seconds, and not while that is None; `hear` takes what is held then."""

    def __init__(
        self,
        store: Store,
        site: str,
        *,
        pace: Callable[[], float | None],
        hear: Callable[[tuple[RealReport, ...]], None],
    ) -> None:
        self._store = store
        self._site = site
        self._pace = pace
        self._hear = hear
        self._held: dict[str, HeldFlows] = {}
        self._sound: dict[tuple[str, str], bytes] = {}  # slots of a VIP that were looked at
        self.malformed = 0  # reports that the last look left out

    @property
    def reports(self) -> tuple[RealReport, ...]:
        """The newest of each real, however old: what it counted then stays counted."""
        return tuple(held.report for held in self._held.values())

    def fresh(self, real: str, now_s: float) -> HeldFlows | None:
        """What a real says at this moment (monotonic); None if it is silent."""
        held = self._held.get(real)
        return held if held is not None and now_s - held.received_s <= SILENT_S else None

    async def run(self) -> None:
        """Look while it is wanted, until cancelled."""
        while True:
            pace_s = self._pace()
            if pace_s is not None:
                await self.look()
            await asyncio.sleep(pace_s or IDLE_S)

    async def look(self) -> None:
        """Read the store once; never raises for a lost one."""
        try:
            reports = await self._store.real_reports(self._site)
        except StoreUnavailable:
            return
        unsound = await asyncio.to_thread(self._unsound, reports)
        self.malformed = self._store.malformed_reals + len(unsound)
        now_s, unix_s = clock.monotonic_s(), clock.unix_s()
        for report in reports:
            if report.real not in unsound:
                self._take(report, now_s, unix_s)
        self._hear(self.reports)

    def _take(self, report: RealReport, now_s: float, unix_s: float) -> None:
        """Hold a report if it is newer than the held one."""
        known = self._held.get(report.real)
        if known is not None and _rank(report) <= _rank(known.report):
            return
        is_old = known is None and abs(unix_s - report.observed_at_s) > SILENT_S
        quiet_since_s = None
        if not any(vip.flows for vip in report.vips):
            quiet_since_s = (known and known.quiet_since_s) or report.observed_at_s
        self._held[report.real] = HeldFlows(
            report=report,
            received_s=now_s - SILENT_S - 1 if is_old else now_s,
            quiet_since_s=quiet_since_s,
        )

    def _unsound(self, reports: Iterable[RealReport]) -> set[str]:
        """The reals of whose reports some slots cannot be read; each is looked at once."""
        unsound: set[str] = set()
        for report in reports:
            for vip in report.vips:
                if self._sound.get((report.real, vip.vip)) == vip.slots:
                    continue
                try:
                    unpack_slots(vip.slots, RING_SLOTS)
                except ValueError:
                    unsound.add(report.real)
                else:
                    self._sound[report.real, vip.vip] = vip.slots
        return unsound


def _rank(report: RealReport) -> tuple[int, int]:
    return report.generation, report.sequence
