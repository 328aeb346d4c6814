"""Plans with a past: what a drain leaves in chains, what other edges add, when all of it ends."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import msgspec
import pytest
from site_fleet import FRA, WEB1, WEB2, WEB3, WWW, fleet, real, vip

from edge_lb.chaining import words_of
from edge_lb.notice import ACKNOWLEDGED_WITHIN_S, NOTICE_S
from edge_lb.owners import MAY_FORWARD_S
from edge_lb.plan import CHAIN_OWNERS
from edge_lb.planner import Draft, Moment, Planner, Scene, Ways
from edge_lb.rendezvous import RING_SLOTS
from edge_lb.seats import Seats, assign, seat_name
from gslb.fleet.health import EdgeReport, RealState
from gslb.fleet.history import EdgeHistory, RealReport, VipFlows, VipHistory, pack_slots
from gslb.fleet.model import Encap, Fleet, FlowMemory, RealName, Vip
from gslb.fleet.snapshot import HeldReport, Holdings

NOBODY: frozenset[RealName] = frozenset()
AGE_S = 600.0
LEASE_S = 3.0
ALL = {"web1": 100, "web2": 100, "web3": 100}


def site(**options: object) -> Fleet:
    """The small site with one VIP that has chains."""
    chained = replace(
        vip(WWW, 80, (WEB1, WEB2, WEB3)),
        **{"owner_chain": 3, "connection_age_s": AGE_S, **options},  # type: ignore[arg-type]
    )
    return fleet(vips=(chained,))


class Edge:
    """A planner and the world it plans for."""

    def __init__(
        self, whole: Fleet | None = None, *, before: Planner | None = None, name: str = "edge1"
    ) -> None:
        self.fleet = whole or site()
        self.holdings = Holdings()
        self.planner = Planner(
            Ways(
                site=FRA,
                edge=name,
                tunnel_source=IPv4Address("10.1.1.11"),
                tunnel_source_v6=None,
                mtu=1500,
            ),
            before.history if before is not None else None,
            before.since if before is not None else {},
        )

    def plan(
        self,
        at_s: float,
        *,
        drained: frozenset[RealName] = NOBODY,
        down: frozenset[RealName] = NOBODY,
        kept: bool = True,
    ) -> Draft:
        scene = Scene(
            fleet=self.fleet,
            seats=assign(self.fleet, FRA, Seats()),
            standings={(WWW, name): RealState.DOWN for name in down},
            drained=drained,
            holdings=self.holdings,
        )
        draft = self.planner.draft(scene, self.at(at_s), report=1)
        if kept:
            self.planner.keep(draft)
        return draft

    @staticmethod
    def at(at_s: float) -> Moment:
        return Moment(unix_s=at_s, monotonic_s=at_s)

    def seat(self, name: str) -> int:
        return assign(self.fleet, FRA, Seats()).reals[seat_name(WWW, name)].index


def of_www(draft: Draft):
    (www,) = draft.plan.vips
    return www


def candidates(draft: Draft) -> set[int]:
    """Every seat that is an earlier owner of some slot."""
    chains = of_www(draft).chains
    if chains is None:
        return set()
    found: set[int] = set()
    for place in range(1, CHAIN_OWNERS):
        found |= set(chains[place::CHAIN_OWNERS])
    return found - {0}


def other_edge(generation: int = 5, **members: int) -> EdgeHistory:
    line = VipHistory(name="www", members=dict(members))
    return EdgeHistory(site=FRA, edge="edge2", generation=generation, vips=(line,))


def beat(at_s: float, edge: str = "edge2") -> HeldReport:
    report = EdgeReport(
        site=FRA,
        edge=edge,
        config_hash="0123456789ab",
        generation=1,
        sequence=1,
        observed_at_s=at_s,
        lease_s=LEASE_S,
        doubt=False,
        vips=(),
    )
    return HeldReport(report=report, received_s=at_s)


def no_flows(name: str, at_s: float) -> RealReport:
    """A real's word that it holds nothing."""
    flows = VipFlows(vip="www", flows=0, oldest_s=None, slots=pack_slots(bytes(RING_SLOTS)))
    return RealReport(
        site=FRA, real=name, generation=1, sequence=1, observed_at_s=at_s, vips=(flows,)
    )


def test_a_first_plan_has_a_history_and_no_chain():
    edge = Edge()

    draft = edge.plan(100.0)

    assert of_www(draft).chains is None
    assert draft.plan.history_generation == edge.planner.history.generation > 0
    assert not edge.planner.has_chains


