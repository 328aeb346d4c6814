"""The tables of flow memory: made in the size that is wanted, kept over restarts, and read.

Owns what `bpf/flows.h` leaves to the agent: which table a VIP's flows are in, how many buckets it
has, and one table for each receive queue. Used by `edge_lb.datapath` alone. It never enters a flow:
packets do. A table of another size takes the flows of the old one over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cffi

from bpf.compile import library_path
from bpf.layout import HOST_ORDER
from bpf.maps import Map
from bpf.program import TEST_QUEUE, Program
from edge_lb.plan import PlannedVip
from gslb.fleet import model

SHARED = 0  # the table of all VIPs without one of their own
UNKNOWN_SIZE = 0  # of a table that was there before: its maps tell
SPARE = 3  # places for each flow that shall fit: one in a thousand finds its bucket full
ENTRY_BYTES = 16
TICK_MASK = 0xFFFFFF
LIVE = ("REAL_UP", "REAL_DRAINING")

_DECLARATIONS = """
uint64_t regrow(void *fresh, uint64_t fresh_buckets, const void *old, uint64_t old_buckets);
"""


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    """Where the flows of a VIP are remembered; without buckets they are not."""

    table: int
    buckets: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """What flow memory says of one flow: its real, and in which receive queue's table."""

    queue: int
    real: int


NO_MEMORY = MemoryPlace(SHARED, 0)


