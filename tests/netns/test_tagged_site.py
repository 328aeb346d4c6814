"""A site on one tagged link: clients in one VLAN, reals in another, the edge on the trunk.

The trunk's other end is a switch in user space with an access port a VLAN, so the kernel need not
know VLAN devices, and every frame on the trunk has its tag in it, as on a wire.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyroute2 import NetNS, netns
from site_world import SiteWorld

pytestmark = pytest.mark.netns

VIP, CLIENT, REAL = "198.51.100.1", "10.10.0.1", "10.20.0.2"
CLIENT_VLAN, REAL_VLAN = 10, 20
NEXT_MAC = "02:00:00:00:00:20"
SWITCH = """
import fcntl, os, select, socket, struct, sys
from pathlib import Path
from pyroute2 import IPRoute, NetNS
from bpf.program import Program

def access_port(name, mac, address, namespace):
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
    with IPRoute() as here:
        index = here.link_lookup(ifname=name)[0]
        here.link("set", index=index, address=mac, net_ns_fd=namespace)
    with NetNS(namespace) as there:
        index = there.link_lookup(ifname=name)[0]
        there.link("set", index=index, state="up")
        there.addr("add", index=index, address=address, prefixlen=24)
    return tap

trunk = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
trunk.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the kernel sets the tag aside
trunk.bind(("far0", 3))
link = Program.load("pass").attach_for_process("far0")  # a veth takes redirected frames only so
ports = {
    10: access_port("port10", "02:00:00:00:00:10", "10.10.0.1", sys.argv[1]),
    20: access_port("port20", "02:00:00:00:00:20", "10.20.0.2", sys.argv[2]),
}
Path(sys.argv[3]).touch()
while True:
    for ready in select.select([trunk, *ports.values()], [], [])[0]:
        if ready is trunk:
            frame, aux, _, where = trunk.recvmsg(4096, 64)
            status, tci = struct.unpack_from("I12xH", aux[0][2]) if aux else (0, 0)
            if where[2] != socket.PACKET_OUTGOING and status & 0x10 and tci in ports:
                os.write(ports[tci], frame)
            continue
        frame = os.read(ready, 4096)
        vlan = next(number for number, port in ports.items() if port == ready)
        trunk.send(frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:])
"""
EDGE = """
import sys
from ipaddress import ip_address
from pathlib import Path
from bpf.program import interface_index
from edge_lb.datapath import Datapath
from edge_lb.fastring import build_ring
from edge_lb.rendezvous import Member
from edge_lb.plan import NextHop, Plan, PlannedReal, PlannedVip, RealForwarding, VlanTag
from gslb.fleet.model import Encap, Protocol

mac = lambda text: bytes.fromhex(text.replace(":", ""))
datapath = Datapath("eth0", Path(sys.argv[1]))
datapath.open()
hop = NextHop(
    ifindex=interface_index("eth0"), mtu=1500, destination=mac(sys.argv[3]),
    source=mac("02:00:00:00:00:ed"), is_direct=True, tags=(VlanTag(protocol=0x8100, tci=20),),
)
real = PlannedReal(
    name="www/web1", index=1, epoch=1, address=ip_address("10.20.0.2"), encap=Encap.L2,
    state=RealForwarding.UP, next_hop=hop,
)
vip = PlannedVip(
    name="www", index=0, address=ip_address(sys.argv[2]), port=8080, protocol=Protocol.TCP,
    ring=build_ring([Member(name="web1", weight=1, index=1)]),
)
datapath.apply(Plan(
    generation=1, vips=(vip,), reals=(real,), tunnel_source=ip_address("10.20.0.1"), mtu=1500,
))
"""
COUNTS = """
import sys
from pathlib import Path
from edge_lb.datapath import Datapath
datapath = Datapath("eth0", Path(sys.argv[1]))
datapath.open()
print(*(name for name, seen in datapath.verdicts().items() if seen.packets))
"""
ASK = """
import sys, urllib.request
print(urllib.request.urlopen(f"http://{sys.argv[1]}:8080/", timeout=10).status)
"""
PING = """
import socket, sys
from bpf.packets import icmp
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping:
    ping.settimeout(10)
    ping.sendto(icmp(8, b"tagged?"), (sys.argv[1], 0))
    answer, (who, _) = ping.recvfrom(2048)
