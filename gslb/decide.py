"""THE decision: which VIPs a name is answered with, for this client, now, and why.

Owns the order of belief (operator's drain > observation > lease > fail open), the joining of VIPs
that share an address, and the one way from a pool to a draw. DNS answers and HTTPS answers come
from here alone: `gslb.render` compiles the same contests that `decide` judges. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from gslb.client import Client
from gslb.fleet.health import OverrideKind
from gslb.fleet.model import Address, Location, Policy, Pool, PoolName, Site, SiteName
from gslb.fleet.snapshot import Snapshot, VipView
from gslb.geo import Locator, Place
from gslb.policy import Preference, distances_km, prefer
from gslb.subset import Chance, subset, weighted_subset

FAMILY = {"A": 4, "AAAA": 6}
"""The IP version that each dynamic record type carries."""


class Rung(IntEnum):
    """How far an address is believed; an answer draws from the lowest rung that is not empty.

    An address is one candidate, however many of the pool's VIPs (ports) share it, because an A
    record cannot tell ports apart: it is SOUND only if every one of them is eligible.
    """

    SOUND = 0
    PARTLY = 1  # some of its ports are eligible
    FAILED = 2  # none is: answered only where nothing better is left (fail open)
    DRAINED = 3  # an operator's will: never answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One address of a pool with all of the pool's VIPs on it."""

    address: Address
    views: tuple[VipView, ...]
    site: Site
    rung: Rung


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The seats that one answer is drawn from. `by_client`: another place could give another."""

    seats: tuple[Seat, ...]
    weights: tuple[int, ...] | None
    by_client: bool
    reason: str

    def draw(self, n: int, rng: Chance) -> tuple[Seat, ...]:
        """At most `n` seats in random order."""
        if self.weights is None:
            return subset(self.seats, n, rng)
        return weighted_subset(self.seats, self.weights, n, rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One VIP of the pool and what became of it. `distance_km` is None for an unknown place."""

    view: VipView
    distance_km: float | None
    chosen: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer with its reasons. `chosen` holds one VIP an address, in the order to be sent.

    An empty `chosen` is NODATA: no VIP of this family, or an operator drained them all.
    """

    pool: Pool
    policy: Policy
    chosen: tuple[VipView, ...]
    candidates: tuple[Candidate, ...]
    ttl_s: int
    scope_bits: int
    reasons: tuple[str, ...]


class Contest:
    """One pool and address family under one snapshot: all that does not depend on the client."""

    __slots__ = ("_fields", "open_reason", "pool", "rung", "seats", "standing")

    def __init__(self, snapshot: Snapshot, pool: Pool, version: int) -> None:
        self.pool = pool
        self.seats = _seats(snapshot, pool, version)
        usable = [seat.rung for seat in self.seats if seat.rung is not Rung.DRAINED]
        self.rung = min(usable, default=Rung.DRAINED)
        self.standing = tuple(
            seat for seat in self.seats if seat.rung is self.rung is not Rung.DRAINED
        )
        self.open_reason = _open_reason(self.seats, self.rung, version)
        self._fields: dict[SiteName | None, Field] = {}

    def field(self, place: Place) -> Field:
        """The seats to draw from for a client at `place`."""
        if place.site is None and place.location is not None:
            return self._judge(place)
        known = self._fields.get(place.site)
        if known is None:
            known = self._fields[place.site] = self._judge(place)
        return known

    def _judge(self, place: Place) -> Field:
        if not self.standing:
            return Field(seats=(), weights=None, by_client=False, reason="")
        if self.rung is Rung.FAILED:
            # No site can be preferred on evidence that says none serves.
            return Field(seats=self.standing, weights=None, by_client=False, reason="")
        preference = prefer(self.pool.policy, self.standing, place)
        seats = tuple(seat for seat in self.standing if seat.site.name in preference.sites)
        return Field(
            seats=seats,
            weights=_weights(preference, seats),
            by_client=preference.by_client,
            reason=preference.reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One draw: the quick half of a decision."""

    contest: Contest
    field: Field
    place: Place
    seats: tuple[Seat, ...]

    @property
    def chosen(self) -> tuple[VipView, ...]:
        """One VIP an address, in the order to be sent."""
        return tuple(seat.views[0] for seat in self.seats)

    @property
    def scope_bits(self) -> int:
        """The ECS scope: 0 where every client gets the like (RFC 7871 section 7.2.1)."""
        return self.place.scope_bits if self.field.by_client else 0


