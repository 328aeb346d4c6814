"""Owner chains: which reals may still hold flows of a slot, from what rings were made of before.

Owns the rules of docs/decisions/0012: the join of a site's histories, the order of earlier owners,
and what takes one out of a chain. Called by the edge's agent and its forecast. Pure: the same
histories, members and moment give the same chains on every edge, in whatever order they came.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType

import msgspec

from edge_lb.fastring import Candidate, Earlier, Known, build_chains
from edge_lb.plan import CHAIN_OWNERS
from edge_lb.rendezvous import RING_SLOTS
from edge_lb.rings import Members, Rings, Weights, mark_of
from gslb.fleet.history import EdgeHistory, VipFlows, VipHistory, unpack_slots

SETTLE_S = (
    10.0  # after a loss a packet may be under way, and clocks differ: then reals are believed
)
MAY_FORWARD_S = 30.0
"""How long the maps of an edge count that says nothing more: packets follow them without its agent,
until its announcer has stepped back (`silent_s` of [bgp], docs/decisions/0013)."""
IN_USE = inf  # a set of members that an edge uses now has not been lost

Histories = Mapping[str, EdgeHistory]  # edge name ->


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """A set of members, and when an edge last used its ring. `mark` is the set's `mark_of`."""

    mark: int
    weights: Weights = field(compare=False)
    lost_at_s: float = IN_USE

    @classmethod
    def of(cls, weights: Weights, lost_at_s: float = IN_USE) -> Era:
        """With the mark of its members."""
        return cls(mark=mark_of(weights), weights=weights, lost_at_s=lost_at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a real says of the flows of one VIP that it holds, and when it counted them."""

    observed_at_s: float
    flows: VipFlows


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """What a `PlannedVip` carries, and how many of its entries end by time alone, at what moments.

    Moments are Unix time, the first one first; entries that another edge uses now have none.
    """

    slots: array[int] | None = None
    ends: tuple[tuple[float, int], ...] = ()

    @property
    def expires_at_s(self) -> float:
        """When the next entry ends."""
        return self.ends[0][0] if self.ends else inf


NO_CHAINS = Chains()


def join(*known: Histories) -> dict[str, EdgeHistory]:
    """The newest word of each edge; of two words of one number the bytes decide."""
    newest: dict[str, EdgeHistory] = {}
    for histories in known:
        for edge, history in histories.items():
            held = newest.get(edge)
            if held is None or _rank(held) < _rank(history):
                newest[edge] = history
    return newest


def generation(histories: Histories) -> int:
    """The newest of the joined histories: the same number wherever the same ones were joined."""
    return max((history.generation for history in histories.values()), default=0)


def lines_of(
    histories: Histories, silent: Mapping[str, float] = MappingProxyType({})
) -> dict[str, list[tuple[VipHistory, float]]]:
    """Every edge's time line of each VIP, for `eras`. `silent`: edges that are gone, since when."""
    lines: dict[str, list[tuple[VipHistory, float]]] = {}
    for edge, history in histories.items():
        for line in history.vips:
            lines.setdefault(line.name, []).append((line, silent.get(edge, IN_USE)))
    return lines


def eras(lines: Iterable[tuple[VipHistory, float]]) -> tuple[Era, ...]:
    """Every set of members that a time line tells, with its latest loss; those in use first.

    With each line comes the moment at which its last members, and those that were coming, were
    lost, or IN_USE.
    """
    lost: dict[int, float] = {}
    sets: dict[int, Weights] = {}
    for line, ended_s in lines:
        members = Members(line.members)
        for turn in (*line.turns, None):
            lost_at_s = ended_s if turn is None else turn.at_s
            _lose(lost, sets, members, lost_at_s)
            if turn is not None:
                members.change(turn.changed)
        if line.coming:  # as good as used: it may be at any moment
            members.change(line.coming)
            _lose(lost, sets, members, ended_s)
    found = [Era(mark=m, weights=sets[m], lost_at_s=at_s) for m, at_s in lost.items() if sets[m]]
    return tuple(sorted(found, key=lambda era: (-era.lost_at_s, era.weights)))


def _lose(
    lost: dict[int, float], sets: dict[int, Weights], members: Members, lost_at_s: float
) -> None:
    """This set was lost then, if it was not later."""
    lost[members.mark] = max(lost.get(members.mark, -inf), lost_at_s)
    if members.mark not in sets:
        sets[members.mark] = members.weights


def alive(past: Iterable[Era], present: Weights, *, now_s: float, age_s: float) -> tuple[Era, ...]:
    """Those besides `present` whose flows may be alive: in use, or lost less than `age_s` ago."""
    mark = mark_of(present)
    return tuple(era for era in past if era.lost_at_s + age_s > now_s and era.mark != mark)


def chain(
    ring: array[int],
    past: tuple[Era, ...],
    seats: Mapping[str, int],
    *,
    depth: int,
    age_s: float,
    rings: Rings,
    down: frozenset[str] = frozenset(),
    grace: Mapping[str, float] = MappingProxyType({}),
    told: Mapping[str, Told] = MappingProxyType({}),
    width: int = CHAIN_OWNERS,
) -> Chains:
    """The chains of one VIP: its present `ring` widened by at most `depth` owners of `past`.

    `past` is in the order of `eras`, and `alive`: who gets new flows of other edges comes first,
    then who says that it holds flows of the slot, then who may. A real without a seat has left the
    fleet. One that is `down` would swallow what others after it hold: it is behind all others, and
    only in its `grace`, which ends at that moment, or where another edge sends it new flows. One
    that says it holds no flow of a slot is none for that slot. ValueError: a depth without room.
    """
    steps = [step for run in _falling(past) for step in rings.steps(run)]
    counts = _counts(told)
    living = {real: seat for real, seat in seats.items() if real not in down}
    dead = {real: seat for real, seat in seats.items() if real in down}
    ends_of = {real: grace[real] for real in dead if real in grace}
    earlier: list[Earlier] = []
    ends_s: list[float] = []

    def ask(known: Known, *, used: bool, until_s: Mapping[str, float]) -> None:
        """Put these reals next: of the eras in use, or of those that are over."""
        for era, step in zip(past, steps, strict=True):
            if (era.lost_at_s == IN_USE) is used:
                earlier.append(Earlier(step=step, known=known, settled_s=era.lost_at_s + SETTLE_S))
                ended = [at_s for real, at_s in until_s.items() if _is_in(era, real)]
                ends_s.append(min([era.lost_at_s + age_s, *ended]))

    known = _known(living, counts, told, rings)
    ask(known, used=True, until_s={})
    ask(_holders(living, counts, rings), used=False, until_s={})
    ask(known, used=False, until_s={})
    if dead:
        spared = _known({real: dead[real] for real in ends_of}, counts, told, rings)
        ask(_known(dead, counts, told, rings), used=True, until_s={})
        ask(spared, used=False, until_s=ends_of)
    slots, given = build_chains(ring, earlier, width=width, depth=depth)
    ends: dict[float, int] = {}
    for end_s, entries in zip(ends_s, given, strict=True):
        if entries and end_s < IN_USE:
            ends[end_s] = ends.get(end_s, 0) + entries
    return Chains(slots=slots, ends=tuple(sorted(ends.items())))


def _falling(past: Iterable[Era]) -> list[list[tuple[int, Weights]]]:
    """The sets of the eras, parted where one was lost later than the one before it.

    Within a part, who is no candidate of an era is none of the next one.
    """
    parts: list[list[tuple[int, Weights]]] = []
    before_s = -inf
    for era in past:
        if era.lost_at_s > before_s:
            parts.append([])
        parts[-1].append((era.mark, era.weights))
        before_s = era.lost_at_s
    return parts


def _is_in(era: Era, real: str) -> bool:
    """Whether the era's ring has the real."""
    at = bisect_left(era.weights, (real, 0))
    return at < len(era.weights) and era.weights[at][0] == real


def _counts(told: Mapping[str, Told]) -> dict[str, bytes]:
    """The flows by slot of each real that told of them; malformed ones are no word."""
    found: dict[str, bytes] = {}
    for real, word in told.items():
        with suppress(ValueError):
            found[real] = unpack_slots(word.flows.slots, RING_SLOTS)
    return found


def _holders(seats: Mapping[str, int], counts: Mapping[str, bytes], rings: Rings) -> Known:
    """These reals as candidates where they told of flows, and nowhere else."""
    return Known(
        {
            rings.numbers[real]: Candidate(seat=seat, told_s=inf, flows=counts[real])
            for real, seat in seats.items()
            if real in counts and real in rings.numbers
        }
    )


def _known(
    seats: Mapping[str, int],
    counts: Mapping[str, bytes],
    told: Mapping[str, Told],
    rings: Rings,
) -> Known:
    """These reals as candidates, by the numbers that rings give to names."""
    return Known(
        {
            rings.numbers[real]: Candidate(
                seat=seat,
                told_s=told[real].observed_at_s if real in counts else 0.0,
                flows=counts.get(real),
            )
            for real, seat in seats.items()
            if real in rings.numbers
        }
    )


def _rank(history: EdgeHistory) -> tuple[int, bytes]:
    return history.generation, msgspec.json.encode(history)
