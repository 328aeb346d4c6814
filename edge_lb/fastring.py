"""Rings of `edge_lb.rendezvous` and chains of owners by machine code: bpf/rows.c, bpf/rings.c.

Owns the calling of these libraries, through cffi. Used by `edge_lb.rings` and `edge_lb.owners`;
`edge_lb.rendezvous` stays the reference of rings, and tests hold both equal. Pure: it checks and
sorts in Python, and the libraries touch their arguments only.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cffi

from bpf.compile import library_path
from edge_lb.rendezvous import RING_SLOTS, Member, in_order, seeds

_ROWS = """
struct member { uint32_t seeds[2]; uint32_t weight, index, room; };
void build_ring(uint16_t *ring, uint32_t slots, struct member *members, uint32_t count);
void rank_members(uint16_t *ranks, uint32_t slots, const struct member *members, uint32_t count);
void build_ranked(uint16_t *ring, uint32_t slots, const uint16_t *ranks, struct member *members,
                  uint32_t count, const uint16_t *indexes);
"""
_RANKS = 8  # as bpf/rows.c has it
_PLACES_MAX = 1 << 16
_RINGS = """
uint32_t seat_ring(uint16_t *ring, const uint16_t *shape, uint32_t slots, const uint16_t *seats,
                   uint32_t count);
uint32_t count_moved(const uint16_t *before, const uint16_t *after, uint32_t slots);
uint32_t list_moved(const uint16_t *before, const uint16_t *after, uint32_t slots, uint32_t *at,
                    uint16_t *owners);
struct candidate { const uint8_t *flows; double told_s; uint16_t seat; };
struct earlier {
    const uint32_t *slots; const uint16_t *owners; const struct candidate *known; double settled_s;
    uint32_t moved, numbers;
};
uint32_t build_chains(uint16_t *chains, uint32_t width, const uint16_t *ring, uint32_t slots,
                      const struct earlier *rings, uint32_t count, uint32_t depth, uint32_t *given);
void compare_chains(const uint16_t *before, const uint16_t *after, uint32_t slots, uint32_t width,
                    uint32_t depth, uint32_t *grown, uint32_t *lost);
