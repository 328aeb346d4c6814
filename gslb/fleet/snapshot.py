"""What a daemon believes at one moment: reports and overrides merged into one immutable Snapshot.

Owns the merging rules (older generations refused, absence deletes nothing, leases frozen while the
store is away) and the order of belief: operator's drain > observation > lease > fail open.
Used by every daemon through `gslb.service.follow`. Pure: time is an argument, in monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gslb.fleet.health import EdgeReport, Override, OverrideKind, VipHealth, VipState
from gslb.fleet.history import EdgeHistory
from gslb.fleet.model import Fleet, Generation, RealName, Vip, VipName

ELIGIBLE = frozenset({VipState.UP, VipState.DEGRADED, VipState.UNKNOWN})
"""States of a VIP that may be answered. UNKNOWN may: a cold start answers (fail open)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldReport:
    """An edge's newest report and when its last beat was received (monotonic seconds)."""

    report: EdgeReport
    received_s: float

    def expired(self, now_s: float, *, beyond_s: float = 0.0) -> bool:
        """Whether the lease ended, `beyond_s` ago or longer."""
        return now_s - self.received_s > self.report.lease_s + beyond_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """All that is held of the store, by who said it. `refused` counts older generations."""

    reports: Mapping[str, HeldReport] = field(default_factory=dict)  # edge name ->
    overrides: Mapping[tuple[OverrideKind, str], Override] = field(default_factory=dict)
    histories: Mapping[str, EdgeHistory] = field(default_factory=dict)  # edge name ->
    refused: int = 0
    lost_s: float | None = None  # when the store was lost (monotonic), None while it is read

    def merge(
        self,
        reports: Iterable[EdgeReport],
        overrides: Iterable[Override],
        now_s: float,
        *,
        histories: Iterable[EdgeHistory] = (),
    ) -> Holdings:
        """Take what a store holds now. What it lacks is kept: absence deletes nothing."""
        held = dict(self.thawed(now_s).reports)
        refused = self.refused
        for report in reports:
            known = held.get(report.edge)
            if known is None:
                held[report.edge] = HeldReport(report=report, received_s=now_s)
            elif _rank(report) < _rank(known.report):
                refused += 1
            elif _rank(report) > _rank(known.report):
                held[report.edge] = HeldReport(report=report, received_s=now_s)
        wills = dict(self.overrides)
        for override in overrides:
            key = (override.kind, override.name)
            will = wills.get(key)
            if will is None or override.generation > will.generation:
                wills[key] = override
            elif override.generation < will.generation:
                refused += 1
        pasts = dict(self.histories)
        for history in histories:
            past = pasts.get(history.edge)
            if past is None or history.generation > past.generation:
                pasts[history.edge] = history
            elif history.generation < past.generation:
                refused += 1
        return Holdings(reports=held, overrides=wills, histories=pasts, refused=refused)

    def lost(self, now_s: float) -> Holdings:
        """The store cannot be read: leases stop running until it is back."""
        return self if self.lost_s is not None else replace(self, lost_s=now_s)

    def thawed(self, now_s: float) -> Holdings:
        """The store is back: every lease starts anew, for its edge may only now reach the store."""
        if self.lost_s is None:
            return self
        held = {
            edge: HeldReport(report=item.report, received_s=now_s)
            for edge, item in self.reports.items()
        }
        return replace(self, reports=held, lost_s=None)

    def drained(self, kind: OverrideKind, name: str) -> Override | None:
        """The operator's standing will to drain this, if any."""
        will = self.overrides.get((kind, name))
        return will if will is not None and will.drained else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VipView:
    """One VIP as answers see it, with the reason in words."""

    vip: Vip
    state: VipState
    eligible: bool
    reason: str
    packets_per_s: float
    reals_up: int
    reals_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The fleet's truth at one generation; the same records give an equal one everywhere."""

    fleet: Fleet
    generation: Generation
    vips: Mapping[VipName, VipView]
    holdings: Holdings
    store_ok: bool

    def same_answers(self, other: Snapshot) -> bool:
        """Whether both give the same answers, so that nothing needs to be rendered again."""
        return (
            self.fleet is other.fleet
            and self.generation == other.generation
            and {n: (v.state, v.eligible) for n, v in self.vips.items()}
            == {n: (v.state, v.eligible) for n, v in other.vips.items()}
        )

    def drained_real(self, name: RealName) -> Override | None:
        """The operator's standing will to drain this real, if any."""
        return self.holdings.drained(OverrideKind.REAL, name)


def resolve(fleet: Fleet, holdings: Holdings, now_s: float) -> Snapshot:
    """Judge every VIP of the fleet at `now_s`."""
    at_s = now_s if holdings.lost_s is None else holdings.lost_s
    views = {name: _view(vip, holdings, at_s) for name, vip in fleet.vips.items()}
    spoken = [item.report.generation for item in holdings.reports.values()]
    spoken += [will.generation for will in holdings.overrides.values()]
    return Snapshot(
        fleet=fleet,
        generation=Generation(max(spoken, default=0)),
        vips=views,
        holdings=holdings,
        store_ok=holdings.lost_s is None,
    )


def _rank(report: EdgeReport) -> tuple[int, int]:
    return (report.generation, report.sequence)


def _view(vip: Vip, holdings: Holdings, now_s: float) -> VipView:
    fresh: list[VipHealth] = []
    doubting: list[VipHealth] = []
    known = False
    for _, item in sorted(holdings.reports.items()):  # so that the order of arrival decides nothing
        for health in item.report.vips:
            if health.name != vip.name or item.report.site != vip.site:
                continue
            known = True
            if not item.expired(now_s):
                (doubting if item.report.doubt else fresh).append(health)
    state, reason = _quorum(fresh, doubting, known=known)
    for kind, name in ((OverrideKind.SITE, vip.site), (OverrideKind.VIP, vip.name)):
        will = holdings.drained(kind, name)
        if will is not None:
            state, reason = VipState.DRAINING, f"{kind} drained by {will.by}: {will.reason}"
    best = max(fresh or doubting, key=_reals_up, default=None)
    return VipView(
        vip=vip,
        state=state,
        eligible=state in ELIGIBLE,
        reason=reason,
        packets_per_s=sum(health.packets_per_s for health in fresh),
        reals_up=_reals_up(best) if best is not None else 0,
        reals_total=len(vip.reals),
    )


def _reals_up(health: VipHealth) -> int:
    return sum(1 for real in health.reals if real.state in {"UP", "SUSPECT"})


def _quorum(
    fresh: list[VipHealth], doubting: list[VipHealth], *, known: bool
) -> tuple[VipState, str]:
    """A VIP serves if at least half of its site's fresh edges say so; a tie is for serving."""
    if not fresh and doubting:
        return VipState.UNKNOWN, "every edge that reports doubts itself: all checks fail at once"
    if not fresh:
        if known:
            return VipState.STALE, "no edge's report is within its lease"
        return VipState.UNKNOWN, "no edge has reported yet"
    serving = [health for health in fresh if health.state in ELIGIBLE]
    if 2 * len(serving) < len(fresh):
        worst = next(health for health in fresh if health.state not in ELIGIBLE)
        return worst.state, f"{len(fresh) - len(serving)} of {len(fresh)} edges see {worst.state}"
    degraded = any(health.state is VipState.DEGRADED for health in serving)
    down = len(fresh) - len(serving)
    if degraded or down:
        return VipState.DEGRADED, f"{len(serving)} of {len(fresh)} edges serve it, not all reals up"
    return VipState.UP, f"{len(fresh)} of {len(fresh)} edges serve it"
