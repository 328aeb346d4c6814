"""Places: longest match, and the scope that is neither too wide nor too narrow."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from dns_world import make_fleet

from gslb.client import Client
from gslb.fleet.model import Address, Location
from gslb.geo import Locator, Place, distance_km


def _locate(text: str) -> Place:
    subnet = ip_network(text)
    return Locator(make_fleet()).locate(Client(address=ip_address("192.0.2.9"), subnet=subnet))


@pytest.mark.parametrize(
    ("subnet", "site", "scope"),
    [
        ("198.51.100.200/32", "sin", 25),  # the longer network wins over fra's /24
        ("198.51.100.1/32", "fra", 25),  # its other half is another site's
        ("198.51.100.0/24", "fra", 24),  # too short to tell the halves apart
        ("203.0.113.77/32", "sin", 24),
        ("198.51.0.0/16", None, 16),
        ("8.8.8.8/32", None, 1),  # all configured networks begin with a 1 bit
        ("2001:db8:f:1::/64", "fra", 48),
    ],
)
def test_the_longest_match_wins_and_the_scope_is_its_block(
    subnet: str, site: str | None, scope: int
) -> None:
    place = _locate(subnet)

    assert place.site == site
    assert place.scope_bits == scope


def test_without_a_told_subnet_the_scope_is_zero() -> None:
    place = Locator(make_fleet()).locate(Client(address=ip_address("203.0.113.5")))

    assert place == Place(
        location=make_fleet().sites[place.site or "sin"].location, site=place.site, scope_bits=0
    )
    assert place.site == "sin"


def test_every_address_of_a_scope_block_has_the_same_place() -> None:
    locator = Locator(make_fleet())
    for text in ("198.51.100.3/32", "198.51.100.130/32", "203.0.113.9/32", "9.9.9.9/32"):
        first = _locate(text)
        block = ip_network(text).supernet(new_prefix=first.scope_bits)
        for address in (block[0], block[-1]):
            other = locator.locate(Client(address=address, subnet=ip_network(address)))
            assert other == first


class _Atlas:
    """A geo database of one entry."""

    def place(self, address: Address) -> tuple[Location, int] | None:
        inside = address in ip_network("9.0.0.0/8")
        return (Location(country="FR", lat=48.85, lon=2.35), 8) if inside else None


def test_a_database_is_asked_only_where_no_configured_network_matches() -> None:
    locator = Locator(make_fleet(), _Atlas())
    paris = locator.locate(Client(address=ip_address("192.0.2.9"), subnet=ip_network("9.9.9.9/32")))
    known = locator.locate(Client(address=ip_address("203.0.113.5")))

    assert paris.location is not None
    assert (paris.location.country, paris.site, paris.scope_bits) == ("FR", None, 8)
    assert known.site == "sin"


def test_frankfurt_to_singapore_is_some_ten_thousand_kilometres() -> None:
    sites = make_fleet().sites
    km = distance_km(sites["fra"].location, sites["sin"].location)

    assert 10_200 < km < 10_300
    assert distance_km(sites["fra"].location, sites["fra"].location) == 0
