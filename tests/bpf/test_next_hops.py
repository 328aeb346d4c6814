"""The way to each real: asked of the kernel, followed when it changes, used in place of the FIB."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from datapath_plans import VIP, plan, real, ring_to, vip
from pyroute2 import IPRoute

from bpf.packets import ETHERNET_BYTES, TCP, ethernet, frame_of, ipv4, one_hop_older, tcp
from bpf.program import interface_index
from bpf.trial import XDP_REDIRECT, XDP_TX
from bpf.workbench import (
    FAR_NETWORK,
    GATEWAY,
    MTU,
    NEAR_REAL,
    NEAR_REAL_V6,
    NEIGHBOURS,
    SILENT_REAL,
    Workbench,
)
from edge_lb.datapath import Datapath
from edge_lb.links import Link, links_of
from edge_lb.nexthop import ASK, NextHops
from edge_lb.plan import VlanDevice, VlanTag
from gslb.fleet.model import Encap

pytestmark = pytest.mark.bpf

FAR, FAR_V6 = ip_address("10.60.0.1"), ip_address("fd60::1")
NEAR, NEAR_V6 = ip_address(NEAR_REAL), ip_address(NEAR_REAL_V6)
UNKNOWN = ip_address("203.0.113.9")
OTHER_MAC = "02:00:00:00:09:09"
PERMANENT = 0x80  # NUD_PERMANENT


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


@pytest.fixture
def ways(bench: Workbench) -> NextHops:
    made = NextHops(lambda: None)
    made.want([FAR, FAR_V6, NEAR, NEAR_V6, UNKNOWN, ip_address("127.0.0.1")])
    made.refresh()
    return made


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=64)
    made.open_private()
    yield made
    made.close()


def test_the_kernels_routes_and_neighbours_give_the_ways(ways: NextHops, bench: Workbench):
    assert set(ways.hops) == {FAR, FAR_V6, NEAR, NEAR_V6}
    assert ways.hops[FAR].ifindex == ways.hops[FAR_V6].ifindex == bench.in_ifindex
    assert ways.hops[FAR].destination == mac(NEIGHBOURS[GATEWAY][1])
    assert ways.hops[NEAR].destination == mac(NEIGHBOURS[NEAR_REAL][1])
    assert ways.hops[NEAR_V6].ifindex == bench.out_ifindex
    assert [ways.hops[one].is_direct for one in (FAR, FAR_V6, NEAR, NEAR_V6)] == [0, 0, 1, 1]
    assert {hop.mtu for hop in ways.hops.values()} == {MTU}


def test_a_second_look_at_the_same_kernel_changes_nothing(ways: NextHops):
    assert not ways.refresh()
    assert not ways.refresh(routes_changed=False)


def test_a_new_mac_address_is_followed(ways: NextHops, bench: Workbench):
    known = {"dst": NEAR_REAL, "ifindex": bench.out_ifindex, "state": "permanent"}
    with IPRoute() as netlink:
        netlink.neigh("replace", lladdr=OTHER_MAC, **known)
        try:
            assert ways.refresh(routes_changed=False)
            assert ways.hops[NEAR].destination == mac(OTHER_MAC)
        finally:
            netlink.neigh("replace", lladdr=NEIGHBOURS[NEAR_REAL][1], **known)


def test_a_new_route_is_followed(ways: NextHops, bench: Workbench):
    with IPRoute() as netlink:
        netlink.route("replace", dst=FAR_NETWORK, gateway=NEAR_REAL)
        try:
            assert ways.refresh()
            assert ways.hops[FAR].ifindex == bench.out_ifindex
            assert ways.hops[FAR].destination == mac(NEIGHBOURS[NEAR_REAL][1])
        finally:
            netlink.route("replace", dst=FAR_NETWORK, gateway=GATEWAY)


def test_an_interface_that_goes_down_takes_its_ways_along(ways: NextHops, bench: Workbench):
    with IPRoute() as netlink:
        netlink.link("add", ifname="flap0", kind="veth", peer={"ifname": "flap1"})
        index = interface_index("flap0")
        for name in ("flap0", "flap1"):
            netlink.link("set", index=interface_index(name), state="up")
        netlink.addr("add", index=index, address="10.52.0.1", prefixlen=24)
        netlink.neigh("add", dst="10.52.0.2", lladdr=OTHER_MAC, ifindex=index, state="permanent")
        there = ip_address("10.52.0.2")
        ways.want([there])
        assert ways.refresh()
        assert ways.hops[there].ifindex == index
        try:
            netlink.link("set", index=index, state="down")
            assert ways.refresh()
            assert ways.hops == {}
            netlink.link("set", index=index, state="up")
            netlink.neigh("replace", dst="10.52.0.2", lladdr=OTHER_MAC, ifindex=index)
            assert ways.refresh()
            assert ways.hops[there].ifindex == index
        finally:
            netlink.link("del", index=index)


def test_a_way_by_a_vlan_device_is_one_by_its_carrier_with_tags(
    ways: NextHops, bench: Workbench, monkeypatch: pytest.MonkeyPatch
):
    """out0 is said to be a VLAN device on in0: its route, neighbour, MAC and MTU stay its own."""
    plain = ways.hops[NEAR]
    tag = VlanTag(protocol=0x88A8, tci=7)

    def with_vlan(messages: Iterable[Any]) -> dict[int, Link]:
        links = links_of(messages)
        device = replace(links[bench.out_ifindex], carrier=bench.in_ifindex, tags=(tag,))
        return links | {bench.out_ifindex: device}

    monkeypatch.setattr("edge_lb.nexthop.links_of", with_vlan)

    assert ways.refresh()
    assert ways.hops[NEAR] == replace(plain, ifindex=bench.in_ifindex, tags=(tag,))
    assert ways.hops[FAR].tags == ()
    assert ways.vlans == (
        VlanDevice(ifindex=bench.out_ifindex, carrier=bench.in_ifindex, tags=(tag,)),
    )
    assert not ways.refresh()
    monkeypatch.setattr("edge_lb.nexthop.links_of", links_of)
    assert ways.refresh()
    assert (ways.hops[NEAR], ways.vlans) == (plain, ())


def test_the_kernel_is_had_to_resolve_an_unknown_neighbour(ways: NextHops, bench: Workbench):
    ways.want([ip_address(SILENT_REAL)])

    ways.refresh()

    with IPRoute() as netlink:
        asked = [found.get_attr("NDA_DST") for found in netlink.get_neighbours()]
    assert SILENT_REAL in asked
    assert ways.hops == {}


def test_a_known_way_is_taken_without_asking_the_fib(
    datapath: Datapath, ways: NextHops, bench: Workbench
):
    """out0 does not forward: the FIB would refuse what comes in by it."""
    far = replace(real(1), next_hop=ways.hops[FAR])
    near = replace(real(2), address=NEAR, encap=Encap.L2, next_hop=ways.hops[NEAR])
    packet = ipv4("198.51.100.7", str(VIP), TCP, tcp(40000, 80))

    datapath.apply(plan([far, near], [vip(ring_to(2))]))
    back = datapath.program.test_run(frame_of(packet), ifindex=bench.out_ifindex)
    datapath.apply(plan([far, near], [vip(ring_to(1), port=81)]))
    onward = datapath.program.test_run(
        ethernet(ipv4("198.51.100.7", str(VIP), TCP, tcp(40000, 81))), ifindex=bench.out_ifindex
    )

    assert back.action == XDP_TX
    assert back.packet[:6] == mac(NEIGHBOURS[NEAR_REAL][1])
    assert back.packet[ETHERNET_BYTES:] == one_hop_older(packet)
    assert onward.action == XDP_REDIRECT
    assert onward.packet[:6] == mac(NEIGHBOURS[GATEWAY][1])
    devices = set(datapath.program.maps["devices"].keys())
    assert devices == {
        index.to_bytes(4, "little") for index in (bench.in_ifindex, bench.out_ifindex)
    }


def test_a_way_that_is_narrower_than_the_packet_does_not_take_it(
    datapath: Datapath, ways: NextHops, bench: Workbench
):
    narrow = replace(real(1), next_hop=replace(ways.hops[FAR], mtu=100))
    packet = ipv4("198.51.100.7", str(VIP), TCP, tcp(40000, 80, payload=bytes(61 - 32)))
    datapath.apply(plan([narrow], [vip(ring_to(1))]))

    datapath.program.test_run(ethernet(packet), ifindex=bench.in_ifindex)

    assert datapath.verdicts()["ANSWERED_TOO_BIG"].packets == 1


def test_a_doubted_neighbour_is_asked_unless_an_operator_named_it(ways: NextHops, bench: Workbench):
    learned = ip_address("10.51.0.77")
    ways.want([NEAR, learned])
    with IPRoute() as netlink:
        index = bench.out_ifindex
        netlink.neigh("add", dst=str(learned), lladdr=OTHER_MAC, ifindex=index, state="reachable")
        ways.refresh()

        ways.refresh(doubted=[NEAR, learned])
        states = {
            found.get_attr("NDA_DST"): found["state"] for found in netlink.get_neighbours(family=2)
        }
        netlink.neigh("delete", dst=str(learned), ifindex=index)

    assert (states[str(learned)], states[str(NEAR)]) == (ASK, PERMANENT)
    assert ways.hops[learned].destination == mac(OTHER_MAC)  # used until it is known to be wrong
