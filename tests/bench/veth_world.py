"""The network of bench_veth.py: client, router, an edge, a proxy host, two reals, joined by veth.

Owns the namespaces (prefix wpbench-) and every process in them. The edge runs Waypost's own agent,
the reals its own real agent and nginx; the proxy host runs the peers, each on an address of its
own, with the same two reals behind. All go by the same router. Everything started here is ended
here, by its process id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from pyroute2 import IPRoute, NetNS, netns

from bpf.program import BPFFS, Program, unload
from edge_lb.vip_traffic import traffic_pins
from ops.lab.world import inside, send_as_on_a_wire

PREFIX = "wpbench-"
HOSTS = {"client": 3, "edge": 1, "proxy": 4, "real1": 11, "real2": 12}
REALS = ("real1", "real2")
SITE_MTU = 1600  # room for the tunnel around a client's 1500
WAYPOST_VIP = "192.0.2.1"
PEERS = {"nginx": "192.0.2.2", "haproxy": "192.0.2.3", "nftables": "192.0.2.4"}
BIG_BYTES = 256 << 10
PATIENCE_S = 60.0
NGINX = "/usr/sbin/nginx"
HAPROXY = "/usr/sbin/haproxy"


def address(host: str) -> str:
    """The host's own address."""
    return f"10.90.{HOSTS[host]}.2"


