"""What operators see: rows of a snapshot, troubles in words, an answer explained."""

from __future__ import annotations

import random
from ipaddress import ip_network

import pytest
from dns_world import addresses, ask, make_answerer, make_snapshot

from gslb.fleet.health import OverrideKind, VipState
from gslb.fleet.snapshot import Snapshot
from gslb.fleet.views import Explanation
from gslb.show import asker, explain, real_list, site_rows, trouble, vip_list


def _explain(
    name: str, kind: str = "A", client: str = "192.0.2.200", snapshot: Snapshot | None = None
) -> Explanation:
    snapshot = snapshot or make_snapshot()
    table = make_answerer(snapshot).table
    return explain(name, kind, asker(client), table, snapshot, random.Random(1))


def test_every_vip_and_real_has_a_row() -> None:
    snapshot = make_snapshot(states={"sin4": VipState.DOWN})

    rows = {row.name: row for row in vip_list(snapshot).vips}
    assert len(rows) == 7
    assert (rows["sin4"].state, rows["sin4"].eligible) == ("DOWN", False)
    reals = real_list(snapshot).reals
    assert {(row.name, row.vip) for row in reals} >= {("r-fra", "fra4"), ("r-sin", "sin6")}
    assert {row.state for row in reals} == {"UP"}


def test_sites_count_fresh_edges_and_eligible_vips() -> None:
    snapshot = make_snapshot(states={"sin4": VipState.DOWN})
    sin = next(row for row in site_rows(snapshot, 1.0) if row.name == "sin")

    assert (sin.vips_eligible, sin.vips_total, sin.edges_fresh, sin.edges_total) == (1, 2, 1, 1)
    assert all(row.edges_fresh == 0 for row in site_rows(snapshot, 100.0))


def test_troubles_are_told_in_words() -> None:
    snapshot = make_snapshot(states={"sin4": VipState.DOWN})

    assert trouble(make_snapshot(), "", 0) == ()
    assert len(trouble(snapshot, "gone", 2)) == 3
    assert "sin4: DOWN" in trouble(snapshot, "", 0)[0]


def test_an_explained_answer_is_the_wire_s_answer() -> None:
    snapshot = make_snapshot(drained=((OverrideKind.VIP, "ams4"),))
    told = _explain("near.example.com", client="203.0.113.9", snapshot=snapshot)
    said = ask(make_answerer(snapshot), "near.example.com", ecs="203.0.113.9/32")

    assert list(told.answers) == addresses(said)
    assert told.scope == "203.0.113.0/24"
    assert (told.pool, told.policy, told.ttl_s) == ("near", "nearest", 30)
    assert {row.vip: row.chosen for row in told.candidates}["sin4"]


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "reason"),
    [
        ("mail.example.com", "A", "NOERROR", "zone file"),
        ("mail.example.com", "MX", "NOERROR", "without this type"),
        ("nope.example.com", "A", "NXDOMAIN", "neither"),
        ("host.lab.example.com", "A", "NOERROR", "delegated"),
        ("example.net", "A", "REFUSED", "no zone"),
        ("away.example.com", "A", "NOERROR", "out of the zone"),
        ("round.example.com", "A", "NOERROR", "circle"),
    ],
)
def test_an_authored_answer_is_explained_too(name: str, kind: str, rcode: str, reason: str) -> None:
    told = _explain(name, kind)

    assert told.rcode == rcode
    assert reason in told.reasons[-1]


def test_an_alias_of_a_pool_is_followed() -> None:
    told = _explain("hop.example.com")

    assert told.pool == "spread"
    assert [reason.split("`")[3] for reason in told.reasons[:2]] == [
        "shop.example.com.",
        "www.example.com.",
    ]


def test_an_asker_is_an_address_or_a_subnet() -> None:
    assert asker("203.0.113.9").subnet == ip_network("203.0.113.9/32")
    assert asker("2001:db8::/32").subnet == ip_network("2001:db8::/32")
    with pytest.raises(ValueError, match="nobody"):
        asker("nobody")


def test_unknown_types_and_names_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="record type"):
        _explain("www.example.com", "BOGUS")
    with pytest.raises(ValueError, match="label"):
        _explain("a..b")
