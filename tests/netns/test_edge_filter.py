"""The source filter of a running edge: reload, rules by hand, death and restart of the agent."""

from __future__ import annotations

import signal

import pytest
from site_world import SiteWorld
from test_edge_agent import EdgeHost, fleet_text

from gslb.fleet.views import FilterList, Status

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


def test_a_rule_by_hand_survives_the_agents_death_and_ends_by_itself(edge: EdgeHost):
    assert told(edge, "/filter/add", **DENY)[0] == 200
    edge.world.end(edge.daemon, signal.SIGKILL)

    edge.daemon = edge.start()

    assert rules(edge) == {"198.18.0.0/15": True}
    assert told(edge, "/filter/add", **{**DENY, "for_s": "1"})[0] == 200
    edge.world.wait(lambda: rules(edge) == {})