print(who, answer[20], answer[28:].decode())
"""


LAST_HOP = """
import errno, socket, sys
with socket.socket() as short:
    short.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
    short.settimeout(10)
    print(errno.errorcode[short.connect_ex((sys.argv[1], 8080))])
"""


class TaggedSite:
    """The edge in the world's namespace; client, real and switch in others."""

    def __init__(self, world: SiteWorld) -> None:
        self.world = world
        self.client, self.real = f"{world.name}-client", f"{world.name}-real"
        for name in (self.client, self.real):
            netns.create(name)
        self._wire_answers()
        ready = world.folder / "switch"
        world.start("-c", SWITCH, self.client, self.real, str(ready), namespace=world.far)
        world.wait(ready.exists)
        done = world.run("-c", EDGE, str(world.pin_dir), VIP, NEXT_MAC)
        assert done.returncode == 0, done.stderr
        self._address()

    def close(self) -> None:
        self.world.end_all()
        for name in (self.client, self.real):
            netns.remove(name)

    def run(self, script: str) -> str:
        """What the client sees."""
        return self.world.run("-c", script, VIP, namespace=self.client).stdout.strip()

    def verdicts(self) -> set[str]:
        return set(self.world.run("-c", COUNTS, str(self.world.pin_dir)).stdout.split())

    def _wire_answers(self) -> None:
        """The real's answers go to the client by a link of their own: direct server return."""
        with NetNS(self.client) as here:
            peer = {"ifname": "back1", "net_ns_fd": self.real}
            here.link("add", ifname="back0", kind="veth", peer=peer)
            self.world.up(here, "lo")
            self.world.up(here, "back0", "10.30.0.1")
        with NetNS(self.real) as there:
            self.world.up(there, "lo")
            self.world.up(there, "back1", "10.30.0.2")

    def _address(self) -> None:
        with NetNS(self.world.name) as edge:
            mac = edge.link("get", ifname="eth0")[0].get_attr("IFLA_ADDRESS")
        with NetNS(self.client) as here:
            index = here.link_lookup(ifname="port10")[0]
            here.neigh("add", dst="10.10.0.254", lladdr=mac, ifindex=index, state="permanent")
            here.route("add", dst=f"{VIP}/32", gateway="10.10.0.254")
        with NetNS(self.real) as there:
            there.addr("add", index=1, address=VIP, prefixlen=32)
            there.route("add", dst=f"{CLIENT}/32", gateway="10.30.0.1")
        loose = "import pathlib\n" + "".join(
            f"pathlib.Path('/proc/sys/net/ipv4/conf/{name}/rp_filter').write_text('0')\n"
            for name in ("all", "default")
        )
        for name in (self.client, self.real):
            assert self.world.run("-c", loose, namespace=name).returncode == 0


@pytest.fixture
def site(world: SiteWorld) -> Iterator[TaggedSite]:
    made = TaggedSite(world)
    yield made
    made.close()


def test_a_connection_reaches_the_real_s_vlan_and_a_ping_is_answered_in_the_client_s(
    site: TaggedSite,
):
    site.world.serve(VIP, namespace=site.real)
    site.world.wait(lambda: site.run(ASK) == "200")

    assert site.run(PING) == f"{VIP} 0 tagged?"
    assert {"FORWARDED_SYN", "FORWARDED_NEW", "ANSWERED_PING"} <= site.verdicts()


def test_the_client_s_kernel_believes_that_its_last_hop_was_the_edge(site: TaggedSite):
    assert site.run(LAST_HOP) == "EHOSTUNREACH"
    assert "ANSWERED_TIME_EXCEEDED" in site.verdicts()
