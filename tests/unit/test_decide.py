"""The decision: policies, the order of belief, addresses that ports share, and the words for it."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network

import msgspec
import pytest
from dns_world import RESOLVER, make_fleet, make_snapshot

from gslb.client import Client
from gslb.decide import Decision, decide
from gslb.fleet.health import OverrideKind, VipState
from gslb.fleet.snapshot import Holdings, Snapshot, resolve
from gslb.geo import Locator

DOWN = VipState.DOWN
ALL = ("fra4", "fra4-tls", "fra4b", "fra6", "ams4", "sin4", "sin6")


def _decide(
    name: str, snapshot: Snapshot | None = None, kind: str = "A", subnet: str = "", seed: int = 1
) -> Decision:
    snapshot = snapshot or make_snapshot()
    client = Client(address=RESOLVER, subnet=ip_network(subnet) if subnet else None)
    locator = Locator(snapshot.fleet)
    found = decide(f"{name}.example.com", kind, client, snapshot, locator, random.Random(seed))
    assert found is not None
    return found


def _reach(
    name: str, snapshot: Snapshot | None = None, kind: str = "A", subnet: str = ""
) -> set[str]:
    """Every VIP that some draw answers."""
    return {
        view.vip.name
        for seed in range(60)
        for view in _decide(name, snapshot, kind, subnet, seed).chosen
    }


def test_an_unknown_name_has_no_decision() -> None:
    snapshot = make_snapshot()
    locator, client = Locator(snapshot.fleet), Client(address=RESOLVER)

    assert decide("mail.example.com.", "A", client, snapshot, locator, random.Random(1)) is None
    assert decide("WWW.Example.COM", "A", client, snapshot, locator, random.Random(1)) is not None


def test_spread_reaches_every_vip_of_the_family() -> None:
    assert _reach("www") == {"fra4", "fra4b", "ams4", "sin4"}
    assert _reach("www", kind="AAAA") == {"fra6", "sin6"}
    assert len(_decide("www").chosen) == 2


def test_a_down_vip_leaves_the_answers() -> None:
    assert _reach("www", make_snapshot(states={"sin4": DOWN})) == {"fra4", "fra4b", "ams4"}


def test_a_degraded_vip_stays() -> None:
    degraded = make_snapshot(states={"sin4": VipState.DEGRADED})

    assert "sin4" in _reach("www", degraded)


def test_when_all_are_down_all_are_answered() -> None:
    snapshot = make_snapshot(states=dict.fromkeys(ALL, DOWN))

    assert _reach("www", snapshot) == {"fra4", "fra4b", "ams4", "sin4"}
    assert "fail open" in _decide("www", snapshot).reasons[0]


def test_failing_open_never_answers_what_an_operator_drained() -> None:
    snapshot = make_snapshot(states=dict.fromkeys(ALL, DOWN), drained=((OverrideKind.SITE, "sin"),))

    assert _reach("www", snapshot) == {"fra4", "fra4b", "ams4"}


def test_an_operator_who_drained_all_gets_nodata() -> None:
    snapshot = make_snapshot(
        drained=tuple((OverrideKind.SITE, site) for site in ("fra", "ams", "sin"))
    )

    decision = _decide("www", snapshot)
    assert decision.chosen == ()
    assert "drained every VIP" in decision.reasons[0]


def test_draining_every_real_of_a_vip_drains_the_vip() -> None:
    snapshot = make_snapshot(drained=((OverrideKind.REAL, "r-sin"),))

    assert "sin4" not in _reach("www", snapshot)


def test_a_vip_drained_in_part_and_down_for_the_rest_still_fails_open() -> None:
    states = dict.fromkeys(ALL, VipState.DRAINING)

    assert _reach("www", make_snapshot(states=states)) == {"fra4", "fra4b", "ams4", "sin4"}


def test_a_cold_start_answers() -> None:
    fleet = make_fleet()

    assert len(_decide("www", resolve(fleet, Holdings(), 0.0)).chosen) == 2


def test_a_lost_store_changes_no_answer() -> None:
    held = make_snapshot(states={"sin4": DOWN})
    later = resolve(held.fleet, held.holdings.lost(1.0), 1_000_000.0)

    assert _reach("www", later) == _reach("www", held)


def test_reports_past_their_lease_take_the_vip_out_while_others_are_fresh() -> None:
    held = make_snapshot()
    beats = [
        msgspec.structs.replace(item.report, sequence=2)
        for edge, item in held.holdings.reports.items()
        if edge != "sin-edge"
    ]
    partly = resolve(held.fleet, held.holdings.merge(beats, (), 100.0), 101.0)
    stale = resolve(held.fleet, held.holdings, 100.0)

    assert "sin4" not in _reach("www", partly)
    assert _reach("www", stale) == {"fra4", "fra4b", "ams4", "sin4"}


@pytest.mark.parametrize(
    ("subnet", "site"), [("198.51.100.0/25", "fra"), ("203.0.113.7/32", "sin")]
)
def test_nearest_answers_from_the_client_s_own_site(subnet: str, site: str) -> None:
    decision = _decide("near", subnet=subnet)

    assert {view.vip.site for view in decision.chosen} == {site}
    assert decision.scope_bits in (24, 25)


def test_nearest_goes_to_the_next_site_when_the_own_one_is_down() -> None:
    snapshot = make_snapshot(states={"fra4": DOWN, "fra4b": DOWN})

    decision = _decide("near", snapshot, subnet="198.51.100.0/25")
    assert {view.vip.site for view in decision.chosen} == {"ams"}
    assert "km" in decision.reasons[0]


def test_nearest_without_a_known_place_spreads() -> None:
    assert _reach("near") == {"fra4", "fra4b", "ams4", "sin4"}


def test_weighted_draws_in_proportion_and_never_weight_zero() -> None:
    drawn = [_decide("heavy", seed=seed).chosen[0].vip.name for seed in range(2000)]

    assert set(drawn) == {"fra4", "ams4"}
    assert 0.72 < drawn.count("fra4") / len(drawn) < 0.78


def test_failover_takes_the_first_site_with_an_eligible_vip() -> None:
    assert _reach("order") == {"sin4"}
    assert _reach("order", make_snapshot(states={"sin4": DOWN})) == {"fra4"}


@pytest.mark.parametrize("name", ["www", "heavy", "order"])
def test_only_nearest_has_a_scope(name: str) -> None:
    assert _decide(name, subnet="198.51.100.0/25").scope_bits == 0


def test_two_ports_of_one_address_are_one_candidate() -> None:
    decision = _decide("twin")

    assert sorted(str(view.vip.address) for view in decision.chosen) == ["192.0.2.1", "192.0.2.3"]


def test_an_address_with_one_port_down_gives_way_to_a_sound_one() -> None:
    snapshot = make_snapshot(states={"fra4-tls": DOWN})

    assert _reach("twin", snapshot) == {"ams4"}


def test_an_address_with_one_port_down_is_better_than_none() -> None:
    snapshot = make_snapshot(states={"fra4-tls": DOWN, "ams4": DOWN})

    assert _reach("twin", snapshot) == {"fra4"}


def test_draining_one_port_takes_the_address_out() -> None:
    snapshot = make_snapshot(drained=((OverrideKind.VIP, "fra4-tls"),))

    assert _reach("twin", snapshot) == {"ams4"}


def test_a_pool_without_the_family_is_nodata_and_says_so() -> None:
    decision = _decide("four", kind="AAAA")

    assert decision.chosen == ()
    assert decision.reasons == ("the pool has no IPv6 VIP: NODATA",)


def test_every_candidate_has_a_reason() -> None:
    snapshot = make_snapshot(states={"sin4": DOWN}, drained=((OverrideKind.VIP, "ams4"),))
    decision = _decide("near", snapshot, subnet="198.51.100.9/32")

    fate = {c.view.vip.name: (c.chosen, c.reason.split(";")[0]) for c in decision.candidates}
    assert fate["ams4"] == (False, "withdrawn by an operator")
    assert fate["sin4"] == (False, "not eligible")
    assert fate["fra4"] == (True, "drawn")
    assert all(c.distance_km is not None for c in decision.candidates)


def test_an_ipv6_client_is_placed_too() -> None:
    decision = _decide("near", kind="AAAA", subnet="2001:db8:f::/48")

    assert [view.vip.name for view in decision.chosen] == ["fra6"]
    assert ip_address("2001:db8::1") == decision.chosen[0].vip.address
