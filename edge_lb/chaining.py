"""The chains of a whole site: which VIPs have them, and what is known of the past and of flows.

Owns the choice of VIPs, and what is remembered from plan to plan, so that only what depends on a
change is computed anew. Used by `edge_lb.planner` and `edge_lb.forecast`; the rules of one chain
are `edge_lb.owners`. Never reads a clock: time is an argument, in Unix seconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from edge_lb.grace import Pair
from edge_lb.history import Present, Written, last_members, write_down
from edge_lb.owners import (
    IN_USE,
    MAY_FORWARD_S,
    NO_CHAINS,
    SETTLE_S,
    Chains,
    Era,
    Histories,
    Told,
    alive,
    chain,
    eras,
    lines_of,
)
from edge_lb.plan import CHAIN_OWNERS, Standings, dead_of
from edge_lb.rendezvous import Member
from edge_lb.rings import Rings, Weights, mark_of, weights_of
from edge_lb.seats import Seats, seat_name
from gslb.fleet.history import EdgeHistory, RealReport
from gslb.fleet.model import Encap, Fleet, FlowMemory, SiteName, Vip
from gslb.fleet.snapshot import Holdings

Words = Mapping[str, Mapping[str, Told]]  # VIP name -> real name ->


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a site's chains are computed from. `silent`: edges that are gone, since when."""

    histories: Histories = field(default_factory=dict)
    silent: Mapping[str, float] = field(default_factory=dict)
    words: Words = field(default_factory=dict)

    def eras(self) -> dict[str, tuple[Era, ...]]:
        """Every set of members of each VIP, by `edge_lb.owners.eras`."""
        lines = lines_of(self.histories, self.silent)
        return {vip: eras(told) for vip, told in lines.items()}

    def used(self) -> frozenset[str]:
        """The reals that a living edge's rings are made of now: they get new flows."""
        return frozenset(
            real
            for edge, history in self.histories.items()
            if edge not in self.silent
            for line in history.vips
            for real in last_members(line)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VipNow:
    """One VIP as it is planned: the members of its ring, which of its reals are dead, its seats.

    `grace` tells of dead ones until when they stay candidates, behind all others. `weights` are the
    members' own; `coming` are the sets of members that its ring is expected to be made of later;
    `told` is the one that its next planned turn makes it of, for other edges.
    """

    vip: Vip
    members: tuple[Member, ...]
    weights: Weights
    down: frozenset[str]
    grace: Mapping[str, float]
    coming: tuple[Weights, ...]
    all_seats: Seats
    told: Weights | None = None

    def with_members(self, weights: Weights) -> VipNow:
        """With these members, all of them behind the VIP."""
        seats = self.seats
        members = tuple(Member(name=n, weight=w, index=seats[n]) for n, w in weights)
        return self if weights == self.weights else replace(self, members=members, weights=weights)

    def telling(self, weights: Weights) -> VipNow:
        """With the set of members that is coming next."""
        return replace(self, told=weights)

    @property
    def seats(self) -> dict[str, int]:
        """The indexes of its reals."""
        pairs = ((name, seat_name(self.vip.name, name)) for name in self.vip.reals)
        return {name: self.all_seats.reals[pair].index for name, pair in pairs}


def chained_vips(
    fleet: Fleet,
    site: SiteName,
    seats: Seats,
    standings: Standings,
    members: Mapping[str, tuple[Member, ...]],
    in_grace: Mapping[Pair, float] = MappingProxyType({}),
) -> dict[str, VipNow]:
    """The VIPs of a site that keep chains, as they would be planned with these `members`."""
    return {
        vip.name: VipNow(
            vip=vip,
            members=members[vip.name],
            weights=tuple(sorted((one.name, one.weight) for one in members[vip.name])),
            down=dead_of(vip, standings),
            grace={
                name: in_grace[vip.name, name] for name in vip.reals if (vip.name, name) in in_grace
            },
            coming=(_configured(fleet, vip),) if vip.flow_memory is FlowMemory.MOVED else (),
            all_seats=seats,
        )
        for vip in fleet.vips_of_site(site)
        if _is_chained(fleet, vip)
    }


class Chaining:
    """Computes chains; those of the last plan are kept while nothing they depend on changes."""

    def __init__(self, rings: Rings) -> None:
        self._rings = rings
        self._known: dict[str, tuple[object, Chains]] = {}

    def chains(
        self, eras_of: Mapping[str, tuple[Era, ...]], words: Words, now: VipNow, now_s: float
    ) -> Chains:
        """The chains of one VIP."""
        vip, told = now.vip, words.get(now.vip.name, {})
        past = candidates(eras_of.get(vip.name, ()), now, now_s)
        if not past:
            self._known.pop(vip.name, None)
            return NO_CHAINS
        settled_s = sorted(era.lost_at_s + SETTLE_S for era in past)
        over = has_lost(past)
        heard = tuple(
            (name, eras_over, word.flows.slots)
            for name, word in told.items()
            if (eras_over := bisect_right(settled_s, word.observed_at_s))
            or (over and word.flows.flows)
        )
        depth, age_s = vip.owner_chain, vip.connection_age_s
        key = (now.members, past, now.seats, now.down, now.grace, heard, depth, age_s)
        known = self._known.get(vip.name)
        if known is not None and known[0] == key:
            return known[1]
        made = widened(now, past, told, self._rings)
        if made.slots is None and _may_be_wrong(vip):
            made = _bare(now, past, self._rings)
        if known is not None and known[1].slots == made.slots:  # the very array: no map is written
            made = Chains(slots=known[1].slots, ends=made.ends)
        self._known[vip.name] = (key, made)
        return made


def candidates(past: tuple[Era, ...], now: VipNow, now_s: float) -> tuple[Era, ...]:
    """The eras that a VIP's chains are made of.

    Those that are expected count too: their slots will move.
    """
    kept = alive(past, now.weights, now_s=now_s, age_s=now.vip.connection_age_s)
    known = {mark_of(now.weights), *(era.mark for era in kept)}
    coming = (Era.of(weights) for weights in now.coming)
    return (*kept, *(era for era in coming if era.mark not in known))


def has_lost(past: tuple[Era, ...]) -> bool:
    """Whether some of these eras are over: then it matters what their reals still hold."""
    return any(era.lost_at_s < IN_USE for era in past)


def widened(
    now: VipNow, past: tuple[Era, ...], told: Mapping[str, Told], rings: Rings, *, spare: int = 0
) -> Chains:
    """The chains of one VIP from chosen eras; `spare` owners a slot more than it may have."""
    return chain(
        rings.ring(now.members),
        past,
        now.seats,
        depth=depth_of(now.vip) + spare,
        age_s=now.vip.connection_age_s,
        rings=rings,
        down=now.down,
        grace=now.grace,
        told=told,
        width=CHAIN_OWNERS + spare,
    )


def depth_of(vip: Vip) -> int:
    """How many earlier owners a slot has; without a chain in packets, one marks that it moved."""
    return vip.owner_chain or 1


def _may_be_wrong(vip: Vip) -> bool:
    """Whether flow memory may name another real than a flow's, and the chain has to mend that.

    It names who was asked first. When the flow's own real has its slots again, and who stood in for
    it holds no flow there, no slot has an earlier owner; but packets still go to the stand-in.
    """
    return vip.owner_chain > 0 and vip.flow_memory is FlowMemory.ALL


def _bare(now: VipNow, past: tuple[Era, ...], rings: Rings) -> Chains:
    """A wide ring without an earlier owner, until age has ended every era: then memory is right."""
    end_s = max(era.lost_at_s for era in past) + now.vip.connection_age_s
    slots = unchained(rings.ring(now.members), CHAIN_OWNERS)
    return Chains(slots=slots, ends=((end_s, 0),) if end_s < IN_USE else ())


def _configured(fleet: Fleet, vip: Vip) -> Weights:
    """What a VIP's ring is made of when all its reals serve."""
    return weights_of({name: fleet.reals[name].weight for name in vip.reals})


def _is_chained(fleet: Fleet, vip: Vip) -> bool:
    """Whether packets may carry the VIP's chains, or its flow memory asks which slots moved."""
    if vip.flow_memory is FlowMemory.MOVED:
        return True
    reals = (fleet.reals[name] for name in vip.reals)
    return vip.owner_chain > 0 and any(vip.encap_of(real) is Encap.GUE for real in reals)


def silent_edges(
    histories: Mapping[str, EdgeHistory], holdings: Holdings, own: str, now_s: float
) -> dict[str, float]:
    """Edges that are gone, with the moment. `now_s` is monotonic, as in `holdings`.

    An edge is gone MAY_FORWARD_S after its report's lease; while the store is away no lease ends.
    An edge that never reported spoke last when it wrote.
    """
    at_s = now_s if holdings.lost_s is None else holdings.lost_s
    silent: dict[str, float] = {}
    for edge, history in histories.items():
        held = holdings.reports.get(edge)
        if edge == own:
            continue
        if held is None:
            silent[edge] = history.generation / 1000
        elif held.expired(at_s, beyond_s=MAY_FORWARD_S):
            silent[edge] = held.report.observed_at_s + held.report.lease_s + MAY_FORWARD_S
    return silent


def words_of(reports: tuple[RealReport, ...]) -> dict[str, dict[str, Told]]:
    """What reals say of their flows, by VIP."""
    words: dict[str, dict[str, Told]] = {}
    for report in reports:
        for flows in report.vips:
            told = Told(observed_at_s=report.observed_at_s, flows=flows)
            words.setdefault(flows.vip, {})[report.real] = told
    return words


def with_turn(past: Past, own: EdgeHistory, nows: Mapping[str, VipNow], now_s: float) -> Past:
    """The past as it will be once these VIPs have the rings that they are planned with."""
    written = written_down(own, nows, now_s).history
    return replace(past, histories={**past.histories, written.edge: written})


def written_down(own: EdgeHistory, nows: Mapping[str, VipNow], now_s: float) -> Written:
    """This edge's time line with these rings in it."""
    present = {
        name: Present(weights=now.weights, age_s=now.vip.connection_age_s, coming=now.told)
        for name, now in nows.items()
    }
    return write_down(own, present, now_s)


def unchained(ring: array[int], width: int) -> array[int]:
    """A ring as chains without an earlier owner: for comparing."""
    chains = array("H", [0]) * (width * len(ring))
    chains[::width] = ring
    return chains
