"""The rules of announcing, one by one, with a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from edge_lb.announce import (
    Preference,
    Route,
    Seen,
    Standing,
    Told,
    differences,
    routes,
    step,
)
from gslb.fleet.host import BgpSection, NeighborSection

V4, V6 = ip_address("198.51.100.1"), ip_address("2001:db8::1")
HOPS = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8:1::2")}
RULES = BgpSection(
    local_as=65001,
    local_address="192.0.2.2",
    neighbors=(NeighborSection(address="192.0.2.1", peer_as=65000),),
    fault_s=3.0,
    silent_s=10.0,
    return_s=2.0,
    join_max_s=10.0,
    quiet_s=5.0,
    drain_max_s=60.0,
)
SOUND = Told(addresses=frozenset({V4, V6}), drained=False, fault="", packets=7, histories=True)
AT_S = 1_800_000_000.0


class Edge:
    """One edge whose looks are told by the second."""

    def __init__(self, told: Told | None = SOUND, broken: str = "") -> None:
        self.now_s = AT_S
        self.standing = Standing()
        self.told = told
        self.broken = broken

    def look(self, seconds: float = 0.0) -> Preference:
        """`seconds` pass, with a look at each of their ends."""
        for _ in range(max(1, int(seconds))):
            self.now_s += min(1.0, seconds)
            seen = Seen(told=self.told, broken=self.broken)
            self.standing = step(self.standing, seen, RULES, self.now_s)
        return self.standing.preference

    def says(self, **news: object) -> None:
        """The agent says something else from now on."""
        assert self.told is not None
        self.told = replace(self.told, **news)


def by_address(route: Route) -> tuple[int, bytes]:
    return route.address.version, route.address.packed


@pytest.fixture
def edge() -> Edge:
    """An edge that is announced."""
    made = Edge()
    made.look()
    assert made.look(2) is Preference.ANNOUNCED
    return made


def test_a_sound_edge_is_announced_after_a_while() -> None:
    edge = Edge()

    assert edge.look() is Preference.WAITING
    assert edge.look(1) is Preference.WAITING
    assert edge.look(1) is Preference.ANNOUNCED


def test_a_new_edge_waits_for_the_histories() -> None:
    edge = Edge(replace(SOUND, histories=False))

    assert edge.look(9) is Preference.WAITING
    assert edge.standing.reason == "waits for the site's histories"
    edge.says(histories=True)
    assert edge.look(1) is Preference.ANNOUNCED
    assert edge.standing.reason == "the data path works"


def test_the_wait_for_the_histories_is_bounded_and_its_end_is_told() -> None:
    edge = Edge(replace(SOUND, histories=False))
    edge.look()

    assert edge.look(11) is Preference.WAITING
    assert edge.look(1) is Preference.ANNOUNCED
    assert "not read within 10 s" in edge.standing.reason


def test_nothing_is_announced_before_any_vip_is_known() -> None:
    edge = Edge(None)

    assert edge.look(100) is Preference.WAITING
    assert edge.standing.reason == "no VIP is known yet"


@pytest.mark.parametrize(
    "broken", ["the program is not attached to eth0", "eth0 is down", "eth0 has no carrier"]
)
def test_a_broken_link_or_interface_withdraws_at_once(edge: Edge, broken: str) -> None:
    edge.broken = broken

    assert edge.look() is Preference.WITHDRAWN
    assert edge.standing.reason == f"withdrawn: {broken}"


def test_a_broken_link_withdraws_also_without_the_agent(edge: Edge) -> None:
    edge.told, edge.broken = None, "eth0 is down"

    assert edge.look() is Preference.WITHDRAWN


def test_what_was_broken_is_announced_again_when_it_worked_for_a_while(edge: Edge) -> None:
    edge.broken = "eth0 is down"
    edge.look()
    edge.broken = ""

    assert edge.look(2) is Preference.WITHDRAWN
    assert edge.look(1) is Preference.ANNOUNCED


def test_a_fault_that_the_agent_tells_withdraws_if_it_stands(edge: Edge) -> None:
    edge.says(fault="the plan cannot be written: no memory")

    assert edge.look(3) is Preference.ANNOUNCED
    assert edge.look(1) is Preference.WITHDRAWN
    assert "the plan cannot be written" in edge.standing.reason


def test_a_fault_that_passes_withdraws_nothing(edge: Edge) -> None:
    for _ in range(5):
        edge.says(fault="the program fails its rehearsal: late")
        assert edge.look(2) is Preference.ANNOUNCED
        edge.says(fault="")
        assert edge.look(1) is Preference.ANNOUNCED


def test_a_silent_agent_withdraws_nothing_and_lets_others_go_first(edge: Edge) -> None:
    before = routes(edge.standing, RULES, HOPS)
    edge.told = None

    assert edge.look(10) is Preference.ANNOUNCED
    assert edge.look(10_000) is Preference.STEPPED_BACK
    assert edge.standing.reason.startswith("the agent has been silent for 10 s")
    gone, news = differences(before, routes(edge.standing, RULES, HOPS))
    assert gone == ()
    assert news == tuple(replace(route, med=1000) for route in sorted(before, key=by_address))


def test_an_agent_that_is_back_at_once_moves_nothing(edge: Edge) -> None:
    for _ in range(3):
        edge.told = None
        assert edge.look(9) is Preference.ANNOUNCED
        edge.told = SOUND
        assert edge.look(1) is Preference.ANNOUNCED


def test_an_edge_steps_forward_when_its_agent_knows_the_histories(edge: Edge) -> None:
    edge.told = None
    edge.look(20)
    edge.told = replace(SOUND, histories=False)

    assert edge.look(5) is Preference.STEPPED_BACK
    assert edge.standing.reason == "waits for the site's histories"
    edge.says(histories=True)
    assert edge.look(1) is Preference.ANNOUNCED
    assert edge.standing.reason == "the agent speaks again"


def test_the_way_forward_is_bounded_without_the_store(edge: Edge) -> None:
    edge.told = None
    edge.look(20)
    edge.told = replace(SOUND, histories=False)

    assert edge.look(10) is Preference.STEPPED_BACK
    assert edge.look(1) is Preference.ANNOUNCED


def test_an_edge_that_stepped_back_is_withdrawn_and_drained_like_any(edge: Edge) -> None:
    edge.told = None
    edge.look(20)
    edge.told = replace(SOUND, drained=True)
    assert edge.look(1) is Preference.LOWERED

    other = Edge()
    other.look(3)
    other.told = None
    other.look(20)
    other.broken = "eth0 is down"
    assert other.look(1) is Preference.WITHDRAWN


def test_a_doubt_of_an_agent_that_falls_silent_is_not_followed(edge: Edge) -> None:
    edge.says(fault="the program fails its rehearsal: once")
    edge.look()
    edge.told = None

    assert edge.look(9) is Preference.ANNOUNCED
    assert edge.look(100) is Preference.STEPPED_BACK


def test_a_fault_that_took_effect_outlives_its_silent_agent(edge: Edge) -> None:
    edge.says(fault="the plan cannot be written")
    edge.look(4)
    edge.told = None

    assert edge.look(100) is Preference.WITHDRAWN


def test_a_lost_store_withdraws_nothing(edge: Edge) -> None:
    edge.says(histories=False)

    assert edge.look(1000) is Preference.ANNOUNCED


def test_a_drained_edge_is_lowered_while_packets_come_and_withdrawn_when_quiet(edge: Edge) -> None:
    edge.says(drained=True)
    assert edge.look() is Preference.LOWERED
    for packets in range(100, 120):
        edge.says(packets=packets)
        assert edge.look(1) is Preference.LOWERED

    assert edge.look(4) is Preference.LOWERED
    assert edge.look(1) is Preference.WITHDRAWN
    assert edge.standing.reason == "drained: no packet of a VIP for 5 s"
    assert edge.look(5) is Preference.WITHDRAWN
    assert edge.standing.reason == "drained: no packet of a VIP for 5 s"


def test_a_drain_ends_by_its_deadline(edge: Edge) -> None:
    edge.says(drained=True)
    edge.look()
    for packets in range(100, 159):
        edge.says(packets=packets)
        assert edge.look(1) is Preference.LOWERED

    edge.says(packets=1000)
    assert edge.look(1) is Preference.WITHDRAWN
    assert "packets still came after 60 s" in edge.standing.reason


def test_a_silent_agent_is_not_quiet(edge: Edge) -> None:
    edge.says(drained=True)
    edge.look()
    edge.told = None

    assert edge.look(50) is Preference.LOWERED
    assert edge.look(10) is Preference.WITHDRAWN


def test_an_undrain_takes_a_lowered_edge_back_at_once(edge: Edge) -> None:
    edge.says(drained=True)
    edge.look()
    edge.says(drained=False)

    assert edge.look() is Preference.ANNOUNCED


def test_an_undrain_takes_a_withdrawn_edge_back_at_once(edge: Edge) -> None:
    edge.says(drained=True)
    edge.look(10)
    assert edge.standing.preference is Preference.WITHDRAWN
    edge.says(drained=False)

    assert edge.look() is Preference.ANNOUNCED


def test_an_edge_that_was_drained_before_it_was_announced_is_never_announced() -> None:
    edge = Edge(replace(SOUND, drained=True))

    assert edge.look(100) is Preference.WITHDRAWN
    assert routes(edge.standing, RULES, HOPS) == frozenset()


def test_a_broken_link_ends_a_drain(edge: Edge) -> None:
    edge.says(drained=True)
    edge.look()
    edge.broken = "eth0 is down"

    assert edge.look() is Preference.WITHDRAWN
    assert edge.standing.reason == "withdrawn: eth0 is down"


def test_a_vip_that_comes_or_goes_changes_the_routes(edge: Edge) -> None:
    before = routes(edge.standing, RULES, HOPS)
    other = ip_address("198.51.100.9")
    edge.says(addresses=frozenset({V4, other}))
    edge.look()

    gone, news = differences(before, routes(edge.standing, RULES, HOPS))
    assert [route.address for route in gone] == [V6]
    assert [route.address for route in news] == [other]


def test_each_family_goes_by_its_own_next_hop(edge: Edge) -> None:
    found = {route.address: route.next_hop for route in routes(edge.standing, RULES, HOPS)}

    assert found == {V4: HOPS[4], V6: HOPS[6]}


def test_a_lowered_route_is_announced_anew_and_withdraws_nothing(edge: Edge) -> None:
    before = routes(edge.standing, RULES, HOPS)
    edge.says(drained=True)
    edge.look()

    gone, news = differences(before, routes(edge.standing, RULES, HOPS))
    assert gone == ()
    assert news[0] == Route(
        address=V4,
        next_hop=HOPS[4],
        med=1000,
        local_preference=0,
        communities=("65535:0",),
    )
    assert {route.med for route in before} == {0}
