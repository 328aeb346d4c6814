"""What happens in a run, drawn by a seed: a deck of events dealt over the time. Pure.

Owns the kinds of events, how many there are of each, when in a run they may come, and whom they
befall. Times fall on a grid, so that several come at once. The conductor does what is drawn; a
drained real is taken out of its VIPs when it has grown quiet, which no schedule can know.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

GRID_S = 3.0
FIRST_S = 3.0
WEIGHTS = (40, 70, 150, 250)
SERVING_MIN = 3
SPAN_S = 120.0  # of one deck; a longer run has more of each


class Kind(StrEnum):
    """What can happen."""

    ADD_REAL = "real added"
    DRAIN_REAL = "real drained"
    CRASH_REAL = "server crashed"  # its own connections have a right to break
    CHANGE_WEIGHT = "weight changed"
    KILL_EDGE = "edge killed"
    ADD_EDGE = "edge added"
    RESTART_EDGE = "edge's agent killed"
    RESTART_REAL = "real's agent killed"
    RESHUFFLE = "ECMP reshuffled"
    LOSE_STORE = "store lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """So many events of a kind, within these shares of the run."""

    kind: Kind
    count: int
    first: float = 0.0
    last: float = 0.9


# Drains come early: then a real is drained, grown quiet and taken out within the run. The store is
# away for a while in its middle, while other things happen.
DECK = (
    Card(kind=Kind.DRAIN_REAL, count=3, last=0.45),
    Card(kind=Kind.ADD_REAL, count=3, last=0.8),
    Card(kind=Kind.CHANGE_WEIGHT, count=3),
    Card(kind=Kind.KILL_EDGE, count=1, first=0.15, last=0.7),
    Card(kind=Kind.ADD_EDGE, count=1, first=0.1, last=0.8),
    Card(kind=Kind.RESHUFFLE, count=4),
    Card(kind=Kind.RESTART_EDGE, count=2),
    Card(kind=Kind.RESTART_REAL, count=2),
    Card(kind=Kind.CRASH_REAL, count=1, first=0.3, last=0.8),
    Card(kind=Kind.LOSE_STORE, count=1, first=0.2, last=0.7),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """At so many seconds of the run; `who` is a real or an edge, `number` a weight or a seed."""

    at_s: float
    kind: Kind
    who: str = ""
    number: int = 0

    @property
    def detail(self) -> str:
        """Whom it befalls, for a person."""
        return f"{self.who} {self.number}" if self.kind is Kind.CHANGE_WEIGHT else self.who


@dataclass(slots=True, kw_only=True)
class _Site:
    """Who serves while the cards are dealt."""

    serving: list[str]
    spare: list[str]
    edges: list[str]
    spare_edges: list[str]
    touched: set[str] = field(default_factory=set)


def draw(
    seed: int,
    *,
    seconds: float,
    reals: Iterable[str],
    spare_reals: Iterable[str],
    edges: Iterable[str],
    spare_edges: Iterable[str],
) -> tuple[Event, ...]:
    """The events of a run, in order. An event for which nobody is left does not happen."""
    rng = Random(seed)
    site = _Site(
        serving=list(reals),
        spare=list(spare_reals),
        edges=list(edges),
        spare_edges=list(spare_edges),
    )
    decks = max(1, round(seconds / SPAN_S))
    dealt = [
        (_moment(rng, card, seconds), rng.random(), card.kind)
        for card in DECK
        for _ in range(card.count * decks)
    ]
    found = (_befall(rng, site, at_s, kind) for at_s, _, kind in sorted(dealt))
    return tuple(event for event in found if event is not None)


def _moment(rng: Random, card: Card, seconds: float) -> float:
    at_s = rng.uniform(card.first, card.last) * seconds
    return max(FIRST_S, round(at_s / GRID_S) * GRID_S)


def _befall(rng: Random, site: _Site, at_s: float, kind: Kind) -> Event | None:
    """Whom it befalls, and the site after it; None where there is nobody for it."""
    event = Event(at_s=at_s, kind=kind, number=rng.randrange(1, 1 << 31))
    if kind in (Kind.RESHUFFLE, Kind.LOSE_STORE):
        return event
    candidates = {
        Kind.ADD_REAL: site.spare,
        Kind.DRAIN_REAL: site.serving if len(site.serving) > SERVING_MIN else [],
        Kind.CRASH_REAL: [real for real in site.serving if real not in site.touched],
        Kind.CHANGE_WEIGHT: site.serving,
        Kind.KILL_EDGE: site.edges if len(site.edges) > 1 else [],
        Kind.ADD_EDGE: site.spare_edges,
        Kind.RESTART_EDGE: site.edges,
        Kind.RESTART_REAL: site.serving,
    }[kind]
    if not candidates:
        return None
    who = rng.choice(candidates)
    number = rng.choice(WEIGHTS) if kind is Kind.CHANGE_WEIGHT else 0
    _change(site, kind, who)
    return Event(at_s=at_s, kind=kind, who=who, number=number)


def _change(site: _Site, kind: Kind, who: str) -> None:
    if kind is Kind.ADD_REAL:
        site.spare.remove(who)
        site.serving.append(who)
    elif kind is Kind.DRAIN_REAL:
        site.serving.remove(who)
    elif kind is Kind.KILL_EDGE:
        site.edges.remove(who)
        site.spare_edges.append(who)
    elif kind is Kind.ADD_EDGE:
        site.spare_edges.remove(who)
        site.edges.append(who)
    elif kind is Kind.CRASH_REAL:
        site.touched.add(who)
