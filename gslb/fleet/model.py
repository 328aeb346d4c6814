"""The nouns of the configuration: sites, reals, VIPs, filters, pools, zones, and the whole fleet.

Owns the immutable values that every daemon plans and answers from. They are built by
`gslb.fleet.config` only, which has checked every cross reference, so the look-ups here cannot miss.
Never reads a file, a clock or a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SiteName = NewType("SiteName", str)
EdgeName = NewType("EdgeName", str)
RealName = NewType("RealName", str)
VipName = NewType("VipName", str)
PoolName = NewType("PoolName", str)
Generation = NewType("Generation", int)
"""Grows with every change of what a publisher says; see `gslb.fleet.health.next_generation`."""


class Protocol(StrEnum):
    """The transport of a VIP."""

    TCP = "tcp"
    UDP = "udp"


class Encap(StrEnum):
    """How an edge hands a client's packet to a real (direct server return in every case)."""

    L2 = "l2"  # the destination MAC is rewritten; the real shares the edge's subnet
    GUE = "gue"  # the packet travels in UDP (draft-ietf-intarea-gue, variant 0)
    IPIP = "ipip"  # the packet travels in an IP header alone (RFC 2003, 2473, 4213)


class Affinity(StrEnum):
    """What keeps packets at one real."""

    FLOW = "flow"  # each flow for itself
    SOURCE = "source"  # every flow of a client's address together


class Fallback(StrEnum):
    """What becomes of a packet while no real of its VIP is up."""

    DROP = "drop"
    PASS = "pass"  # the edge's own stack serves it
    RESET = "reset"  # a TCP client is told at once


class Fragments(StrEnum):
    """How later fragments, which have no ports, find the real of the first one."""

    MEMORY = "memory"  # the first one leaves word
    TWO_TUPLE = "two_tuple"  # all between two addresses is one flow


class FlowMemory(StrEnum):
    """Which flows an edge remembers the real of."""

    ALL = "all"
    MOVED = "moved"  # those on slots that changed their owner, or soon will
    NONE = "none"  # the ring and its owner chains alone decide


class CheckKind(StrEnum):
    """What one health check does."""

    TCP = "tcp"  # the handshake completes
    HTTP = "http"  # a GET is answered with the expected status
    HTTPS = "https"  # the same over TLS


class CheckVia(StrEnum):
    """Which way one health check takes."""

    TUNNEL = "tunnel"  # to the VIP on that real, wrapped as clients' packets are
    DIRECT = "direct"  # to the real's own address: says nothing of tunnel and VIP


class Policy(StrEnum):
    """How a pool orders its candidates before the subset is drawn."""

    SPREAD = "spread"  # every eligible VIP alike
    WEIGHTED = "weighted"  # every eligible VIP, drawn in proportion to its site's weight
    NEAREST = "nearest"  # the eligible site nearest to the client
    FAILOVER = "failover"  # the first site in the pool's order that has an eligible VIP


class FilterAction(StrEnum):
    """What a rule of the source filter does with a client's packets."""

    ALLOW = "allow"  # an exception from a wider rule
    DENY = "deny"
    LIMIT = "limit"  # as many a second as the rule's rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place on earth, in degrees; `country` is ISO 3166-1 alpha-2."""

    country: str
    lat: float
    lon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place with edges and reals: the unit that answers steer between."""

    name: SiteName
    location: Location
    weight: int
    edges: tuple[EdgeName, ...]
    clients: tuple[Network, ...]  # client networks known to be near, before any geo database


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A host that terminates the connections of VIPs."""

    name: RealName
    site: SiteName
    address: Address
    weight: int
    encap: Encap | None = None  # None: as each of its VIPs says
    server_id: int | None = None  # what it puts into the QUIC connection ids it gives out


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a real is judged for one VIP. Seconds; rise and fall count consecutive results."""

    kind: CheckKind
    via: CheckVia
    port: int
    path: str
    host: str
    expect_status: int
    interval_s: float
    timeout_s: float
    rise: int
    fall: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A token bucket: so many packets a second, and `burst` at once after a pause."""

    packets_per_s: int
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRule:
    """A rule for the clients of one prefix; without `vips` it is for all of them."""

    name: str
    prefix: Network
    action: FilterAction
    rate: Rate | None  # of LIMIT
    vips: tuple[VipName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quic:
    """Which QUIC connection ids name a real (draft-ietf-quic-load-balancers, plain form)."""

    server_id_bytes: int = 0  # 0: none does
    rotation: int = 0  # the configuration that their first three bits tell


@dataclass(frozen=True, slots=True, kw_only=True)
class VipOptions:
    """How the data plane treats packets of one VIP."""

    affinity: Affinity = Affinity.FLOW
    fallback: Fallback = Fallback.DROP
    fragments: Fragments = Fragments.MEMORY
    quic: Quic = Quic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vip:
    """An (address, protocol, port) that clients reach, served at one site."""

    name: VipName
    site: SiteName
    address: Address
    port: int  # 0 serves every port of the address
    protocol: Protocol
    reals: tuple[RealName, ...]
    check: Check
    limit: Rate | None = None  # over all of its clients, at each edge
    encap: Encap = Encap.GUE
    tunnel_checksum: bool = False  # fill in the UDP checksum of GUE
    flow_memory: FlowMemory = FlowMemory.ALL
    flows_per_queue: int = 0  # in flow memory of its own; 0: in what all share
    owner_chain: int = 0  # previous owners of a slot that packets may be handed on to; at most 3
    connection_age_s: float = 3600.0  # of the longest connection: so long a chain is kept
    slow_start_s: float = 0.0  # a real that is added gets its whole weight after so long
    share_flows: bool = False  # other edges of the site learn this VIP's flows through the store
    options: VipOptions = VipOptions()

    def encap_of(self, real: Real) -> Encap:
        """How packets of this VIP travel to `real`: the real's own word goes first."""
        return real.encap or self.encap


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The VIPs over all sites that can answer one DNS name."""

    name: PoolName
    policy: Policy
    vips: tuple[VipName, ...]
    answers: int  # N of the N-of-M subset, per address family
    ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """An authored zone and the names in it that pools answer. `text` is RFC 1035 master format."""

    origin: str  # lower case, with the trailing dot
    file: str
    text: str
    dynamic: Mapping[str, PoolName]  # absolute lower-case owner name, with the trailing dot -> pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The whole configured world; the same bytes on every machine give the same `config_hash`."""

    name: str
    config_hash: str  # first 12 hex digits of SHA-256 over fleet.toml and the zone files
    sites: Mapping[SiteName, Site]
    reals: Mapping[RealName, Real]
    vips: Mapping[VipName, Vip]
    pools: Mapping[PoolName, Pool]
    zones: Mapping[str, Zone]
    filters: Mapping[str, FilterRule] = field(default_factory=dict)

    def vips_of_site(self, site: SiteName) -> tuple[Vip, ...]:
        """The VIPs served at `site`, in the order of the configuration."""
        return tuple(vip for vip in self.vips.values() if vip.site == site)

    def encaps_of(self, name: RealName) -> tuple[Encap, ...]:
        """How packets reach this real, over all of its VIPs, each way once."""
        real = self.reals[name]
        ways = {vip.encap_of(real) for vip in self.vips.values() if name in vip.reals}
        return tuple(sorted(ways))

    def pools_of_vip(self, name: VipName) -> tuple[Pool, ...]:
        """The pools that may answer with this VIP."""
        return tuple(pool for pool in self.pools.values() if name in pool.vips)
