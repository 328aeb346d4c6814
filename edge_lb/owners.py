"""Owner chains: which reals may still hold flows of a slot, from what rings were made of before.

Owns the rules of docs/decisions/0012: the join of a site's histories, the order of earlier owners,
and what takes one out of a chain. Called by the edge's agent and its forecast. Pure: the same
histories, members and moment give the same chains on every edge, in whatever order they came.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType

import msgspec

from edge_lb.fastring import Earlier, build_chains
from edge_lb.maglev import RING_SLOTS
from edge_lb.plan import CHAIN_OWNERS
from edge_lb.rings import Members, Rings, Weights, mark_of
from gslb.fleet.history import EdgeHistory, VipFlows, VipHistory, unpack_slots

SETTLE_S = (
    10.0  # after a loss a packet may be under way, and clocks differ: then reals are believed
)
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

    With each line comes the moment at which its last members were lost, or IN_USE.
    """
    lost: dict[int, float] = {}
    sets: dict[int, Weights] = {}
    for line, ended_s in lines:
        members = Members(line.members)
        for turn in (*line.turns, None):
            lost_at_s = ended_s if turn is None else turn.at_s
            lost[members.mark] = max(lost.get(members.mark, -inf), lost_at_s)
            if members.mark not in sets:
                sets[members.mark] = members.weights
            if turn is not None:
                members.change(turn.changed)
    found = [Era(mark=m, weights=sets[m], lost_at_s=at_s) for m, at_s in lost.items() if sets[m]]
    return tuple(sorted(found, key=lambda era: (-era.lost_at_s, era.weights)))


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

    `past` is in the order of `eras`, and `alive`. A real without a seat has left the fleet. One
    that is `down` would swallow what others after it hold: it is behind all others, and only in its
    `grace`, which ends at that moment, or where another edge sends it new flows. One that says it
    holds no flow of a slot is none for that slot. ValueError: a depth that has no room.
    """
    counts = _Counts(told)
    living = {real: seat for real, seat in seats.items() if real not in down}
    asked = [_earlier(era, living, counts, rings) for era in past]
    ends_s = [era.lost_at_s + age_s for era in past]
    for era, end_s in zip(past, tuple(ends_s), strict=True) if down else ():
        kept = grace if era.lost_at_s < IN_USE else dict.fromkeys(down, IN_USE)
        last = [real for real, _ in era.weights if real in kept and real in seats]
        if last:
            asked.append(_earlier(era, {real: seats[real] for real in last}, counts, rings))
            ends_s.append(min([end_s, *(kept[real] for real in last)]))
    slots, given = build_chains(ring, asked, width=width, depth=depth)
    ends: dict[float, int] = {}
    for end_s, entries in zip(ends_s, given, strict=True):
        if entries and end_s < IN_USE:
            ends[end_s] = ends.get(end_s, 0) + entries
    return Chains(slots=slots, ends=tuple(sorted(ends.items())))


def believed(told: Told, era: Era) -> bool:
    """Whether a real's count was made after it had lost the era's slots for good."""
    return told.observed_at_s >= era.lost_at_s + SETTLE_S


class _Counts:
    """The flows by slot that reals told, unpacked once each; malformed ones are no word."""

    def __init__(self, told: Mapping[str, Told]) -> None:
        self._told = told
        self._unpacked: dict[str, bytes | None] = {}

    def of(self, real: str, era: Era) -> bytes | None:
        """What the real counted after it had lost its slots for good; None if it did not."""
        told = self._told.get(real)
        if told is None or not believed(told, era):
            return None
        if real not in self._unpacked:
            try:
                self._unpacked[real] = unpack_slots(told.flows.slots, RING_SLOTS)
            except ValueError:
                self._unpacked[real] = None
        return self._unpacked[real]


def _earlier(era: Era, seats: Mapping[str, int], counts: _Counts, rings: Rings) -> Earlier:
    """The era's ring, of those of its reals that have `seats`."""
    flows = {
        position: by_slot
        for position, (real, _) in enumerate(era.weights, 1)
        if (by_slot := counts.of(real, era)) is not None
    }
    return Earlier(
        shape=rings.shape(era.weights),
        seats=[0, *(seats.get(real, 0) for real, _ in era.weights)],
        flows=flows,
    )


def _rank(history: EdgeHistory) -> tuple[int, bytes]:
    return history.generation, msgspec.json.encode(history)
