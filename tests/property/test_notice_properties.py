"""Told before it is made: no edge sends new flows to an owner that another one's chains lack.

Edges plan beside each other; what they say reaches a store, and what that holds the others, late
and in any order. Each may be told of drains and weights at other moments than its neighbours.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from site_fleet import FRA, fleet, real, vip

from edge_lb.history import last_members
from edge_lb.owners import IN_USE
from edge_lb.plan import CHAIN_OWNERS
from edge_lb.planner import Draft, Moment, Planner, Scene, Ways
from edge_lb.rings import Weights, weights_of
from edge_lb.seats import Seats, assign
from gslb.fleet.health import EdgeReport
from gslb.fleet.history import EdgeHistory
from gslb.fleet.model import RealName, VipName
from gslb.fleet.snapshot import Holdings

WWW = VipName("www")
REALS = [RealName(f"web{number}") for number in range(1, 5)]
LEASE_S = 1000.0  # all of them live
LOOKED_AT_STEP = 397  # of all slots, one in so many
Wanted = tuple[frozenset[RealName], int]  # who is drained, and the weight of the first real
Step = tuple[str, int, Wanted, float]  # what happens, to which edge, what it wants then, seconds

WANTED = st.tuples(
    st.frozensets(st.sampled_from(REALS[1:]), max_size=3), st.sampled_from([50, 100, 200])
)
VERBS = [*["want"] * 4, *["all"] * 8, *["tell", "read", "plan"] * 2, "restart", "wait"]
STEPS = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 2), WANTED, st.sampled_from([0.5, 4.0])),
    min_size=20,
    max_size=40,
)


class Edge:
    """One planner, what it wants, what it has read, and what its maps say."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ways = Ways(
            site=FRA,
            edge=name,
            tunnel_source=IPv4Address("10.1.1.11"),
            tunnel_source_v6=None,
            mtu=1500,
        )
        self.planner = Planner(self.ways, None, {})
        self.wanted: Wanted = (frozenset(), 100)
        self.holdings = Holdings()
        self.sequence = 0
        self.maps: Draft | None = None

    def plan(self, now_s: float) -> None:
        drained, weight = self.wanted
        reals = {name: real(name, number) for number, name in enumerate(REALS, 11)}
        reals[REALS[0]] = replace(reals[REALS[0]], weight=weight)
        whole = fleet(
            reals=reals,
            vips=(replace(vip(WWW, 80, tuple(REALS)), owner_chain=3, connection_age_s=600.0),),
        )
        scene = Scene(
            fleet=whole,
            seats=assign(whole, FRA, Seats()),
            standings={},
            drained=drained,
            holdings=self.holdings,
        )
        draft = self.planner.draft(scene, Moment(unix_s=now_s, monotonic_s=now_s), report=1)
        self.planner.keep(draft)
        self.maps = draft

    def restart(self) -> None:
        """The agent remembers its history; the maps stay."""
        self.planner = Planner(self.ways, self.planner.history, self.planner.since)

    def said(self) -> EdgeReport:
        self.sequence += 1
        return EdgeReport(
            site=FRA,
            edge=self.name,
            config_hash="0123456789ab",
            generation=1,
            sequence=self.sequence,
            observed_at_s=0.0,
            lease_s=LEASE_S,
            doubt=False,
            vips=(),
            heard=dict(self.planner.heard),
        )


class Site:
    """Edges around a store."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.now_s = 1000.0
        self.reports: dict[str, EdgeReport] = {}
        self.histories: dict[str, EdgeHistory] = {}
        self.edges = [Edge(name) for name in names]
        for edge in self.edges:  # all are there and know each other before anything changes
            edge.plan(self.now_s)
            self.tell(edge)
        for _ in range(2):
            for edge in self.edges:
                self.all(edge)

    def tell(self, edge: Edge) -> None:
        self.histories[edge.name] = edge.planner.history
        self.reports[edge.name] = edge.said()

    def read(self, edge: Edge) -> None:
        edge.holdings = edge.holdings.merge(
            self.reports.values(), (), self.now_s, histories=self.histories.values()
        )

    def all(self, edge: Edge) -> None:
        self.read(edge)
        edge.plan(self.now_s)
        self.tell(edge)

    def step(self, verb: str, number: int, wanted: Wanted, wait_s: float) -> None:
        edge = self.edges[number % len(self.edges)]
        match verb:
            case "want":
                edge.wanted = wanted
            case "wait":
                self.now_s += wait_s
            case "restart":
                edge.restart()
                edge.plan(self.now_s)
            case "plan":
                edge.plan(self.now_s)
            case "tell":
                self.tell(edge)
            case "read":
                self.read(edge)
            case _:
                self.all(edge)

    def bound_was_hit(self) -> bool:
        return any(edge.planner.unheard for edge in self.edges)

    def pairs(self) -> list[tuple[Draft, Draft]]:
        drafts = [edge.maps for edge in self.edges if edge.maps is not None]
        return [(one, other) for one in drafts for other in drafts if one is not other]


def present(draft: Draft) -> Weights:
    """What a plan's ring is made of."""
    return weights_of(last_members(draft.written.history.vips[0]))


def in_use(draft: Draft) -> set[Weights]:
    """The sets of members that a plan's chains hold for being in use."""
    return {era.weights for era in draft.past.eras()[WWW] if era.lost_at_s == IN_USE}


def lacking(one: Draft, other: Draft) -> list[int]:
    """The slots whose owner at `one` is neither owner nor candidate at `other`."""
    ring = one.plan.vips[0].ring
    theirs, chains = other.plan.vips[0].ring, other.plan.vips[0].chains
    return [
        slot
        for slot in range(0, len(ring), LOOKED_AT_STEP)
        if ring[slot] != theirs[slot]
        and (
            chains is None
            or ring[slot] not in chains[slot * CHAIN_OWNERS : (slot + 1) * CHAIN_OWNERS]
        )
    ]


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_no_edge_sends_new_flows_to_an_owner_that_the_other_one_lacks(
    steps: list[Step],
):
    site = Site(("edge1", "edge2"))
    for step in steps:
        site.step(*step)
        if site.bound_was_hit():
            return
        for one, other in site.pairs():
            assert lacking(one, other) == []


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_three_edges_know_each_others_members_before_they_are_used(
    steps: list[Step],
):
    site = Site(("edge1", "edge2", "edge3"))
    for step in steps:
        site.step(*step)
        if site.bound_was_hit():
            return
        for one, other in site.pairs():
            assert present(one) in in_use(other)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_all_that_is_planned_is_made_once_words_go_round(
    steps: list[Step],
):
    site = Site(("edge1", "edge2", "edge3"))
    for step in steps:
        site.step(*step)

    for _ in range(6):  # a standing notice, its words, the wanted one's, and theirs
        for edge in site.edges:
            site.all(edge)

    for edge in site.edges:
        drained, weight = edge.wanted
        assert edge.planner.notices == {}
        assert edge.maps is not None
        whole = {name: 100 for name in REALS if name not in drained} | {REALS[0]: weight}
        assert present(edge.maps) == tuple(sorted(whole.items()))
