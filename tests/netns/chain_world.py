"""Three reals on one segment, each with its agent and an echo server, and a client beside them.

    client (br0, tun0) - web1, web2, web3 (eth0)

Built on a `SiteWorld`, whose namespace is web1 and whose far one is the client. The client's
packets to a VIP go into tun0, where a small edge (`RELAY`) wraps each by GUE, to the reals and with
the owner chain that the test wrote down; reals answer the client directly. A test that wants a true
edge adds a host for it.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET, AF_INET6

from pyroute2 import NetNS, netns
from site_world import PATIENCE_S, SiteWorld

from bpf.own_flows import TIME_WAIT
from bpf.program import Program, unload
from edge_lb.vip_traffic import traffic_pins
from gslb.fleet.views import Status
from ops.lab.world import inside, send_as_on_a_wire

VIP, VIP_V6 = "198.51.100.1", "2001:db8:1::1"
CLIENT, CLIENT_V6 = "192.0.2.1", "fd00::1"
REALS = {"web1": 2, "web2": 3, "web3": 4}  # last numbers of their addresses
EDGE, EDGE_NUMBER = "edge1", 9
NODAD = 0x02
FLEET = """
[fleet]
name = "chains"
[site.fra]
location = { country = "DE", lat = 50.0, lon = 8.0 }
edges = ["edge1"]
"""
RELAY = """
import fcntl, json, os, socket, struct, sys
from bpf.packets import IPIP, IPV6, chain, gue
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
out.bind((sys.argv[1], 50000))
while True:
    packet = os.read(tun, 2048)
    first, *others = json.loads(open(sys.argv[2]).read())
    options = chain(*others, generation=77) if others else b""
    protocol = IPV6 if packet[0] >> 4 == 6 else IPIP
    out.sendto(gue(packet, protocol=protocol, options=options), (first, 6080))
"""
ECHO = """
import socket, sys, threading
name = sys.argv[1].encode()
def serve(connection):
    while data := connection.recv(100):
        if data == b"vanish":
            connection.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR: closed without a word
            connection.close()
            return
        if data == b"farewell":
            break
        connection.sendall(name + b" " + data)
    connection.close()
def accept(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 80), family=family)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
for address in sys.argv[2:]:
    threading.Thread(target=accept, args=(address,)).start()
