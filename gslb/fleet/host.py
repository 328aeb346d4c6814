"""The small file of one host, one shape a role: dns.toml, https.toml, edge.toml, real.toml.

Owns those shapes and their semantic checks, and how a store is named. Secrets are named by file
path, never written in line. Reads nothing but through `gslb.fleet.config`.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import msgspec

from gslb.fleet.config import FLOWS_MAX, FLOWS_MIN, ConfigError, Fault, read_toml


class StoreKind(StrEnum):
    """Which implementation of `gslb.fleet.store.Store` a host uses."""

    SQLITE = "sqlite"
    REDIS = "redis"


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a host file: unknown keys are refused."""


class StoreSection(_Section, frozen=True):
    """[store]. `path` for sqlite; `url` (redis://host:port/db) and `password_file` for redis."""

    kind: StoreKind = StoreKind.SQLITE
    path: str = ""
    url: str = ""
    password_file: str = ""
    prefix: str = "waypost"
    timeout_s: float = 1.0


class HostSection(_Section, frozen=True):
    """[host]: what every daemon has. `state_dir` survives restarts, `admin_socket` is its seat."""

    name: str
    fleet: str  # path of fleet.toml, relative to this file
    admin_socket: str
    state_dir: str
    log_level: str = "info"


class DnsSection(_Section, frozen=True):
    """[dns]. `listen` holds ADDRESS:PORT or [ADDRESS]:PORT, for UDP and TCP alike."""

    listen: tuple[str, ...]
    workers: int = 0  # 0: one a core
    udp_payload_max: int = 1232  # DNS flag day 2020: fits every path unfragmented
    tcp_idle_s: float = 10.0
    tcp_connections_max: int = 1000
    geo_database: str = ""  # optional MaxMind file
    nsid: str = ""


class HttpsSection(_Section, frozen=True):
    """[https]. `trusted_callers` may override the client's address."""

    listen: str
    certificate: str
    private_key: str
    workers: int = 1
    trusted_callers: tuple[str, ...] = ()
    names_max: int = 16


class EdgeSection(_Section, frozen=True):
    """[edge]. Tunnel sources are the outer source addresses of what is encapsulated, by family."""

    site: str
    interface: str
    pin_dir: str
    tunnel_source: str
    tunnel_source_v6: str = ""  # needed where a real has an IPv6 address
    flows_per_queue: int = 262_144  # flow memory of each receive queue; 48 bytes a flow
    mtu: int = 1500
    lease_s: float = 5.0
    beat_s: float = 1.0


class RealSection(_Section, frozen=True):
    """[real]. `name` is a real of fleet.toml; the daemon binds the VIPs that name it."""

    name: str
    interface: str
    pin_dir: str
    vip_interface: str = "lo"


class DnsHost(_Section, frozen=True):
    """dns.toml"""

    host: HostSection
    store: StoreSection
    dns: DnsSection


class HttpsHost(_Section, frozen=True):
    """https.toml"""

    host: HostSection
    store: StoreSection
    https: HttpsSection


class EdgeHost(_Section, frozen=True):
    """edge.toml"""

    host: HostSection
    store: StoreSection
    edge: EdgeSection


class RealHost(_Section, frozen=True):
    """real.toml"""

    host: HostSection
    real: RealSection


Host = TypeVar("Host", DnsHost, HttpsHost, EdgeHost, RealHost)


def load_host(path: Path, shape: type[Host]) -> Host:
    """Read one host file. Raises ConfigError with every fault that was found."""
    host = read_toml(path, shape)
    faults = [Fault(str(path), at, reason, advice) for at, reason, advice in _faults(host)]
    if faults:
        raise ConfigError(faults)
    return host


def fleet_path(path: Path, host: HostSection) -> Path:
    """Where fleet.toml is, for the host file at `path`."""
    return path.parent / host.fleet


def split_listen(text: str) -> tuple[str, int]:
    """ADDRESS:PORT or [ADDRESS]:PORT into its parts; ValueError says what is wrong."""
    address, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"`{text}` is not ADDRESS:PORT")
    bare = address.removeprefix("[").removesuffix("]")
    if ip_address(bare).version == 6 and not address.startswith("["):
        raise ValueError(f"`{text}`: write an IPv6 address as [ADDRESS]:PORT")
    return bare, int(port)


_Found = list[tuple[str, str, str]]


def _faults(host: DnsHost | HttpsHost | EdgeHost | RealHost) -> _Found:
    found: _Found = []
    if host.host.log_level not in {"debug", "info", "warning", "error"}:
        found.append(("$.host.log_level", "unknown level", "debug, info, warning or error"))
    if not isinstance(host, RealHost):
        found += _store_faults(host.store)
    match host:
        case DnsHost():
            if not host.dns.listen:
                found.append(("$.dns.listen", "nothing to listen on", "like `[::]:53`"))
            for number, text in enumerate(host.dns.listen):
                found += _listen_fault(f"$.dns.listen[{number}]", text)
            if not 512 <= host.dns.udp_payload_max <= 4096:
                found.append(("$.dns.udp_payload_max", "out of range", "512..4096"))
            if not 0 <= host.dns.workers <= 256:
                found.append(("$.dns.workers", "out of range", "0..256, 0 is one a core"))
        case HttpsHost():
            found += _listen_fault("$.https.listen", host.https.listen)
        case EdgeHost():
            found += _address_fault("$.edge.tunnel_source", host.edge.tunnel_source, 4)
            if host.edge.tunnel_source_v6:
                v6 = host.edge.tunnel_source_v6
                found += _address_fault("$.edge.tunnel_source_v6", v6, 6)
            if not FLOWS_MIN <= host.edge.flows_per_queue <= FLOWS_MAX:
                advice = f"{FLOWS_MIN}..{FLOWS_MAX}"
                found.append(("$.edge.flows_per_queue", "out of range", advice))
            if not 0 < host.edge.beat_s * 2 <= host.edge.lease_s:
                advice = "a lease must outlive a lost beat"
                found.append(("$.edge.lease_s", "shorter than two beats", advice))
            if not 576 <= host.edge.mtu <= 9216:
                found.append(("$.edge.mtu", "out of range", "576..9216"))
        case RealHost():
            pass
    return found


def _store_faults(store: StoreSection) -> _Found:
    found: _Found = []
    if store.kind is StoreKind.SQLITE:
        if not store.path:
            found.append(("$.store.path", "missing", "the file of the SQLite store"))
        if store.url:
            found.append(("$.store.url", "contradicts kind `sqlite`", 'set kind = "redis"'))
    else:
        if not store.url.startswith(("redis://", "rediss://", "unix://")):
            found.append(("$.store.url", "not a Redis URL", "like redis://192.0.2.1:6379/0"))
        if store.path:
            found.append(("$.store.path", "contradicts kind `redis`", "remove it"))
    return found


def _listen_fault(at: str, text: str) -> _Found:
    try:
        split_listen(text)
    except ValueError as error:
        return [(at, str(error), "like 192.0.2.1:53 or [::]:53")]
    return []


def _address_fault(at: str, text: str, version: int) -> _Found:
    try:
        address = ip_address(text)
    except ValueError:
        return [(at, f"`{text}` is not an IP address", "")]
    if address.version != version:
        return [(at, f"`{text}` is not IPv{version}", "there is one tunnel source a family")]
    return []
