"""What the hosts of the benches over veth are told: fleet.toml, host files, nginx, HAProxy, nft.

Owns those texts, and the addresses and names in them. Called by veth_world.py; starts nothing.
Limits are set for 10,000 concurrent flows, each of which is two connections of a proxy; a proxy has
two processes, so that each stays below the 20,000 open files that a process may have by custom.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gslb.fleet.model import Encap, FlowMemory

HOSTS = {"client": 2, "edge": 2, "proxy": 3, "real1": 11, "real2": 12}
REALS = ("real1", "real2")
PEERS = {"nginx": "192.0.2.2", "haproxy": "192.0.2.3", "nftables": "192.0.2.4"}
NGINX = "/usr/sbin/nginx"
HAPROXY = "/usr/sbin/haproxy"
CLIENT_SUBNET, SITE_SUBNET = "10.90.3", "10.90.1"
CLIENT_SUBNET_V6, SITE_SUBNET_V6 = "fd00:90:3::", "fd00:90:1::"
SITE_MTU = 1600  # room for the tunnel around a client's 1500
PORT, UDP_PORT = 80, 9000
BIG_BYTES = 256 << 10
PROXY_PROCESSES = 2
CONNECTIONS = 16_000  # of one nginx process
FLOWS_MAX = 8_000  # of one HAProxy process, which has two connections for each
FILES = CONNECTIONS + 1_000  # open ones, of one nginx process
BACKLOG = 4096
CHECK = 'kind = "tcp", port = 80, interval_s = 1.0, timeout_s = 0.9, rise = 1, fall = 5'


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchVip:
    """A VIP of Waypost's in fleet.toml."""

    name: str
    address: str
    encap: Encap
    protocol: str = "tcp"
    port: int = PORT
    flow_memory: FlowMemory = FlowMemory.ALL
    check: str = CHECK


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What stands in the world: `guests` are further reals, by L2 alone, all on the host real2."""

    vips: tuple[BenchVip, ...]
    guests: tuple[str, ...] = ()
    has_peers: bool = True


def subnet(host: str) -> str:
    """The first three octets of a host's subnet."""
    return CLIENT_SUBNET if host == "client" else SITE_SUBNET


def address(host: str) -> str:
    """The host's own address."""
    return f"{subnet(host)}.{HOSTS[host]}"


def address_v6(host: str) -> str:
    """The host's own IPv6 address."""
    return f"{CLIENT_SUBNET_V6 if host == 'client' else SITE_SUBNET_V6}{HOSTS[host]}"


def guest_address(number: int) -> str:
    """The address of a guest, counted from 0."""
    return f"{SITE_SUBNET}.{100 + number}"


def write_files(folder: Path, pins: Path, site: Site) -> None:
    """Every file that a process of the world is started with."""
    root = folder / "www"
    root.mkdir()
    (root / "big").write_bytes(bytes(BIG_BYTES))
    folder.chmod(0o755)  # nginx's worker reads it under its own user
    (folder / "fleet.toml").write_text(_fleet(site))
    (folder / "edge.toml").write_text(_host(folder, "edge1", "edge") + _edge(folder, pins))
    for name in REALS:
        role = f'[real]\nname = "{name}"\ninterface = "eth0"\npin_dir = "{pins / name}"\n'
        (folder / f"{name}.toml").write_text(_host(folder, name, name) + role)
        (folder / f"{name}.nginx").write_text(_nginx(name, _web(name, folder)))
    (folder / "stream.nginx").write_text(_stream())
    (folder / "haproxy.cfg").write_text(_haproxy())
    (folder / "nft.conf").write_text(_nft())


