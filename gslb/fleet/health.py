"""Health as values: states, what one edge reports, what an operator wills, and pure steps.

Owns the records that cross the store and the rise/fall step that turns observations into states.
`edge_lb` produces reports, every daemon reads them. Never reads a clock: time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

import msgspec

from gslb.fleet.model import Generation


class RealState(StrEnum):
    """What an edge believes of a real, for one VIP."""

    UNKNOWN = "UNKNOWN"  # never observed; takes traffic only if nothing better is known
    UP = "UP"
    SUSPECT = "SUSPECT"  # up, with failures below `fall`; keeps its slots
    DOWN = "DOWN"
    DRAINING = "DRAINING"  # an operator's will: old flows stay, none are added


class VipState(StrEnum):
    """What the fleet believes of a VIP."""

    UNKNOWN = "UNKNOWN"  # no edge has reported it yet
    UP = "UP"
    DEGRADED = "DEGRADED"  # at least one real is down, at least one serves
    DOWN = "DOWN"  # no real serves
    DRAINING = "DRAINING"
    STALE = "STALE"  # every report of it outlived its lease


class OverrideKind(StrEnum):
    """What an operator may drain."""

    REAL = "real"
    VIP = "vip"
    SITE = "site"
    EDGE = "edge"


class RealHealth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One real as one edge sees it for one VIP. `since_s` is Unix time."""

    name: str
    state: RealState
    since_s: float
    reason: str


class VipHealth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One VIP as one edge sees it. `packets_per_s` is the edge's own load on it."""

    name: str
    state: VipState
    since_s: float
    reals: tuple[RealHealth, ...]
    packets_per_s: float = 0.0


class EdgeReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one edge says of its site's VIPs.

    `generation` grows when the content changes and never falls, over restarts as well; `sequence`
    grows with every beat. A report is believed for `lease_s` after its last beat was received.
    `heard` tells which history of each other edge of the site this edge's maps reflect. It is no
    content: it rides on the next beat, which every plan hastens, and makes nobody render answers.
    """

    site: str
    edge: str
    config_hash: str
    generation: int
    sequence: int
    observed_at_s: float  # Unix time
    lease_s: float
    doubt: bool  # every check failed at once: the edge doubts itself, not its site
    vips: tuple[VipHealth, ...]
    heard: dict[str, int] = {}  # edge name -> generation of its history


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's will. A withdrawn one stays as a record, so that old data cannot revive it."""

    kind: OverrideKind
    name: str
    drained: bool
    by: str
    reason: str
    at_s: float  # Unix time
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A real's state with its run of like observations; `step` moves it."""

    state: RealState = RealState.UNKNOWN
    streak: int = 0  # consecutive results that argue against `state`, or for leaving UNKNOWN
    since_s: float = 0.0
    reason: str = "not checked yet"


def step(
    standing: Standing, *, ok: bool, reason: str, rise: int, fall: int, now_s: float
) -> Standing:
    """The standing after one observation: rise/fall hysteresis, SUSPECT between UP and DOWN.

    A first observation decides at once: a restart must not take `rise` rounds to believe a real.
    `reason` is the check's own words. DRAINING is not a standing; the planner lays it on top.
    """
    match standing.state:
        case RealState.UNKNOWN:
            state = RealState.UP if ok else RealState.DOWN
            return Standing(state=state, since_s=now_s, reason=reason)
        case RealState.UP | RealState.SUSPECT:
            if ok:
                if standing.state is RealState.SUSPECT:
                    return Standing(state=RealState.UP, since_s=now_s, reason=reason)
                return replace(standing, streak=0, reason=reason)
            if standing.streak + 1 >= fall:
                return Standing(state=RealState.DOWN, since_s=now_s, reason=reason)
            since_s = now_s if standing.state is RealState.UP else standing.since_s
            return Standing(
                state=RealState.SUSPECT, streak=standing.streak + 1, since_s=since_s, reason=reason
            )
        case RealState.DOWN:
            if not ok:
                return replace(standing, streak=0, reason=reason)
            if standing.streak + 1 >= rise:
                return Standing(state=RealState.UP, since_s=now_s, reason=reason)
            return replace(standing, streak=standing.streak + 1)
        case RealState.DRAINING:
            return standing
        case _:
            assert_never(standing.state)


def vip_state(reals: tuple[RealHealth, ...]) -> VipState:
    """The state of a VIP from its reals: UP if all serve, DOWN if none does."""
    serving = sum(1 for real in reals if real.state in SERVING)
    drained = sum(1 for real in reals if real.state is RealState.DRAINING)
    if serving == 0:
        return VipState.DRAINING if drained else VipState.DOWN
    if serving + drained == len(reals):
        return VipState.UP
    return VipState.DEGRADED


SERVING = frozenset({RealState.UP, RealState.SUSPECT, RealState.UNKNOWN})
"""States whose reals hold slots of the ring. UNKNOWN serves: a cold start must not black-hole."""


def next_generation(previous: int, now_s: float) -> Generation:
    """A hybrid clock: milliseconds of Unix time, but always above `previous` (Kulkarni 2014).

    So a publisher that lost its memory still outranks what it said before.
    """
    return Generation(max(previous + 1, int(now_s * 1000)))
