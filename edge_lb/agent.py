"""The loop of one edge: observe, plan, apply, publish.

Owns the order of things after a change: ask the gateway if every check fails, believe, plan, write
the maps, remember, publish. Made by `edge_lb.edge_daemon`, shown by `edge_lb.edge_admin`. It never
stops packets: when it dies, or cannot write, the pinned maps go on with the last plan.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from random import Random

from bpf.errors import BpfError
from edge_lb.chaining import words_of
from edge_lb.changes import Changes, diff
from edge_lb.checker import Checker
from edge_lb.checks import CheckResult
from edge_lb.datapath import Datapath
from edge_lb.filter_keeper import FilterKeeper
from edge_lb.gateway import Gateway
from edge_lb.held import Held
from edge_lb.judge import Judge, Target, targets_of
from edge_lb.load import LoadMeter
from edge_lb.memory import EdgeMemory, MemoryFile, keep_standings
from edge_lb.nexthop import NextHops
from edge_lb.plan import Plan
from edge_lb.planner import Draft, Moment, Planner, Scene, Ways
from edge_lb.prober import Prober
from edge_lb.publish import Publisher, Speaker
from edge_lb.real_flows import RealFlows
from edge_lb.report import Content, content
from edge_lb.seats import FoundReal, FoundVip, Seats, assign, recover
from edge_lb.wills import Wills
from gslb.fleet.health import Override, OverrideKind
from gslb.fleet.history import RealReport
from gslb.fleet.model import Address, EdgeName, Fleet, RealName, SiteName, VipName
from gslb.fleet.snapshot import Holdings
from gslb.fleet.store import Store
from gslb.service import clock
from gslb.service.events import EventLog
from gslb.service.follow import FleetFollower

TICK_S = 1.0  # how often a doubt, a failed write and an unheard drain are looked at again


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """What the host file says of this edge. Seconds, bytes."""

    edge: str
    site: SiteName
    tunnel_source: IPv4Address
    tunnel_source_v6: IPv6Address | None
    mtu: int
    beat_s: float
    lease_s: float


class EdgeAgent:
    """One edge's agent; a Part. `start` before `run`. `checker` and `publisher` are Parts too."""

    def __init__(
        self,
        settings: EdgeSettings,
        fleet: Fleet,
        datapath: Datapath,
        prober: Prober,
        store: Store,
        gateway: Gateway,
        memory_file: MemoryFile,
        events: EventLog,
        rng: Random,
    ) -> None:
        memory = memory_file.load()
        self.settings = settings
        self.fleet = fleet
        self.adopted_at_s = clock.unix_s()
        self.plan: Plan | None = None
        self.plan_trouble = ""
        self.seats: Seats = memory.seats
        self.memory_file = memory_file
        self.wills = Wills(memory.wills)
        self.judge = Judge({}, {})
        self.prober = prober
        self.checker = Checker((), self._on_result, rng, prober.mark)
        self.load = LoadMeter(datapath)
        self.filter = FilterKeeper(datapath, settings.site, memory.filter_by_hand)
        self.planner = Planner(
            Ways(
                site=settings.site,
                edge=settings.edge,
                tunnel_source=settings.tunnel_source,
                tunnel_source_v6=settings.tunnel_source_v6,
                mtu=settings.mtu,
            ),
            memory.history,
            memory.serving_since,
        )
        self.real_flows = RealFlows(
            store,
            settings.site,
            events,
            drained=lambda: self.drained,
            is_chained=lambda: self.planner.has_chains,
            used=lambda: self.planner.past.used(),
            hear=self._on_reports,
        )
        self.publisher = Publisher(
            Speaker(
                site=settings.site,
                edge=settings.edge,
                beat_s=settings.beat_s,
                lease_s=settings.lease_s,
            ),
            store,
            events,
            self.wills,
            self.planner,
            generation=memory.generation,
            content=self.content,
            remember=self._remember,
        )
        self._remembered = memory.standings_of(fleet, settings.site)
        self._datapath = datapath
        self._gateway = gateway
        self._events = events
        self.next_hops = NextHops(self.wake)
        self.next_hops.want(self._real_addresses())
        self._follower: FleetFollower | None = None
        self._wake = asyncio.Event()
        self._settling = asyncio.Lock()
        self._planned_drains: frozenset[RealName] = frozenset()

    def follow(self, follower: FleetFollower) -> None:
        """Take operators' wills from this follower, whose `on_snapshot` is `wake`."""
        self._follower = follower

    def start(self) -> None:
        """Take over what the maps hold and make them say the first plan. Raises BpfError."""
        held = self._datapath.read_back()
        self.seats = assign(self.fleet, self.settings.site, self._recovered(held))
        self.judge.retarget(self._targets(), self._remembered)
        draft = self._draft()
        self._end_filters()
        self.filter.apply(self.fleet, self.seats)
        self._datapath.apply(draft.plan)
        self._keep(draft)
        self.checker.retarget(self.judge.targets)
        self.next_hops.want(self._real_addresses())
        self._remember(self.publisher.generation)
        self._events.add(
            "edge.started",
            vips=str(len(draft.plan.vips)),
            reals=str(len(draft.plan.reals)),
            taken_over=f"{len(held.vips)} VIPs from the maps",
        )

    async def run(self) -> None:
        """Settle after every change, and look again at what is not settled; until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            if self._wake.is_set() or self._unsettled():
                self._wake.clear()
                await self.settle()

    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    async def settle(self) -> Changes:
        """Believe, plan, apply, remember, publish; returns what changed for new flows."""
        async with self._settling:
            doubt = self.judge.all_failing and not await self._gateway.reachable()
            if doubt != self.judge.doubt:
                self._events.add("doubt.begun" if doubt else "doubt.ended", edge=self.settings.edge)
            self.judge.believe(doubt=doubt)
            await self._refilter()
            targets = self.judge.targets
            changes = await self._replan()
            if not self.plan_trouble:  # a seat is probed when the maps know whose it is
                self.checker.retarget(targets)
            self._remember(self.publisher.generation)
            self.publisher.kick()
            return changes

    def adopt(self, fleet: Fleet) -> None:
        """Follow a reloaded configuration; `settle` makes it so."""
        self.fleet = fleet
        self.adopted_at_s = clock.unix_s()
        self.seats = assign(fleet, self.settings.site, self.seats)
        self.judge.retarget(self._targets())
        if self._follower is not None:
            self._follower.replace_fleet(fleet)
        self._events.add("config.reloaded", config_hash=fleet.config_hash)
        self.wake()

    @property
    def holdings(self) -> Holdings:
        """What is held of the store."""
        return self._follower.snapshot.holdings if self._follower is not None else Holdings()

    @property
    def drained(self) -> dict[RealName, Override]:
        """The reals of the configuration that operators drained."""
        drained = self.wills.drained(OverrideKind.REAL, self.holdings)
        return {name: drained[name] for name in self.fleet.reals if name in drained}

    @property
    def drained_edges(self) -> dict[EdgeName, Override]:
        """The edges of this site that operators drained, itself among them."""
        drained = self.wills.drained(OverrideKind.EDGE, self.holdings)
        edges = self.fleet.sites[self.settings.site].edges
        return {name: drained[name] for name in edges if name in drained}

    def content(self) -> Content:
        """What this edge says of its VIPs now."""
        rates = self.load.rates(self.fleet.vips_of_site(self.settings.site), self.seats)
        return content(
            self.fleet,
            self.settings.site,
            self.judge.spoken(),
            self.drained,
            rates,
            doubt=self.judge.doubt,
        )

    def waiting(self) -> dict[VipName, str]:
        """The VIPs whose next planned change is told and not made yet, and what it waits for."""
        now = self._now()
        ears = self.planner.ears(self.holdings, now)
        return {
            VipName(vip): notice.words(ears, now.unix_s)
            for vip, notice in self.planner.notices.items()
        }

    def leaves(self, vip: VipName, real: RealName) -> bool:
        """Whether a change that waits takes a real out of a VIP's ring."""
        notice, served = self.planner.notices.get(vip), self.fleet.vips.get(vip)
        if notice is None or served is None:
            return False
        return real in served.reals and real not in dict(notice.weights)

    def unheard_by(self, generation: int) -> tuple[EdgeName, ...]:
        """The other living edges of the site that do not know this history of ours."""
        ears = self.planner.ears(self.holdings, self._now())
        return tuple(EdgeName(edge) for edge, heard in ears.items() if heard < generation)

    def _targets(self) -> dict[tuple[VipName, RealName], Target]:
        return targets_of(self.fleet, self.settings.site, self.seats)

    def _real_addresses(self) -> set[Address]:
        vips = self.fleet.vips_of_site(self.settings.site)
        return {self.fleet.reals[name].address for vip in vips for name in vip.reals}

    def _unsettled(self) -> bool:
        return (
            self.judge.all_failing
            or self.judge.doubt
            or bool(self.plan_trouble)
            or self.filter.unsettled(clock.unix_s())
            or self.planner.is_stale(self.holdings, self._now())
            or frozenset(self.drained) != self._planned_drains
        )

    async def _refilter(self) -> None:
        """Make the source filter so, before the plan: a new VIP's rules are there before it is."""
        self._end_filters()
        before = self.filter.trouble
        try:
            await asyncio.to_thread(self.filter.apply, self.fleet, self.seats)
        except BpfError:
            if self.filter.trouble != before:
                self._events.add("filter.failed", reason=self.filter.trouble)

    def _end_filters(self) -> None:
        for rule in self.filter.expire(clock.unix_s()):
            self._events.add("filter.ended", prefix=rule.prefix, by=rule.by)

    async def _replan(self) -> Changes:
        """Build and apply the plan; a failed write is told, kept in mind and tried again."""
        self.wills.settle(self.holdings)
        draft = await asyncio.to_thread(self._draft)
        if self.plan is not None and not self.plan_trouble and draft.plan.same_content(self.plan):
            self._keep(draft)
            return ()
        try:
            await asyncio.to_thread(self._datapath.apply, draft.plan)
        except BpfError as error:
            if str(error) != self.plan_trouble:
                self._events.add("plan.failed", reason=str(error))
            self.plan_trouble = str(error)
            return ()
        changes = diff(self.plan, draft.plan)
        self.plan_trouble = ""
        self._keep(draft)
        for change in changes:
            self._events.add(
                "ring.changed", vip=change.vip, slots=str(change.slots), why=change.words
            )
        return changes

    def _draft(self) -> Draft:
        scene = Scene(
            fleet=self.fleet,
            seats=self.seats,
            standings=self.judge.standings(),
            since=self.judge.since(),
            drained=frozenset(self.drained),
            holdings=self.holdings,
            next_hops=self.next_hops.hops,
            vlans=self.next_hops.vlans,
        )
        return self.planner.draft(scene, self._now(), report=self.publisher.generation)

    def _keep(self, draft: Draft) -> None:
        """The maps say this draft."""
        self.plan, self._planned_drains = draft.plan, draft.drained
        for vip, turns in draft.written.forgotten.items():
            self._events.add("history.forgotten", vip=vip, turns=str(turns))
        for vip, edges in draft.unheard.items():
            self._events.add("change.unheard", vip=vip, edges=", ".join(edges))
        standing = self.planner.notices
        self.planner.keep(draft)
        for vip, words in self.waiting().items():
            if vip not in standing or standing[vip].weights != draft.notices[vip].weights:
                self._events.add("change.waits", vip=vip, why=words)

    def _now(self) -> Moment:
        return Moment(unix_s=clock.unix_s(), monotonic_s=clock.monotonic_s())

    def _on_reports(self, reports: tuple[RealReport, ...]) -> None:
        if self.planner.hear(words_of(reports)):
            self.wake()

    def _recovered(self, held: Held) -> Seats:
        """The remembered seats, corrected by the maps."""
        reals = {
            real.index: FoundReal(index=real.index, epoch=real.epoch, address=real.address)
            for real in held.reals
            if real.address is not None
        }
        vips = [
            FoundVip(
                index=vip.index,
                address=vip.address,
                port=vip.port,
                protocol=vip.protocol,
                ring_reals=self._datapath.members(vip.index),
            )
            for vip in held.vips
        ]
        return recover(self.fleet, self.settings.site, self.seats, vips, reals)

    def _on_result(self, target: Target, result: CheckResult) -> None:
        transition = self.judge.observe(
            target, ok=result.ok, reason=result.reason, now_s=clock.unix_s()
        )
        if transition is None:
            return
        real = self.fleet.reals.get(target.real)
        if real is not None and not result.ok:
            self.next_hops.doubt(real.address)
        self._events.add(
            "health.changed",
            real=target.real,
            check=str(target),
            before=transition.before,
            state=transition.after.state,
            reason=result.reason,
        )
        self.wake()

    def _remember(self, generation: int) -> None:
        self.memory_file.save(
            EdgeMemory(
                generation=generation,
                seats=self.seats,
                standings=keep_standings(self.judge.believed()),
                wills=self.wills.unsettled,
                filter_by_hand=self.filter.by_hand,
                history=self.planner.history,
                serving_since=self.planner.since,
            )
        )