def test_a_drained_real_is_the_second_owner_of_its_slots_until_its_connections_are_old():
    edge = Edge()
    owned = Counter(of_www(edge.plan(100.0)).ring)[edge.seat("web2")]
    draft = edge.plan(200.0, drained=frozenset({WEB2}))

    www = of_www(draft)
    assert www.chains is not None
    assert www.chains[::CHAIN_OWNERS] == www.ring
    assert Counter(www.chains[1::CHAIN_OWNERS])[edge.seat("web2")] == owned
    assert draft.due_s == 200.0 + AGE_S
    assert not edge.planner.is_stale(edge.holdings, edge.at(199.0 + AGE_S))
    assert edge.planner.is_stale(edge.holdings, edge.at(200.0 + AGE_S))
    assert of_www(edge.plan(200.0 + AGE_S, drained=frozenset({WEB2}))).chains is None


def test_nothing_new_is_the_very_plan():
    edge = Edge()
    edge.plan(100.0)
    first = edge.plan(200.0, drained=frozenset({WEB2}))
    second = edge.plan(210.0, drained=frozenset({WEB2}))

    assert of_www(second).chains is of_www(first).chains
    assert second.plan.same_content(first.plan)


def test_a_plan_that_the_maps_refused_is_no_turn():
    edge = Edge()
    edge.plan(100.0)

    edge.plan(200.0, drained=frozenset({WEB2}), kept=False)

    assert of_www(edge.plan(300.0)).chains is None
    assert edge.planner.history.vips[0].turns == ()


def test_a_dead_real_is_no_candidate_and_one_that_comes_back_leaves_its_stand_ins_behind():
    edge = Edge()
    edge.plan(100.0)

    dead = edge.plan(200.0, down=frozenset({WEB2}))
    back = edge.plan(300.0)

    assert edge.seat("web2") not in candidates(dead)
    assert candidates(back) >= {edge.seat("web1"), edge.seat("web3")}


def test_a_restart_remembers():
    edge = Edge()
    edge.plan(100.0)
    edge.plan(200.0, drained=frozenset({WEB2}))

    again = Edge(before=edge.planner).plan(300.0, drained=frozenset({WEB2}))

    assert edge.seat("web2") in candidates(again)
    assert again.due_s == 200.0 + AGE_S


def test_a_lost_memory_is_found_in_the_store():
    edge = Edge()
    edge.plan(100.0)
    edge.plan(200.0, drained=frozenset({WEB2}))
    fresh = Edge()
    fresh.holdings = Holdings(histories={"edge1": edge.planner.history})

    assert fresh.seat("web2") in candidates(fresh.plan(300.0, drained=frozenset({WEB2})))


def test_what_another_edge_uses_is_a_candidate_until_it_is_silent_and_an_age_is_over():
    edge = Edge()
    edge.plan(100.0, drained=frozenset({WEB2}))
    edge.holdings = Holdings(histories={"edge2": other_edge(**ALL)}, reports={"edge2": beat(200.0)})

    talks = edge.plan(201.0, drained=frozenset({WEB2}))
    assert edge.seat("web2") in candidates(talks)
    assert not edge.planner.is_stale(edge.holdings, edge.at(202.0))

    silent_s = 200.0 + LEASE_S + MAY_FORWARD_S
    assert not edge.planner.is_stale(edge.holdings, edge.at(silent_s))
    assert edge.planner.is_stale(edge.holdings, edge.at(silent_s + 0.1))
    quiet = edge.plan(silent_s + 0.1, drained=frozenset({WEB2}))
    assert edge.seat("web2") in candidates(quiet)
    assert quiet.due_s == silent_s + AGE_S
    assert candidates(edge.plan(silent_s + AGE_S, drained=frozenset({WEB2}))) == set()


def test_two_edges_that_joined_the_same_have_the_same_chains_and_the_same_number():
    one, two = Edge(name="edge1"), Edge(name="edge2")
    one.plan(100.0)
    two.plan(100.0, drained=frozenset({WEB1}))  # it heard of this drain first
    one.plan(200.0, drained=frozenset({WEB1, WEB2}))
    two.plan(203.0, drained=frozenset({WEB1, WEB2}))

    both = {"edge1": one.planner.history, "edge2": two.planner.history}
    reports = {name: beat(210.0, name) for name in both}
    drafts = []
    for edge in (one, two):
        edge.holdings = Holdings(histories=both, reports=reports)
        drafts.append(edge.plan(210.0, drained=frozenset({WEB1, WEB2})))

    first, second = drafts
    assert of_www(first).chains == of_www(second).chains
    assert candidates(first) == {edge.seat("web1"), edge.seat("web2")}
    assert first.plan.history_generation == second.plan.history_generation
    assert first.due_s == second.due_s


