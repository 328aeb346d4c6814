"""Where a client is: configured client networks first, then a geo database if one is given.

Owns the longest match over `Site.clients` and the ECS scope that goes with it. Called by
`gslb.decide`. Pure: the database is a look-up that the caller hands in.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from ipaddress import ip_network
from math import asin, cos, radians, sin, sqrt
from typing import Protocol

from gslb.fleet.model import Address, Fleet, Location, Network, SiteName

_EARTH_KM = 6371.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a client is. `site` is set if a site's `clients` named it.

    `scope_bits`: every client that shares so many leading bits is in the same place, and no fewer
    bits would do (RFC 7871 section 7.2.1). 0 where the question told no subnet.
    """

    location: Location | None
    site: SiteName | None
    scope_bits: int


class Locatable(Protocol):
    """Whoever asks, as far as a place goes; `gslb.client.Client` is one."""

    @property
    def point(self) -> tuple[Address, int]:
        """The address to locate and how many of its bits are known."""

    @property
    def told(self) -> bool:
        """Whether a subnet that says something came with the question."""


class GeoDatabase(Protocol):
    """A map from addresses to places, like MaxMind's."""

    def place(self, address: Address) -> tuple[Location, int] | None:
        """The place and the prefix length of the database's own entry, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cover:
    """The whole address space of one family, cut into blocks that each belong to one site or none.

    Blocks are as large as they can be without mixing, so a block's length is its ECS scope.
    """

    starts: tuple[int, ...]
    sites: tuple[SiteName | None, ...]
    bits: tuple[int, ...]

    def find(self, value: int) -> tuple[SiteName | None, int]:
        """The site of the address and the length of its block."""
        at = bisect_right(self.starts, value) - 1
        return self.sites[at], self.bits[at]


class Locator:
    """Finds the place of a client; built once for each fleet."""

    __slots__ = ("_covers", "_database", "_fleet", "_networks")

    def __init__(self, fleet: Fleet, database: GeoDatabase | None = None) -> None:
        self._fleet = fleet
        self._database = database
        # On equal networks the first site of the configuration wins.
        self._networks: dict[int, dict[tuple[int, int], SiteName]] = {4: {}, 6: {}}
        for site in fleet.sites.values():
            for network in site.clients:
                key = (network.prefixlen, int(network.network_address))
                self._networks[network.version].setdefault(key, site.name)
        self._covers = {
            version: _cover(networks, 32 if version == 4 else 128)
            for version, networks in self._networks.items()
        }

    def locate(self, client: Locatable) -> Place:
        """The client's place: longest match over the sites' client networks, then the database."""
        address, known_bits = client.point
        site, bits = self._covers[address.version].find(int(address))
        if bits > known_bits:
            site, bits = self._match_within(address, known_bits), known_bits
        location = self._fleet.sites[site].location if site is not None else None
        if location is None and self._database is not None:
            found = self._database.place(address)
            if found is not None:
                location, entry_bits = found
                bits = min(max(bits, entry_bits), known_bits)
        return Place(location=location, site=site, scope_bits=bits if client.told else 0)

    def _match_within(self, address: Address, known_bits: int) -> SiteName | None:
        """The longest match among networks that the known bits suffice to tell."""
        networks = self._networks[address.version]
        for length in range(known_bits, -1, -1):
            shift = address.max_prefixlen - length
            site = networks.get((length, int(address) >> shift << shift))
            if site is not None:
                return site
        return None


def distance_km(one: Location, other: Location) -> float:
    """The great-circle distance (haversine) on a sphere of the earth's mean radius."""
    lat_one, lat_other = radians(one.lat), radians(other.lat)
    north = sin((lat_other - lat_one) / 2) ** 2
    east = sin(radians(other.lon - one.lon) / 2) ** 2
    return 2 * _EARTH_KM * asin(min(1.0, sqrt(north + cos(lat_one) * cos(lat_other) * east)))


def network_of(address: Address, bits: int) -> Network:
    """The network of so many leading bits around an address."""
    return ip_network((address, bits), strict=False)


def _cover(networks: dict[tuple[int, int], SiteName], width: int) -> _Cover:
    """Cut the space at every network, descending only where a longer network lies inside."""
    starts: list[int] = []
    sites: list[SiteName | None] = []
    lengths: list[int] = []

    def cut(base: int, bits: int, inside: list[tuple[int, int]], owner: SiteName | None) -> None:
        owner = networks.get((bits, base), owner)
        longer = [key for key in inside if key[0] > bits]
        if not longer:
            starts.append(base)
            sites.append(owner)
            lengths.append(bits)
            return
        half = base | 1 << (width - bits - 1)
        cut(base, bits + 1, [key for key in longer if key[1] < half], owner)
        cut(half, bits + 1, [key for key in longer if key[1] >= half], owner)

    cut(0, 0, list(networks), None)
    return _Cover(starts=tuple(starts), sites=tuple(sites), bits=tuple(lengths))
