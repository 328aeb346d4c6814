"""Shared flows in the kernel's tables: what is news in our own, and the table of those told to us.

Owns the calling of bpf/share.c, what a sweep keeps of each table, and the map `taken_over`. Used by
`edge_lb.share`. Tables of flow memory are read where they are; only an entry that another edge
proved outdated is cleared. Blocks for milliseconds a million places; one thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import cache
from math import ceil
from typing import Any

import cffi

from bpf.compile import library_path
from bpf.layout import HOST_ORDER
from bpf.maps import Map
from bpf.program import Program
from edge_lb.flow_memory import ENTRY_BYTES, SPARE, TICK_MASK
from edge_lb.shared_codec import FLOWS_MAX, TOLD_BYTES

COUNT_AT = 8  # of the first bucket: where it tells how many follow
NOW = 0  # the only index of the map `taken_over`
SEATS = 65_536
REAL_MASK = SEATS - 1  # of an entry's value
TICK_NS_SHIFT = 27  # as in bpf/flows.h
AGE_MAX_TICKS = 1 << 23  # 13 days: a longer time cannot be told from a shorter one

_DECLARATIONS = """
struct seat { uint32_t epoch, age; };
struct batch {
    void *flows;
    uint32_t count, room;
    uint16_t *numbers, *reals;
    uint32_t named;
};
struct outcome { uint64_t taken, renewed, outdated, refused, evicted, no_room, forgotten; };
uint32_t find_news(const void *table, uint32_t buckets, uint32_t at, uint32_t *marks,
                   const struct seat *seats, uint32_t now, uint32_t again, uint32_t again_end,
                   struct batch *batch);
void take_flows(void *table, uint32_t buckets, const void *flows, uint32_t count,
                const uint16_t *targets, uint32_t names, const struct seat *seats, uint32_t now,
                struct outcome *outcome);
void forget_older(void *table, uint32_t buckets, const void *flows, uint32_t count,
                  const uint16_t *targets, uint32_t names, const struct seat *seats, uint32_t now,
                  struct outcome *outcome);
uint32_t expire(void *table, uint32_t at, uint32_t end, const struct seat *seats, uint32_t now);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSeat:
    """A real of a VIP that shares its flows; a flow that is idle for longer is not told."""

    epoch: int
    age_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of flows that were told; the words are those of bpf/share.c."""

    taken: int = 0
    renewed: int = 0
    outdated: int = 0
    refused: int = 0
    evicted: int = 0
    no_room: int = 0
    forgotten: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Flows to be told: the real indexes that they name, in turn, and the flows themselves."""

    reals: tuple[int, ...]
    flows: bytes


class SharedSeats:
    """Which real indexes are of VIPs that share their flows; what the machine code asks."""

    def __init__(self, seats: Mapping[int, SharedSeat]) -> None:
        ffi, _ = _library()
        self.table = ffi.new(f"struct seat[{SEATS}]")
        for index, seat in seats.items():
            self.table[index].epoch = seat.epoch
            self.table[index].age = min(seat.age_ticks, AGE_MAX_TICKS)


def ticks_now() -> int:
    """The moment in ticks, as the data plane counts them."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> TICK_NS_SHIFT & TICK_MASK


class WatchedTable:
    """One table of flow memory, mapped for as long as it is in use."""

    def __init__(self, number: int, table: Map) -> None:
        ffi, _ = _library()
        self.number = number  # of the map in the kernel
        self.buckets = table.shape.max_entries
        self.places = self.buckets * table.shape.value.size // ENTRY_BYTES
        self._stack = ExitStack()
        self._stack.enter_context(table)
        self.memory = self._stack.enter_context(table.memory())
        self.marks = ffi.new("uint32_t[]", self.places)
        self.at = 0  # where a sweep goes on that found too much
        self.again = 0  # from here on flows are told once more

    def close(self) -> None:
        """Give the mapping and the descriptor back."""
        self._stack.close()


class Sweeper:
    """Finds what is news in the tables of flow memory, by sweeps; one edge has one."""

    def __init__(self, room: int = FLOWS_MAX) -> None:
        ffi, _ = _library()
        self._tables: dict[int, WatchedTable] = {}
        self._flows = ffi.new("uint8_t[]", room * TOLD_BYTES)
        self._numbers = ffi.new("uint16_t[]", SEATS)
        self._reals = ffi.new("uint16_t[]", SEATS)
        self._batch = ffi.new("struct batch *")
        self._batch.flows, self._batch.room = self._flows, room
        self._batch.numbers, self._batch.reals = self._numbers, self._reals

    @property
    def tables(self) -> Sequence[WatchedTable]:
        """The tables that are swept."""
        return tuple(self._tables.values())

    def watch(self, outer: Map, indexes: Iterable[int]) -> None:
        """Sweep the tables at these indexes of the map `flows` from now on, and no others."""
        numbers = {index: outer.inner_number(index) for index in indexes}
        for index, held in tuple(self._tables.items()):
            if held.number != numbers.get(index):
                self._tables.pop(index).close()
        for index, number in numbers.items():
            if index not in self._tables and number is not None:
                table = outer.inner(index)
                if table is not None:
                    self._tables[index] = WatchedTable(number, table)

    def sweep(self, seats: SharedSeats, now: int, *, share: float, most: int) -> list[News]:
        """The news of all tables, and a `share` of what was told before, once more.

        No more than `most` batches: what is left over comes with the next sweep.
        """
        found: list[News] = []
        for table in sorted(self._tables.values(), key=lambda table: not table.at):
            again_end = min(table.places, table.again + ceil(table.places * share))
            while len(found) < most and self._go_on(table, seats, now, again_end):
                if self._batch.count == self._batch.room:
                    found.append(self._emit())
        if self._batch.count:
            found.append(self._emit())
        return found

    def close(self) -> None:
        """Give back every mapping."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def _go_on(self, table: WatchedTable, seats: SharedSeats, now: int, again_end: int) -> bool:
        """Sweep on from where the table's last sweep stopped; False at its end."""
        ffi, library = _library()
        table.at = library.find_news(
            ffi.from_buffer(table.memory),
            table.buckets,
            table.at,
            table.marks,
            seats.table,
            now,
            table.again,
            again_end,
            self._batch,
        )
        if table.at < table.places:
            return True
        table.at = 0
        table.again = again_end % table.places
        return False

    def _emit(self) -> News:
        ffi, _ = _library()
        batch = self._batch
        news = News(
            reals=tuple(self._reals[0 : batch.named]),
            flows=bytes(ffi.buffer(self._flows, batch.count * TOLD_BYTES)),
        )
        for real in news.reals:
            self._numbers[real] = 0
        batch.count = batch.named = 0
        return news


