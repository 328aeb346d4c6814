"""Notice of a planned change: who must know of it before a ring turns, and for how long it waits.

Owns when a drain, a weight, a new real or a step of a slow start is carried out. It is told in this
edge's history first, and comes when every other living edge of the site has it in its chains, so
that ECMP may move a young flow to any of them. Where flow memory remembers moved slots alone, it
has some seconds for that as well (JET, CoNEXT 2021). What died or left the fleet is waited for by
nobody. Asked by `edge_lb.planner`. Pure: time is an argument, in Unix seconds; leases are judged by
monotonic ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

from edge_lb.owners import MAY_FORWARD_S
from edge_lb.rings import Weights
from gslb.fleet.history import EdgeHistory
from gslb.fleet.snapshot import Holdings

NOTICE_S = 10.0  # a flow that sends nothing for so long may move with its slot
ACKNOWLEDGED_WITHIN_S = 30.0  # an edge that has not heard of a change by then is waited for no more

Ears = Mapping[str, int]
"""The generation of our history that each other living edge of the site has in its chains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A ring that is coming, since when that is told, and by which generation of our history."""

    weights: Weights
    since_s: float
    least_s: float = 0.0  # how long it stands, whoever has heard
    generation: int = 0  # 0: not written down yet

    def unheard(self, ears: Ears) -> tuple[str, ...]:
        """The edges that do not know of it."""
        if not self.generation:
            return tuple(sorted(ears))
        return tuple(sorted(edge for edge, heard in ears.items() if heard < self.generation))

    def due_s(self, ears: Ears) -> float:
        """When it comes, as far as is known now."""
        if self.unheard(ears):
            return self.since_s + max(self.least_s, ACKNOWLEDGED_WITHIN_S)
        return self.since_s + self.least_s

    def words(self, ears: Ears, now_s: float) -> str:
        """What it waits for."""
        unheard = self.unheard(ears)
        left_s = max(0.0, self.due_s(ears) - now_s)
        if unheard:
            return f"waits for {' and '.join(unheard)} to hear of it, {left_s:.0f} s at most"
        return f"comes in {left_s:.0f} s: until then flow memory enters the flows that would move"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heeded:
    """What a ring is made of now, what notice stands after that, and who did not hear in time."""

    weights: Weights
    notice: Notice | None = None
    unheard: tuple[str, ...] = ()


def heed(
    present: Weights | None,
    wanted: Weights,
    able: AbstractSet[str],
    notice: Notice | None,
    now_s: float,
    ears: Ears = MappingProxyType({}),
    *,
    least_s: float = 0.0,
) -> Heeded:
    """What becomes of a ring of `present` members (None: a new one) where `wanted` should be.

    `able` are the reals behind the VIP that are not dead: others leave at once, and take nothing
    that is planned with them. A notice that stands is carried out before another is given, so that
    steps that follow each other quickly do not wait for ever.
    """
    now = tuple((name, weight) for name, weight in present or () if name in able)
    if not now or not wanted:
        return Heeded(weights=wanted)
    unheard: tuple[str, ...] = ()
    if notice is not None and not _all(notice.weights, able):
        notice = None
    if notice is not None and now_s >= notice.due_s(ears):
        now, unheard, notice = notice.weights, notice.unheard(ears), None
    if notice is not None and wanted == now:  # taken back
        notice = None
    if notice is None and wanted != now:
        if not ears and not least_s:
            return Heeded(weights=wanted)
        notice = Notice(weights=wanted, since_s=now_s, least_s=least_s)
    return Heeded(weights=now, notice=notice, unheard=unheard)


def ears_of(holdings: Holdings, site: str, own: str, now_s: float) -> dict[str, int]:
    """Who else forwards at the site, and what it has heard of us. `now_s` is monotonic.

    A drained edge forwards still, and one that fell silent may: both count. While the store is away
    no lease ends.
    """
    at_s = now_s if holdings.lost_s is None else holdings.lost_s
    return {
        edge: held.report.heard.get(own, 0)
        for edge, held in holdings.reports.items()
        if edge != own
        and held.report.site == site
        and not held.expired(at_s, beyond_s=MAY_FORWARD_S)
    }


def understood(history: EdgeHistory, known: Mapping[str, AbstractSet[str]]) -> bool:
    """Whether all that is coming can be in our chains. `known`: the reals of each VIP here.

    A real that our configuration does not name yet could not.
    """
    return all(
        name in known[line.name]
        for line in history.vips
        if line.name in known
        for name, weight in line.coming.items()
        if weight
    )


def first_due_s(notices: Mapping[str, Notice], ears: Ears) -> float:
    """When the first of some notices comes, as far as is known now."""
    return min((notice.due_s(ears) for notice in notices.values()), default=inf)


def _all(weights: Weights, able: AbstractSet[str]) -> bool:
    return all(name in able for name, _ in weights)
