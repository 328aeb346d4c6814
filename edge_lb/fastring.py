"""Rings of `edge_lb.maglev`, built by machine code: bpf/rings.c, called through cffi.

Owns the calling of that library. Used by the planner; `edge_lb.maglev` stays the reference, and
tests hold both equal. Pure: it checks and sorts in Python, and the library touches its arguments
only.
"""

from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any

import cffi

from bpf.compile import library_path
from edge_lb.maglev import RING_SLOTS, Member, in_turn, walk

_DECLARATIONS = """
struct member { uint32_t at, step, index, weight; uint64_t saved; };
void build_ring(uint16_t *ring, uint32_t slots, struct member *members, uint32_t count,
                uint32_t heaviest, uint64_t *taken);
uint32_t seat_ring(uint16_t *ring, const uint16_t *shape, uint32_t slots, const uint16_t *seats,
                   uint32_t count);
uint32_t count_moved(const uint16_t *before, const uint16_t *after, uint32_t slots);
"""


def build_ring(members: Sequence[Member]) -> "array[int]":
    """What `maglev.build_ring` returns, and its ValueErrors, a hundred times faster."""
    order = in_turn(members)
    ring = empty_ring()
    if order:
        ffi, library = _library()
        walks = [walk(member.name) for member in order]
        table = [
            (at, step, member.index, member.weight, 0)
            for member, (at, step) in zip(order, walks, strict=True)
        ]
        library.build_ring(
            _view(ring),
            RING_SLOTS,
            ffi.new("struct member[]", table),
            len(table),
            max(member.weight for member in order),
            ffi.new("uint64_t[]", RING_SLOTS // 64 + 1),
        )
    return ring


def seat_ring(shape: "array[int]", seats: Sequence[int]) -> "array[int]":
    """The ring of `seats[position]` for each position in `shape`. IndexError for one beyond."""
    _, library = _library()
    ring = empty_ring()
    numbers = array("H", seats)
    if library.seat_ring(_view(ring), _view(shape), RING_SLOTS, _view(numbers), len(numbers)):
        raise IndexError("the shape names a position that has no seat")
    return ring


def moved(before: "array[int]", after: "array[int]") -> int:
    """How many slots have another real: the share of new flows that a change would move."""
    if len(before) != RING_SLOTS or len(after) != RING_SLOTS:
        raise ValueError("a ring has another number of slots")
    _, library = _library()
    return int(library.count_moved(_view(before), _view(after), RING_SLOTS))


def empty_ring() -> "array[int]":
    """A ring without a real."""
    return array("H", bytes(2 * RING_SLOTS))


@cache
def _library() -> tuple[Any, Any]:
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi, ffi.dlopen(str(library_path("rings")))


def _view(values: "array[int]") -> Any:
    ffi, _ = _library()
    return ffi.from_buffer("uint16_t[]", values)
