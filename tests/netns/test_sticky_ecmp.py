"""ECMP of the lab's router over three edges that BIRD hears by BGP: plain, and by resilient groups.

The edges are BIRDs too, for they are light; where a flow goes is asked of the kernel, which hashes
addresses and ports (`fib_multipath_hash_policy` 1) as it does for a packet.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from bird import MAIN_TABLE, Bird, bird_text
from pyroute2 import NetNS
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from site_world import SiteWorld

from ops.lab.router import BGP_TABLE
from ops.lab.world import inside

pytestmark = pytest.mark.netns

VIP = "198.51.100.1"
ROUTER = "192.0.2.1"
EDGES = ("192.0.2.11", "192.0.2.12", "192.0.2.13")
GONE = EDGES[0]  # the ranges of all others shift; those around a middle one would just grow
PORTS = range(20_000, 20_400)
RTM_NEWROUTE, RTM_GETROUTE, NLM_F_REQUEST = 24, 26, 1
RTA_DST, RTA_IP_PROTO, RTA_SPORT, RTA_DPORT = 1, 27, 28, 29


def edge_text(address: str) -> str:
    """An edge that announces the VIP."""
    return (
        f"router id {address};\nprotocol device {{ }}\n"
        f"protocol static {{ ipv4; route {VIP}/32 blackhole; }}\n"
        f"protocol bgp {{ local {address} as 65001; neighbor {ROUTER} as 65000; strict bind yes;\n"
        "  connect delay time 1; error wait time 1, 2;\n"
        "  ipv4 { import none; export all; next hop self; }; }\n"
    )


def way_of(kernel: socket.socket, port: int) -> str:
    """The gateway of a TCP flow from this port (RTM_GETROUTE, linux/rtnetlink.h)."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    for kind, value in (
        (RTA_DST, socket.inet_aton(VIP)),
        (RTA_IP_PROTO, bytes([socket.IPPROTO_TCP])),
        (RTA_SPORT, struct.pack("!H", port)),
        (RTA_DPORT, struct.pack("!H", 80)),
    ):
        body += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    kernel.send(struct.pack("=IHHII", 16 + len(body), RTM_GETROUTE, NLM_F_REQUEST, 1, 0) + body)
    message = rtmsg(kernel.recv(65536))
    message.decode()
    gateway = message.get_attr("RTA_GATEWAY") if message["header"]["type"] == RTM_NEWROUTE else None
    if gateway is None:
        raise LookupError(VIP)
    return str(gateway)


class ThreeEdges:
    """A router in one namespace, three edges in another."""

    def __init__(self, world: SiteWorld, *, resilient: bool) -> None:
        self.world = world
        self._edges: dict[str, Bird] = {}
        with NetNS(world.name) as ns:
            index = ns.link_lookup(ifname="eth0")[0]
            for address in EDGES:
                ns.addr("add", index=index, address=address, prefixlen=24)
        with inside(world.far):
            Path("/proc/sys/net/ipv4/fib_multipath_hash_policy").write_text("1")
        text = bird_text(EDGES, router_id=ROUTER, table=BGP_TABLE if resilient else MAIN_TABLE)
        self._router = Bird(self._folder("router"), world.far, text)
        if resilient:
            world.start("-m", "ops.lab.resilient", str(BGP_TABLE), namespace=world.far)
        for address in EDGES:
            self.start(address)

    def _folder(self, name: str) -> Path:
        folder = self.world.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def start(self, address: str) -> None:
        self._edges[address] = Bird(self._folder(address), self.world.name, edge_text(address))

    def stop(self, address: str) -> None:
        self._edges.pop(address).close()

    def close(self) -> None:
        for bird in (self._router, *self._edges.values()):
            bird.close()

    def flows(self) -> dict[int, str]:
        """Which edge each flow goes to, by its client's port."""
        with (
            inside(self.world.far),
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel,
        ):
            return {port: way_of(kernel, port) for port in PORTS}

    def used(self) -> set[str]:
        """The edges that flows go to; none while there is no route."""
        try:
            return set(self.flows().values())
        except LookupError:
            return set()

    def members(self) -> set[str]:
        """The edges that the router's kernel knows ways to."""
        return self._router.gateways(VIP)[0]


def edges_of(world: SiteWorld, *, resilient: bool) -> Iterator[ThreeEdges]:
    made = ThreeEdges(world, resilient=resilient)
    try:
        # asking where a flow goes keeps its bucket where it is, so all the edges come first
        world.wait(lambda: made.members() == set(EDGES))
        world.wait(lambda: made.used() == set(EDGES))
        yield made
    finally:
        made.close()


@pytest.fixture
def plain(world: SiteWorld) -> Iterator[ThreeEdges]:
    yield from edges_of(world, resilient=False)


@pytest.fixture
def resilient(world: SiteWorld) -> Iterator[ThreeEdges]:
    yield from edges_of(world, resilient=True)


def moved(before: dict[int, str], after: dict[int, str]) -> list[int]:
    """The flows of the edges that stayed which go elsewhere now."""
    return [port for port, edge in before.items() if edge != GONE and after[port] != edge]


def test_plain_ecmp_moves_flows_of_the_edges_that_stay(plain: ThreeEdges) -> None:
    before = plain.flows()
    plain.stop(GONE)
    plain.world.wait(lambda: plain.used() == set(EDGES) - {GONE})

    assert moved(before, plain.flows())


def test_resilient_groups_move_none_of_them_also_when_the_edge_comes_back(
    resilient: ThreeEdges,
) -> None:
    before = resilient.flows()
    resilient.stop(GONE)
    resilient.world.wait(lambda: resilient.used() == set(EDGES) - {GONE})
    assert moved(before, resilient.flows()) == []

    between = resilient.flows()
    resilient.start(GONE)
    resilient.world.wait(lambda: GONE in resilient.members())
    assert resilient.flows() == between
