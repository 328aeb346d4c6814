"""What a change would move, told before it is made."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

from site_fleet import FRA, TLS, WEB1, WEB2, WEB3, WWW, fleet, real, vip, without

from edge_lb.chaining import Past, words_of
from edge_lb.fastring import build_ring, moved
from edge_lb.forecast import Situation, VipForecast, forecast
from edge_lb.outlook import Outlook
from edge_lb.rendezvous import RING_SLOTS, Member
from edge_lb.seats import Seats, assign
from gslb.fleet.history import (
    EdgeHistory,
    RealReport,
    Turn,
    VipFlows,
    VipHistory,
    changed_between,
    pack_slots,
)
from gslb.fleet.model import Fleet, RealName

WEB4 = RealName("web4")


def now(of: Fleet | None = None) -> Situation:
    return Situation(fleet=of or fleet(), standings={}, drained=frozenset())


def told(
    before: Situation, after: Situation, known: Outlook | None = None
) -> dict[str, VipForecast]:
    seats = assign(before.fleet, FRA, Seats())
    return {one.vip: one for one in forecast(FRA, seats, before, after, known or Outlook())}


def slots_between(before: dict[str, int], after: dict[str, int]) -> int:
    """Slots that differ between two rings of names and weights."""
    numbers = {name: number for number, name in enumerate({**before, **after}, 1)}
    rings = [
        build_ring([Member(name=n, weight=w, index=numbers[n]) for n, w in ring.items()])
        for ring in (before, after)
    ]
    return moved(*rings)


def test_nothing_changes_between_like_situations():
    assert told(now(), now()) == {}


def test_a_drain_is_told_for_every_vip_of_the_real():
    found = told(now(), now().with_drained(WEB3))

    assert found["www"].words == "web3 up -> draining"
    assert found["www"].slots == slots_between(
        {"web1": 100, "web2": 100, "web3": 100}, {"web1": 100, "web2": 100}
    )
    assert "tls" not in found


def test_a_dead_real_may_leave_a_vip_empty():
    found = told(now().with_down(WEB1), now().with_down(WEB1).with_down(WEB2))

    assert found["tls"] == VipForecast(
        vip="tls", slots=RING_SLOTS, emptied=True, words="web2 up -> down"
    )
    assert not found["www"].emptied


def test_a_vip_that_was_empty_is_not_emptied():
    before = now().with_down(WEB1).with_down(WEB2)

    assert not told(before, before.with_drained(WEB2)).get("tls")


def test_a_weight_is_told_with_both_numbers():
    found = told(now(), now().with_weight(WEB2, 50))

    assert found["tls"].words == "web2 weight 100 -> 50"
    assert found["tls"].slots == slots_between(
        {"web1": 100, "web2": 100}, {"web1": 100, "web2": 50}
    )


def test_the_weight_of_a_dead_real_moves_nothing_but_is_told():
    before = now().with_down(WEB2)

    found = told(before, before.with_weight(WEB2, 50))

    assert (found["tls"].slots, found["tls"].words) == (0, "web2 weight 100 -> 50")


def test_a_real_in_the_place_of_another_moves_the_slots_of_the_other():
    reals = {name: real(name, number) for number, name in enumerate((WEB1, WEB2, WEB3, WEB4), 11)}
    before = fleet(reals=reals, vips=(vip(WWW, 80, (WEB1, WEB2, WEB3)),))
    after = fleet(reals=reals, vips=(vip(WWW, 80, (WEB1, WEB2, WEB4)),))

    found = told(now(before), now(after))

    assert found["www"].words == "web4 added as up, web3 removed"
    assert found["www"].slots == slots_between(
        {"web1": 100, "web2": 100, "web3": 100}, {"web1": 100, "web2": 100, "web4": 100}
    )


def test_a_real_at_another_address_takes_its_flows_along():
    reals = {WEB1: real(WEB1, 11), WEB2: real(WEB2, 99), WEB3: real(WEB3, 13)}

    found = told(now(), now(fleet(reals=reals)))

    assert found["tls"].words == "web2 moved to 10.1.2.99 by gue"
    assert RING_SLOTS / 3 < found["tls"].slots < RING_SLOTS * 2 / 3


def test_vips_that_come_and_go():
    gone = told(now(), now(without(fleet(), TLS)))
    come = told(now(without(fleet(), TLS)), now())

    assert (gone["tls"].slots, gone["tls"].words) == (RING_SLOTS, "removed")
    assert come["tls"].words == "added; web1 added as up, web2 added as up"


def test_settings_that_move_no_slot_are_told_too():
    whole = fleet()
    www = whole.vips[WWW]
    other = replace(www, port=81, address=IPv4Address("198.51.100.9"))
    other = replace(other, check=replace(www.check, rise=9))

    found = told(now(), now(replace(whole, vips={**whole.vips, WWW: other})))

    assert found["www"].slots == 0
    assert found["www"].words == (
        "address 198.51.100.1 -> 198.51.100.9, port 80 -> 81, check changed"
    )


NOW_S, AGE_S = 1000.0, 600.0


def chained(*names: RealName, depth: int = 3) -> Fleet:
    """One VIP with chains, of four reals or those that are given."""
    reals = {name: real(name, number) for number, name in enumerate((WEB1, WEB2, WEB3, WEB4), 11)}
    members = names or (WEB1, WEB2, WEB3, WEB4)
    www = replace(vip(WWW, 80, members), owner_chain=depth, connection_age_s=AGE_S)
    return fleet(reals=reals, vips=(www,))


def history(*sets: tuple[float, tuple[RealName, ...]]) -> EdgeHistory:
    """The time line of an edge: since when which reals were in the ring."""
    members = [dict.fromkeys(names, 100) for _, names in sets]
    line = VipHistory(
        name="www",
        members=members[0],
        turns=tuple(
            Turn(at_s=at_s, changed=changed_between(before, after))
            for (at_s, _), (before, after) in zip(sets[1:], pairwise(members), strict=True)
        ),
    )
    return EdgeHistory(site=FRA, edge="edge1", generation=1, vips=(line,))


def outlook(
    own: EdgeHistory, *reports: RealReport, weights: dict[str, int] | None = None
) -> Outlook:
    past = Past(histories={"edge1": own})
    return Outlook(past=past, own=own, live=words_of(reports), weights=weights or {}, now_s=NOW_S)


def report(name: RealName, per_slot: int) -> RealReport:
    """So many flows on every slot."""
    flows = VipFlows(
        vip="www",
        flows=per_slot * RING_SLOTS,
        oldest_s=None,
        slots=pack_slots(bytes([per_slot]) * RING_SLOTS),
    )
    return RealReport(
        site=FRA, real=name, generation=1, sequence=1, observed_at_s=NOW_S, vips=(flows,)
    )


def test_a_drain_makes_the_chains_of_its_slots_grow_and_tells_when_they_end():
    own = history((0.0, (WEB1, WEB2, WEB3, WEB4)))
    before = now(chained())

    found = told(before, before.with_drained(WEB3), outlook(own))["www"]

    assert found.chains.grown == found.slots
    assert RING_SLOTS * 0.24 < found.slots < RING_SLOTS * 0.26
    assert found.chains.full == 0
    assert found.chains.ends == ((NOW_S + AGE_S, found.slots),)


def test_slots_whose_chain_is_full_lose_a_candidate():
    own = history((0.0, (WEB1, WEB2, WEB3, WEB4)), (NOW_S - 10, (WEB1, WEB2, WEB3)))
    before = now(chained(depth=1)).with_drained(WEB4)

    found = told(before, before.with_drained(WEB3), outlook(own))["www"]

    owners = build_ring(
        [Member(name=n, weight=100, index=i) for i, n in enumerate((WEB1, WEB2, WEB3), 1)]
    )
    first = build_ring(
        [Member(name=n, weight=100, index=i) for i, n in enumerate((WEB1, WEB2, WEB3, WEB4), 1)]
    )
    last = build_ring([Member(name=n, weight=100, index=i) for i, n in enumerate((WEB1, WEB2), 1)])
    lost = sum(
        len({one, two, three}) == 3 for one, two, three in zip(first, owners, last, strict=True)
    )
    assert found.chains.full == lost > 0
    assert {at_s for at_s, _ in found.chains.ends} == {NOW_S + AGE_S, NOW_S - 10 + AGE_S}


def test_a_forecast_of_what_is_so_already_says_nothing_of_chains():
    own = history((0.0, (WEB1, WEB2, WEB3, WEB4)), (NOW_S - 10, (WEB1, WEB2, WEB3)))
    before = now(chained()).with_drained(WEB4)

    assert told(before, before, outlook(own)) == {}


def test_live_flows_are_those_that_reals_hold_on_slots_that_move():
    own = history((0.0, (WEB1, WEB2)))
    before = now(chained(WEB1, WEB2))
    known = outlook(own, report(WEB1, 2), report(WEB2, 1))

    found = told(before, before.with_drained(WEB2), known)["www"]

    assert found.flows == 3 * found.slots
    assert told(before, before.with_weight(WEB3, 5), known) == {}


def test_live_flows_are_unknown_where_an_owner_says_nothing():
    own = history((0.0, (WEB1, WEB2)))
    before = now(chained(WEB1, WEB2))

    found = told(before, before.with_drained(WEB2), outlook(own, report(WEB1, 2)))["www"]

    assert found.flows is None


def test_a_removed_vip_moves_every_flow_of_its_reals_and_a_new_one_none():
    before, gone = now(chained(WEB1, WEB2)), now(without(chained(WEB1, WEB2), WWW))
    known = outlook(history((0.0, (WEB1, WEB2))), report(WEB1, 2), report(WEB2, 1))

    assert told(before, gone, known)["www"].flows == 3 * RING_SLOTS
    assert told(gone, before, known)["www"].flows == 0


def test_reals_in_their_slow_start_are_compared_as_they_are():
    own = history((0.0, (WEB1, WEB2)))
    before = now(chained(WEB1, WEB2))
    slow = outlook(own, weights={"www/web2": 25})

    found = told(before, before.with_drained(WEB2), slow)["www"]

    assert found.slots == slots_between({"web1": 100, "web2": 25}, {"web1": 100})
