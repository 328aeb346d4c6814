"""The hosts of the long connections, in namespaces of their own: built, killed, added, removed.

    client -- router -- edge1 edge2 edge3, real1 to real8, store      (one bridge: the site)

Owns the namespaces, every process in them and their pins, all under one prefix. Reals run their
agent and a server of hold.c, edges theirs, the store a redis-server. A host that is killed loses
its namespace; it comes back with its disk alone. Everything that is started here is ended here, by
its id, or with us if we are killed.
"""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import IO, Any

from pyroute2 import IPRoute, NetNS, netns

from bpf.compile import compile_source
from bpf.program import BPFFS, Program, unload
from edge_lb.vip_traffic import traffic_pins
from long_connections.files import (
    CLIENT_SUBNET,
    PORT,
    SITE_MTU,
    SITE_SUBNET,
    STORE_PORT,
    Wanted,
    address,
    gateway,
    write_fleet,
    write_hosts,
)
from ops.lab.world import inside, send_as_on_a_wire

BRIDGE = "site"
PATIENCE_S = 240.0
IDLE_S = 15.0  # a server closes a connection that says nothing for so long
TOOL = Path(__file__).parents[1] / "hold.c"
TOOL_FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror")
SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/fib_multipath_hash_policy": "1",  # layer 4: addresses and ports
    "ipv4/ip_local_port_range": "1024 65535",
    "ipv4/tcp_tw_reuse": "1",
    "core/somaxconn": "4096",
}


