"""Reals and weights to ring slots, by Maglev hashing (NSDI 2016, section 3.4).

Owns the ring's content, as the reference that `edge_lb.fastring` must equal slot by slot. Called by
that, and by tests. Pure, and a function of names and weights alone: every edge computes the same
ring from the same configuration, whatever its indexes.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter

RING_SLOTS = 65537  # prime, so every step visits every slot; bpf/maps.h declares the same
WEIGHT_MAX = 2**32 - 1
WALKS_KEPT = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One real of a ring: its share follows `weight` (0: no slot), its slots follow `name`."""

    name: str
    weight: int
    index: int  # what is written into the ring: the real's place in this edge's table, never 0


def build_ring(members: Sequence[Member]) -> "array[int]":
    """RING_SLOTS real indexes; all zero when no member has weight.

    Members take turns in order of name; at its turn a member takes the next free slot of its own
    permutation. A member of the largest weight has a turn in every round, the others in proportion.
    About RING_SLOTS * ln(RING_SLOTS) steps. ValueError: a name twice, a weight below zero or
    above WEIGHT_MAX, index 0.
    """
    order = in_turn(members)
    ring = array("H", bytes(2 * RING_SLOTS))
    if not order:
        return ring
    heaviest = max(member.weight for member in order)
    walks = [walk(member.name) for member in order]
    positions = [start for start, _ in walks]
    steps = [step for _, step in walks]
    saved = [0] * len(order)
    weights = [member.weight for member in order]
    indexes = [member.index for member in order]
    free = RING_SLOTS
    while True:
        for turn, weight in enumerate(weights):
            credit = saved[turn] + weight
            if credit < heaviest:
                saved[turn] = credit
                continue
            saved[turn] = credit - heaviest
            at, step = positions[turn], steps[turn]
            while ring[at]:
                at += step
                if at >= RING_SLOTS:
                    at -= RING_SLOTS
            ring[at] = indexes[turn]
            positions[turn] = at
            free -= 1
            if not free:
                return ring


def in_turn(members: Sequence[Member]) -> list[Member]:
    """Those with weight, in the order of their turns. ValueError as `build_ring`."""
    seen: set[str] = set()
    for member in members:
        if member.name in seen:
            raise ValueError(f"real {member.name} is twice in one ring")
        if not 0 <= member.weight <= WEIGHT_MAX or member.index < 1:
            raise ValueError(f"real {member.name} has weight {member.weight}, index {member.index}")
        seen.add(member.name)
    return sorted((member for member in members if member.weight), key=attrgetter("name"))


@lru_cache(maxsize=WALKS_KEPT)
def walk(name: str) -> tuple[int, int]:
    """Start and step of a member's walk over all slots."""
    digest = blake2b(name.encode(), digest_size=16).digest()
    start = int.from_bytes(digest[:8], "big") % RING_SLOTS
    step = int.from_bytes(digest[8:], "big") % (RING_SLOTS - 1) + 1
    return start, step
