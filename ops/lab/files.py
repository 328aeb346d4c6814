"""Writes every file of the lab: fleet.toml, one host file a daemon, zone, nginx, certificate.

Owns the lab's configuration as text, made from `ops.lab.topology`. The daemons read it exactly as
they would read an operator's files. Starts nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import trustme

from ops.lab import paths
from ops.lab.router import AS, HOLD_S, bird_conf, router_address, site_as
from ops.lab.topology import (
    DNS,
    DOMAIN,
    EDGES,
    REALS,
    SITE_MTU,
    SITES,
    STORE_ADDRESS,
    STORE_PORT,
    VIPS,
    LabHost,
    LabVip,
)

CHECK_INTERVAL_S = 0.5
CHECK_TIMEOUT_S = 0.4
FALL = 2
RISE = 2
LEASE_S = 3.0
BEAT_S = 0.5
DETECT_S = CHECK_INTERVAL_S * 1.2 * FALL + CHECK_TIMEOUT_S
"""The stated time to see a dead real: `fall` checks, the longest jitter, one timeout."""
ANSWER_S = DETECT_S + 1.5
"""The stated time until the answers follow: detection, publishing, one poll of the store."""
WITHDRAW_S = 1.5
"""The stated time until the router stops sending: two looks of the announcer, then BGP."""
QUIET_S = 3.0
TTL_S = 5

_LOCATION = {
    "fra": '{ country = "DE", lat = 50.11, lon = 8.68 }',
    "sin": '{ country = "SG", lat = 1.35, lon = 103.82 }',
}
_CLIENTS = {"fra": ["203.0.113.0/24", "2001:db8:0:c::/64"], "sin": ["198.18.0.0/15"]}

_ZONE = f"""\
$ORIGIN {DOMAIN}.
$TTL 300
@        IN SOA ns1 hostmaster 2026112301 3600 600 604800 60
@        IN NS  ns1
ns1      IN A    {DNS.address}
ns1      IN AAAA {DNS.address_v6}
static   IN A    192.0.2.80
alias    IN CNAME www
mail     IN MX   10 static
*.any    IN A    192.0.2.81
child    IN NS   ns.child
ns.child IN A    192.0.2.82
"""


def write_all(*, redis: bool, resilient: bool) -> None:
    """Write everything; the directories are made as needed."""
    for folder in (paths.CONFIG_DIR, paths.LOG_DIR, paths.STATE_DIR, paths.SOCKET_DIR):
        folder.mkdir(parents=True, exist_ok=True)
    paths.STORE_DIR.mkdir(exist_ok=True)
    _write("fleet.toml", fleet_toml())
    _write(f"{DOMAIN}.zone", _ZONE)
    _write("bird.conf", bird_conf(resilient=resilient))
    store = _store(redis=redis)
    _write("dns.toml", _host("dns") + store + _dns())
    _write("https.toml", _host("https") + store + _https())
    for edge in EDGES:
        _write(f"{edge.name}.toml", _host(edge.name) + store + _edge(edge))
    for real in REALS:
        _write(f"{real.name}.toml", _host(real.name) + store + _real(real))
        _write(f"{real.name}.nginx.conf", _nginx(real))
        (paths.STATE_DIR / real.name).mkdir(exist_ok=True)
    write_certificate()


def write_certificate() -> None:
    """A development certificate of a new authority, for the DNS node's names and addresses."""
    authority = trustme.CA(organization_name="waypost lab")
    leaf = authority.issue_cert(f"dns.{DOMAIN}", "localhost", DNS.address, DNS.address_v6)
    authority.cert_pem.write_to_path(paths.CA)
    leaf.private_key_pem.write_to_path(paths.PRIVATE_KEY)
    paths.PRIVATE_KEY.chmod(0o600)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    paths.CERTIFICATE.write_bytes(chain)


