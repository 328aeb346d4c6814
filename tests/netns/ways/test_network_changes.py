"""The network changes under running connections: MAC addresses, wires, interfaces, routes."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pyroute2 import NetNS

from ops.lab.world import inside
from ways.net import EDGE, EDGE_OTHER_ARM, REALS, Spot, family_of
from ways.site import WAYS, WaySite

pytestmark = pytest.mark.netns

FAR = ("far4", "far6")
TUNNELS = ("gue4", "gue6", "ipip4", "ipip6")
LINE = b"still there?\n"
NOTIFY = ("ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify")


class Talk:
    """Connections that stay open, one by every way to some reals."""

    def __init__(self, site: WaySite, reals: Iterable[str], *, l2: bool) -> None:
        self._site = site
        self._open = ExitStack()
        self._ends: dict[str, socket.socket] = {}
        for name, vip in WAYS.items():
            if vip.reals[0] in reals and (l2 or not name.startswith("l2")):
                self._ends[name] = self._open.enter_context(site.connect(vip, wait_s=20))
                self._ends[name].sendall(b"0\n")
                assert self._ends[name].recv(100).decode().strip() == vip.reals[0]

    def close(self) -> None:
        self._open.close()

    def goes_on(self) -> None:
        """Every connection still carries bytes, and new ones begin."""
        for end in self._ends.values():
            end.sendall(LINE)
        for end in self._ends.values():
            assert end.recv(100) == LINE
        for name in self._ends:
            assert self._site.name_of_server(WAYS[name]) == WAYS[name].reals[0]


@contextmanager
def talk(site: WaySite, *reals: str, l2: bool = True) -> Iterator[Talk]:
    made = Talk(site, reals, l2=l2)
    try:
        made.goes_on()
        yield made
    finally:
        made.close()


def await_mac(site: WaySite, real: str, mac: bytes) -> None:
    """Until packets to the real are sent to that neighbour; by MAC alone, none to a router."""
    site.world.wait(lambda: {way.mac for way in site.ways_to(real) if way.ifindex} == {mac})


def test_mac_addresses_of_reals_change_announced_or_not(site: WaySite):
    quiet = ("near6", "far4")
    for real in quiet:
        with inside(site.net.reals[real]):
            for key in NOTIFY:
                (Path("/proc/sys/net") / key).write_text("0")
    theirs = {real: site.net.mac(site.net.reals[real], "eth0") for real in REALS}
    others = {real: bytes([2, 0, 0, 0, 8, number]) for number, real in enumerate(REALS)}

    with talk(site, *REALS) as talking:
        for macs in (others, theirs):
            for real, mac in macs.items():
                site.net.set_link(site.net.reals[real], "eth0", address=mac.hex(":"))
            for real, mac in macs.items():
                await_mac(site, real, mac)
            site.world.wait(site.settled)
            talking.goes_on()

    for real in quiet:
        site.start_real(real)


def test_wires_of_reals_are_out_and_in_again(site: WaySite):
    with talk(site, "near4", "far6") as talking:
        for real in ("near4", "far6"):
            site.net.set_link(site.net.router, real, state="down")
        for real in ("near4", "far6"):
            site.world.wait(lambda real=real: set(site.states(real).values()) == {"DOWN"})

        for real in ("near4", "far6"):
            site.net.set_link(site.net.router, real, state="up")
        site.world.wait(site.settled)
        talking.goes_on()


def test_an_interface_of_the_edge_goes_down_and_the_default_route_takes_over(site: WaySite):
    gateway = site.net.mac(site.net.router, "br0")

    with talk(site, *FAR, l2=False) as talking:
        site.net.set_link(site.net.edge, "eth1", state="down")
        for real in FAR:
            await_mac(site, real, gateway)
        talking.goes_on()

        site.net.set_link(site.net.edge, "eth1", state="up")
        site.net.address(site.net.edge, "eth1", EDGE_OTHER_ARM)  # as what keeps addresses would
        for real in FAR:
            await_mac(site, real, site.net.mac(site.net.reals[real], "eth0"))
        site.world.wait(site.settled)
        talking.goes_on()


def test_the_interface_of_the_clients_goes_down_and_comes_back(site: WaySite):
    with talk(site, "near4", "near6", "far6") as talking:
        site.net.set_link(site.net.edge, "eth0", state="down")
        site.world.wait(lambda: not any(way.ifindex for way in site.ways_to("near4")))

        site.net.set_link(site.net.edge, "eth0", state="up")
        site.net.address(site.net.edge, "eth0", EDGE)  # as what keeps a host's addresses would
        site.net.route(site.net.edge, EDGE)
        for real in ("near4", "near6"):
            await_mac(site, real, site.net.mac(site.net.reals[real], "eth0"))
        site.world.wait(site.settled)
        talking.goes_on()


@pytest.mark.parametrize("real", FAR)
def test_the_next_hop_moves_from_gateway_to_gateway(site: WaySite, real: str):
    family = family_of(real)
    route = {
        "dst": f"{REALS[real].of(family)}/{ {4: 32, 6: 128}[family] }",
        "family": socket.AF_INET6 if family == 6 else socket.AF_INET,
    }
    gateways = {0: site.net.mac(site.net.router, "br0"), 1: site.net.mac(site.net.router, "br1")}

    with talk(site, real, l2=False) as talking, NetNS(site.net.edge) as edge:
        for segment in (0, 1, 0):
            index = edge.link_lookup(ifname=f"eth{segment}")[0]
            gateway = Spot(segment, 1).of(family)
            edge.route("replace", gateway=gateway, oif=index, **route)
            await_mac(site, real, gateways[segment])
            talking.goes_on()

        edge.route("delete", **route)
        await_mac(site, real, site.net.mac(site.net.reals[real], "eth0"))
        talking.goes_on()
    site.world.wait(site.settled)
