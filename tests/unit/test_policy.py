"""Which sites each policy draws from."""

from __future__ import annotations

from dataclasses import dataclass

from dns_world import make_fleet

from gslb.fleet.model import Location, Policy, Site, SiteName
from gslb.geo import Place
from gslb.policy import prefer

NOWHERE = Place(location=None, site=None, scope_bits=0)


@dataclass(frozen=True)
class Seat:
    """Something at a site."""

    site: Site


def _seats(*names: str) -> list[Seat]:
    return [Seat(make_fleet().sites[SiteName(name)]) for name in names]


def _at(country: str, lat: float, lon: float) -> Place:
    return Place(location=Location(country=country, lat=lat, lon=lon), site=None, scope_bits=0)


def test_spread_draws_from_every_site() -> None:
    found = prefer(Policy.SPREAD, _seats("fra", "sin"), NOWHERE)

    assert found.sites == {"fra", "sin"}
    assert found.weights is None
    assert not found.by_client


def test_weighted_carries_the_sites_weights() -> None:
    assert prefer(Policy.WEIGHTED, _seats("fra", "sin"), NOWHERE).weights == {"fra": 300, "sin": 0}


def test_weights_that_are_all_zero_count_as_none() -> None:
    assert prefer(Policy.WEIGHTED, _seats("sin"), NOWHERE).weights is None


def test_failover_takes_the_first_seat_s_site() -> None:
    assert prefer(Policy.FAILOVER, _seats("sin", "fra"), NOWHERE).sites == {"sin"}


def test_nearest_measures_from_the_client() -> None:
    seats = _seats("fra", "ams", "sin")

    assert prefer(Policy.NEAREST, seats, _at("FR", 48.85, 2.35)).sites == {"ams"}
    assert prefer(Policy.NEAREST, seats, _at("AU", -33.86, 151.2)).sites == {"sin"}


def test_nearest_keeps_every_site_at_the_same_distance() -> None:
    twins = [*_seats("fra"), Seat(_twin(make_fleet().sites[SiteName("fra")]))]

    assert prefer(Policy.NEAREST, twins, _at("FR", 48.85, 2.35)).sites == {"fra", "fra2"}


def test_nearest_of_one_site_does_not_depend_on_the_client() -> None:
    assert not prefer(Policy.NEAREST, _seats("fra"), _at("FR", 48.85, 2.35)).by_client
    assert prefer(Policy.NEAREST, _seats("fra", "sin"), NOWHERE).by_client


def _twin(site: Site) -> Site:
    return Site(
        name=SiteName(f"{site.name}2"),
        location=site.location,
        weight=site.weight,
        edges=(),
        clients=(),
    )
