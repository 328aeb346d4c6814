"""The source filter of a running edge: reload, rules by hand, death and restart of the agent."""

from __future__ import annotations

import signal

import pytest
from pyroute2 import NetNS
from site_world import SiteWorld
from test_edge_agent import VIP, EdgeHost, fleet_text
from test_edge_seen import CLIENT, knock

from gslb.fleet.views import FilterList, Status, Trace

pytestmark = pytest.mark.netns

DENY = {"prefix": "198.18.0.0/15", "action": "deny", "for_s": "600", "by": "anna"}
CONFIGURED = '[filter.carrier]\nprefix = "203.0.113.0/24"\naction = "limit"\npackets_per_s = 500\n'


@pytest.fixture
def edge(world: SiteWorld) -> EdgeHost:
    return EdgeHost(world)


def rules(edge: EdgeHost) -> dict[str, bool]:
    """Prefixes of the rules, and whether the maps have them."""
    shown = edge.world.ask(edge.admin, "/filter", FilterList).rules
    return {row.prefix: row.in_force for row in shown}


def told(edge: EdgeHost, route: str, **params: str) -> tuple[int, bytes]:
    return edge.world.tell(edge.admin, route, params)


def test_rules_follow_the_configuration_and_the_hand(edge: EdgeHost):
    edge.world.write("fleet.toml", fleet_text() + CONFIGURED)
    assert told(edge, "/reload")[0] == 200
    assert rules(edge) == {"203.0.113.0/24": True}

    assert told(edge, "/filter/add", **DENY)[0] == 200
    over = {**DENY, "prefix": "203.0.113.0/24"}
    assert told(edge, "/filter/add", **over)[0] == 200
    shown = edge.world.ask(edge.admin, "/filter", FilterList).rules
    assert [(row.name, row.in_force) for row in shown] == [
        ("carrier", False),
        ("by anna", True),
        ("by anna", True),
    ]

    assert told(edge, "/filter/remove", prefix="203.0.113.0/24")[0] == 200
    assert rules(edge) == {"203.0.113.0/24": True, "198.18.0.0/15": True}
    assert edge.world.ask(edge.admin, "/status", Status).config_hash


def test_a_denied_client_is_dropped_counted_and_explained(edge: EdgeHost):
    world = edge.world
    with NetNS(world.far) as far:
        far.route("add", dst=f"{VIP}/32", gateway="192.0.2.2")
    assert told(edge, "/filter/add", **{**DENY, "prefix": f"{CLIENT}/32"})[0] == 200

    knock(world)
    world.wait(lambda: dropped(edge) > 0)

    query = f"from={CLIENT}:40000&to={VIP}:80&syn=1"
    seen = world.ask(edge.admin, f"/trace?{query}", Trace)
    own = world.ask(edge.admin, f"/trace?from={CLIENT}:40000&to=192.0.2.2:22", Trace)
    assert (seen.verdict, seen.filter) == ("DROPPED_DENIED", (f"by anna: deny {CLIENT}/32",))
    assert (own.verdict, own.filter) == ("PASSED_NOT_VIP", ())
    metric = f'edge_filter_dropped_packets_total{{prefix="{CLIENT}/32",rule="by anna",vips=""}}'
    assert metric in world.run(*waypost_metrics(edge)).stdout


def dropped(edge: EdgeHost) -> int:
    (row,) = edge.world.ask(edge.admin, "/filter", FilterList).rules
    return row.dropped_packets


def waypost_metrics(edge: EdgeHost) -> list[str]:
    """Prints what Prometheus would get."""
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(b'GET /metrics HTTP/1.0\\r\\n\\r\\n');"
        "print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
    )
    return ["-c", script, str(edge.admin)]


def test_a_rule_by_hand_survives_the_agents_death_and_ends_by_itself(edge: EdgeHost):
    assert told(edge, "/filter/add", **DENY)[0] == 200
    edge.world.end(edge.daemon, signal.SIGKILL)

    edge.daemon = edge.start()

    assert rules(edge) == {"198.18.0.0/15": True}
    assert told(edge, "/filter/add", **{**DENY, "for_s": "1"})[0] == 200
    edge.world.wait(lambda: rules(edge) == {})
