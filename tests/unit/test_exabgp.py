"""ExaBGP's configuration, the commands it is given, and what it says of its sessions."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from edge_lb.announce import Route
from edge_lb.exabgp import (
    announce_line,
    configuration,
    neighbor_change,
    next_hops,
    withdraw_line,
)
from gslb.fleet.host import BgpSection, NeighborSection, bgp_faults

CONFIGS = Path(__file__).parent.parent.parent / "configs"

BGP = BgpSection(
    local_as=65001,
    local_address="192.0.2.2",
    local_address_v6="2001:db8::2",
    neighbors=(
        NeighborSection(address="192.0.2.1", peer_as=65000),
        NeighborSection(address="2001:db8::1", peer_as=4_200_000_000),
    ),
)


def test_each_router_is_a_neighbor_spoken_to_from_the_address_of_its_family() -> None:
    text = configuration(BGP, ["/usr/bin/python3", "-m", "edge_lb", "announcer"])

    assert "run /usr/bin/python3 -m edge_lb announcer;" in text
    first, second = text.split("neighbor ")[1:3] if text.count("\nneighbor ") == 2 else ("", "")
    assert "192.0.2.1 {" in first
    assert "local-address 192.0.2.2;" in first
    assert "peer-as 65000;" in first
    assert "router-id 192.0.2.2;" in second
    assert "local-address 2001:db8::2;" in second
    assert "peer-as 4200000000;" in second
    assert text.count("family { ipv4 unicast; ipv6 unicast; }") == 2


def test_a_route_is_said_with_all_that_the_routers_choose_by() -> None:
    route = Route(
        address=ip_address("198.51.100.1"),
        next_hop=ip_address("192.0.2.2"),
        med=1000,
        local_preference=0,
        communities=("65535:0", "65001:7"),
    )

    assert announce_line(route) == (
        "announce route 198.51.100.1/32 next-hop 192.0.2.2 med 1000 local-preference 0"
        " community [ 65535:0 65001:7 ]\n"
    )
    assert withdraw_line(route) == "withdraw route 198.51.100.1/32 next-hop 192.0.2.2\n"


def test_an_ipv6_vip_is_a_route_of_128_bits() -> None:
    route = Route(
        address=ip_address("2001:db8:9::1"),
        next_hop=next_hops(BGP)[6],
        med=0,
        local_preference=100,
        communities=(),
    )

    assert announce_line(route) == (
        "announce route 2001:db8:9::1/128 next-hop 2001:db8::2 med 0 local-preference 100\n"
    )


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (
            '{"exabgp":"5.0.0","neighbor":{"address":{"peer":"192.0.2.1"},"state":"up"}}',
            ("192.0.2.1", True),
        ),
        (
            '{"neighbor":{"address":{"peer":"192.0.2.1"},"state":"down","reason":"reset"}}',
            ("192.0.2.1", False),
        ),
        ('{"neighbor":{"address":{"peer":"192.0.2.1"},"state":"connected"}}', None),
        ("done", None),
        ("", None),
    ],
)
def test_sessions_changes_are_heard(line: str, change: tuple[str, bool] | None) -> None:
    assert neighbor_change(line) == change


@pytest.mark.parametrize(
    ("news", "at"),
    [
        ({"local_as": 0}, "$.bgp.local_as"),
        ({"local_address": "2001:db8::2"}, "$.bgp.local_address"),
        ({"router_id": "2001:db8::2"}, "$.bgp.router_id"),
        ({"neighbors": ()}, "$.bgp.neighbors"),
        ({"hold_s": 2}, "$.bgp.hold_s"),
        ({"drain_med": -1}, "$.bgp.drain_med"),
        ({"communities": ("no-export",)}, "$.bgp.communities[0]"),
        ({"quiet_s": -1.0}, "$.bgp.quiet_s"),
        (
            {"drain_med": 0, "drain_local_preference": 100, "drain_communities": ()},
            "$.bgp.drain_med",
        ),
        ({"local_address_v6": ""}, "$.bgp.neighbors[1].address"),
        (
            {"neighbors": (NeighborSection(address="router", peer_as=1),)},
            "$.bgp.neighbors[0].address",
        ),
        (
            {"neighbors": (NeighborSection(address="192.0.2.1", peer_as=2**32),)},
            "$.bgp.neighbors[0].peer_as",
        ),
    ],
)
def test_a_faulty_section_is_told_by_its_path(news: dict[str, object], at: str) -> None:
    faulty = BgpSection(**{name: getattr(BGP, name) for name in BGP.__struct_fields__} | news)

    assert [path for path, *_ in bgp_faults(faulty)] == [at]
    assert bgp_faults(BGP) == []


def test_an_edge_without_ipv4_needs_a_router_id() -> None:
    faulty = BgpSection(
        local_as=65001,
        local_address_v6="2001:db8::2",
        neighbors=(NeighborSection(address="2001:db8::1", peer_as=65000),),
    )

    assert [path for path, *_ in bgp_faults(faulty)] == ["$.bgp.router_id"]


def test_the_speakers_unit_checks_first_and_does_not_end_with_the_agent() -> None:
    unit = (CONFIGS / "systemd" / "waypost-announce.service").read_text()
    start = "ExecStart=/usr/bin/waypost announce --config /etc/waypost/edge.toml"

    assert start.replace("ExecStart", "ExecStartPre") + " --check\n" in unit
    assert f"{start}\n" in unit
    assert not [word for word in ("Requires=", "BindsTo=", "PartOf=") if word in unit]
