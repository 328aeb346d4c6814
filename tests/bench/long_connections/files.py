"""What the hosts of the long connections are told: fleet.toml, a small file a daemon, addresses.

Owns those texts and the names and addresses in them. fleet.toml is made anew for each change, as an
operator would edit it. Called by world.py; starts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from long_connections.modes import Mode

PORT = 7000
STORE_PORT = 6379
CLIENT_SUBNET, SITE_SUBNET = "10.93.3", "10.93.1"
SITE_MTU = 1600  # room for the tunnel and a chain around a client's 1500
WEIGHT = 100
CHECK = (
    f'kind = "tcp", via = "direct", port = {PORT}, interval_s = 1.0, timeout_s = 0.9, '
    "rise = 1, fall = 2"
)
_NUMBERS = {"client": 2, "store": 9, "edge": 20, "real": 40}  # edge1 is 21, real1 is 41


def address(host: str) -> str:
    """The host's own address."""
    name = host.rstrip("0123456789")
    subnet = CLIENT_SUBNET if host == "client" else SITE_SUBNET
    return f"{subnet}.{_NUMBERS[name] + int(host.removeprefix(name) or 0)}"


def gateway(host: str) -> str:
    """The router's address on the host's subnet."""
    return f"{CLIENT_SUBNET if host == 'client' else SITE_SUBNET}.1"


@dataclass(slots=True, kw_only=True)
class Wanted:
    """What fleet.toml says of the site now: who serves, with which weight."""

    modes: Sequence[Mode]
    edges: Sequence[str]
    reals: Sequence[str]  # all that there are
    serving: list[str]  # those behind the VIPs
    longest_s: float  # of a connection
    weights: dict[str, int] = field(default_factory=dict)


def fleet_toml(wanted: Wanted) -> str:
    """The site as its operator would write it."""
    reals = "".join(
        f'[real.{name}]\nsite = "fra"\naddress = "{address(name)}"\n'
        f"weight = {wanted.weights.get(name, WEIGHT)}\n"
        for name in wanted.reals
    )
    vips = "".join(
        f'[vip.{mode.name}]\nsite = "fra"\naddress = "{mode.address}"\nport = {PORT}\n'
        f'protocol = "tcp"\nencap = "gue"\nowner_chain = {mode.owner_chain}\n'
        f'flow_memory = "{mode.flow_memory.value}"\nconnection_age_s = {wanted.longest_s}\n'
        f"reals = {json.dumps(wanted.serving)}\ncheck = {{ {CHECK} }}\n"
        for mode in wanted.modes
    )
    return (
        '[fleet]\nname = "long"\n[site.fra]\n'
        'location = { country = "DE", lat = 50.0, lon = 8.0 }\n'
        f"edges = {json.dumps(list(wanted.edges))}\n{reals}{vips}"
    )


def write_fleet(folder: Path, wanted: Wanted) -> None:
    """At once, so that no daemon ever reads half of it."""
    draft = folder / "fleet.draft"
    draft.write_text(fleet_toml(wanted))
    draft.replace(folder / "fleet.toml")


def write_hosts(folder: Path, pins: Mapping[str, Path], edges: Collection[str]) -> None:
    """The small file of each edge and each real; `pins` holds where each keeps its programs."""
    for host, pin_dir in pins.items():
        role = _edge(host, pin_dir) if host in edges else _real(host, pin_dir)
        (folder / f"{host}.toml").write_text(_host(folder, host) + _store() + role)


def _host(folder: Path, name: str) -> str:
    return (
        f'[host]\nname = "{name}"\nfleet = "fleet.toml"\n'
        f'admin_socket = "{folder}/{name}.sock"\nstate_dir = "{folder}/{name}"\n'
    )


def _store() -> str:
    url = f"redis://{address('store')}:{STORE_PORT}/0"
    return f'[store]\nkind = "redis"\nurl = "{url}"\ntimeout_s = 1.0\n'


def _edge(name: str, pin_dir: Path) -> str:
    return (
        f'[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "{pin_dir}"\n'
        f'tunnel_source = "{address(name)}"\nmtu = {SITE_MTU}\n'
    )


def _real(name: str, pin_dir: Path) -> str:
    return f'[real]\nname = "{name}"\ninterface = "eth0"\npin_dir = "{pin_dir}"\n'
