"""The plan: who gets new flows, who keeps old ones, and what a change moves."""

from __future__ import annotations

from array import array
from collections import Counter
from ipaddress import IPv4Address

import pytest
from site_fleet import FRA, TLS, WEB1, WEB2, WEB3, WWW, fleet, real, without

from edge_lb.changes import diff
from edge_lb.fastring import build_ring
from edge_lb.plan import (
    Plan,
    RealForwarding,
    Standings,
    build_plan,
    forwarding,
    left_empty,
)
from edge_lb.rendezvous import RING_SLOTS, Member
from edge_lb.rings import Rings
from edge_lb.seats import Seats, assign
from gslb.fleet.health import RealState
from gslb.fleet.model import Fleet, RealName

NOBODY: frozenset[RealName] = frozenset()
DOWN_WEB2: Standings = {(WWW, WEB2): RealState.DOWN}
RINGS = Rings()


def plan(
    standings: Standings | None = None,
    drained: frozenset[RealName] = NOBODY,
    *,
    of: Fleet | None = None,
    seats: Seats | None = None,
    rings: Rings | None = None,
) -> Plan:
    """A plan of the small site."""
    whole = of or fleet()
    return build_plan(
        whole,
        FRA,
        seats or assign(whole, FRA, Seats()),
        standings or {},
        drained,
        generation=7,
        tunnel_source=IPv4Address("10.1.1.11"),
        mtu=1500,
        rings=rings or RINGS,
    )


def shares(made: Plan, vip: str) -> dict[str, int]:
    """How many slots each real of a VIP has; `none` for empty ones."""
    names = {one.index: one.name.partition("/")[2] for one in made.reals} | {0: "none"}
    ring = next(one.ring for one in made.vips if one.name == vip)
    return dict(Counter(names[index] for index in ring))


@pytest.mark.parametrize(
    ("standing", "drained", "wanted"),
    [
        (RealState.UP, False, RealForwarding.UP),
        (RealState.SUSPECT, False, RealForwarding.UP),
        (RealState.UNKNOWN, False, RealForwarding.UP),
        (RealState.DOWN, False, RealForwarding.DOWN),
        (RealState.UP, True, RealForwarding.DRAINING),
        (RealState.SUSPECT, True, RealForwarding.DRAINING),
        (RealState.DOWN, True, RealForwarding.DOWN),
    ],
)
def test_what_a_real_may_get(standing: RealState, drained: bool, wanted: RealForwarding):
    assert forwarding(standing, drained=drained) is wanted


def test_unknown_reals_share_every_slot():
    made = plan()

    assert set(shares(made, "www")) == {"web1", "web2", "web3"}
    assert sum(shares(made, "www").values()) == RING_SLOTS
    assert set(shares(made, "tls")) == {"web1", "web2"}


def test_dead_real_is_dead_for_its_vip_alone():
    made = plan(DOWN_WEB2)

    assert set(shares(made, "www")) == {"web1", "web3"}
    assert set(shares(made, "tls")) == {"web1", "web2"}
    states = {one.name: one.state for one in made.reals}
    assert states["www/web2"] is RealForwarding.DOWN
    assert states["tls/web2"] is RealForwarding.UP


def test_drained_real_has_no_slot_and_keeps_its_flows_for_every_vip():
    made = plan(drained=frozenset({WEB1}))

    assert set(shares(made, "www")) == {"web2", "web3"}
    assert set(shares(made, "tls")) == {"web2"}
    states = {one.name: one.state for one in made.reals}
    assert states["www/web1"] is states["tls/web1"] is RealForwarding.DRAINING


def test_weight_zero_has_no_slot_and_half_weight_has_half_the_share():
    reals = {WEB1: real(WEB1, 11), WEB2: real(WEB2, 12, weight=50), WEB3: real(WEB3, 13, weight=0)}
    share = shares(plan(of=fleet(reals=reals)), "www")

    assert set(share) == {"web1", "web2"}
    assert share["web1"] / share["web2"] == pytest.approx(2, rel=0.02)


def test_vip_without_a_serving_real_has_an_empty_ring():
    down = {(TLS, name): RealState.DOWN for name in (WEB1, WEB2)}

    assert shares(plan(down), "tls") == {"none": RING_SLOTS}


def test_ring_does_not_depend_on_the_numbers_of_an_edge():
    one = assign(fleet(), FRA, Seats())
    other = assign(fleet(), FRA, assign(without(fleet(), WWW), FRA, one))
    assert one.reals != other.reals

    def owners(seats: Seats) -> list[str]:
        made = plan(seats=seats)
        names = {real.index: real.name for real in made.reals}
        return [names[index] for index in made.vips[0].ring]

    assert owners(one) == owners(other)


