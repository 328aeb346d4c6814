"""The answer compiler: a snapshot into wire-format pieces, once a generation.

Owns what can be known before a question comes: every authored set, every address record of every
pool, and the whole answers of exact names. dnslib renders the records; `gslb.answer` splices them.
Pure; built anew on each change and swapped in by one assignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import dnslib

from gslb.decide import Contest, Decider, Field
from gslb.fleet.model import Address, Fleet, Generation, PoolName, SiteName
from gslb.fleet.snapshot import Snapshot
from gslb.geo import Locator, Place
from gslb.subset import Chance, subset, weighted_subset
from gslb.zone import (
    CLASS_IN,
    DYNAMIC_TYPES,
    TYPE_CNAME,
    TYPE_DS,
    TYPE_NS,
    ZoneTree,
    ancestors,
    build_zone,
    tail,
)
from gslb.zonefile import pack_rdata

QUESTION = b"\xc0\x0c"
"""A compression pointer to the question's name, which always stands at offset 12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """The record tails that one answer is drawn from, beside the `Field` they were made of."""

    tails: tuple[bytes, ...]
    weights: tuple[int, ...] | None
    by_client: bool

    def draw(self, n: int, rng: Chance) -> tuple[bytes, ...]:
        """At most `n` tails: the very draw of `Field.draw` from the same chance."""
        if self.weights is None:
            return subset(self.tails, n, rng)
        return weighted_subset(self.tails, self.weights, n, rng)


class DynamicSet:
    """The answers of one pool for one record type under one snapshot."""

    __slots__ = ("_contest", "_pieces", "_tails", "answers", "fixed", "soa")

    def __init__(self, contest: Contest, rtype: int, soa: bytes, fleet: Fleet) -> None:
        pool = contest.pool
        self._contest = contest
        self._tails = {
            seat.address: tail(rtype, pool.ttl_s, _address_rdata(seat.address))
            for seat in contest.seats
        }
        self._pieces: dict[SiteName | None, Pieces] = {}
        self.answers = pool.answers
        self.soa = soa
        places = [Place(location=None, site=None, scope_bits=0)]
        places += [
            Place(location=site.location, site=site.name, scope_bits=0)
            for site in fleet.sites.values()
        ]
        for place in places:
            self._pieces[place.site] = self._cut(contest.field(place))
        by_client = any(pieces.by_client for pieces in self._pieces.values())
        self.fixed = None if by_client else self._pieces[None]
        """The pieces for every client, or None where the client's place decides."""

    def pieces(self, place: Place) -> Pieces:
        """The pieces for a client at `place`."""
        if place.site is None and place.location is not None:
            return self._cut(self._contest.field(place))
        return self._pieces[place.site]

    def _cut(self, field: Field) -> Pieces:
        return Pieces(
            tails=tuple(self._tails[seat.address] for seat in field.seats),
            weights=field.weights,
            by_client=field.by_client,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The finished answer section of an exact authored name and type."""

    count: int
    section: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """All answers under one snapshot. Names and origins are lower-case wire format.

    `direct` maps name + type + class, as they follow each other in a question, to what needs no
    walk through a zone.
    """

    fleet: Fleet
    generation: Generation
    locator: Locator
    zones: Mapping[bytes, ZoneTree]
    dynamic: Mapping[tuple[bytes, PoolName, int], DynamicSet]  # zone origin, pool, type ->
    direct: Mapping[bytes, DynamicSet | Whole]

    def zone_of(self, name: bytes, rtype: int) -> ZoneTree | None:
        """The zone that is authoritative for a question; DS belongs to the parent's side."""
        below: ZoneTree | None = None
        for ancestor in ancestors(name):
            zone = self.zones.get(ancestor)
            if zone is not None:
                if rtype == TYPE_DS and ancestor == name:
                    below = zone
                    continue
                return zone
        return below


def compile_answers(
    snapshot: Snapshot, locator: Locator, before: Rendered | None = None
) -> Rendered:
    """Render every answer. Zones are taken from `before` where the configuration is the same."""
    fleet = snapshot.fleet
    if before is not None and before.fleet is fleet:
        zones = before.zones
    else:
        trees = [build_zone(zone) for zone in fleet.zones.values()]
        zones = {tree.origin: tree for tree in trees}
    decider = Decider(snapshot, locator)
    dynamic: dict[tuple[bytes, PoolName, int], DynamicSet] = {}
    direct: dict[bytes, DynamicSet | Whole] = {}
    for zone in zones.values():
        for name, node in zone.nodes.items():
            if node.pool is not None:
                for rtype, version in DYNAMIC_TYPES.items():
                    key = (zone.origin, node.pool, rtype)
                    if key not in dynamic:
                        contest = decider.contest(node.pool, version)
                        soa = zone.soa_tail(contest.pool.ttl_s)
                        dynamic[key] = DynamicSet(contest, rtype, soa, fleet)
                    direct[_key(name, rtype)] = dynamic[key]
    if before is not None and before.fleet is fleet:
        direct.update((k, whole) for k, whole in before.direct.items() if isinstance(whole, Whole))
    else:
        for zone in zones.values():
            direct.update(_wholes(zone, zones))
    return Rendered(
        fleet=fleet,
        generation=snapshot.generation,
        locator=locator,
        zones=zones,
        dynamic=dynamic,
        direct=direct,
    )


def _wholes(zone: ZoneTree, zones: Mapping[bytes, ZoneTree]) -> dict[bytes, Whole]:
    """The finished answers of the exact names that no delegation hides."""
    found: dict[bytes, Whole] = {}
    for name, node in zone.nodes.items():
        path = list(ancestors(name))
        inside = path[: path.index(zone.origin)]
        hidden = any(TYPE_NS in zone.nodes[above].rrsets or above in zones for above in inside)
        if hidden or TYPE_CNAME in node.rrsets:
            continue
        for rtype, rrset in node.rrsets.items():
            if rtype != TYPE_DS:
                section = QUESTION + QUESTION.join(rrset.tails)
                found[_key(name, rtype)] = Whole(count=len(rrset.tails), section=section)
    return found


def _key(name: bytes, rtype: int) -> bytes:
    return name + rtype.to_bytes(2, "big") + CLASS_IN.to_bytes(2, "big")


def _address_rdata(address: Address) -> bytes:
    return pack_rdata((dnslib.A if address.version == 4 else dnslib.AAAA)(str(address)))