def _fleet(site: Site) -> str:
    places = {name: address(name) for name in REALS}
    places |= {name: guest_address(number) for number, name in enumerate(site.guests)}
    reals = "".join(
        f'[real.{name}]\nsite = "fra"\naddress = "{place}"\n' for name, place in places.items()
    )
    vips = "".join(
        f'[vip.{vip.name}]\nsite = "fra"\naddress = "{vip.address}"\nport = {vip.port}\n'
        f'protocol = "{vip.protocol}"\nencap = "{vip.encap.value}"\n'
        f"flow_memory = {json.dumps(vip.flow_memory.value)}\n"
        f"reals = {json.dumps([*places])}\ncheck = {{ {vip.check} }}\n"
        for vip in site.vips
    )
    return (
        '[fleet]\nname = "bench"\n[site.fra]\n'
        'location = { country = "DE", lat = 50.0, lon = 8.0 }\nedges = ["edge1"]\n'
        f"{reals}{vips}"
    )


def _host(folder: Path, name: str, file: str) -> str:
    return (
        f'[host]\nname = "{name}"\nfleet = "fleet.toml"\n'
        f'admin_socket = "{folder}/{file}.sock"\nstate_dir = "{folder}/{file}"\n'
    )


def _edge(folder: Path, pins: Path) -> str:
    return (
        f'[store]\nkind = "sqlite"\npath = "{folder}/store.sqlite"\n'
        f'[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "{pins / "edge"}"\n'
        f'tunnel_source = "{address("edge")}"\nmtu = {SITE_MTU}\n'
    )


def _nginx(name: str, rest: str, *, processes: int = 1) -> str:
    return (
        f"daemon off; worker_processes {processes}; worker_rlimit_nofile {FILES}; pid {name}.pid;"
        f" error_log {name}.err; events {{ worker_connections {CONNECTIONS}; }}\n{rest}\n"
    )


def _web(name: str, folder: Path) -> str:
    folders = " ".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"http {{ access_log off; {folders} keepalive_requests 100000000;"
        f" client_max_body_size 0; sendfile on; root {folder}/www;"
        f" server {{ listen {PORT} backlog={BACKLOG}; listen [::]:{PORT} backlog={BACKLOG};"
        f' location = / {{ return 200 "{name}"; }}'
        ' location = /sink { return 200 "ok"; } location = /big { } } }'
    )


def _stream() -> str:
    def upstream(name: str, port: int) -> str:
        servers = " ".join(f"server {address(real)}:{port};" for real in REALS)
        return f"upstream {name} {{ hash $remote_addr$remote_port consistent; {servers} }}"

    return "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n" + _nginx(
        "stream",
        f"stream {{ {upstream('web', PORT)} {upstream('packets', UDP_PORT)}"
        f" server {{ listen {PEERS['nginx']}:{PORT} backlog={BACKLOG} reuseport;"
        f" proxy_pass web; }} server {{ listen {PEERS['nginx']}:{UDP_PORT} udp reuseport;"
        " proxy_timeout 5s; proxy_pass packets; } }",
        processes=PROXY_PROCESSES,
    )


def _haproxy() -> str:
    servers = "\n".join(f"  server {name} {address(name)}:{PORT}" for name in REALS)
    return (
        f"global\n  nbthread 1\n  maxconn {FLOWS_MAX}\ndefaults\n  mode tcp\n"
        "  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"listen www\n  bind {PEERS['haproxy']}:{PORT} backlog {BACKLOG}\n"
        f"  maxconn {FLOWS_MAX}\n  balance roundrobin\n{servers}\n"
    )


def _nft() -> str:
    chosen = ", ".join(f"{number} : {address(name)}" for number, name in enumerate(REALS))
    rules = "".join(
        f"  ip daddr {PEERS['nftables']} {protocol} dport {port} dnat to"
        f" jhash ip saddr . {protocol} sport mod {len(REALS)} map {{ {chosen} }}\n"
        for protocol, port in (("tcp", PORT), ("udp", UDP_PORT))
    )
    return (
        "table ip wpbench {\n"
        f" chain in {{ type nat hook prerouting priority dstnat;\n{rules} }}\n"
        " chain out { type nat hook postrouting priority srcnat;\n"
        "  ct status dnat masquerade\n }\n}\n"
    )
