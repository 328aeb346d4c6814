"""The network of the benches over veth: client, router; at a site edge, proxy host, two reals.

Owns the namespaces (prefix wpbench-) and every process in them. The site is one bridge of the
router's: its hosts reach each other directly, the client by the router, which sends every VIP's
packets to the edge. The edge runs Waypost's own agent, the reals their own agents, nginx, and the
far end of packets.c; the proxy host runs the peers, each on an address of its own, with the same
two reals behind. Everything started here is ended here, by its process id.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from pyroute2 import IPRoute, NetNS, netns
from veth_files import (
    CLIENT_SUBNET_V6,
    HAPROXY,
    HOSTS,
    NGINX,
    PEERS,
    PROXY_PROCESSES,
    REALS,
    SITE_MTU,
    SITE_SUBNET,
    SITE_SUBNET_V6,
    UDP_PORT,
    Site,
    address,
    address_v6,
    guest_address,
    subnet,
    write_files,
)

from bpf.compile import compile_source
from bpf.program import BPFFS, Program, unload
from edge_lb.vip_traffic import traffic_pins
from ops.lab.world import inside, send_as_on_a_wire

PREFIX = "wpbench-"
BRIDGE = "site"
TOOLS = ("flows", "packets")
TOOL_FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")
PATIENCE_S = 60.0
SETTLE_S = 0.02  # packets on the way have arrived when nothing has for so long
NODAD = {"flags": 0x02}  # an IPv6 address is usable at once
SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/all/forwarding": "1",
    # Ten thousand flows to one address, round after round: ports in TIME_WAIT are used again.
    "ipv4/ip_local_port_range": "1024 65535",
    "ipv4/tcp_tw_reuse": "1",
    "core/somaxconn": "4096",
}


@dataclass(frozen=True, slots=True)
class Link:
    """What the router's port to a host has carried; `out` is towards the host."""

    packets_out: int
    bytes_out: int
    packets_in: int
    bytes_in: int

    def size_out(self, earlier: Link) -> float:
        """Mean bytes of a packet towards the host since `earlier`."""
        packets = self.packets_out - earlier.packets_out
        return (self.bytes_out - earlier.bytes_out) / max(1, packets)

    def size_in(self, earlier: Link) -> float:
        """Mean bytes of a packet from the host since `earlier`."""
        return (self.bytes_in - earlier.bytes_in) / max(1, self.packets_in - earlier.packets_in)


def build_tools(folder: Path) -> None:
    """Compile the load generators into a folder."""
    for name in TOOLS:
        compile_source(Path(__file__).with_name(f"{name}.c"), folder / name, TOOL_FLAGS)