def test_while_the_store_is_away_no_edge_is_taken_for_gone():
    edge = Edge()
    held = Holdings(histories={"edge2": other_edge(**ALL)}, reports={"edge2": beat(200.0)})
    edge.holdings = replace(held, lost_s=201.0)
    edge.plan(201.0, drained=frozenset({WEB2}))

    assert not edge.planner.is_stale(edge.holdings, edge.at(9000.0))
    assert edge.seat("web2") in candidates(edge.plan(9000.0, drained=frozenset({WEB2})))


def test_the_newest_history_of_the_site_gives_the_number_and_other_sites_do_not_count():
    edge = Edge()
    far = EdgeHistory(site="nyc", edge="nyc-edge1", generation=10**15, vips=())
    edge.holdings = Holdings(
        histories={"edge2": other_edge(generation=10**14, **ALL), "nyc-edge1": far},
        reports={"edge2": beat(100.0)},
    )

    assert edge.plan(100.0).plan.history_generation == 10**14


def test_a_real_without_flows_leaves_the_chains():
    edge = Edge()
    edge.plan(100.0)
    edge.plan(200.0, drained=frozenset({WEB2}))

    assert edge.planner.hear(words_of((no_flows("web2", 205.0),)))
    early = edge.plan(206.0, drained=frozenset({WEB2}))
    assert edge.planner.hear(words_of((no_flows("web2", 210.0),)))
    assert not edge.planner.hear(words_of((no_flows("web2", 210.0),)))
    settled = edge.plan(211.0, drained=frozenset({WEB2}))

    assert edge.seat("web2") in candidates(early)
    assert edge.seat("web2") not in candidates(settled)


def test_what_a_real_said_is_remembered_when_no_chain_is_left():
    edge = Edge(site(owner_chain=1, flow_memory=FlowMemory.NONE))
    edge.fleet = replace(edge.fleet, vips={WWW: replace(edge.fleet.vips[WWW], reals=(WEB1, WEB2))})
    edge.plan(100.0)
    edge.plan(200.0, drained=frozenset({WEB2}))
    quiet = words_of((no_flows("web2", 220.0),))

    assert edge.planner.hear(quiet)
    assert of_www(edge.plan(221.0, drained=frozenset({WEB2}))).chains is None
    assert not edge.planner.has_chains
    assert not edge.planner.hear(quiet)
    assert of_www(edge.plan(222.0, drained=frozenset({WEB2}))).chains is None


def test_the_ring_stays_wide_while_memory_may_name_who_stood_in_for_a_flows_real():
    edge = Edge()
    edge.plan(100.0)
    edge.plan(200.0, drained=frozenset({WEB2}))
    edge.plan(230.0)
    assert edge.planner.hear(words_of(tuple(no_flows(name, 250.0) for name in ALL)))

    quiet = edge.plan(251.0)

    assert candidates(quiet) == set()
    chains = of_www(quiet).chains
    assert chains is not None
    assert chains[::CHAIN_OWNERS] == of_www(quiet).ring
    assert of_www(edge.plan(252.0)).chains is chains
    assert quiet.due_s == 230.0 + AGE_S
    assert of_www(edge.plan(quiet.due_s)).chains is None


@pytest.mark.parametrize(
    ("options", "encap", "chained", "hands_on"),
    [
        ({}, Encap.GUE, True, True),
        ({}, Encap.L2, False, True),
        ({"owner_chain": 0}, Encap.GUE, False, False),
        ({"owner_chain": 0, "flow_memory": FlowMemory.MOVED}, Encap.L2, True, False),
    ],
)
def test_only_packets_by_gue_and_memory_of_moved_slots_want_chains(
    options: dict[str, object], encap: Encap, *, chained: bool, hands_on: bool
):
    whole = site(**options)
    reals = {name: replace(one, encap=encap) for name, one in whole.reals.items()}
    edge = Edge(replace(whole, reals=reals))
    edge.plan(100.0)
    edge.plan(200.0, drained=frozenset({WEB2}))

    www = of_www(edge.plan(200.0 + NOTICE_S, drained=frozenset({WEB2})))

    assert (www.chains is not None) is chained
    assert www.hands_on is hands_on