class FlowMemory:
    """The flow memory of one loaded program, for `queues` receive queues."""

    def __init__(
        self, program: Program, *, flows_per_queue: int, queues: int, udp_age_ticks: int
    ) -> None:
        self._program = program
        self._udp_age_ticks = udp_age_ticks
        self._flows = program.maps["flows"]
        self._numbers = _numbers(program)
        self._queues = range(min(queues, self._numbers["MAX_QUEUES"]))
        self._shared_buckets = self.buckets(flows_per_queue)
        self._tables = dict.fromkeys(self._left_behind(), UNKNOWN_SIZE)  # buckets by table
        self._make(SHARED, self._shared_buckets)

    def buckets(self, flows: int) -> int:
        """How many buckets hold so many flows with room to spare."""
        return -(-flows * SPARE // self._numbers["BUCKET_FLOWS"])

    def places(
        self, vips: Sequence[PlannedVip], held: Mapping[int, MemoryPlace]
    ) -> dict[int, MemoryPlace]:
        """A place for each VIP by its index, with its tables made; `held` are those it had."""
        owners = {
            held[vip.index].table: vip.index
            for vip in vips
            if vip.own_flows and vip.index in held and held[vip.index].table != SHARED
        }
        free = (table for table in range(1, self._numbers["MAX_TABLES"]) if table not in owners)
        own = {index: table for table, index in owners.items()}
        found: dict[int, MemoryPlace] = {}
        for vip in vips:
            if vip.flow_memory is model.FlowMemory.NONE:
                found[vip.index] = NO_MEMORY
            elif not vip.own_flows:
                found[vip.index] = MemoryPlace(SHARED, self._shared_buckets)
            else:
                table = own[vip.index] if vip.index in own else next(free)
                found[vip.index] = MemoryPlace(table, self.buckets(vip.own_flows))
                self._make(table, found[vip.index].buckets)
        return found

    def keep(self, places: Mapping[int, MemoryPlace]) -> None:
        """Gives back the tables that no VIP's flows are in any more."""
        wanted = {SHARED, *(place.table for place in places.values())}
        for table in self._tables.keys() - wanted:
            for index in self._flows.filled(self.indexes(table)):
                self._flows.delete_at(index)
            del self._tables[table]

    def table(self, place: MemoryPlace, queue: int) -> Map | None:
        """The table of a place for a receive queue; the caller closes it."""
        return self._flows.inner(self._index(place.table, queue))

    def recall(self, place: MemoryPlace, flow_hash: int, *, ages: bool) -> Remembered | None:
        """The first queue's word about a flow; `ages` as UDP flows do. Dead reals are not told."""
        if not place.buckets:
            return None
        for queue in self._queues:
            table = self.table(place, queue)
            if table is None:
                continue
            with table:
                value = _find(table, place.buckets, flow_hash)
            if value is not None and self._counts(value, ages=ages):
                return Remembered(queue, value & 0xFFFF)
        return None

    def _counts(self, value: int, *, ages: bool) -> bool:
        real = self._program.maps["reals"].at(value & 0xFFFF)
        epoch_mask = (1 << self._numbers["EPOCH_BITS"]) - 1
        epoch = value >> 16 & epoch_mask
        if real.enum("state") not in LIVE or epoch != real.integer("epoch") & epoch_mask:
            return False
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        met = value >> self._numbers["TICK_SHIFT"]
        idle = (now_ns >> self._numbers["TICK_NS_SHIFT"]) - met & TICK_MASK
        return not ages or idle <= self._udp_age_ticks

    def _index(self, table: int, queue: int) -> int:
        """Where the map `flows` has a table of a receive queue."""
        return table * self._numbers["MAX_QUEUES"] + queue

    def indexes(self, table: int) -> range:
        """Where the map `flows` has a table, one for each receive queue."""
        first = self._index(table, 0)
        return range(first, first + len(self._queues))

    def _make(self, table: int, buckets: int) -> None:
        """Has a table of so many buckets for each queue, with the flows of an earlier size."""
        if self._tables.get(table) == buckets:
            return
        for index in self.indexes(table):
            old = self._flows.inner(index)
            if old is None:
                self._put(index, buckets, None)
                continue
            with old:
                if old.shape.max_entries != buckets:
                    self._put(index, buckets, old)
        self._tables[table] = buckets

    def _left_behind(self) -> Iterator[int]:
        """The tables that an earlier start made."""
        for table in range(self._numbers["MAX_TABLES"]):
            if any(True for _ in self._flows.filled(self.indexes(table))):
                yield table

    def _put(self, index: int, buckets: int, old: Map | None) -> None:
        with self._program.new_inner("flows", max_entries=buckets) as fresh:
            if old is not None:
                take_over(fresh, old)
            self._flows.set_inner(index, fresh)


def lend_memory(twin: Program, place: MemoryPlace, live: Map | None = None) -> None:
    """Gives a program that is test-run the table of a place: `live`, or an empty one."""
    with live or twin.new_inner("flows", max_entries=place.buckets) as table:
        index = place.table * _numbers(twin)["MAX_QUEUES"] + TEST_QUEUE
        twin.maps["flows"].set_inner(index, table)


def _numbers(program: Program) -> dict[str, int]:
    """The numbers of bpf/flows.h by name."""
    named = program.btf.enum("flow_numbers")
    return {name.removeprefix("FLOW_NUMBER_"): number for number, name in named}


def take_over(fresh: Map, old: Map) -> int:
    """Copies every flow of one table into another, empty one; how many found no place."""
    ffi, library = _library()
    with fresh.memory() as new_memory, old.memory() as old_memory:
        return int(
            library.regrow(
                ffi.from_buffer(new_memory),
                fresh.shape.max_entries,
                ffi.from_buffer(old_memory),
                old.shape.max_entries,
            )
        )


def _find(table: Map, buckets: int, flow_hash: int) -> int | None:
    """The value of a flow in its bucket, or None."""
    bucket = table.at((flow_hash & 0xFFFFFFFF) * buckets >> 32).octets("entries")
    for at in range(0, len(bucket), ENTRY_BYTES):
        seal, value = (int.from_bytes(bucket[half : half + 8], HOST_ORDER) for half in (at, at + 8))
        if seal ^ value == flow_hash:
            return value
    return None


@cache
def _library() -> tuple[Any, Any]:
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi, ffi.dlopen(str(library_path("regrow")))