def fleet_toml() -> str:
    """The lab's world, as an operator would write it."""
    parts = ['[fleet]\nname = "lab"\n']
    for site in SITES:
        edges = [edge.name for edge in EDGES if edge.site == site]
        parts.append(
            f"[site.{site}]\nlocation = {_LOCATION[site]}\nedges = {json.dumps(edges)}\n"
            f"clients = {json.dumps(_CLIENTS[site])}\n"
        )
    for real in REALS:
        encap = "l2" if "-lan" in real.name else "gue"
        parts.append(
            f'[real.{real.name}]\nsite = "{real.site}"\naddress = "{real.address}"\n'
            f'encap = "{encap}"\n'
        )
    parts += [_vip(vip) for vip in VIPS]
    webs = [vip.name for vip in VIPS if vip.name.startswith("web-")]
    parts.append(_pool("web", "spread", webs, 2))
    parts.append(_pool("near", "nearest", webs, 2))
    parts.append(_pool("lan", "failover", ["lan-fra"], 1))
    parts.append(
        f'[zone."{DOMAIN}"]\nfile = "{DOMAIN}.zone"\n'
        'dynamic = { www = "web", near = "near", lan = "lan" }\n'
    )
    return "\n".join(parts)


def _vip(vip: LabVip) -> str:
    # A UDP VIP is judged by the same nginx process's HTTP port: UDP itself gives no sign of life.
    return (
        f'[vip.{vip.name}]\nsite = "{vip.site}"\naddress = "{vip.address}"\nport = {vip.port}\n'
        f'protocol = "{vip.protocol}"\nreals = {json.dumps(list(vip.reals))}\n'
        f'check = {{ kind = "http", port = 80, path = "/healthz", host = "{DOMAIN}", '
        f"interval_s = {CHECK_INTERVAL_S}, timeout_s = {CHECK_TIMEOUT_S}, "
        f"rise = {RISE}, fall = {FALL} }}\n"
    )


def _pool(name: str, policy: str, vips: list[str], answers: int) -> str:
    return (
        f'[pool.{name}]\npolicy = "{policy}"\nvips = {json.dumps(vips)}\n'
        f"answers = {answers}\nttl_s = {TTL_S}\n"
    )


def _host(name: str) -> str:
    return (
        f'[host]\nname = "{name}"\nfleet = "fleet.toml"\n'
        f'admin_socket = "{paths.socket_of(name)}"\nstate_dir = "{paths.STATE_DIR / name}"\n\n'
    )


def _store(*, redis: bool) -> str:
    if redis:
        url = f"redis://{STORE_ADDRESS}:{STORE_PORT}/0"
        return f'[store]\nkind = "redis"\nurl = "{url}"\ntimeout_s = 0.5\n\n'
    return f'[store]\nkind = "sqlite"\npath = "{paths.STORE_DIR / "store.sqlite"}"\n\n'


def _dns() -> str:
    listen = [f"{DNS.address}:53", f"[{DNS.address_v6}]:53"]
    return f"[dns]\nlisten = {json.dumps(listen)}\nworkers = 2\n"


def _https() -> str:
    return (
        f'[https]\nlisten = "{DNS.address}:443"\ncertificate = "{paths.CERTIFICATE}"\n'
        f'private_key = "{paths.PRIVATE_KEY}"\ntrusted_callers = ["203.0.113.0/24"]\n'
    )


def _edge(edge: LabHost) -> str:
    return (
        f'[edge]\nsite = "{edge.site}"\ninterface = "eth0"\n'
        f'pin_dir = "{paths.PIN_DIR / edge.name}"\ntunnel_source = "{edge.address}"\n'
        f"mtu = {SITE_MTU}\nlease_s = {LEASE_S}\nbeat_s = {BEAT_S}\n\n"
        f'[bgp]\nlocal_as = {site_as(edge.site)}\nlocal_address = "{edge.address}"\n'
        f"hold_s = {HOLD_S}\nreturn_s = 0.5\nquiet_s = {QUIET_S}\n\n"
        f'[[bgp.neighbors]]\naddress = "{router_address(edge.name)}"\npeer_as = {AS}\n'
    )


def _real(real: LabHost) -> str:
    return (
        f'[real]\nname = "{real.name}"\ninterface = "eth0"\n'
        f'pin_dir = "{paths.PIN_DIR / real.name}"\n'
    )


def _nginx(real: LabHost) -> str:
    home = paths.STATE_DIR / real.name
    return f"""\
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log {paths.log_of(real.name + "-nginx")};
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  keepalive_requests 1000000;
  keepalive_timeout 3600s;
  default_type text/plain;
  server {{
    listen 80 default_server;
    location / {{ return 200 "{real.name}\\n"; }}
    location = /healthz {{ return 200 "ok\\n"; }}
  }}
}}
stream {{
  server {{ listen 7007 udp; return "{real.name}\\n"; }}
}}
"""


def _write(name: str, text: str) -> None:
    Path(paths.CONFIG_DIR / name).write_text(text)