class VethWorld:
    """Built by the constructor, removed by `close`; a crash's leftovers are removed first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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

    def start(self, host: str, *command: str) -> subprocess.Popen[bytes]:
        """A process in a host's namespace; what it prints goes to a file."""
        with (self._folder / "log").open("ab") as log:
            child = subprocess.Popen(self._inside(host, *command), stdout=log, stderr=log)
        self._children.append(child)
        return child

    def run(self, host: str, *command: str) -> str:
        """A command in a host's namespace, to its end; its output."""
        done = subprocess.run(
            self._inside(host, *command), capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} on {host}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def received(self, host: str) -> int:
        """Packets that the router has sent to a host."""
        with NetNS(PREFIX + "router") as router:
            (link,) = router.get_links(router.link_lookup(ifname=host)[0])
            return int(link.get_attr("IFLA_STATS64")["tx_packets"])

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

    def _daemon(self, host: str, role: str, config: str) -> None:
        path = str(self._folder / config)
        self.start(host, sys.executable, "-m", "edge_lb", role, "--config", path)

    def _all_answer(self) -> bool:
        urls = [f"http://{vip}/" for vip in (WAYPOST_VIP, *PEERS.values())]
        probe = ["curl", "-sf", "-m1", "-o", "/dev/null"]
        command = self._inside(
            "client", "sh", "-ec", "; ".join(" ".join([*probe, u]) for u in urls)
        )
        return subprocess.run(command, timeout=PATIENCE_S).returncode == 0 and all(
            real["state"] == "UP" for real in self.ask("/reals")["reals"]
        )

    def _await(self, held: Any) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            with suppress(OSError):
                if held():
                    return
            time.sleep(0.2)
        raise RuntimeError((self._folder / "log").read_text()[-3000:])

    def _inside(self, host: str, *command: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{PREFIX}{host}", "--", *command]

    def _build(self) -> None:
        remove_namespaces()
        self._build_network()
        self._write_files()
        for name in REALS:
            self.start(name, NGINX, "-p", str(self._folder), "-c", f"{self._folder}/{name}.nginx")
            self._daemon(name, "real", f"{name}.toml")
        self._daemon("edge", "agent", "edge.toml")
        self.start("proxy", NGINX, "-p", str(self._folder), "-c", f"{self._folder}/stream.nginx")
        self.start("proxy", HAPROXY, "-db", "-f", str(self._folder / "haproxy.cfg"))
        self.run("proxy", "nft", "-f", str(self._folder / "nft.conf"))
        self._await(self._all_answer)

    def _build_network(self) -> None:
        for host in ("router", *HOSTS):
            netns.create(PREFIX + host)
        with inside(PREFIX + "router"):
            for key in ("ip_forward", "conf/all/rp_filter", "conf/default/rp_filter"):
                value = "1" if key == "ip_forward" else "0"
                Path(f"/proc/sys/net/ipv4/{key}").write_text(value)
        for host in HOSTS:
            self._connect(host)
        vias = {WAYPOST_VIP: "edge", **dict.fromkeys(PEERS.values(), "proxy")}
        with NetNS(PREFIX + "router") as router:
            for vip, host in vias.items():
                router.route("add", dst=f"{vip}/32", gateway=address(host))
        with NetNS(PREFIX + "proxy") as proxy:
            for vip in PEERS.values():
                proxy.addr("add", index=1, address=vip, prefixlen=32)

    def _connect(self, host: str) -> None:
        mtu = 1500 if host == "client" else SITE_MTU
        router, here = PREFIX + "router", PREFIX + host
        with IPRoute() as netlink:
            netlink.link(
                "add",
                ifname=host,
                kind="veth",
                net_ns_fd=router,
                peer={"ifname": "eth0", "net_ns_fd": here},
            )
        gateway = f"10.90.{HOSTS[host]}.1"
        for namespace, name, own in ((router, host, gateway), (here, "eth0", address(host))):
            with NetNS(namespace) as ns:
                ns.link("set", index=ns.link_lookup(ifname="lo")[0], state="up")
                index = ns.link_lookup(ifname=name)[0]
                ns.link("set", index=index, mtu=mtu, state="up")
                ns.addr("add", index=index, address=own, prefixlen=24)
            with inside(namespace):
                send_as_on_a_wire(name)
        with NetNS(here) as ns:
            ns.route("add", dst="0.0.0.0/0", gateway=gateway)
        with inside(here):
            for name in ("all", "eth0"):
                Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        if host == "edge":  # what XDP_TX sends waits at the far end unless a program is there
            with inside(router), Program.load("pass", pin_dir=self._pins / "pass-edge") as program:
                program.attach(host, self._pins / "pass-edge")

    def _write_files(self) -> None:
        root = self._folder / "www"
        root.mkdir()
        (root / "big").write_bytes(bytes(BIG_BYTES))
        self._folder.chmod(0o755)  # nginx's worker reads it under its own user
        reals = "".join(
            f'[real.{name}]\nsite = "fra"\naddress = "{address(name)}"\n' for name in REALS
        )
        self._write(
            "fleet.toml",
            '[fleet]\nname = "bench"\n[site.fra]\n'
            'location = { country = "DE", lat = 50.0, lon = 8.0 }\nedges = ["edge1"]\n'
            f'{reals}[vip.www]\nsite = "fra"\naddress = "{WAYPOST_VIP}"\nport = 80\n'
            f"reals = {json.dumps(REALS)}\n"
            'check = { kind = "tcp", port = 80, interval_s = 0.5, timeout_s = 0.4, '
            "rise = 1, fall = 5 }\n",
        )
        self._write("edge.toml", self._host("edge1", "edge") + self._edge())
        for name in REALS:
            pins = self._pins / name
            self._write(
                f"{name}.toml",
                self._host(name, name)
                + f'[real]\nname = "{name}"\ninterface = "eth0"\npin_dir = "{pins}"\n',
            )
            self._write(f"{name}.nginx", self._nginx(name, self._web(name, root)))
        servers = " ".join(f"server {address(name)}:80;" for name in REALS)
        self._write(
            "stream.nginx",
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
            + self._nginx(
                "stream",
                "stream { upstream reals"
                f" {{ hash $remote_addr$remote_port consistent; {servers} }}"
                f" server {{ listen {PEERS['nginx']}:80 backlog=4096; proxy_pass reals; }} }}",
            ),
        )
        lines = "\n".join(f"  server {name} {address(name)}:80" for name in REALS)
        self._write(
            "haproxy.cfg",
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n"
            "  timeout client 60s\n  timeout server 60s\nlisten www\n"
            f"  bind {PEERS['haproxy']}:80\n  balance roundrobin\n{lines}\n",
        )
        chosen = ", ".join(f"{number} : {address(name)}" for number, name in enumerate(REALS))
        self._write(
            "nft.conf",
            "table ip wpbench {\n"
            " chain in { type nat hook prerouting priority dstnat;\n"
            f"  ip daddr {PEERS['nftables']} tcp dport 80 dnat to jhash ip saddr . tcp sport"
            f" mod {len(REALS)} map {{ {chosen} }}\n }}\n"
            " chain out { type nat hook postrouting priority srcnat;\n"
            "  ct status dnat masquerade\n }\n}\n",
        )

    def _host(self, name: str, file: str) -> str:
        return (
            f'[host]\nname = "{name}"\nfleet = "fleet.toml"\n'
            f'admin_socket = "{self._folder}/{file}.sock"\nstate_dir = "{self._folder}/{file}"\n'
        )

    def _edge(self) -> str:
        return (
            f'[store]\nkind = "sqlite"\npath = "{self._folder}/store.sqlite"\n'
            f'[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "{self._pins / "edge"}"\n'
            f'tunnel_source = "{address("edge")}"\nmtu = {SITE_MTU}\n'
        )

    def _nginx(self, name: str, rest: str) -> str:
        return (
            f"daemon off; worker_processes 1; pid {name}.pid;"
            f" error_log {name}.err; events {{ worker_connections 8000; }}\n{rest}\n"
        )

    def _web(self, name: str, root: Path) -> str:
        folders = " ".join(
            f"{kind}_temp_path {self._folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return (
            f"http {{ access_log off; {folders} keepalive_requests 100000000;"
            f" client_max_body_size 0; sendfile on; root {root};"
            f' server {{ listen 80 backlog=4096; location = / {{ return 200 "{name}"; }}'
            ' location = /sink { return 200 "ok"; } location = /big { } } }'
        )

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)


def remove_namespaces() -> None:
    """Every namespace with the bench's prefix."""
    for name in netns.listnetns():
        if name.startswith(PREFIX):
            netns.remove(name)