def test_memory_of_moved_slots_knows_those_that_will_move_back():
    edge = Edge(site(flow_memory=FlowMemory.MOVED))

    draft = edge.plan(100.0, drained=frozenset({WEB2}))

    assert edge.seat("web2") in candidates(draft)
    assert draft.chains["www"].ends == ()
    assert edge.planner.history.vips[0].turns == ()


def test_memory_of_moved_slots_has_notice_of_a_drain_and_none_of_a_death():
    edge = Edge(site(flow_memory=FlowMemory.MOVED, owner_chain=0))
    first = edge.plan(100.0)

    told = edge.plan(101.0, drained=frozenset({WEB2}))
    come = edge.plan(told.due_s, drained=frozenset({WEB2}))
    dead = edge.plan(200.0, drained=frozenset({WEB2}), down=frozenset({WEB3}))

    marked, ring = of_www(told).chains, of_www(come).ring
    assert told.due_s == 101.0 + NOTICE_S
    assert of_www(told).ring == of_www(first).ring
    assert marked is not None
    assert marked[1::CHAIN_OWNERS] == array(
        "H",
        [now if now != was else 0 for was, now in zip(of_www(told).ring, ring, strict=True)],
    )
    assert edge.seat("web2") not in set(ring)
    assert set(of_www(dead).ring) == {edge.seat("web1")}


def slow() -> Edge:
    return Edge(site(slow_start_s=80.0))


def share(draft: Draft, seat: int) -> float:
    return Counter(of_www(draft).ring)[seat] / RING_SLOTS


def test_an_edges_first_plan_starts_nobody_slowly():
    edge = slow()

    assert share(edge.plan(1000.0), edge.seat("web2")) == pytest.approx(1 / 3, rel=0.05)


@pytest.mark.parametrize("gone", [{"drained": frozenset({WEB2})}, {"down": frozenset({WEB2})}])
def test_a_real_that_comes_back_gets_its_share_in_steps(gone: dict[str, frozenset[RealName]]):
    edge = slow()
    edge.plan(1000.0)
    edge.plan(1010.0, **gone)

    back = edge.plan(1020.0)
    assert share(back, edge.seat("web2")) == pytest.approx(13 / 213, rel=0.05)
    assert back.due_s == 1030.0
    assert edge.planner.is_stale(edge.holdings, edge.at(1030.0))
    assert share(edge.plan(1030.0), edge.seat("web2")) == pytest.approx(25 / 225, rel=0.05)
    whole = edge.plan(1090.0)
    assert share(whole, edge.seat("web2")) == pytest.approx(1 / 3, rel=0.05)
    assert whole.due_s >= 1000.0 + AGE_S
    turns = edge.planner.history.vips[0].turns
    assert [turn.changed for turn in turns] == [{"web2": weight} for weight in (0, 13, 25, 100)]


def test_a_new_real_starts_slowly_and_a_restart_does_not_hurry_it():
    edge = slow()
    edge.plan(1000.0)
    web4 = RealName("web4")
    www: Vip = edge.fleet.vips[WWW]
    edge.fleet = replace(
        edge.fleet,
        reals={**edge.fleet.reals, web4: real(web4, 14)},
        vips={WWW: replace(www, reals=(*www.reals, web4))},
    )
    edge.plan(1010.0)

    again = Edge(edge.fleet, before=edge.planner).plan(1025.0)

    assert share(again, edge.seat("web4")) == pytest.approx(25 / 325, rel=0.05)


def deaf_to_all(at_s: float, **heard: int) -> HeldReport:
    """Edge 2 lives, and has heard so much."""
    held = beat(at_s)
    return replace(held, report=msgspec.structs.replace(held.report, heard=heard))


def test_a_drain_is_told_first_and_made_once_the_other_edge_has_it_in_its_chains():
    one, two = Edge(name="edge1"), Edge(name="edge2")
    for edge in (one, two):
        edge.plan(100.0)
    one.holdings = Holdings(reports={"edge2": deaf_to_all(200.0, edge1=1)})

    told = one.plan(200.0, drained=frozenset({WEB2}))
    two.holdings = Holdings(
        histories={"edge1": one.planner.history}, reports={"edge1": beat(200.0, "edge1")}
    )
    heard = two.plan(200.5)
    one.holdings = Holdings(reports={"edge2": deaf_to_all(201.0, **two.planner.heard)})

    assert told.written.history.vips[0].coming == {"web2": 0}
    assert one.seat("web2") in set(of_www(told).ring)
    assert candidates(heard) == {two.seat("web1"), two.seat("web3")}
    assert one.planner.is_stale(one.holdings, one.at(201.0))
    come = one.plan(201.0, drained=frozenset({WEB2}))
    assert one.seat("web2") not in set(of_www(come).ring)
    assert come.written.history.vips[0].coming == {}
    assert (one.planner.notices, one.planner.unheard) == ({}, 0)