def test_unchanged_vip_keeps_the_very_ring():
    rings = Rings()
    before = plan(rings=rings)

    after = plan(DOWN_WEB2, rings=rings)

    assert after.vips[1].ring is before.vips[1].ring
    assert after.vips[0].ring is not before.vips[0].ring


def test_rings_that_are_not_used_are_forgotten():
    rings = Rings()
    first = plan(rings=rings)
    plan(DOWN_WEB2, rings=rings)

    again = plan(rings=rings)

    assert again.vips[0].ring is not first.vips[0].ring
    assert again.vips[0].ring == first.vips[0].ring


def test_vips_with_like_members_share_the_building_but_not_the_seats():
    rings = Rings()
    members = (Member(name="web1", weight=1, index=7), Member(name="web2", weight=2, index=9))
    others = (Member(name="web1", weight=1, index=3), Member(name="web2", weight=2, index=4))

    ring, other = rings.ring(members), rings.ring(others)

    assert ring == build_ring(members)
    assert other == build_ring(others)


def test_rings_built_through_many_shapes_stay_right():
    rings = Rings(shapes_max=2)
    for number in (2, 3, 4, 2, 3):
        members = tuple(Member(name=f"web{n}", weight=1, index=n + 5) for n in range(number))
        assert rings.ring(members) == build_ring(members)
        rings.forget_unused()


def test_same_content_ignores_the_generation_only():
    first, second = plan(rings=RINGS), plan(rings=RINGS)

    assert first.same_content(second)
    assert not first.same_content(plan(DOWN_WEB2))
    assert not first.same_content(plan(drained=frozenset({WEB1})))


def test_diff_of_like_plans_is_empty():
    assert diff(plan(), plan()) == ()


def test_diff_tells_slots_and_states_of_the_vip_that_changed():
    (change,) = diff(plan(), plan(DOWN_WEB2))

    assert change.vip == "www"
    assert change.words == "web2 up -> down"
    assert change.slots == shares(plan(), "www")["web2"], "its own, and no other's"


def test_diff_tells_what_came_and_what_left():
    whole, less = plan(), plan(of=without(fleet(), TLS))

    assert [(c.vip, c.words) for c in diff(whole, less)] == [("tls", "removed")]
    (added,) = diff(less, whole)
    assert (added.vip, added.slots) == ("tls", RING_SLOTS)
    assert added.words == "added; web1 added as up, web2 added as up"


def test_diff_of_the_first_plan_adds_everything():
    assert {change.vip for change in diff(None, plan())} == {"www", "tls"}


def test_diff_says_when_only_weights_changed():
    reals = {WEB1: real(WEB1, 11), WEB2: real(WEB2, 12, weight=50), WEB3: real(WEB3, 13)}
    changes = diff(plan(), plan(of=fleet(reals=reals)))

    assert {change.words for change in changes} == {"weights changed"}


def test_diff_tells_a_real_that_moved():
    reals = {WEB1: real(WEB1, 11), WEB2: real(WEB2, 99), WEB3: real(WEB3, 13)}
    changes = diff(plan(), plan(of=fleet(reals=reals)))

    assert {change.words for change in changes} == {"web2 moved to 10.1.2.99 by gue"}


@pytest.mark.parametrize(
    ("standings", "drained", "leaving", "empty"),
    [
        ({}, frozenset(), WEB1, ()),
        ({}, frozenset({WEB2}), WEB1, ("tls",)),
        ({(TLS, WEB2): RealState.DOWN}, frozenset(), WEB1, ("tls",)),
        ({(TLS, WEB2): RealState.DOWN}, frozenset(), WEB2, ()),
        ({}, frozenset({WEB2}), WEB3, ()),
        ({}, frozenset({WEB2, WEB3}), WEB1, ("www", "tls")),
    ],
)
def test_drain_that_would_leave_a_vip_empty_is_known_before(
    standings: Standings,
    drained: frozenset[RealName],
    leaving: RealName,
    empty: tuple[str, ...],
):
    assert left_empty(fleet(), FRA, standings, drained, leaving) == empty


def test_real_of_weight_zero_cannot_save_a_vip():
    reals = {WEB1: real(WEB1, 11), WEB2: real(WEB2, 12, weight=0), WEB3: real(WEB3, 13)}

    assert left_empty(fleet(reals=reals), FRA, {}, NOBODY, WEB1) == ("tls",)


def test_empty_ring_has_every_slot():
    down = {(WWW, name): RealState.DOWN for name in (WEB1, WEB2, WEB3)}

    assert plan(down).vips[0].ring == array("H", bytes(2 * RING_SLOTS))
