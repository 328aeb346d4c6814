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

SWEEP_MIN_S, SWEEP_MAX_S = 0.02, 5.0
REFRESH_MAX_S = 3600.0


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


class NeighborSection(_Section, frozen=True):
    """[[bgp.neighbors]]: a router that is told of the VIPs."""

    address: str
    peer_as: int


class BgpSection(_Section, frozen=True):
    """[bgp] of an edge. VIPs are announced from the local address of their family."""

    local_as: int
    neighbors: tuple[NeighborSection, ...]
    local_address: str = ""
    local_address_v6: str = ""
    router_id: str = ""  # an IPv4 address; empty: `local_address`
    hold_s: int = 9
    med: int = 0
    local_preference: int = 100  # BGP tells it to neighbors of the same AS only
    communities: tuple[str, ...] = ()
    drain_med: int = 1000
    drain_local_preference: int = 0
    drain_communities: tuple[str, ...] = ("65535:0",)  # GRACEFUL_SHUTDOWN, RFC 8326
    fault_s: float = 3.0  # how long a fault that the agent tells must stand
    silent_s: float = 10.0  # how long the agent may be silent before other edges are preferred
    return_s: float = 3.0  # how long the data path must work before it is announced (again)
    join_max_s: float = 10.0  # how long a new edge waits for its site's histories
    quiet_s: float = 10.0  # how long no packet of a VIP may come before a drained edge withdraws
    drain_max_s: float = 3600.0


class ShareSection(_Section, frozen=True):
    """[share]: how flows of VIPs with `share_flows` are told to the other edges of the site."""

    sweep_s: float = 0.25  # how often flow memory is looked through for news
    refresh_s: float = 60.0  # a flow that is still in use is told again within this time
    flows: int = 1_048_576  # of other edges that are kept to be taken over; 48 bytes each


class RealSection(_Section, frozen=True):
    """[real]. `name` is a real of fleet.toml; the daemon binds the VIPs that name it.

    Without a `vip_interface` it binds none: the host routes them to containers, and
    `socket_namespaces` are the network namespaces whose sockets hold flows of them.
    """

    name: str
    interface: str
    pin_dir: str
    vip_interface: str = "lo"
    socket_namespaces: tuple[str, ...] = ()


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
    bgp: BgpSection | None = None
    share: ShareSection = ShareSection()


class RealHost(_Section, frozen=True):
    """real.toml. Without a store a real serves all the same; edges do not learn of its flows."""

    host: HostSection
    real: RealSection
    store: StoreSection | None = None


SOCKET_NAMESPACES_MAX = 4  # besides the host's own; MAX_NAMESPACES of bpf/own_socket.h

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
    if host.store is not None:
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
            if host.bgp is not None:
                found += bgp_faults(host.bgp)
            found += _share_faults(host.share)
        case RealHost():
            if len(host.real.socket_namespaces) > SOCKET_NAMESPACES_MAX:
                advice = f"{SOCKET_NAMESPACES_MAX} at most: each is asked for each packet"
                found.append(("$.real.socket_namespaces", "too many", advice))
            for number, text in enumerate(host.real.socket_namespaces):
                if not Path(text).is_absolute():
                    at = f"$.real.socket_namespaces[{number}]"
                    found.append((at, f"`{text}` is no whole path", "like /run/netns/web"))
    return found


def bgp_faults(bgp: BgpSection) -> _Found:
    """What is wrong with the way VIPs are announced."""
    found: _Found = []
    locals_ = {4: bgp.local_address, 6: bgp.local_address_v6}
    for name, version in (("local_address", 4), ("local_address_v6", 6)):
        if locals_[version]:
            found += _address_fault(f"$.bgp.{name}", locals_[version], version)
    if not any(locals_.values()):
        found.append(("$.bgp.local_address", "missing", "the address that this edge speaks from"))
    if bgp.router_id or not bgp.local_address:
        found += _address_fault("$.bgp.router_id", bgp.router_id, 4)
    if not bgp.neighbors:
        found.append(("$.bgp.neighbors", "no router to tell", "[[bgp.neighbors]], one a router"))
    for number, neighbor in enumerate(bgp.neighbors):
        at = f"$.bgp.neighbors[{number}]"
        found += _as_fault(f"{at}.peer_as", neighbor.peer_as)
        try:
            version = ip_address(neighbor.address).version
        except ValueError:
            found.append((f"{at}.address", f"`{neighbor.address}` is not an IP address", ""))
            continue
        if not locals_[version]:
            reason = f"IPv{version}, and this edge has no local address of that family"
            found.append((f"{at}.address", reason, "set it beside"))
    found += _as_fault("$.bgp.local_as", bgp.local_as)
    if not 3 <= bgp.hold_s <= 65535:
        found.append(("$.bgp.hold_s", "out of range", "3..65535 (RFC 4271)"))
    for name in ("med", "drain_med", "local_preference", "drain_local_preference"):
        if not 0 <= getattr(bgp, name) < 2**32:
            found.append((f"$.bgp.{name}", "out of range", "0..4294967295"))
    for name in ("communities", "drain_communities"):
        for number, text in enumerate(getattr(bgp, name)):
            if not _is_community(text):
                reason = f"`{text}` is not a community"
                found.append((f"$.bgp.{name}[{number}]", reason, "like 65535:0"))
    for name in ("fault_s", "silent_s", "return_s", "join_max_s", "quiet_s", "drain_max_s"):
        if not 0 <= getattr(bgp, name) <= 86_400:
            found.append((f"$.bgp.{name}", "out of range", "0..86400 seconds"))
    if _told(bgp, "") == _told(bgp, "drain_"):
        advice = "another med, local preference or community"
        found.append(("$.bgp.drain_med", "a drained edge announces as one that is not", advice))
    return found


def _told(bgp: BgpSection, prefix: str) -> tuple[object, ...]:
    names = ("med", "local_preference", "communities")
    return tuple(getattr(bgp, prefix + name) for name in names)


def _as_fault(at: str, number: int) -> _Found:
    return [] if 1 <= number < 2**32 else [(at, "not an AS number", "1..4294967295")]


def _is_community(text: str) -> bool:
    parts = text.split(":")
    return len(parts) == 2 and all(part.isdigit() and int(part) <= 65535 for part in parts)


def _share_faults(share: ShareSection) -> _Found:
    found: _Found = []
    if not SWEEP_MIN_S <= share.sweep_s <= SWEEP_MAX_S:
        found.append(("$.share.sweep_s", "out of range", f"{SWEEP_MIN_S:g}..{SWEEP_MAX_S:g}"))
    if not SWEEP_MAX_S <= share.refresh_s <= REFRESH_MAX_S:
        advice = f"{SWEEP_MAX_S:g}..{REFRESH_MAX_S:g}"
        found.append(("$.share.refresh_s", "out of range", advice))
    if not FLOWS_MIN <= share.flows <= FLOWS_MAX:
        found.append(("$.share.flows", "out of range", f"{FLOWS_MIN}..{FLOWS_MAX}"))
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
