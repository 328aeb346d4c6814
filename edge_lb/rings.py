"""The rings of member sets, each built once: what plans and owner chains are made from.

Owns what is remembered of rings, and for how long. A ring of positions (a shape) is a function of
names and weights alone; with an edge's seats it becomes what the maps hold. Used by
`edge_lb.plan`, `edge_lb.owners` and `edge_lb.forecast`. Pure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

from edge_lb.fastring import (
    Ranking,
    Step,
    build_ring,
    seat_ring,
    step_between,
)
from edge_lb.rendezvous import Member

SHAPES_MAX = 512  # 131 kB each: of what is in use, was until now, and of who comes and goes
STEPS_OCTETS_MAX = 64 << 20  # of all steps between earlier rings
TOGETHER_MIN = 32  # rings: to rank all members takes as long as to build a dozen
NUMBERS_MAX = 1 << 15  # of names, in 16 bits; there is room for as many more in one call

Weights = tuple[tuple[str, int], ...]
"""The members of a ring: names with weights above zero, in order of name."""


def weights_of(members: Mapping[str, int]) -> Weights:
    """Members in the one form in which like sets are equal."""
    return tuple(sorted((name, weight) for name, weight in members.items() if weight > 0))


@lru_cache(maxsize=1 << 14)
def mark(name: str, weight: int) -> int:
    """128 bits that no other member has."""
    return int.from_bytes(blake2b(f"{weight} {name}".encode(), digest_size=16).digest())


def mark_of(members: Iterable[tuple[str, int]]) -> int:
    """What tells sets of members apart, as `Weights` do, but is kept up with one xor a change."""
    found = 0
    for name, weight in members:
        found ^= mark(name, weight)
    return found


def shapes_of(sets: Sequence[Weights]) -> Iterator[array[int]]:
    """The shape of each set, in order. Many in a row with much in common are built together."""
    place = 0
    while place < len(sets):
        members, end = _alike(sets, place)
        if end - place < TOGETHER_MIN:
            yield from map(build_shape, sets[place:end])
        else:
            ranking = Ranking(members)
            yield from map(ranking.shape, sets[place:end])
        place = end


def build_shape(weights: Weights) -> array[int]:
    """The ring of positions in `weights`, from 1."""
    return build_ring(
        [
            Member(name=name, weight=weight, index=position)
            for position, (name, weight) in enumerate(weights, 1)
        ]
    )


def _alike(sets: Sequence[Weights], first: int) -> tuple[set[tuple[str, int]], int]:
    """All members of some sets from `first` on, and where these end.

    Each of them has half of the weight at least: else a ranking of all would seldom serve it.
    """
    members = set(sets[first])
    total = least = sum(weight for _, weight in members)
    for place in range(first + 1, len(sets)):
        fresh = set(sets[place]) - members
        grown = total + sum(weight for _, weight in fresh)
        least = min(least, sum(weight for _, weight in sets[place]))
        if grown > 2 * least or len(members) + len(fresh) > NUMBERS_MAX:
            return members, place
        members |= fresh
        total = grown
    return members, len(sets)


class Members:
    """A set of members that changes, a little at a time, and is told whole when it is asked for."""

    def __init__(self, members: Mapping[str, int]) -> None:
        self._sorted = list(weights_of(members))
        self._held = dict(self._sorted)
        self.mark = mark_of(self._sorted)

    @property
    def weights(self) -> Weights:
        """The set as it is now."""
        return tuple(self._sorted)

    def change(self, changed: Mapping[str, int]) -> None:
        """These weigh otherwise now; with 0 they are none any more."""
        for name, weight in changed.items():
            held = self._held.pop(name, 0)
            at = bisect_left(self._sorted, (name, held))
            if held:
                self.mark ^= mark(name, held)
                del self._sorted[at]
            if weight:
                self.mark ^= mark(name, weight)
                self._sorted.insert(at, (name, weight))
                self._held[name] = weight


class Rings:
    """Builds rings, and remembers them: those of the last plan as they are, and recent shapes.

    A shape is a ring of positions among the members. VIPs with like members share one, whatever
    their seats are, so one dead real costs one building for all of its VIPs.
    """

    def __init__(self, shapes_max: int = SHAPES_MAX) -> None:
        self._shapes_max = shapes_max
        self._shapes: dict[Weights, array[int]] = {}
        self._built: dict[tuple[Member, ...], array[int]] = {}
        self._used: dict[tuple[Member, ...], array[int]] = {}
        self._numbers: dict[str, int] = {}
        self._steps: dict[tuple[int, int], Step] = {}
        self._octets = 0  # of steps

    def ring(self, members: tuple[Member, ...]) -> array[int]:
        """The ring of these members, built at most once while it is in use."""
        ring = self._built.get(members)
        if ring is None:
            index = {member.name: member.index for member in members}
            weights = weights_of({member.name: member.weight for member in members})
            ring = seat_ring(self.shape(weights), [0, *(index[name] for name, _ in weights)])
        self._used[members] = ring
        return ring

    def shape(self, weights: Weights) -> array[int]:
        """The ring of positions in `weights`, from 1; kept until `shapes_max` others were used."""
        shape = self._shapes.pop(weights, None)
        if shape is None:
            shape = build_shape(weights)
        self._shapes[weights] = shape
        if len(self._shapes) > self._shapes_max:
            del self._shapes[next(iter(self._shapes))]
        return shape

    @property
    def numbers(self) -> Mapping[str, int]:
        """The numbers of names in `steps`, from 1: good until the next call of it."""
        return self._numbers

    def steps(self, sets: Sequence[tuple[int, Weights]]) -> list[Step]:
        """The ring of each of these sets, with its mark, by numbers of names: the first one whole.

        Each after it tells what differs from the one before, remembered by both marks.
        """
        if len(self._numbers) > NUMBERS_MAX:
            self._numbers, self._steps, self._octets = {}, {}, 0
        pairs = [(before, here) for (before, _), (here, _) in pairwise(sets)]
        needed = {0} | {
            at + side for at, pair in enumerate(pairs) if pair not in self._steps for side in (0, 1)
        }
        rings = self._numbered([sets[at][1] for at in sorted(needed)])
        last = next(rings)
        found = [Step(owners=last)]
        for place, pair in enumerate(pairs, 1):
            ring = next(rings) if place in needed else last
            step = self._steps.pop(pair, None)
            if step is None:
                step = step_between(last, ring)
                self._octets += step.octets
            self._steps[pair] = step
            found.append(step)
            last = ring
        while self._octets > STEPS_OCTETS_MAX and self._steps:
            self._octets -= self._steps.pop(next(iter(self._steps))).octets
        return found

    def forget_unused(self) -> None:
        """Keep what was asked for since the last call only."""
        self._built, self._used = self._used, {}

    def _numbered(self, sets: Sequence[Weights]) -> Iterator[array[int]]:
        """The ring of each set, in order, by numbers of names. Of many, few shapes are kept."""
        absent = [weights for weights in sets[1:] if weights not in self._shapes]
        together = shapes_of(absent) if len(absent) >= TOGETHER_MIN else None
        rest = set(absent) if together is not None else set[Weights]()
        for place, weights in enumerate(sets):
            is_absent = place > 0 and weights in rest
            shape = next(together) if together is not None and is_absent else self.shape(weights)
            numbers = [
                self._numbers.setdefault(name, len(self._numbers) + 1) for name, _ in weights
            ]
            yield seat_ring(shape, [0, *numbers])
