"""The grace of a real that went down: for which reals, how long, and what a plan makes of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from site_fleet import FRA, WEB1, WEB2, WEB3, WWW, fleet, vip

from edge_lb.grace import GRACE_S, graces
from edge_lb.plan import CHAIN_OWNERS, RealForwarding
from edge_lb.planner import Draft, Moment, Planner, Scene, Ways
from edge_lb.seats import Seats, assign, seat_name
from gslb.fleet.health import RealState
from gslb.fleet.model import Encap, Fallback, Fleet, FlowMemory, Protocol, VipOptions
from gslb.fleet.snapshot import Holdings

SINCE_S = 200.0
DOWN = {(WWW, WEB2): RealState.DOWN}


def site(encap: Encap = Encap.GUE, **options: object) -> Fleet:
    chained = replace(
        vip(WWW, 80, (WEB1, WEB2, WEB3)),
        **{"owner_chain": 3, "connection_age_s": 600.0, **options},  # type: ignore[arg-type]
    )
    whole = fleet(vips=(chained,))
    reals = {name: replace(one, encap=encap) for name, one in whole.reals.items()}
    return replace(whole, reals=reals)


class Edge:
    """A planner of the small site; web2 is down from a moment on."""

    def __init__(self) -> None:
        self.fleet = site()
        self.seats = assign(self.fleet, FRA, Seats())
        ways = Ways(
            site=FRA,
            edge="edge1",
            tunnel_source=IPv4Address("10.1.1.11"),
            tunnel_source_v6=None,
            mtu=1500,
        )
        self.planner = Planner(ways, None, {})

    def plan(self, at_s: float, *, down: bool = False) -> Draft:
        scene = Scene(
            fleet=self.fleet,
            seats=self.seats,
            standings=DOWN if down else {},
            since={(WWW, WEB2): SINCE_S} if down else {},
            drained=frozenset(),
            holdings=Holdings(),
        )
        draft = self.planner.draft(scene, Moment(unix_s=at_s, monotonic_s=at_s), report=1)
        self.planner.keep(draft)
        return draft

    def is_stale(self, at_s: float) -> bool:
        return self.planner.is_stale(Holdings(), Moment(unix_s=at_s, monotonic_s=at_s))

    @property
    def web2(self) -> int:
        return self.seats.reals[seat_name(WWW, WEB2)].index


def state_of_web2(draft: Draft) -> RealForwarding:
    return next(one.state for one in draft.plan.reals if one.name == seat_name(WWW, WEB2))


def test_a_real_that_went_down_is_a_candidate_until_its_grace_ends():
    edge = Edge()
    edge.plan(100.0)

    fallen = edge.plan(SINCE_S + 1.0, down=True)

    (www,) = fallen.plan.vips
    assert edge.web2 not in set(www.ring)
    assert www.chains is not None
    assert edge.web2 in set(www.chains[1::CHAIN_OWNERS])
    assert state_of_web2(fallen) is RealForwarding.IN_GRACE
    assert fallen.due_s == SINCE_S + GRACE_S
    assert not edge.is_stale(fallen.due_s - 0.1)
    assert edge.is_stale(fallen.due_s)
    over = edge.plan(fallen.due_s, down=True)
    assert state_of_web2(over) is RealForwarding.DOWN
    chains = over.plan.vips[0].chains
    assert chains is None or edge.web2 not in set(chains)


def test_a_real_that_comes_back_within_its_grace_has_its_slots_again():
    edge = Edge()
    before = edge.plan(100.0)
    edge.plan(SINCE_S, down=True)

    back = edge.plan(SINCE_S + 10.0)

    assert back.plan.vips[0].ring == before.plan.vips[0].ring
    assert state_of_web2(back) is RealForwarding.UP


@pytest.mark.parametrize(
    "whole",
    [
        site(owner_chain=0, flow_memory=FlowMemory.MOVED),
        site(protocol=Protocol.UDP),
        site(options=VipOptions(fallback=Fallback.PASS)),
        site(Encap.L2, flow_memory=FlowMemory.MOVED),
        site(Encap.IPIP),
    ],
    ids=["no chain", "udp", "fallback", "l2", "ipip"],
)
def test_there_is_none_where_no_chain_leads_or_new_flows_would_follow_it(whole: Fleet):
    since = {(WWW, WEB2): SINCE_S}

    assert graces(whole, FRA, DOWN, since, SINCE_S) == {}
    assert graces(site(), FRA, DOWN, since, SINCE_S) == {(WWW, WEB2): SINCE_S + GRACE_S}


@pytest.mark.parametrize("now_s", [SINCE_S - 3600.0, SINCE_S + GRACE_S])
def test_it_ends_and_a_clock_that_was_set_back_gives_no_long_one(now_s: float):
    assert graces(site(), FRA, DOWN, {(WWW, WEB2): SINCE_S}, now_s) == {}


def test_only_what_is_down_has_one():
    since = dict.fromkeys([(WWW, WEB1), (WWW, WEB2)], SINCE_S)

    assert set(graces(site(), FRA, DOWN, since, SINCE_S)) == {(WWW, WEB2)}
    assert graces(site(), FRA, DOWN, {}, SINCE_S) == {}