class Decider:
    """Every decision under one snapshot; contests are judged once and kept."""

    __slots__ = ("_contests", "_locator", "_names", "_snapshot")

    def __init__(self, snapshot: Snapshot, locator: Locator) -> None:
        self._snapshot = snapshot
        self._locator = locator
        self._contests: dict[tuple[PoolName, int], Contest] = {}
        self._names = {
            name: pool
            for zone in snapshot.fleet.zones.values()
            for name, pool in zone.dynamic.items()
        }

    def contest(self, pool: PoolName, version: int) -> Contest:
        """The contest of a pool in one address family (4 or 6)."""
        key = (pool, version)
        known = self._contests.get(key)
        if known is None:
            known = Contest(self._snapshot, self._snapshot.fleet.pools[pool], version)
            self._contests[key] = known
        return known

    def decide(self, name: str, qtype: str, client: Client, rng: Chance) -> Decision | None:
        """The answer for a dynamic name (any case, trailing dot or not) of type A or AAAA.

        None if the fleet has no such dynamic name. Raises KeyError for another type.
        """
        drawn = self.draw(name, qtype, client, rng)
        if drawn is None:
            return None
        contest, field = drawn.contest, drawn.field
        return Decision(
            pool=contest.pool,
            policy=contest.pool.policy,
            chosen=drawn.chosen,
            candidates=_candidates(contest, field, drawn.seats, drawn.place.location),
            ttl_s=contest.pool.ttl_s,
            scope_bits=drawn.scope_bits,
            reasons=_reasons(contest, field, drawn.seats),
        )

    def draw(self, name: str, qtype: str, client: Client, rng: Chance) -> Draw | None:
        """The same answer as `decide` gives, from the same chance, without words about it."""
        pool_name = self._names.get(name.lower().rstrip(".") + ".")
        if pool_name is None:
            return None
        contest = self.contest(pool_name, FAMILY[qtype])
        place = self._locator.locate(client)
        field = contest.field(place)
        seats = field.draw(contest.pool.answers, rng)
        return Draw(contest=contest, field=field, place=place, seats=seats)


def decide(
    name: str, qtype: str, client: Client, snapshot: Snapshot, locator: Locator, rng: Chance
) -> Decision | None:
    """One decision; see `Decider.decide`, which serves many under the same snapshot."""
    return Decider(snapshot, locator).decide(name, qtype, client, rng)


def _seats(snapshot: Snapshot, pool: Pool, version: int) -> tuple[Seat, ...]:
    by_address: dict[Address, list[VipView]] = {}
    for name in pool.vips:
        view = snapshot.vips[name]
        if view.vip.address.version == version:
            by_address.setdefault(view.vip.address, []).append(view)
    return tuple(
        Seat(
            address=address,
            views=tuple(views),
            site=snapshot.fleet.sites[views[0].vip.site],
            rung=_rung(snapshot, views),
        )
        for address, views in by_address.items()
    )


def _rung(snapshot: Snapshot, views: list[VipView]) -> Rung:
    if any(_withdrawn(snapshot, view) for view in views):
        return Rung.DRAINED
    eligible = sum(view.eligible for view in views)
    if eligible == len(views):
        return Rung.SOUND
    return Rung.PARTLY if eligible else Rung.FAILED


def _withdrawn(snapshot: Snapshot, view: VipView) -> bool:
    """Whether operators took the VIP away: itself, its site, or every one of its reals.

    A VIP whose edges report DRAINING because some reals are drained and the rest are down is not
    withdrawn: health must not empty an answer.
    """
    held, vip = snapshot.holdings, view.vip
    return (
        held.drained(OverrideKind.SITE, vip.site) is not None
        or held.drained(OverrideKind.VIP, vip.name) is not None
        or all(snapshot.drained_real(real) is not None for real in vip.reals)
    )


def _open_reason(seats: tuple[Seat, ...], rung: Rung, version: int) -> str:
    if not seats:
        return f"the pool has no IPv{version} VIP: NODATA"
    match rung:
        case Rung.SOUND:
            return ""
        case Rung.PARTLY:
            return "no address has all of its ports eligible: those with some are answered"
        case Rung.FAILED:
            return "fail open: no VIP is eligible, so all that are not drained are answered"
        case Rung.DRAINED:
            return "an operator drained every VIP: NODATA"


def _weights(preference: Preference, seats: tuple[Seat, ...]) -> tuple[int, ...] | None:
    if preference.weights is None:
        return None
    return tuple(preference.weights[seat.site.name] for seat in seats)


def _reasons(contest: Contest, field: Field, drawn: tuple[Seat, ...]) -> tuple[str, ...]:
    found = [reason for reason in (contest.open_reason, field.reason) if reason]
    if drawn:
        found.append(
            f"{len(drawn)} of {len(field.seats)} drawn at random (answers = {contest.pool.answers})"
        )
    return tuple(found)


def _candidates(
    contest: Contest, field: Field, drawn: tuple[Seat, ...], location: Location | None
) -> tuple[Candidate, ...]:
    sites = {seat.site.name: seat.site for seat in contest.seats}
    distances = distances_km(sites, location) if location is not None else {}
    return tuple(
        Candidate(
            view=view,
            distance_km=distances.get(seat.site.name),
            chosen=seat in drawn and view is seat.views[0],
            reason=_fate(contest, field, drawn, seat, view),
        )
        for seat in contest.seats
        for view in seat.views
    )


def _fate(
    contest: Contest, field: Field, drawn: tuple[Seat, ...], seat: Seat, view: VipView
) -> str:
    state = f"{view.state}: {view.reason}"
    if seat.rung is Rung.DRAINED:
        return f"withdrawn by an operator; {state}"
    if seat.rung is not contest.rung:
        return f"not eligible; {state}"
    if seat not in field.seats:
        return f"eligible, at a site the policy does not prefer here; {state}"
    if field.weights is not None and not field.weights[field.seats.index(seat)]:
        return f"eligible, of weight 0; {state}"
    if seat not in drawn:
        return f"eligible, not drawn this time; {state}"
    if view is not seat.views[0]:
        return f"drawn, its address stands under `{seat.views[0].vip.name}`; {state}"
    return f"drawn; {state}"