def test_a_drain_that_an_edge_does_not_hear_of_is_made_after_a_bound_and_counted():
    edge = Edge()
    edge.plan(100.0)
    edge.holdings = Holdings(reports={"edge2": deaf_to_all(200.0)}, lost_s=201.0)

    told = edge.plan(200.0, drained=frozenset({WEB2}))
    come = edge.plan(told.due_s, drained=frozenset({WEB2}))

    assert told.due_s == 200.0 + ACKNOWLEDGED_WITHIN_S
    assert edge.seat("web2") not in set(of_www(come).ring)
    assert come.unheard == {"www": ("edge2",)}
    assert edge.planner.unheard == 1


def test_an_edge_that_fell_silent_is_waited_for_while_it_may_forward():
    edge = Edge()
    edge.plan(100.0)
    edge.holdings = Holdings(reports={"edge2": deaf_to_all(200.0)})
    gone_s = 200.0 + LEASE_S + MAY_FORWARD_S
    edge.plan(gone_s - 1.0, drained=frozenset({WEB2}))

    assert not edge.planner.is_stale(edge.holdings, edge.at(gone_s))
    assert edge.planner.is_stale(edge.holdings, edge.at(gone_s + 0.1))


def test_what_was_heard_of_another_life_is_not_taken_for_this_ones_word():
    edge = Edge()
    edge.plan(100.0)
    edge.holdings = Holdings(reports={"edge2": deaf_to_all(200.0, edge1=10**9)})
    edge.plan(200.0, drained=frozenset({WEB2}))

    edge.planner.outrank(10**9, 200.5)

    edge.plan(201.0, drained=frozenset({WEB2}))
    assert edge.planner.notices["www"].unheard({"edge2": 10**9}) == ("edge2",)


def test_a_real_that_is_not_configured_here_is_not_heard_of():
    edge = Edge()
    edge.plan(100.0)
    line = VipHistory(name="www", members=dict(ALL), coming={"web4": 100})
    past = EdgeHistory(site=FRA, edge="edge2", generation=7, vips=(line,))
    edge.holdings = Holdings(histories={"edge2": past}, reports={"edge2": beat(200.0)})

    edge.plan(200.0)
    assert edge.planner.heard == {"edge2": 0}

    web4 = RealName("web4")
    www = edge.fleet.vips[WWW]
    edge.fleet = replace(
        edge.fleet,
        reals={**edge.fleet.reals, web4: real(web4, 14)},
        vips={WWW: replace(www, reals=(*www.reals, web4))},
    )
    edge.plan(201.0)
    assert edge.planner.heard == {"edge2": 7}
    assert edge.seat("web4") in candidates(edge.plan(202.0))


def test_steps_of_a_slow_start_wait_for_the_other_edge_and_do_not_pile_up():
    edge = slow()
    edge.plan(1000.0)
    edge.plan(1010.0, drained=frozenset({WEB2}))
    edge.holdings = Holdings(reports={"edge2": deaf_to_all(1020.0)}, lost_s=1020.0)

    edge.plan(1020.0)
    for at_s in (1030.0, 1040.0, 1050.0, 1060.0):
        edge.plan(at_s)

    turns = edge.planner.history.vips[0].turns
    assert [turn.changed for turn in turns] == [{"web2": 0}, {"web2": 13}]
    assert edge.planner.notices["www"].since_s == 1050.0
    assert dict(edge.planner.notices["www"].weights)["web2"] == 50


def test_turns_that_a_history_has_no_room_for_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_lb.history.TURNS_MAX", 2)
    edge = Edge()
    edge.plan(100.0)

    for number in range(4):
        edge.plan(110.0 + number, drained=frozenset({WEB1}) if number % 2 else frozenset({WEB2}))

    assert edge.planner.forgotten == 2
    assert [turn.at_s for turn in edge.planner.history.vips[0].turns] == [112.0, 113.0]