uint64_t sum_moved(const uint16_t *before, const uint16_t *after, uint32_t slots,
                   const uint8_t *flows);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a ring of numbers has where it differs from the one before it; all of it where none is.

    `slots` and `owners` are alike long; without `slots`, `owners` are of every slot.
    """

    owners: "array[int]"
    slots: "array[int] | None" = None

    @property
    def octets(self) -> int:
        """What it takes of memory."""
        return 2 * len(self.owners) + (4 * len(self.slots) if self.slots is not None else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A real that may hold flows of slots it had: its seat, and what it told of them, and when.

    `flows` are RING_SLOTS octets: a slot without a flow is not held by it.
    """

    seat: int
    told_s: float = 0.0
    flows: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier ring, and its owners that are candidates, by number.

    What a candidate told counts if it did so at `settled_s` or later.
    """

    step: Step
    known: "Known"
    settled_s: float


class Known:
    """Candidates by number, as the library reads them."""

    def __init__(self, candidates: Mapping[int, Candidate]) -> None:
        ffi, _ = _rings()
        self.numbers = max(candidates, default=0) + 1
        self.table = ffi.new("struct candidate[]", self.numbers)
        self._alive: list[Any] = []  # cffi frees what nothing holds
        for number, one in candidates.items():
            entry = self.table[number]
            entry.seat, entry.told_s = one.seat, one.told_s
            if one.flows is not None:
                if len(one.flows) != RING_SLOTS:
                    raise ValueError(f"flows of {len(one.flows)} slots")
                entry.flows = told = ffi.from_buffer("uint8_t[]", one.flows)
                self._alive.append(told)


def build_ring(
    members: Sequence[Member], slots: int = RING_SLOTS, *, build: Path | None = None
) -> "array[int]":
    """What `rendezvous.build_ring` returns, and its ValueErrors, thousands of times faster.

    `build` is one of `library_builds("rows")`, else the fastest of them.
    """
    order = in_order(members)
    ring = array("H", bytes(2 * slots))
    if order:
        ffi, library = _library(build or library_path("rows"), _ROWS)
        table = [(seeds(member.name), member.weight, member.index, 0) for member in order]
        library.build_ring(_view(ring), slots, ffi.new("struct member[]", table), len(table))
    return ring


class Ranking:
    """Builds the rings of many sets of `members`, each fifty times faster than `build_ring`.

    For every slot it knows which few of all members would have it first; a set in which none of
    them has room asks all. `members` are pairs of name and weight above zero, each once; a name may
    have several weights. ValueError: too many for 16 bits.
    """

    def __init__(self, members: Iterable[tuple[str, int]], *, build: Path | None = None) -> None:
        order = sorted(members, key=lambda member: (-member[1], member[0]))
        if len(order) > _PLACES_MAX:
            raise ValueError(f"{len(order)} members in one ranking")
        ffi, self._library = _library(build or library_path("rows"), _ROWS)
        self._places = {member: place for place, member in enumerate(order)}
        table = [(seeds(name), weight, 0, 0) for name, weight in order]
        self._members = ffi.new("struct member[]", table)
        self._ranks = array("H", bytes(2 * _RANKS * RING_SLOTS))
        self._library.rank_members(_view(self._ranks), RING_SLOTS, self._members, len(order))

    def shape(self, weights: Sequence[tuple[str, int]]) -> "array[int]":
        """The ring of positions in `weights`, from 1. KeyError for one that is not ranked."""
        ring = empty_ring()
        indexes = array("H", bytes(2 * len(self._places)))
        for position, member in enumerate(weights, 1):
            indexes[self._places[member]] = position
        if weights:
            self._library.build_ranked(
                _view(ring),
                RING_SLOTS,
                _view(self._ranks),
                self._members,
                len(indexes),
                _view(indexes),
            )
        return ring


def seat_ring(shape: "array[int]", seats: Sequence[int]) -> "array[int]":
    """The ring of `seats[position]` for each position in `shape`. IndexError for one beyond."""
    _, library = _rings()
    ring = empty_ring()
    numbers = array("H", seats)
    if library.seat_ring(_view(ring), _view(shape), RING_SLOTS, _view(numbers), len(numbers)):
        raise IndexError("the shape names a position that has no seat")
    return ring


def step_between(before: "array[int]", after: "array[int]") -> Step:
    """What `after` has where it differs from `before`."""
    if len(before) != RING_SLOTS or len(after) != RING_SLOTS:
        raise ValueError("a ring has another number of slots")
    ffi, library = _rings()
    slots, owners = array("I", bytes(4 * RING_SLOTS)), empty_ring()
    count = library.list_moved(
        _view(before), _view(after), RING_SLOTS, ffi.from_buffer("uint32_t[]", slots), _view(owners)
    )
    return Step(slots=slots[:count], owners=owners[:count])


def build_chains(
    ring: "array[int]", earlier: Sequence[Earlier], *, width: int, depth: int
) -> tuple["array[int] | None", list[int]]:
    """The ring widened to `width` owners a slot: its own, and up to `depth` of the earlier rings.

    Each slot's earlier owners are in the order of the rings, each real once, then 0. None where no
    slot has one. Then how many owners came of each ring. A step leaves out what was considered for
    the ring before it, so whoever is no candidate there shall be none here. ValueError: depth
    beyond width, a ring of another size.
    """
    if not 0 < depth < width or len(ring) != RING_SLOTS:
        raise ValueError(f"{depth} of {width} owners for {len(ring)} slots")
    ffi, library = _rings()
    alive: list[Any] = []  # cffi frees what nothing holds
    table = ffi.new("struct earlier[]", len(earlier))
    for entry, one in zip(table, earlier, strict=True):
        slots, owners = one.step.slots, one.step.owners
        if len(owners) != (RING_SLOTS if slots is None else len(slots)):
            raise ValueError("an earlier ring has another number of slots")
        entry.moved = len(owners)
        entry.owners = numbers = _view(owners)
        entry.known, entry.numbers = one.known.table, one.known.numbers
        entry.settled_s = one.settled_s
        alive.append(numbers)
        if slots is not None:
            entry.slots = places = ffi.from_buffer("uint32_t[]", slots)
            alive.append(places)
    chains = array("H", bytes(2 * width * RING_SLOTS))
    given = ffi.new("uint32_t[]", len(earlier) or 1)
    chained = library.build_chains(
        _view(chains), width, _view(ring), RING_SLOTS, table, len(earlier), depth, given
    )
    return chains if chained else None, [given[at] for at in range(len(earlier))]


def moved(before: "array[int]", after: "array[int]") -> int:
    """How many slots have another real: the share of new flows that a change would move."""
    if len(before) != RING_SLOTS or len(after) != RING_SLOTS:
        raise ValueError("a ring has another number of slots")
    _, library = _rings()
    return int(library.count_moved(_view(before), _view(after), RING_SLOTS))


def moved_flows(before: "array[int]", after: "array[int]", flows: bytes) -> int:
    """How many of `flows`, told by slot, are on slots with another real."""
    if {len(before), len(after), len(flows)} != {RING_SLOTS}:
        raise ValueError("rings or flows have another number of slots")
    ffi, library = _rings()
    told = ffi.from_buffer("uint8_t[]", flows)
    return int(library.sum_moved(_view(before), _view(after), RING_SLOTS, told))


def compare_chains(
    before: "array[int]", after: "array[int]", *, width: int, depth: int
) -> tuple[int, int]:
    """Slots that get more owners, and slots that lose one for want of room.

    `before` has `width` owners a slot; `after` one more, built with one more than `depth`.
    """
    sizes = width * RING_SLOTS, (width + 1) * RING_SLOTS
    if not 0 < depth < width or (len(before), len(after)) != sizes:
        raise ValueError("chains do not have the told width")
    ffi, library = _rings()
    grown, lost = ffi.new("uint32_t *"), ffi.new("uint32_t *")
    library.compare_chains(_view(before), _view(after), RING_SLOTS, width, depth, grown, lost)
    return grown[0], lost[0]


def empty_ring() -> "array[int]":
    """A ring without a real."""
    return array("H", bytes(2 * RING_SLOTS))


def _rings() -> tuple[Any, Any]:
    return _library(library_path("rings"), _RINGS)


@cache
def _library(build: Path, declarations: str) -> tuple[Any, Any]:
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    return ffi, ffi.dlopen(str(build))


def _view(values: "array[int]") -> Any:
    ffi, _ = _rings()
    return ffi.from_buffer("uint16_t[]", values)
