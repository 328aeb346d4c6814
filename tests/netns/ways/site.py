"""The site of the forwarding tests: a VIP for every way, the true agents, and a client's sockets.

Made once for a module on a `WayNet`. A VIP's name tells its way: `gue4-far6` is an IPv4 VIP whose
packets go in GUE to the IPv6 address of far6. What a test changes, it puts back.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from pyroute2 import NetNS
from site_world import SiteWorld

from bpf import libbpf
from bpf.btf import Btf
from bpf.program import BPFFS, unload
from edge_lb.flow import address_octets
from edge_lb.real_agent import RealAgent, load_real
from edge_lb.vip_traffic import Traffic, traffic_pins
from gslb.fleet.views import Drops, FlowWhere, RealList, RealRow, VipList, VipRow
from ops.lab.world import inside
from ways.net import CLIENT, EDGE, REALS, SITE_MTU, Spot, WayNet, family_of
from ways.server import PORT

DEAD_PORT = 9  # nobody listens there
CHECK = (
    'check = {{ kind = "tcp", port = {port}, via = "{via}", interval_s = 0.5, timeout_s = 0.4, '
    "rise = 1, fall = 2 }}"
)
SERVER = str(Path(__file__).with_name("server.py"))


@dataclass(frozen=True, slots=True)
class WayVip:
    """One VIP of the fleet."""

    name: str
    address: str
    reals: tuple[str, ...]
    options: str = ""
    port: int = PORT
    check_port: int = PORT
    check_via: str = "tunnel"
    is_of_edge: bool = False

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4

    @property
    def is_checked_well(self) -> bool:
        return self.check_port != DEAD_PORT and not self.is_of_edge

    def text(self) -> str:
        reals = ", ".join(f'"{name}"' for name in self.reals)
        return (
            f'[vip.{self.name}]\nsite = "fra"\naddress = "{self.address}"\nport = {self.port}\n'
            f"reals = [{reals}]\n{self.options}\n"
            f"{CHECK.format(port=self.check_port, via=self.check_via)}\n"
        )


def address_of(family: int, number: int) -> str:
    return f"2001:db8:1::{number}" if family == 6 else f"198.51.100.{number}"


def _ways() -> Iterator[tuple[str, int, str]]:
    for encap in ("l2", "gue", "ipip"):
        for family in (4, 6):
            for real in REALS:
                yield encap, family, real


WAYS = {
    f"{encap}{family}-{real}": WayVip(
        f"{encap}{family}-{real}", address_of(family, number), (real,), f'encap = "{encap}"'
    )
    for number, (encap, family, real) in enumerate(_ways(), 10)
}


SPECIAL = {
    "many": "",
    "udp": 'protocol = "udp"',
    "pair": 'protocol = "udp"\nfragments = "two_tuple"',
    "affine": 'affinity = "source"',
    "free": 'flow_memory = "none"',
}


def _special(first: int) -> Iterator[WayVip]:
    """VIPs of all four reals, in GUE."""
    for number, (name, options) in enumerate(SPECIAL.items(), first):
        for family in (4, 6):
            port = 0 if "two_tuple" in options else PORT
            address = address_of(family, number)
            yield WayVip(f"{name}{family}", address, tuple(REALS), options, port)


def _without_reals(first: int) -> Iterator[WayVip]:
    """VIPs whose one real passes no check."""
    one, to_pass = ("near4",), 'fallback = "pass"'
    for family in (4, 6):
        reset, passed, own = (address_of(family, number) for number in range(first, first + 3))
        yield WayVip(f"reset{family}", reset, one, 'fallback = "reset"', check_port=DEAD_PORT)
        direct = {"check_port": DEAD_PORT, "check_via": "direct"}
        yield WayVip(f"pass{family}", passed, one, to_pass, is_of_edge=True, **direct)
        yield WayVip(f"own{family}", own, one, to_pass, is_of_edge=True)


SHARED = {vip.name: vip for vip in (*_special(60), *_without_reals(70))}


def fleet_text(vips: Iterable[WayVip]) -> str:
    reals = "".join(
        f'[real.{name}]\nsite = "fra"\naddress = "{spot.of(family_of(name))}"\n'
        for name, spot in REALS.items()
    )
    return (
        '[fleet]\nname = "ways"\n'
        '[site.fra]\nlocation = { country = "DE", lat = 50.0, lon = 8.0 }\nedges = ["edge1"]\n'
        + reals
        + "".join(vip.text() for vip in vips)
    )


class NextHopKept(NamedTuple):
    """The way to a real."""

    ifindex: int
    mtu: int
    mac: bytes


class WaySite:
    """The daemons of an edge and four reals, their servers, and what a client does."""

    def __init__(self, world: SiteWorld, vips: Iterable[WayVip]) -> None:
        self.world = world
        self.vips = {vip.name: vip for vip in vips}
        self.net = WayNet(world)
        self.admin = world.folder / "edge.sock"
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.agents: dict[str, RealAgent] = {}
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.world.end_all()
        for agent in self.agents.values():
            agent.close()
        for name in REALS:
            unload(self.pins(name))
            unload(traffic_pins(self.pins(name)))
        self.net.close()

    # --- daemons ---

    def pins(self, real: str) -> Path:
        return BPFFS / f"waypost_{self.net.reals[real]}"

    def serve(self, real: str) -> None:
        addresses = [vip.address for vip in self.vips.values() if real in vip.reals]
        where = self.net.reals[real]
        self.servers[real] = self.world.start(SERVER, real, *addresses, namespace=where)

    def real_text(self, real: str) -> str:
        """The host file of a real."""
        return (
            f'[host]\nname = "{real}"\nfleet = "fleet.toml"\n'
            f'admin_socket = "{self.world.folder / real}.sock"\n'
            f'state_dir = "{self.world.folder / real}"\n'
            f'[real]\nname = "{real}"\ninterface = "eth0"\npin_dir = "{self.pins(real)}"\n'
        )

    def start_real(self, real: str) -> None:
        """The real's agent, in this process: a fifth of the time that a daemon takes to start."""
        config = self.world.write(f"{real}.toml", self.real_text(real))
        (self.world.folder / real).mkdir(exist_ok=True)
        if real in self.agents:
            self.agents[real].close()
        with inside(self.net.reals[real]):
            self.agents[real] = RealAgent(config, *load_real(config))
            self.agents[real].start()

    def _start(self) -> None:
        self.world.write("fleet.toml", fleet_text(self.vips.values()))
        config = self.world.write(
            "edge.toml",
            f'[host]\nname = "edge1"\nfleet = "fleet.toml"\nadmin_socket = "{self.admin}"\n'
            f'state_dir = "{self.world.folder / "edge"}"\n'
            f'[store]\nkind = "sqlite"\npath = "{self.world.folder / "store.sqlite"}"\n'
            f'[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "{self.world.pin_dir}"\n'
            f'tunnel_source = "{EDGE.ipv4}"\ntunnel_source_v6 = "{EDGE.ipv6}"\n'
            f"mtu = {SITE_MTU}\n",
        )
        self._serve_by_edge()
        self.world.start("-m", "edge_lb", "agent", "--config", str(config))
        for real in REALS:
            self.serve(real)
            self.start_real(real)
        self.world.wait(self.settled)

    def _serve_by_edge(self) -> None:
        """The VIPs that the edge itself serves when it must are addresses of its own too."""
        own = [vip for vip in self.vips.values() if vip.is_of_edge]
        with NetNS(self.net.edge) as edge:
            for vip in own:
                bits = {4: 32, 6: 128}[vip.family]
                edge.addr("add", index=1, address=vip.address, prefixlen=bits)
        self.world.start(SERVER, "edge", *(vip.address for vip in own))

    def settled(self) -> bool:
        """Whether every check of what is served has passed, and of the others none."""
        rows = self.rows()
        return bool(rows) and all(
            row.state == ("UP" if self.vips[row.vip].is_checked_well else "DOWN") for row in rows
        )

    # --- what the daemons say ---

    def rows(self) -> tuple[RealRow, ...]:
        return self.world.ask(self.admin, "/reals", RealList).reals

    def states(self, real: str) -> dict[str, str]:
        """Of one real, by VIP."""
        return {row.vip: row.state for row in self.rows() if row.name == real}

    def vip_row(self, name: str) -> VipRow:
        rows = self.world.ask(self.admin, "/vips", VipList).vips
        return next(row for row in rows if row.name == name)

    def verdicts(self) -> Counter[str]:
        """Packets of the edge's program by verdict."""
        drops = self.world.ask(self.admin, "/drops", Drops)
        return Counter({row.name: row.packets for row in drops.counters})

    def real_verdicts(self, real: str) -> Counter[str]:
        """Packets of a real's program by verdict."""
        found = self.agents[real].unwrapper.verdicts()
        return Counter({name: counter.packets for name, counter in found.items()})

    def real_traffic(self, real: str, vip: WayVip) -> Traffic:
        """What a real received for a VIP, and sent from it."""
        return self.agents[real].traffic.totals()[ip_address(vip.address)]

    def ways_to(self, real: str) -> set[NextHopKept]:
        """How packets leave for a real, as the maps have it for each of its VIPs."""
        address = address_octets(ip_address(REALS[real].of(family_of(real))))
        fd = libbpf.pinned_fd(str(self.world.pin_dir / "reals"))
        assert fd is not None
        try:
            layout = Btf(libbpf.btf_by_id(libbpf.map_info(fd).btf_id))
            value = layout.layout(libbpf.map_info(fd).value_type_id)
            rows = (
                value.unpack(libbpf.map_lookup(fd, seat.to_bytes(4, "little"), value.size) or b"")
                for seat in range(1, len(self.rows()) + 1)
            )
            return {
                NextHopKept(
                    row.integer("hop.ifindex"),
                    row.integer("hop.mtu"),
                    row.octets("hop.destination"),
                )
                for row in rows
                if row.octets("address") == address
            }
        finally:
            os.close(fd)

    def flow(self, vip: WayVip, connection: socket.socket) -> FlowWhere:
        """Where the edge sends a connection of the client."""
        address, port = connection.getsockname()[:2]
        client = f"[{address}]:{port}" if vip.family == 6 else f"{address}:{port}"
        return self.world.ask(self.admin, f"/flow?client={client}&vip={vip.name}", FlowWhere)

    # --- what a client does ---

    def connect(
        self, vip: WayVip, source: int = CLIENT.number, wait_s: float = 5.0
    ) -> socket.socket:
        """A TCP connection of the client; `source` is the last octet of its own address."""
        own = Spot(CLIENT.segment, source).of(vip.family)
        with inside(self.net.client):
            return socket.create_connection((vip.address, PORT), wait_s, (own, 0))

    def name_of_server(self, vip: WayVip, source: int = CLIENT.number) -> str:
        """The real that answers a new connection."""
        with self.connect(vip, source) as connection:
            connection.sendall(b"0\n")
            return connection.makefile("rb").readline().decode().strip()

    def up_and_down(self, vip: WayVip, data: bytes) -> tuple[str, bytes]:
        """Sends data and takes it back: the name of the real that did it, and what came."""
        with self.connect(vip) as connection:
            connection.sendall(b"0\n" + data)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                return answer.readline().decode().strip(), answer.read()

    def datagrams(self, vip: WayVip, source: int = CLIENT.number) -> socket.socket:
        """A UDP socket of the client, connected to the VIP."""
        family = socket.AF_INET6 if vip.family == 6 else socket.AF_INET
        with inside(self.net.client):
            made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(5)
        made.bind((Spot(CLIENT.segment, source).of(vip.family), 0))
        made.connect((vip.address, PORT))
        return made

    def ping(self, address: str) -> subprocess.CompletedProcess[str]:
        inside_client = ["nsenter", f"--net=/run/netns/{self.net.client}", "--"]
        return subprocess.run(
            [*inside_client, "ping", "-n", "-c3", "-i0.2", "-W2", address],
            capture_output=True,
            text=True,
            check=False,
        )
