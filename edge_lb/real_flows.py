"""What the reals of a site say of the flows that they hold, read from the store.

Owns the newest report of each real, whether it is fresh, and since when a drained real is quiet.
Health checks go on there, so quiet is not empty: no flow of before the drain is left. A Part of the
edge's agent. It asks only while somebody wants to know: reports are large, and tell nothing to
an edge whose slots never moved and whose reals nobody drains. A lost store is told by
`edge_lb.publish`; here what was heard last stays, and grows old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from edge_lb.rendezvous import RING_SLOTS
from gslb.fleet.health import Override
from gslb.fleet.history import RealReport, VipFlows, unpack_slots
from gslb.fleet.model import RealName
from gslb.fleet.store import Store, StoreUnavailable
from gslb.service import clock
from gslb.service.events import EventLog

WATCHED_S = 2.0  # between two looks while a drain stands
CHAINED_S = 5.0  # how late an entry may leave a chain after its real has lost its last flow
IDLE_S = 1.0  # how late it is noticed that somebody wants to know
HEARD_S = 2.0  # until every edge follows a drain, and the flows that were begun are seen
YOUNG_S = 60.0  # a flow that is first counted so long after a drain was not there before it
SILENT_S = 30.0  # a real tells every ten seconds at least: one that said nothing so long is silent


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFlows:
    """A real's newest report, and when it came (monotonic)."""

    report: RealReport
    received_s: float

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

    def is_counted(self, at_s: float) -> bool:
        """Whether this was counted after a drain of that moment took effect."""
        return self.report.observed_at_s >= at_s + HEARD_S

    def is_quiet(self, at_s: float) -> bool:
        """Whether no flow of before that moment is left. Ages are known of the agent's own life."""
        if not self.is_counted(at_s):
            return False
        if self.oldest_s is None:
            return True
        began_s = self.report.generation / 1000
        return began_s < at_s and self.oldest_s > at_s + YOUNG_S


class RealFlows:
    """Asks while there are `drained()` reals or `is_chained()`; `hear` takes what is held then.

    `used()` are reals that get new flows at some edge: a drain takes effect when it is heard of.
    """

    def __init__(
        self,
        store: Store,
        site: str,
        events: EventLog,
        *,
        drained: Callable[[], Mapping[RealName, Override]],
        is_chained: Callable[[], bool],
        used: Callable[[], Collection[str]],
        hear: Callable[[tuple[RealReport, ...]], None],
    ) -> None:
        self._store = store
        self._site = site
        self._events = events
        self._drained = drained
        self._is_chained = is_chained
        self._used = used
        self._used_s: dict[str, float] = {}  # when a drained real was last seen to be (Unix time)
        self._hear = hear
        self._held: dict[str, HeldFlows] = {}
        self._quiet: dict[tuple[str, int], float] = {}  # by real and the will's generation
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

    def effective_s(self, will: Override) -> float:
        """Since when a drained real gets no new flow, as far as was seen (Unix time)."""
        return max(will.at_s, self._used_s.get(will.name, 0.0))

    def quiet_since(self, will: Override) -> float | None:
        """Since when nothing is left of what was there before the drain (Unix time)."""
        return self._quiet.get((will.name, will.generation))

    async def run(self) -> None:
        """Look while it is wanted, until cancelled."""
        while True:
            pace_s = IDLE_S
            if self._drained():
                pace_s = WATCHED_S
                await self.look()
            elif self._is_chained():
                pace_s = CHAINED_S
                await self.look()
            await asyncio.sleep(pace_s)

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
        drained, used = self._drained(), self._used()
        self._used_s |= dict.fromkeys((name for name in drained if name in used), unix_s)
        quiet: dict[tuple[str, int], float] = {
            (name, will.generation): since_s
            for name, will in drained.items()
            if (since_s := self._since(name, will)) is not None
        }
        for name, _ in quiet.keys() - self._quiet.keys():
            self._events.add("real.quiet", real=name)
        self._quiet = quiet
        self._hear(self.reports)

    def _take(self, report: RealReport, now_s: float, unix_s: float) -> None:
        """Hold a report if it is newer than the held one."""
        known = self._held.get(report.real)
        if known is not None and _rank(report) <= _rank(known.report):
            return
        is_old = known is None and abs(unix_s - report.observed_at_s) > SILENT_S
        self._held[report.real] = HeldFlows(
            report=report,
            received_s=now_s - SILENT_S - 1 if is_old else now_s,
        )

    def _since(self, name: str, will: Override) -> float | None:
        """Once quiet, a drained real stays so: no old flow comes back to it."""
        known_s, held = self.quiet_since(will), self._held.get(name)
        if known_s is not None or held is None:
            return known_s
        return held.report.observed_at_s if held.is_quiet(self.effective_s(will)) else None

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
