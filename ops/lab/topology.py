"""The lab's map as values: hosts, segments, addresses, sites, VIPs. Pure; builds nothing.

Two sites of two edges and three reals each, the reals in another subnet than the edges (so that a
tunnel is needed), and at `fra` two more reals on the edges' own subnet (so that L2 DSR is used).
Every address is of a documentation or private range and lives only inside the lab's namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "wp-"  # of every namespace, so that `down` knows its own
SITE_MTU = 1600  # a 1500-byte packet and 32 bytes of IPv4, UDP and GUE
DOMAIN = "example.com"
CLIENT_ADDRESS = "203.0.113.10"
DNS_ADDRESS = "10.0.0.53"
DNS_ADDRESS_V6 = "2001:db8:0:53::53"
STORE_ADDRESS = "10.0.0.6"
STORE_PORT = 6379


class Role(StrEnum):
    """What runs on a lab host."""

    CLIENT = "client"
    ROUTER = "router"
    EDGE = "edge"
    REAL = "real"
    DNS = "dns"
    STORE = "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One Ethernet of the router: a bridge with the router's address on it."""

    name: str
    router: str  # ADDRESS/BITS
    router_v6: str = ""
    mtu: int = 1500

    @property
    def bridge(self) -> str:
        """The name of its bridge in the router's namespace, at most 15 characters."""
        return f"br-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabHost:
    """One namespace with one interface, `eth0`, on one segment."""

    name: str
    role: Role
    segment: str
    address: str
    address_v6: str = ""
    site: str = ""

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class LabVip:
    """One VIP of the lab, and the reals behind it."""

    name: str
    site: str
    address: str
    port: int
    protocol: str
    reals: tuple[str, ...]


SITES = ("fra", "sin")
_NUMBER = {"fra": 1, "sin": 2}

SEGMENTS = (
    Segment(name="client", router="203.0.113.1/24", router_v6="2001:db8:0:c::1/64"),
    Segment(name="services", router="10.0.0.1/24", router_v6="2001:db8:0:53::1/64"),
    *(
        segment
        for site, number in _NUMBER.items()
        for segment in (
            Segment(name=f"{site}-edge", router=f"10.{number}.1.1/24", mtu=SITE_MTU),
            Segment(name=f"{site}-real", router=f"10.{number}.2.1/24", mtu=SITE_MTU),
        )
    ),
)


def _edges(site: str) -> tuple[LabHost, ...]:
    return tuple(
        LabHost(
            name=f"{site}-edge{i}",
            role=Role.EDGE,
            segment=f"{site}-edge",
            address=f"10.{_NUMBER[site]}.1.{10 + i}",
            site=site,
        )
        for i in (1, 2)
    )


def _webs(site: str) -> tuple[LabHost, ...]:
    return tuple(
        LabHost(
            name=f"{site}-web{i}",
            role=Role.REAL,
            segment=f"{site}-real",
            address=f"10.{_NUMBER[site]}.2.{10 + i}",
            site=site,
        )
        for i in (1, 2, 3)
    )


EDGES = tuple(edge for site in SITES for edge in _edges(site))
WEBS = tuple(web for site in SITES for web in _webs(site))
LANS = tuple(
    LabHost(
        name=f"fra-lan{i}",
        role=Role.REAL,
        segment="fra-edge",
        address=f"10.1.1.{20 + i}",
        site="fra",
    )
    for i in (1, 2)
)
REALS = WEBS + LANS
CLIENT = LabHost(
    name="client",
    role=Role.CLIENT,
    segment="client",
    address=CLIENT_ADDRESS,
    address_v6="2001:db8:0:c::10",
)
DNS = LabHost(
    name="dns", role=Role.DNS, segment="services", address=DNS_ADDRESS, address_v6=DNS_ADDRESS_V6
)
STORE = LabHost(name="store", role=Role.STORE, segment="services", address=STORE_ADDRESS)
HOSTS = (CLIENT, DNS, STORE, *EDGES, *REALS)
ROUTER_NAMESPACE = PREFIX + "router"

VIPS = (
    *(
        LabVip(
            name=f"web-{site}-{i}",
            site=site,
            address=f"198.51.100.{base + i}",
            port=80,
            protocol="tcp",
            reals=tuple(web.name for web in _webs(site)),
        )
        for site, base in (("fra", 0), ("sin", 64))
        for i in (1, 2, 3)
    ),
    LabVip(
        name="lan-fra",
        site="fra",
        address="198.51.100.10",
        port=80,
        protocol="tcp",
        reals=tuple(lan.name for lan in LANS),
    ),
    LabVip(
        name="who-fra",
        site="fra",
        address="198.51.100.20",
        port=7007,
        protocol="udp",
        reals=tuple(web.name for web in _webs("fra")),
    ),
)


def host(name: str) -> LabHost:
    """The host of that name. Raises KeyError with the names that there are."""
    for candidate in HOSTS:
        if candidate.name == name:
            return candidate
    names = ", ".join(item.name for item in HOSTS)
    raise KeyError(f"no lab host `{name}`; one of: {names}, router")


def segment_of(item: LabHost) -> Segment:
    """The segment that the host is on."""
    return next(segment for segment in SEGMENTS if segment.name == item.segment)


def namespaces() -> tuple[str, ...]:
    """The namespaces of the lab, the router's first."""
    return (ROUTER_NAMESPACE, *(item.namespace for item in HOSTS))
