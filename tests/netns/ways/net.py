"""The network of the forwarding tests: client, router, an edge with two arms, two reals on each.

    client eth0 - c0 router br0 - edge eth0, near4, near6     the arm that clients' packets come by
                            br1 - edge eth1, far4, far6       the other one

Built on a `SiteWorld`, whose namespace is the edge and whose far one is the router. Every host has
both address families; a real is known to the fleet by the one that its name ends in. `close` takes
away what was added.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute, NetNS, netns
from site_world import SiteWorld

from bpf.program import BPFFS, Program, unload
from ops.lab.world import inside, send_as_on_a_wire

CLIENT_MTU = 1500
SITE_MTU = 1600  # room for the widest wrapping around a client's packet
NODAD = 0x02  # an address is usable at once
VIP_NETWORKS = ("198.51.100.0/24", "2001:db8:1::/64")
CLIENT_SOURCES = tuple(range(2, 26))  # last octets of the client's addresses
FRESH_SOURCE = 30  # one more, that reals have not sent to before
SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
}


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on a segment: both addresses of a host there."""

    segment: int
    number: int

    @property
    def ipv4(self) -> str:
        return f"10.8.{self.segment}.{self.number}"

    @property
    def ipv6(self) -> str:
        return f"fd08:{self.segment}::{self.number}"

    def of(self, family: int) -> str:
        return self.ipv6 if family == 6 else self.ipv4

    @property
    def gateway(self) -> Spot:
        return Spot(self.segment, 1)


CLIENT, EDGE, EDGE_OTHER_ARM = Spot(9, 2), Spot(0, 2), Spot(1, 2)
REALS = {
    "near4": Spot(0, 11),
    "near6": Spot(0, 12),
    "far4": Spot(1, 11),
    "far6": Spot(1, 12),
}


def family_of(real: str) -> int:
    """The family of the address that the fleet knows this real by."""
    return int(real[-1])


class WayNet:
    """Namespaces and links; `client`, `router`, `edge` and `reals` are names of namespaces."""

    def __init__(self, world: SiteWorld) -> None:
        self.world = world
        self.edge, self.router = world.name, world.far
        self.client = f"{world.name}-client"
        self.reals = {name: f"{world.name}-{name}" for name in REALS}
        self._pins = BPFFS / f"waypost_{world.name}_pass"
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for end in ("far0", "far1"):
            unload(self._pins / end)
        if self._pins.exists():
            self._pins.rmdir()
        for name in (self.client, *self.reals.values()):
            if name in netns.listnetns():
                netns.remove(name)

    def index(self, namespace: str, interface: str) -> int:
        with NetNS(namespace) as ns:
            return int(ns.link_lookup(ifname=interface)[0])

    def set_link(self, namespace: str, interface: str, **what: object) -> None:
        """State, MTU or MAC address of an interface."""
        with NetNS(namespace) as ns:
            ns.link("set", index=ns.link_lookup(ifname=interface)[0], **what)

    def mac(self, namespace: str, interface: str) -> bytes:
        with NetNS(namespace) as ns:
            (link,) = ns.get_links(ns.link_lookup(ifname=interface)[0])
            return bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))

    def _build(self) -> None:
        with inside(self.router):
            for key, value in SYSCTLS.items():
                (Path("/proc/sys/net") / key).write_text(value)
        self._bridge(0)
        self._bridge(1)
        self._plug(self.edge, "eth1", "far1", 1)
        for name, spot in REALS.items():
            netns.create(self.reals[name])
            self._plug(self.reals[name], "eth0", name, spot.segment)
        netns.create(self.client)
        self._veth(self.client, "eth0", "c0")
        self.address(self.router, "c0", CLIENT.gateway)
        self._take_over_first_wire()
        self.address(self.edge, "eth0", EDGE)
        self.address(self.edge, "eth1", EDGE_OTHER_ARM)
        for name, spot in REALS.items():
            self.address(self.reals[name], "eth0", spot)
            self.route(self.reals[name], spot)
        for number in (*CLIENT_SOURCES, FRESH_SOURCE):
            self.address(self.client, "eth0", Spot(CLIENT.segment, number))
        self.route(self.client, CLIENT)
        self.route(self.edge, EDGE)
        with NetNS(self.router) as router:
            for network, gateway in zip(VIP_NETWORKS, (EDGE.ipv4, EDGE.ipv6), strict=True):
                router.route("add", dst=network, gateway=gateway)
        self._end_of_wires()

    def _bridge(self, segment: int) -> None:
        with NetNS(self.router) as router:
            router.link("add", ifname=f"br{segment}", kind="bridge")
            index = router.link_lookup(ifname=f"br{segment}")[0]
            router.link("set", index=index, mtu=SITE_MTU, state="up")
        self.address(self.router, f"br{segment}", Spot(segment, 1))

    def _plug(self, namespace: str, interface: str, port: str, segment: int) -> None:
        """A wire from a host to a port of the router's bridge."""
        self._veth(namespace, interface, port)
        self.set_link(namespace, interface, mtu=SITE_MTU)
        bridge = self.index(self.router, f"br{segment}")
        self.set_link(self.router, port, mtu=SITE_MTU, master=bridge)

    def _veth(self, namespace: str, interface: str, port: str) -> None:
        with IPRoute() as netlink:
            peer = {"ifname": interface, "net_ns_fd": namespace}
            netlink.link("add", ifname=port, kind="veth", net_ns_fd=self.router, peer=peer)
        for where, name in ((self.router, port), (namespace, interface)):
            self.set_link(where, "lo", state="up")
            self.set_link(where, name, state="up")
            with inside(where):
                send_as_on_a_wire(name)

    def _take_over_first_wire(self) -> None:
        """The world's own veth becomes a wire like the others."""
        for namespace, interface in ((self.router, "far0"), (self.edge, "eth0")):
            with NetNS(namespace) as ns:
                ns.flush_addr(index=ns.link_lookup(ifname=interface)[0])
            with inside(namespace):
                send_as_on_a_wire(interface)
        self.set_link(self.edge, "eth0", mtu=SITE_MTU)
        bridge = self.index(self.router, "br0")
        self.set_link(self.router, "far0", mtu=SITE_MTU, master=bridge)

    def address(self, namespace: str, interface: str, spot: Spot) -> None:
        with NetNS(namespace) as ns:
            index = ns.link_lookup(ifname=interface)[0]
            ns.addr("replace", index=index, address=spot.ipv4, prefixlen=24)
            ns.addr("replace", index=index, address=spot.ipv6, prefixlen=64, flags=NODAD)

    def route(self, namespace: str, spot: Spot) -> None:
        with NetNS(namespace) as ns:
            ns.route("replace", dst="0.0.0.0/0", gateway=spot.gateway.ipv4)
            ns.route("replace", dst="::/0", gateway=spot.gateway.ipv6, family=socket.AF_INET6)

    def _end_of_wires(self) -> None:
        """What XDP sends out of a veth waits at the far end unless a program is attached there."""
        with inside(self.router), Program.load("pass", pin_dir=self._pins / "far0") as program:
            program.attach("far0", self._pins / "far0")
        with inside(self.router), Program.load("pass", pin_dir=self._pins / "far1") as program:
            program.attach("far1", self._pins / "far1")