class World:
    """Built by the constructor, with its daemons started; removed by `close`."""

    def __init__(
        self, folder: Path, wanted: Wanted, edges: Sequence[str], *, prefix: str = "lr-"
    ) -> None:
        self.wanted = wanted
        self.folder = folder
        self._prefix = prefix
        self._pins = BPFFS / f"longrun-{prefix}pins"
        hosts = (*wanted.edges, *wanted.reals)
        self._pins_of = {host: self._pins / host for host in hosts}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._build(edges)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends every process, unloads every program, removes every namespace."""
        for name in list(self._children):
            self.end(name)
        self._clear()

    def namespace(self, host: str) -> str:
        """Of a host."""
        return self._prefix + host

    # ---- processes ----

    def start(
        self,
        name: str,
        host: str,
        *command: str,
        stdin: int | None = None,
        stdout: IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A process in a host's namespace, under a name; what it prints goes to the log."""
        inside_it = ["nsenter", f"--net=/run/netns/{self.namespace(host)}", "--"]
        inside_it += ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with (self.folder / "log").open("ab") as log:
            child = subprocess.Popen(inside_it, stdin=stdin, stdout=stdout or log, stderr=log)
        self._children[name] = child
        return child

    def told(self, host: str, *command: str) -> str:
        """What a command in a host's namespace prints; nothing where it fails."""
        inside_it = ["nsenter", f"--net=/run/netns/{self.namespace(host)}", "--", *command]
        return subprocess.run(inside_it, capture_output=True, check=False, text=True).stdout

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a process; one that has ended is no error."""
        child = self._children.pop(name, None)
        if child is not None:
            child.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
            child.kill()
            child.wait()

    def start_agent(self, host: str) -> None:
        """The daemon of an edge or a real."""
        role = "agent" if host in self.wanted.edges else "real"
        config = str(self.folder / f"{host}.toml")
        self.start(host, host, sys.executable, "-m", "edge_lb", role, "--config", config)

    def start_server(self, real: str) -> None:
        """The server of a real, which holds connections."""
        words = ("serve", str(PORT), real[-1], str(self._counter(real)), str(IDLE_S))
        self.start(f"{real}-server", real, self.tool, *words)

    def start_store(self) -> None:
        """A redis-server that keeps what it was told on disk."""
        bind = ("--bind", address("store"), "--port", str(STORE_PORT), "--protected-mode", "no")
        keep = ("--dir", str(self.folder / "store"), "--save", "", "--appendonly", "yes")
        self.start("redis", "store", "redis-server", *bind, *keep)

    @property
    def tool(self) -> str:
        """hold.c, compiled."""
        return str(self.folder / "hold")

    def held(self, real: str) -> int:
        """Connections that a real's server has open, by its own count."""
        return int(struct.unpack("=Q", self._counter(real).read_bytes())[0])

    # ---- hosts ----

    def add_edge(self, edge: str) -> None:
        """A host that has at most its disk; its agent starts."""
        self._add_host(edge)
        self.start_agent(edge)

    def kill_edge(self, edge: str) -> None:
        """The host is gone, with all that it had in memory."""
        self.end(edge)
        netns.remove(self.namespace(edge))
        self._unload(edge, self._pins_of[edge])

    def rewrite_fleet(self) -> None:
        """fleet.toml as it is wanted now."""
        write_fleet(self.folder, self.wanted)

    # ---- what daemons say ----

    def ask(self, host: str, route: str, params: dict[str, str] | None = None) -> Any:
        """A daemon's answer by its admin socket. OSError if it does not answer or refuses."""
        connection = HTTPConnection("localhost", timeout=PATIENCE_S)
        connection.sock = socket(AF_UNIX, SOCK_STREAM)
        connection.sock.settimeout(PATIENCE_S)
        try:
            connection.sock.connect(str(self.folder / f"{host}.sock"))
            body = None if params is None else json.dumps(params)
            connection.request("GET" if body is None else "POST", route, body)
            response = connection.getresponse()
            answer = response.read()
        except HTTPException as error:
            raise OSError(f"{host} {route}: {error!r}") from None
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"{host} {route}: {answer.decode()}")
        return json.loads(answer)

    def is_well(self, host: str) -> bool:
        """Whether a daemon answers, and has no trouble."""
        with suppress(OSError):
            return bool(self.ask(host, "/status")["well"])
        return False

    def speaks(self, edge: str) -> bool:
        """Whether an edge's agent answers its announcer."""
        with suppress(OSError):
            return bool(self.ask(edge, "/announce/told"))
        return False

    def has_joined(self, edge: str) -> bool:
        """Whether an edge would be announced: its plan knows the histories of the others."""
        with suppress(OSError):
            return bool(self.ask(edge, "/announce/told")["histories"])
        return False

    def knows_all(self, edge: str) -> bool:
        """Whether an edge has judged every real."""
        with suppress(OSError):
            return all(row["state"] != "UNKNOWN" for row in self.ask(edge, "/reals")["reals"])
        return False

    def held_for_dead(self) -> int:
        """How often an edge held a real for dead whose server was there: it was too slow."""
        found = 0
        for line in (self.folder / "log").read_text().splitlines():
            said: dict[str, str] = {}
            with suppress(json.JSONDecodeError):
                said = json.loads(line) if line.startswith("{") else {}
            is_dead = (said.get("event"), said.get("state")) == ("health.changed", "DOWN")
            found += is_dead and said.get("reason") != "connection refused"
        return found

    def wait(self, held: Callable[[], bool]) -> None:
        """Until `held`; the log tells why not."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s and self.all_run():
            if held():
                return
            time.sleep(0.1)
        raise RuntimeError((self.folder / "log").read_text()[-3000:])

    def all_run(self) -> bool:
        """Whether every process that was started still runs."""
        return all(child.poll() is None for child in self._children.values())

    # ---- building ----

    def _counter(self, real: str) -> Path:
        return self.folder / f"{real}.count"

    def _unload(self, host: str, pins: Path) -> None:
        for found in (pins, traffic_pins(pins), self._far_pins(host)):
            unload(found)

    def _far_pins(self, host: str) -> Path:
        return self._pins / f"{host}-far"

    def _clear(self) -> None:
        """Nothing is left of this world, nor of an earlier one that was killed."""
        for name in netns.listnetns():
            if name.startswith(self._prefix):
                netns.remove(name)
        for host, pins in self._pins_of.items():
            self._unload(host, pins)
        if self._pins.exists():
            self._pins.rmdir()

    def _build(self, edges: Sequence[str]) -> None:
        self._clear()
        compile_source(TOOL, self.folder / "hold", TOOL_FLAGS)
        (self.folder / "store").mkdir()
        self.rewrite_fleet()
        write_hosts(self.folder, self._pins_of, self.wanted.edges)
        self._add_namespace("router")
        with NetNS(self.namespace("router")) as router:
            router.link("add", ifname=BRIDGE, kind="bridge")
            _bring_up(router, BRIDGE, SITE_MTU, f"{SITE_SUBNET}.1")
        for host in ("client", "store", *self.wanted.reals):
            self._add_host(host)
        self.start_store()
        for real in self.wanted.reals:
            self.start_server(real)
            self.start_agent(real)
        for edge in edges:
            self.add_edge(edge)

    def _add_namespace(self, host: str) -> None:
        netns.create(self.namespace(host))
        with inside(self.namespace(host)):
            for key, value in SYSCTLS.items():
                Path(f"/proc/sys/net/{key}").write_text(value)
        with NetNS(self.namespace(host)) as ns:
            _bring_up(ns, "lo", 65536)

    def _add_host(self, host: str) -> None:
        """A namespace and a wire: `eth0` in it, its name at the router or on its bridge."""
        self._add_namespace(host)
        router, here = self.namespace("router"), self.namespace(host)
        with IPRoute() as netlink:
            peer = {"ifname": "eth0", "net_ns_fd": here}
            netlink.link("add", ifname=host, kind="veth", net_ns_fd=router, peer=peer)
        for namespace, name in ((router, host), (here, "eth0")):
            with inside(namespace):
                send_as_on_a_wire(name)
        with NetNS(router) as ns:
            if host == "client":
                _bring_up(ns, host, 1500, f"{CLIENT_SUBNET}.1")
            else:
                _bring_up(ns, host, SITE_MTU)
                bridge = ns.link_lookup(ifname=BRIDGE)[0]
                ns.link("set", index=ns.link_lookup(ifname=host)[0], master=bridge)
        with NetNS(here) as ns:
            _bring_up(ns, "eth0", 1500 if host == "client" else SITE_MTU, address(host))
            ns.route("add", dst="0.0.0.0/0", gateway=gateway(host))
        if host in self._pins_of:  # what XDP sends waits at the far end unless a program is there
            pins = self._far_pins(host)
            with inside(router), Program.load("pass", pin_dir=pins) as program:
                program.attach(host, pins)


def _bring_up(ns: NetNS, name: str, mtu: int, v4: str = "") -> None:
    index = ns.link_lookup(ifname=name)[0]
    ns.link("set", index=index, mtu=mtu, state="up")
    if v4:
        ns.addr("add", index=index, address=v4, prefixlen=24)
