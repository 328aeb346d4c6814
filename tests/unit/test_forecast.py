"""What a change would move, told before it is made."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from site_fleet import FRA, TLS, WEB1, WEB2, WEB3, WWW, fleet, real, vip, without

from edge_lb.fastring import build_ring, moved
from edge_lb.forecast import Situation, VipForecast, forecast
from edge_lb.maglev import RING_SLOTS, Member
from edge_lb.seats import Seats, assign
from gslb.fleet.model import Fleet, RealName

WEB4 = RealName("web4")


def now(of: Fleet | None = None) -> Situation:
    return Situation(fleet=of or fleet(), standings={}, drained=frozenset())


def told(before: Situation, after: Situation) -> dict[str, VipForecast]:
    seats = assign(before.fleet, FRA, Seats())
    return {one.vip: one for one in forecast(FRA, seats, before, after)}


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
