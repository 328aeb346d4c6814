"""Reals and weights to ring slots: rows of weighted rendezvous hashing with bounded load.

Owns the ring's content, as the reference that `edge_lb.fastring` must equal slot by slot. Called by
that, and by tests. Pure, and a function of names and weights alone: every edge computes the same
ring from the same configuration, whatever its indexes. Rendezvous hashing is Thaler and Ravishankar
(1998), the bound Mirrokni, Thorup and Zadimoghaddam (SODA 2018). Change bpf/rows.c too, or none.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import frexp

RING_SLOTS = 65536  # bpf/maps.h declares the same
WEIGHT_MAX = 2**32 - 1
BOUND = 11, 10  # of its fair share a member takes so much at most, and one slot
SEEDS_KEPT = 16384
_WORD = 2**32 - 1
_ROOT = 0.7071067811865476  # of a half
_SERIES = (  # 2 / ln 2 / (2k + 1), the last first: seven terms lack less than 1e-12
    0.22195308321368667,
    0.2623081892525388,
    0.3205988979753252,
    0.4121985831111324,
    0.5770780163555853,
    0.9617966939259756,
    2.8853900817779268,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One real of a ring: its share follows `weight` (0: no slot), its slots follow `name`."""

    name: str
    weight: int
    index: int  # what is written into the ring: the real's place in this edge's table, never 0


def build_ring(members: Sequence[Member], slots: int = RING_SLOTS) -> "array[int]":
    """A real's index for each slot; all zero when no member has weight.

    Each slot goes to the member with the lowest price that has room left, in order of slots; of
    like prices to the one that `in_order` has first. ValueError: a name twice, a weight below zero
    or above WEIGHT_MAX, index 0. About 2 us for each slot and member.
    """
    order = in_order(members)
    ring = array("H", bytes(2 * slots))
    total = sum(member.weight for member in order)
    most, of = BOUND
    room = [slots * member.weight * most // (of * total) + 1 for member in order]
    drawn = [(seeds(member.name), 1.0 / member.weight) for member in order]
    for slot in range(slots if order else 0):
        _, winner = min(
            (cost(lot(slot, *pair)) * scale, at)
            for at, (pair, scale) in enumerate(drawn)
            if room[at]
        )
        room[winner] -= 1
        ring[slot] = order[winner].index
    return ring


def in_order(members: Sequence[Member]) -> list[Member]:
    """Those with weight, the heaviest first, then by name. ValueError as `build_ring`."""
    seen: set[str] = set()
    for member in members:
        if member.name in seen:
            raise ValueError(f"real {member.name} is twice in one ring")
        if not 0 <= member.weight <= WEIGHT_MAX or member.index < 1:
            raise ValueError(f"real {member.name} has weight {member.weight}, index {member.index}")
        seen.add(member.name)
    return sorted(
        (member for member in members if member.weight),
        key=lambda member: (-member.weight, member.name),
    )


@lru_cache(maxsize=SEEDS_KEPT)
def seeds(name: str) -> tuple[int, int]:
    """What a member's lots are drawn from: two numbers of 32 bits."""
    digest = blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")


def lot(slot: int, first: int, second: int) -> int:
    """What a member with these seeds draws for a slot: 32 bits."""
    value = (slot ^ first) * 0x85EBCA6B & _WORD
    value = (value ^ value >> 15) + second
    value = value * 0xC2B2AE35 & _WORD
    value = (value ^ value >> 13) * 0x9E3779B1 & _WORD
    return value ^ value >> 16


def cost(drawn: int) -> float:
    """How bad a lot is: minus the logarithm to base 2 of its place among all, from 0 to 33.

    Divided by weight it is a price, which one of two members has lower in proportion to weights.
    The same bits everywhere: IEEE 754 doubles, in this order of operations. A greater lot costs
    less, by 3e-10 at least, five hundred times what the series lacks.
    """
    mantissa, exponent = frexp(drawn + 0.5)
    part = (mantissa - _ROOT) / (mantissa + _ROOT)
    square = part * part
    series = 0.0
    for factor in _SERIES:
        series = series * square + factor
    return (32.5 - exponent) - series * part
