"""N of M, shuffled and balanced: which addresses of the field one answer carries.

Every subset and every order of it is equally likely, so over many questions each candidate is
carried equally often and stands first equally often. Called by `gslb.decide` and `gslb.answer`
with the same chance, so that both draw the same. Pure: chance is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Chance(Protocol):
    """A source of chance, like `random.Random`."""

    def random(self) -> float:
        """A number from [0, 1)."""


def subset(candidates: Sequence[T], n: int, rng: Chance) -> tuple[T, ...]:
    """At most `n` distinct candidates in random order: the head of a Fisher-Yates shuffle.

    Takes min(n, M) numbers from `rng`, in O(M).
    """
    rest = list(candidates)
    total = len(rest)
    head = min(n, total)
    for at in range(head):
        other = at + int(rng.random() * (total - at))
        rest[at], rest[other] = rest[other], rest[at]
    return tuple(rest[:head])


def weighted_subset(
    candidates: Sequence[T], weights: Sequence[int], n: int, rng: Chance
) -> tuple[T, ...]:
    """At most `n` distinct candidates, each drawn from the rest in proportion to its weight.

    Candidates of weight 0 are never drawn. Takes one number from `rng` for each one drawn.
    """
    rest = [(item, weight) for item, weight in zip(candidates, weights, strict=True) if weight > 0]
    total = sum(weight for _, weight in rest)
    drawn: list[T] = []
    while rest and len(drawn) < n:
        mark = rng.random() * total
        at = 0
        while at < len(rest) - 1 and mark >= rest[at][1]:
            mark -= rest[at][1]
            at += 1
        item, weight = rest.pop(at)
        total -= weight
        drawn.append(item)
    return tuple(drawn)