"""


def address_of(real: str) -> str:
    return f"192.0.2.{REALS[real]}"


class ChainWorld:
    """Everything up and running. `namespaces` are the reals' by name."""

    def __init__(self, world: SiteWorld) -> None:
        self.world = world
        self.namespaces = {
            name: world.name if name == "web1" else f"{world.name}-{name}" for name in REALS
        }
        self._way = world.folder / "way"
        self._links: list[int] = []

    def close(self) -> None:
        self.world.end_all()
        for link in self._links:
            os.close(link)
        for name in REALS:
            for pins in (self.pin_dir(name), traffic_pins(self.pin_dir(name))):
                unload(pins)
        for name in netns.listnetns():
            if name.startswith(f"{self.world.name}-") and name != self.world.far:
                netns.remove(name)

    def build(self) -> None:
        self._bridge()
        for name in REALS:
            self._host(name)
        self._end_wires()
        self.lead("web1")
        self.world.start("-c", RELAY, CLIENT, str(self._way), namespace=self.world.far)
        self.world.wait(self._tunnel_is_up)

    def start_agents(self, *, vip: str = "", **more: str) -> None:
        """`vip` are lines of each VIP; `more` are those of a real's host file, by its name."""
        self.world.write("fleet.toml", _fleet(vip))
        for name in REALS:
            config = self.world.write(
                f"{name}.toml",
                f'[host]\nname = "{name}"\nfleet = "fleet.toml"\n'
                f'admin_socket = "{self.admin(name)}"\n'
                f'state_dir = "{self.world.folder / name}"\n'
                f'[real]\nname = "{name}"\ninterface = "eth0"\n'
                f'pin_dir = "{self.pin_dir(name)}"\n{more.get(name, "")}',
            )
            arguments = ("-m", "edge_lb", "real", "--config", str(config))
            self.world.start(*arguments, namespace=self.namespaces[name])
        for name in REALS:
            self.world.wait(lambda name=name: self._is_ready(name))

    def serve(self, name: str, *, namespace: str = "") -> None:
        """Echo behind both VIPs, in the real's namespace or another."""
        where = namespace or self.namespaces[name]
        self.world.start("-c", ECHO, name, VIP, VIP_V6, namespace=where)

    def contain(self, real: str) -> str:
        """A container behind a real: its namespace, to which the host routes the VIPs."""
        box, host = f"{self.world.name}-box", self.namespaces[real]
        netns.create(box)
        with NetNS(host) as ns:
            peer = {"ifname": "eth0", "net_ns_fd": box}
            ns.link("add", ifname="box0", kind="veth", peer=peer)
            index = _addressed(ns, "box0", "172.20.0.1", "fd01::1")
        with NetNS(box) as ns:
            _addressed(ns, "eth0", "172.20.0.2", "fd01::2")
            _addressed(ns, "lo", VIP, VIP_V6)
            ns.route("add", dst="0.0.0.0/0", gateway="172.20.0.1")
            ns.route("add", dst="::/0", gateway="fd01::1", family=AF_INET6)
        with NetNS(host) as ns:
            ns.route("add", dst=f"{VIP}/32", gateway="172.20.0.2")
            ns.route("add", dst=f"{VIP_V6}/128", gateway="fd01::2", oif=index, family=AF_INET6)
        with inside(host):
            for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                (Path("/proc/sys/net") / key).write_text("1")
        with inside(box):
            send_as_on_a_wire("eth0")
        return box

    def lead(self, first: str, *others: str) -> None:
        """From now on packets go to this real, with those as the owner chain behind it."""
        fresh = self._way.with_suffix(".new")
        fresh.write_text(json.dumps([address_of(name) for name in (first, *others)]))
        fresh.replace(self._way)

    @contextmanager
    def connection(self, vip: str, port: int = 0) -> Iterator[socket.socket]:
        """A client's connection, from a port of its own; it is tried until a server is there."""
        made: list[socket.socket] = []

        def connected() -> bool:
            with inside(self.world.far):
                made.append(socket.create_connection((vip, 80), PATIENCE_S, ("", port)))
            return True

        self.world.wait(connected)
        with made[-1] as client:
            client.settimeout(PATIENCE_S)
            yield client

    @contextmanager
    def datagrams(self, real: str, vip: str) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Two UDP sockets, the client's and one of a real that is connected to it."""
        family = AF_INET6 if ":" in vip else AF_INET
        with inside(self.namespaces[real]):
            server = socket.socket(family, socket.SOCK_DGRAM)
        with inside(self.world.far):
            client = socket.socket(family, socket.SOCK_DGRAM)
        with server, client:
            server.bind((vip, 80))
            client.bind((CLIENT_V6 if family == AF_INET6 else CLIENT, 0))
            server.connect(client.getsockname())
            client.connect((vip, 80))
            for end in (client, server):
                end.settimeout(PATIENCE_S)
            yield client, server

    def status(self, name: str) -> Status:
        return self.world.ask(self.admin(name), "/status", Status)

    def counted(self, name: str) -> dict[str, int]:
        return {row.name: row.packets for row in self.status(name).counters}

    def flows(self, name: str, vip: str) -> int:
        """What the real's census tells of a VIP."""
        return next(row.flows for row in self.status(name).vips if row.address == vip)

    def in_time_wait(self, name: str, port: int) -> bool:
        """Whether the real's kernel still remembers a connection from this port of the client."""
        with inside(self.namespaces[name]):
            tables = [Path(f"/proc/thread-self/net/tcp{six}").read_text() for six in ("", "6")]
        return re.search(rf":0050 \w+:{port:04X} {TIME_WAIT:02X} ", "".join(tables)) is not None

    def addresses(self, name: str) -> set[str]:
        """The real's own, on every interface."""
        with NetNS(self.namespaces[name]) as ns:
            return {found.get_attr("IFA_ADDRESS") for found in ns.get_addr()}

    def admin(self, name: str) -> Path:
        return self.world.folder / f"{name}.sock"

    def pin_dir(self, name: str) -> Path:
        return self.world.pin_dir.with_name(f"{self.world.pin_dir.name}_{name}")

    def _is_ready(self, name: str) -> bool:
        status = self.status(name)
        chains = status.chains
        return status.well and chains is not None and all(peer.way for peer in chains.peers)

    def _bridge(self) -> None:
        """The client's side of the segment; web1's far end is its first port."""
        with NetNS(self.world.far) as far:
            far.link("add", ifname="br0", kind="bridge")
            far.flush_addr(index=far.link_lookup(ifname="far0")[0])
            self._plug(far, "far0")
            index = far.link_lookup(ifname="br0")[0]
            far.link("set", index=index, state="up")
            far.addr("add", index=index, address=CLIENT, prefixlen=24)
            far.addr("add", index=index, address=CLIENT_V6, prefixlen=64, flags=NODAD)

    def add_edge(self) -> str:
        """A host for an edge, by which packets to the VIPs go from now on; its namespace."""
        namespace = f"{self.world.name}-edge"
        self._join(EDGE, namespace, EDGE_NUMBER)
        self._end_wire(EDGE)
        with inside(namespace):
            send_as_on_a_wire("eth0")
        with NetNS(self.world.far) as far:
            index = far.link_lookup(ifname="br0")[0]
            for vip, bits, number, gateway in (
                (VIP, 32, AF_INET, self.edge_address),
                (VIP_V6, 128, AF_INET6, f"fd00::{EDGE_NUMBER}"),
            ):
                dst = f"{vip}/{bits}"
                far.route("del", dst=dst, oif=far.link_lookup(ifname="tun0")[0], family=number)
                far.route("add", dst=dst, gateway=gateway, oif=index, family=number)
        return namespace

    @property
    def edge_address(self) -> str:
        """Its tunnels come from there."""
        return f"192.0.2.{EDGE_NUMBER}"

    def _host(self, name: str) -> None:
        self._join(name, self.namespaces[name], REALS[name])

    def _join(self, name: str, namespace: str, number: int) -> None:
        """A host on the segment, with a namespace of its own; web1 has both."""
        if name != "web1":
            netns.create(namespace)
            with NetNS(self.world.far) as far:
                peer = {"ifname": "eth0", "net_ns_fd": namespace}
                far.link("add", ifname=name, kind="veth", peer=peer)
                self._plug(far, name)
        with NetNS(namespace) as host:
            index = host.link_lookup(ifname="eth0")[0]
            host.link("set", index=host.link_lookup(ifname="lo")[0], state="up")
            host.link("set", index=index, state="up")
            host.addr("replace", index=index, address=f"192.0.2.{number}", prefixlen=24)
            host.addr("add", index=index, address=f"fd00::{number}", prefixlen=64, flags=NODAD)
            host.route("replace", dst="0.0.0.0/0", gateway=CLIENT)

    def _plug(self, far: NetNS, port: str) -> None:
        far.link(
            "set",
            index=far.link_lookup(ifname=port)[0],
            master=far.link_lookup(ifname="br0")[0],
            state="up",
        )

    def _end_wires(self) -> None:
        """What XDP sends out of a veth is taken at the far end only if a program is there."""
        for port in ("far0", "web2", "web3"):
            self._end_wire(port)
        for name in REALS:
            with inside(self.namespaces[name]):
                send_as_on_a_wire("eth0")
        with inside(self.world.far):
            Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")
            send_as_on_a_wire("br0")

    def _end_wire(self, port: str) -> None:
        with Program.load("pass") as program, inside(self.world.far):
            self._links.append(program.attach_for_process(port))

    def _tunnel_is_up(self) -> bool:
        with NetNS(self.world.far) as far:
            found = far.link_lookup(ifname="tun0")
            if not found:
                return False
            far.link("set", index=found[0], state="up", mtu=1400)
            far.route("replace", dst=f"{VIP}/32", oif=found[0], prefsrc=CLIENT)
            far.route(
                "replace", dst=f"{VIP_V6}/128", oif=found[0], prefsrc=CLIENT_V6, family=AF_INET6
            )
        return True


def _addressed(ns: NetNS, interface: str, ipv4: str, ipv6: str) -> int:
    index = int(ns.link_lookup(ifname=interface)[0])
    ns.link("set", index=index, state="up")
    bits = (32, 128) if interface == "lo" else (30, 64)
    ns.addr("add", index=index, address=ipv4, prefixlen=bits[0])
    ns.addr("add", index=index, address=ipv6, prefixlen=bits[1], flags=NODAD)
    return index


def _fleet(vip: str) -> str:
    reals = "".join(
        f'[real.{name}]\nsite = "fra"\naddress = "{address_of(name)}"\nencap = "gue"\n'
        for name in REALS
    )
    names = ", ".join(f'"{name}"' for name in REALS)
    vips = "".join(
        f'[vip.{name}]\nsite = "fra"\naddress = "{address}"\nport = 80\nreals = [{names}]\n{vip}'
        for name, address in (("www", VIP), ("six", VIP_V6))
    )
    return FLEET + reals + vips
