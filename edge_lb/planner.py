"""From what an edge believes to its next plan: members, slow starts, notices, history, chains.

Owns what a plan leaves behind for the next one: this edge's time line, since when each real
serves, and what reals said of their flows. Asked by `edge_lb.agent`, which applies a draft and then
keeps it: a plan that the maps refused is no turn of the history. Reads no clock but by argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from math import inf
from types import MappingProxyType

import msgspec

from edge_lb.chaining import (
    Chaining,
    Past,
    VipNow,
    Words,
    candidates,
    chained_vips,
    has_lost,
    silent_edges,
    written_down,
)
from edge_lb.grace import Pair, graces
from edge_lb.history import Written, last_members, unwritten
from edge_lb.notice import NOTICE_S, Ears, Notice, ears_of, first_due_s, heed, understood
from edge_lb.owners import Chains, Era, generation, join
from edge_lb.plan import NextHop, Plan, Standings, VlanDevice, build_plan, members_of, site_members
from edge_lb.rendezvous import Member
from edge_lb.rings import Rings, weights_of
from edge_lb.seats import Seats, seat_name
from edge_lb.slow_start import next_step_s, ramped, serving_since
from gslb.fleet.health import next_generation
from gslb.fleet.history import EdgeHistory
from gslb.fleet.model import Address, Fleet, FlowMemory, Generation, RealName, SiteName
from gslb.fleet.snapshot import Holdings


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Who plans, and the parts of its plans that do not change while it runs."""

    site: SiteName
    edge: str
    tunnel_source: IPv4Address
    tunnel_source_v6: IPv6Address | None
    mtu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a plan is made for: the configuration, and what the edge believes and sees.

    `since` (Unix time) tells how long pairs stand as they do.
    """

    fleet: Fleet
    seats: Seats
    standings: Standings
    drained: frozenset[RealName]
    holdings: Holdings
    since: Mapping[Pair, float] = field(default_factory=dict)
    next_hops: Mapping[Address, NextHop] = field(default_factory=dict)
    vlans: tuple[VlanDevice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Both clocks: Unix time for what others read, monotonic for leases."""

    unix_s: float
    monotonic_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A plan, and what is kept once the maps say it. At `due_s` (Unix) it is to be made anew."""

    plan: Plan
    written: Written
    since: Mapping[str, float]
    weights: Mapping[str, int]  # of reals in their slow start, by `seat_name`
    drained: frozenset[RealName]
    past: Past
    chains: Mapping[str, Chains]
    waiting: frozenset[str]  # VIPs with owners that lost slots not long ago
    notices: Mapping[str, Notice]
    unheard: Mapping[str, tuple[str, ...]]  # VIPs that turn though these edges did not hear of it
    heard: Mapping[str, int]  # of each other edge's history, the generation that is in the chains
    due_s: float


class Planner:
    """Drafts plans. `history` and `since` are of the last draft that was kept, or of a file."""

    def __init__(self, ways: Ways, history: EdgeHistory | None, since: Mapping[str, float]) -> None:
        self._ways = ways
        self._rings = Rings()
        self._chaining = Chaining(self._rings)
        self._eras: tuple[object, dict[str, tuple[Era, ...]]] = (None, {})
        self._words: Words = MappingProxyType({})
        self._kept: Draft | None = None
        self.history = history or unwritten(ways.site, ways.edge)
        self.since = dict(since)
        self.forgotten = 0
        self.unheard = 0

    @property
    def past(self) -> Past:
        """What the kept draft's chains were computed from."""
        return self._kept.past if self._kept is not None else Past()

    @property
    def weights(self) -> Mapping[str, int]:
        """What reals in their slow start weigh now, by `seat_name`."""
        return self._kept.weights if self._kept is not None else {}

    @property
    def ending(self) -> dict[str, int]:
        """How many entries of each VIP's chains age will end."""
        chains = self._kept.chains if self._kept is not None else {}
        return {vip: sum(entries for _, entries in made.ends) for vip, made in chains.items()}

    @property
    def has_chains(self) -> bool:
        """Whether any VIP's ring is a wide one."""
        chains = self._kept.chains.values() if self._kept is not None else ()
        return any(made.slots is not None for made in chains)

    @property
    def notices(self) -> Mapping[str, Notice]:
        """The planned changes that are told and not made yet, by VIP."""
        return self._kept.notices if self._kept is not None else {}

    @property
    def heard(self) -> Mapping[str, int]:
        """The generation of each other edge's history that the maps reflect."""
        return self._kept.heard if self._kept is not None else {}

    def draft(self, scene: Scene, at: Moment, *, report: int) -> Draft:
        """The next plan, which tells the generation of this edge's `report`."""
        since = serving_since(self.since, self._starting(scene), at.unix_s)
        weights, step_s = self._ramps(scene, since, at.unix_s)
        members = self._members(scene, weights)
        own = self._own(scene.holdings)
        in_grace = graces(scene.fleet, self._ways.site, scene.standings, scene.since, at.unix_s)
        ears = self.ears(scene.holdings, at)
        chained = chained_vips(
            scene.fleet, self._ways.site, scene.seats, scene.standings, members, in_grace
        )
        nows, notices, unheard = self._heed(chained, own, ears, at.unix_s)
        members |= {name: now.members for name, now in nows.items()}
        written = written_down(own, nows, at.unix_s)
        notices = _numbered(notices, written.history)
        past = self._past(written.history, scene.holdings, at)
        eras_of = self._eras_of(past)
        chains = {
            name: self._chaining.chains(eras_of, past.words, now, at.unix_s)
            for name, now in nows.items()
        }
        plan = build_plan(
            scene.fleet,
            self._ways.site,
            scene.seats,
            scene.standings,
            scene.drained,
            generation=report,
            tunnel_source=self._ways.tunnel_source,
            mtu=self._ways.mtu,
            rings=self._rings,
            tunnel_source_v6=self._ways.tunnel_source_v6,
            next_hops=scene.next_hops,
            vlans=scene.vlans,
            members=members,
            chains={name: made.slots for name, made in chains.items() if made.slots is not None},
            history_generation=generation(past.histories),
            in_grace=in_grace,
        )
        return Draft(
            plan=plan,
            written=written,
            since=since,
            weights=weights,
            drained=scene.drained,
            past=past,
            chains=chains,
            waiting=frozenset(
                name
                for name, now in nows.items()
                if has_lost(candidates(eras_of.get(name, ()), now, at.unix_s))
            ),
            notices=notices,
            unheard=unheard,
            heard=self._hearing(past, chained),
            due_s=min(
                [
                    step_s,
                    *in_grace.values(),
                    first_due_s(notices, ears),
                    *(made.expires_at_s for made in chains.values()),
                ]
            ),
        )

    def keep(self, draft: Draft) -> None:
        """The maps say what was drafted: what it wrote down has happened."""
        self._kept = draft
        self.history = draft.written.history
        self.since = dict(draft.since)
        self.forgotten += sum(draft.written.forgotten.values())
        self.unheard += len(draft.unheard)

    def hear(self, words: Words) -> bool:
        """Take what reals say of their flows; whether a chain may depend on it."""
        waiting = self._kept.waiting if self._kept is not None else ()
        heard = {vip: words[vip] for vip in waiting if vip in words}
        changed = heard != self._words
        self._words = heard
        return changed

    def is_stale(self, holdings: Holdings, at: Moment) -> bool:
        """Whether another plan is due: for a step, an entry that ended, an edge that went.

        Or because all have heard of a change that waits for that.
        """
        if self._kept is None:
            return False
        if self.history.generation != self._kept.written.history.generation:
            return True
        past = self._kept.past
        silent = silent_edges(past.histories, holdings, self._ways.edge, at.monotonic_s)
        due_s = min(self._kept.due_s, first_due_s(self.notices, self.ears(holdings, at)))
        return at.unix_s >= due_s or silent != past.silent

    def ears(self, holdings: Holdings, at: Moment) -> Ears:
        """Who else lives at the site, and what it has heard of this edge's history."""
        return ears_of(holdings, self._ways.site, self._ways.edge, at.monotonic_s)

    def outrank(self, held: int, now_s: float) -> None:
        """The store holds a history of ours that we forgot: the next one is above it."""
        number = next_generation(Generation(max(held, self.history.generation)), now_s)
        self.history = msgspec.structs.replace(self.history, generation=number)
        if self._kept is not None:  # nobody has heard of it by the number that it had
            anew = {vip: replace(one, generation=number) for vip, one in self.notices.items()}
            self._kept = replace(self._kept, notices=anew)

    def _own(self, holdings: Holdings) -> EdgeHistory:
        """Our own time line: as we kept it, or as the store does if we forgot."""
        own = {self._ways.edge: self.history}
        held = holdings.histories.get(self._ways.edge)
        if held is not None and held.site == self._ways.site:
            own = join(own, {self._ways.edge: held})
        return own[self._ways.edge]

    def _past(self, own: EdgeHistory, holdings: Holdings, at: Moment) -> Past:
        others = {
            edge: history
            for edge, history in holdings.histories.items()
            if history.site == self._ways.site and edge != own.edge
        }
        histories = {**others, own.edge: own} if own.vips else others
        silent = silent_edges(histories, holdings, own.edge, at.monotonic_s)
        return Past(histories=histories, silent=silent, words=self._words)

    def _eras_of(self, past: Past) -> dict[str, tuple[Era, ...]]:
        """The eras, computed anew when a history or an edge's silence is new."""
        numbers = {edge: history.generation for edge, history in past.histories.items()}
        key = (numbers, past.silent)
        if self._eras[0] != key:
            self._eras = (key, past.eras())
        return self._eras[1]

    def _members(self, scene: Scene, weights: Mapping[str, int]) -> dict[str, tuple[Member, ...]]:
        """Who should get new flows of each VIP."""
        return site_members(
            scene.fleet, self._ways.site, scene.seats, scene.standings, scene.drained, weights
        )

    def _heed(
        self, nows: Mapping[str, VipNow], own: EdgeHistory, ears: Ears, now_s: float
    ) -> tuple[dict[str, VipNow], dict[str, Notice], dict[str, tuple[str, ...]]]:
        """The VIPs with the members that their rings have now: planned changes wait for notice.

        And the notices that stand, and which edges did not hear of one that was carried out.
        """
        present = {line.name: weights_of(last_members(line)) for line in own.vips}
        standing = self.notices if own is self.history else {}  # of another life: told anew
        found: dict[str, VipNow] = {}
        notices: dict[str, Notice] = {}
        unheard: dict[str, tuple[str, ...]] = {}
        for name, now in nows.items():
            heeded = heed(
                present.get(name),
                now.weights,
                set(now.vip.reals) - now.down,
                standing.get(name),
                now_s,
                ears,
                least_s=NOTICE_S if now.vip.flow_memory is FlowMemory.MOVED else 0.0,
            )
            found[name] = now.with_members(heeded.weights)
            if heeded.notice is not None:
                notices[name] = heeded.notice
                found[name] = found[name].telling(heeded.notice.weights)
            if heeded.unheard:
                unheard[name] = heeded.unheard
        return found, notices, unheard

    def _hearing(self, past: Past, nows: Mapping[str, VipNow]) -> dict[str, int]:
        """What a plan makes the chains know of other edges' histories."""
        known = {name: set(now.vip.reals) for name, now in nows.items()}
        return {
            edge: history.generation if understood(history, known) else self.heard.get(edge, 0)
            for edge, history in past.histories.items()
            if edge != self._ways.edge
        }

    def _starting(self, scene: Scene) -> dict[str, list[str]]:
        """Who serves behind the VIPs that start reals slowly."""
        return {
            vip.name: [
                member.name
                for member in members_of(
                    scene.fleet, vip, scene.seats, scene.standings, scene.drained
                )
            ]
            for vip in scene.fleet.vips_of_site(self._ways.site)
            if vip.slow_start_s > 0
        }

    def _ramps(
        self, scene: Scene, since: Mapping[str, float], now_s: float
    ) -> tuple[dict[str, int], float]:
        """What reals weigh that have not their whole weight yet, and when the first one steps."""
        weights: dict[str, int] = {}
        due_s = inf
        for vip in scene.fleet.vips_of_site(self._ways.site):
            for name in vip.reals if vip.slow_start_s > 0 else ():
                pair = seat_name(vip.name, name)
                if pair not in since:
                    continue
                step_s = next_step_s(since[pair], now_s, vip.slow_start_s)
                if step_s < inf:
                    full = scene.fleet.reals[name].weight
                    weights[pair] = ramped(full, since[pair], now_s, vip.slow_start_s)
                    due_s = min(due_s, step_s)
        return weights, due_s


def _numbered(notices: Mapping[str, Notice], history: EdgeHistory) -> dict[str, Notice]:
    """New ones with the generation that tells them."""
    return {
        vip: notice if notice.generation else replace(notice, generation=history.generation)
        for vip, notice in notices.items()
    }