class TakenOver:
    """The table of flows that other edges told of, as bpf/taken_over.h reads it."""

    def __init__(self, program: Program, flows: int) -> None:
        self._outer = program.maps["taken_over"]
        assert self._outer.shape.inner is not None
        bucket_bytes = self._outer.shape.inner.value.size
        bucket_flows = bucket_bytes // ENTRY_BYTES
        self.buckets = -(-flows * SPARE // bucket_flows)
        self._places = self.buckets * bucket_flows
        self._table = self._left_behind() or self._make(program)
        self._stack = ExitStack()
        self._bucket_bytes = bucket_bytes
        self._memory = self._stack.enter_context(self._table.memory())[bucket_bytes:]
        self._at = 0  # where expiry goes on
        self._left = 0  # of the places before
        self.held = 0  # flows, when the table was last looked through

    def take(
        self, flows: bytes, targets: Sequence[int], seats: SharedSeats, own: Sequence[WatchedTable]
    ) -> Outcome:
        """Enter flows whose names mean these real indexes here; 0 is none.

        What `own` tables say of them is forgotten where it is older and another real.
        """
        ffi, library = _library()
        outcome = ffi.new("struct outcome *")
        names = ffi.new("uint16_t[]", list(targets))
        told = (ffi.from_buffer(flows), len(flows) // TOLD_BYTES, names, len(targets))
        now = ticks_now()
        library.take_flows(
            ffi.from_buffer(self._memory), self.buckets, *told, seats.table, now, outcome
        )
        for table in own:
            memory = ffi.from_buffer(table.memory)
            library.forget_older(memory, table.buckets, *told, seats.table, now, outcome)
        return Outcome(**{one.name: getattr(outcome, one.name) for one in fields(Outcome)})

    def expire(self, seats: SharedSeats, share: float) -> None:
        """Look through a share of the table, and empty what counts no more."""
        ffi, library = _library()
        end = min(self._places, self._at + ceil(self._places * share))
        memory = ffi.from_buffer(self._memory)
        self._left += library.expire(memory, self._at, end, seats.table, ticks_now())
        self._at = end
        if end == self._places:
            self.held, self._left, self._at = self._left, 0, 0

    def recall(self, flow_hash: int) -> int:
        """The index of the real that was told of a flow; 0 if none was."""
        bucket = (flow_hash & 0xFFFFFFFF) * self.buckets >> 32
        places = range(bucket * self._bucket_bytes, (bucket + 1) * self._bucket_bytes, ENTRY_BYTES)
        return dict(self._entries_at(places)).get(flow_hash, 0) & REAL_MASK

    def octets(self) -> bytes:
        """The whole table, without its first bucket."""
        return bytes(self._memory)

    def entries(self) -> Iterator[tuple[int, int]]:
        """Hash and value of every flow in the table."""
        return self._entries_at(range(0, len(self._memory), ENTRY_BYTES))

    def _entries_at(self, places: Iterable[int]) -> Iterator[tuple[int, int]]:
        for at in places:
            seal, value = (
                int.from_bytes(self._memory[half : half + 8], HOST_ORDER) for half in (at, at + 8)
            )
            if value:
                yield seal ^ value, value

    def close(self) -> None:
        """Give the mapping back; the kernel keeps the table, and packets go on asking it."""
        self._memory.release()
        self._stack.close()
        self._table.close()

    def _left_behind(self) -> Map | None:
        """An earlier start's table, if it is of this size."""
        table = self._outer.inner(NOW)
        if table is not None and table.shape.max_entries != 1 + self.buckets:
            table.close()
            return None
        return table

    def _make(self, program: Program) -> Map:
        table = program.new_inner("taken_over", max_entries=1 + self.buckets)
        with table.memory() as memory:
            memory[COUNT_AT : COUNT_AT + 8] = self.buckets.to_bytes(8, HOST_ORDER)
        self._outer.set_inner(NOW, table)
        return table


@cache
def _library() -> tuple[Any, Any]:
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi, ffi.dlopen(str(library_path("share")))
