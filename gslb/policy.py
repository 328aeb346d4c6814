"""How a pool prefers: from the addresses that may be answered to the field that is drawn from.

Owns the four policies as pure functions over seats. Called by `gslb.decide` only; never looks at
health, which `gslb.decide` has judged before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, assert_never

from gslb.fleet.model import Location, Policy, Site, SiteName
from gslb.geo import Place, distance_km

_TIE_KM = 0.001


class Seated(Protocol):
    """Anything at a site."""

    @property
    def site(self) -> Site:
        """Where it is."""


S = TypeVar("S", bound=Seated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Which sites are drawn from, with the reason; `by_client` if the client's place decided it."""

    sites: frozenset[SiteName]
    weights: Mapping[SiteName, int] | None
    by_client: bool
    reason: str


def prefer(policy: Policy, seats: Sequence[S], place: Place) -> Preference:
    """The sites that this policy draws from; `seats` are in the pool's order, at least one."""
    sites = {seat.site.name: seat.site for seat in seats}
    match policy:
        case Policy.SPREAD:
            return _all(sites, "spread: every eligible address alike")
        case Policy.WEIGHTED:
            return _weighted(sites)
        case Policy.FAILOVER:
            first = seats[0].site.name
            reason = f"failover: `{first}` is the first site with an eligible address"
            return Preference(
                sites=frozenset({first}), weights=None, by_client=False, reason=reason
            )
        case Policy.NEAREST:
            return _nearest(sites, place)
        case _:
            assert_never(policy)


def _all(sites: Mapping[SiteName, Site], reason: str, *, by_client: bool = False) -> Preference:
    return Preference(sites=frozenset(sites), weights=None, by_client=by_client, reason=reason)


def _weighted(sites: Mapping[SiteName, Site]) -> Preference:
    weights = {name: site.weight for name, site in sites.items()}
    if not any(weights.values()):
        return _all(sites, "weighted: every site has weight 0, so all alike")
    told = ", ".join(f"{name} {weight}" for name, weight in weights.items())
    reason = f"weighted by site: {told}"
    return Preference(sites=frozenset(sites), weights=weights, by_client=False, reason=reason)


def _nearest(sites: Mapping[SiteName, Site], place: Place) -> Preference:
    if len(sites) == 1:
        return _all(sites, f"nearest: only `{next(iter(sites))}` has an eligible address")
    if place.site is not None and place.site in sites:
        reason = f"nearest: the client is in a network of `{place.site}`"
        return Preference(
            sites=frozenset({place.site}), weights=None, by_client=True, reason=reason
        )
    if place.location is None:
        reason = "nearest: the client's place is not known, so every site alike"
        return _all(sites, reason, by_client=True)
    distances = distances_km(sites, place.location)
    least = min(distances.values())
    near = frozenset(name for name, km in distances.items() if km - least < _TIE_KM)
    names = ", ".join(f"`{name}`" for name in sites if name in near)
    reason = f"nearest: {names} at {least:.0f} km"
    return Preference(sites=near, weights=None, by_client=True, reason=reason)


def distances_km(sites: Mapping[SiteName, Site], location: Location) -> dict[SiteName, float]:
    """How far each site is from a location."""
    return {name: distance_km(site.location, location) for name, site in sites.items()}