class VethWorld:
    """Built by the constructor, removed by `close`; a crash's leftovers are removed first.

    Its daemons start, and `wait(all_up)` waits for them.
    """

    def __init__(self, folder: Path, site: Site) -> None:
        self._folder = folder
        self._site = site
        self._pins = BPFFS / f"wpbench-{os.getpid()}"
        self._children: list[subprocess.Popen[bytes]] = []
        self.admin = folder / "edge.sock"
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends every process, unloads every program, removes every namespace."""
        for child in self._children:
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
            child.kill()
            child.wait()
        for name in ("edge", *REALS, "pass-edge"):
            unload(self._pins / name)
            unload(traffic_pins(self._pins / name))
        if self._pins.exists():
            self._pins.rmdir()
        remove_namespaces()

    def tool(self, name: str) -> str:
        """The path of a load generator."""
        return str(self._folder / name)

    def start(self, host: str, *command: str) -> subprocess.Popen[bytes]:
        """A process in a host's namespace; what it prints goes to a file."""
        with (self._folder / "log").open("ab") as log:
            child = subprocess.Popen(self.inside(host, *command), stdout=log, stderr=log)
        self._children.append(child)
        return child

    def run(self, host: str, *command: str) -> str:
        """A command in a host's namespace, to its end; its output."""
        done = subprocess.run(
            self.inside(host, *command), capture_output=True, text=True, timeout=PATIENCE_S
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} on {host}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def inside(self, host: str, *command: str) -> list[str]:
        """The command line that runs a command in a host's namespace."""
        return ["nsenter", f"--net=/run/netns/{PREFIX}{host}", "--", *command]

    def link(self, host: str) -> Link:
        """The counters of the router's port to a host."""
        with NetNS(PREFIX + "router") as router:
            (link,) = router.get_links(router.link_lookup(ifname=host)[0])
        found = link.get_attr("IFLA_STATS64")
        fields = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
        return Link(*(int(found[field]) for field in fields))

    def receive_on(self, core: int | None) -> None:
        """What the client sends is received on this core alone, as from a wire; None: on any.

        Without it the sender itself does all that its packets cause, and is slowed by it: nothing
        is ever lost, and nothing ever overloaded.
        """
        mask = 0 if core is None else 1 << core
        queue = "/sys/class/net/client/queues/rx-0/rps_cpus"
        words = f"mount -t sysfs bench /sys && echo {mask:x} > {queue}"
        self.run("router", "unshare", "--mount", "sh", "-ec", words)

    def arrived(self) -> int:
        """Small packets that the reals have taken, when no more are on the way."""
        seen = -1
        while seen != (now := self._counted()):
            seen = now
            time.sleep(SETTLE_S)
        return seen

    def ask(self, route: str, params: dict[str, str] | None = None) -> Any:
        """The edge agent's answer by its admin socket."""
        connection = HTTPConnection("localhost", timeout=PATIENCE_S)
        connection.sock = socket(AF_UNIX, SOCK_STREAM)
        try:
            connection.sock.connect(str(self.admin))
            body = None if params is None else json.dumps(params)
            connection.request("GET" if body is None else "POST", route, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status != 200:
                raise RuntimeError(f"{route}: {answer}")
            return answer
        finally:
            connection.close()

    def wait(self, held: Callable[[], bool]) -> None:
        """Until `held`; the processes' log tells why not."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            with suppress(OSError):
                if held():
                    return
            time.sleep(0.2)
        raise RuntimeError((self._folder / "log").read_text()[-3000:])

    def all_up(self) -> bool:
        """Whether every real of every VIP is UP, and every balancer answers by TCP."""
        vips = [vip.address for vip in self._site.vips if vip.protocol == "tcp"]
        peers = PEERS.values() if self._site.has_peers else ()
        probes = [f"curl -sf -m1 -o /dev/null http://{where}/" for where in (*vips, *peers)]
        command = self.inside("client", "sh", "-ec", "; ".join(probes))
        return all(real["state"] == "UP" for real in self.ask("/reals")["reals"]) and (
            subprocess.run(command, timeout=PATIENCE_S).returncode == 0
        )

    def _counted(self) -> int:
        files = [self._folder / f"{name}.count" for name in REALS]
        return sum(struct.unpack("=Q", file.read_bytes())[0] for file in files)

    def _daemon(self, host: str, role: str, config: str) -> None:
        path = str(self._folder / config)
        self.start(host, sys.executable, "-m", "edge_lb", role, "--config", path)

    def _build(self) -> None:
        remove_namespaces()
        build_tools(self._folder)
        self._build_network()
        write_files(self._folder, self._pins, self._site)
        for name in REALS:
            self.start(name, NGINX, "-p", str(self._folder), "-c", f"{self._folder}/{name}.nginx")
            counter = f"{self._folder}/{name}.count"
            self.start(name, self.tool("packets"), "serve", str(UDP_PORT), name[-1], counter)
            self._daemon(name, "real", f"{name}.toml")
        self._daemon("edge", "agent", "edge.toml")
        if self._site.has_peers:
            folder = str(self._folder)
            self.start("proxy", NGINX, "-p", folder, "-c", f"{folder}/stream.nginx")
            for _ in range(PROXY_PROCESSES):  # they share the port
                self.start("proxy", HAPROXY, "-db", "-f", f"{folder}/haproxy.cfg")
            self.run("proxy", "nft", "-f", f"{folder}/nft.conf")

    def _build_network(self) -> None:
        for host in ("router", *HOSTS):
            netns.create(PREFIX + host)
            with inside(PREFIX + host):
                for key, value in SYSCTLS.items():
                    Path(f"/proc/sys/net/{key}").write_text(value)
        with NetNS(PREFIX + "router") as router:
            router.link("add", ifname=BRIDGE, kind="bridge")
            _bring_up(router, BRIDGE, SITE_MTU, f"{SITE_SUBNET}.1", f"{SITE_SUBNET_V6}1")
        for host in HOSTS:
            self._connect(host)
        vias = {vip.address: "edge" for vip in self._site.vips}
        vias |= dict.fromkeys(PEERS.values(), "proxy")
        with NetNS(PREFIX + "router") as router:
            for vip, host in vias.items():
                if ":" in vip:
                    router.route("add", dst=f"{vip}/128", gateway=address_v6(host))
                else:
                    router.route("add", dst=f"{vip}/32", gateway=address(host))
        with NetNS(PREFIX + "proxy") as proxy:
            for vip in PEERS.values():
                proxy.addr("add", index=1, address=vip, prefixlen=32)
        with NetNS(PREFIX + "real2") as host2:
            index = host2.link_lookup(ifname="eth0")[0]
            for number in range(len(self._site.guests)):
                host2.addr("add", index=index, address=guest_address(number), prefixlen=24)

    def _connect(self, host: str) -> None:
        """A veth pair: `eth0` in the host's namespace, its name at the router or on its bridge."""
        router, here = PREFIX + "router", PREFIX + host
        with IPRoute() as netlink:
            netlink.link(
                "add",
                ifname=host,
                kind="veth",
                net_ns_fd=router,
                peer={"ifname": "eth0", "net_ns_fd": here},
            )
        for namespace, name in ((router, host), (here, "eth0")):
            with inside(namespace):
                send_as_on_a_wire(name)
        with NetNS(router) as ns:
            if host == "client":
                gateway_v6 = f"{CLIENT_SUBNET_V6}1"
                _bring_up(ns, host, 1500, f"{subnet(host)}.1", gateway_v6)
            else:
                gateway_v6 = f"{SITE_SUBNET_V6}1"
                _bring_up(ns, host, SITE_MTU)
                bridge = ns.link_lookup(ifname=BRIDGE)[0]
                ns.link("set", index=ns.link_lookup(ifname=host)[0], master=bridge)
        with NetNS(here) as ns:
            mtu = 1500 if host == "client" else SITE_MTU
            _bring_up(ns, "lo", 65536)
            _bring_up(ns, "eth0", mtu, address(host), address_v6(host))
            ns.route("add", dst="0.0.0.0/0", gateway=f"{subnet(host)}.1")
            ns.route("add", dst="::/0", gateway=gateway_v6)
        if host == "edge":  # what XDP_TX sends waits at the far end unless a program is there
            with inside(router), Program.load("pass", pin_dir=self._pins / "pass-edge") as program:
                program.attach(host, self._pins / "pass-edge")


def _bring_up(ns: NetNS, name: str, mtu: int, v4: str = "", v6: str = "") -> None:
    index = ns.link_lookup(ifname=name)[0]
    ns.link("set", index=index, mtu=mtu, state="up")
    if v4:
        ns.addr("add", index=index, address=v4, prefixlen=24)
    if v6:
        ns.addr("add", index=index, address=v6, prefixlen=64, **NODAD)


def remove_namespaces() -> None:
    """Every namespace with the bench's prefix."""
    for name in netns.listnetns():
        if name.startswith(PREFIX):
            netns.remove(name)
