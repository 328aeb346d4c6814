"""Shared flows by machine code: each sweep and each taking does what a plain reading would do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.maps import Map
from edge_lb.flow_memory import TICK_MASK
from edge_lb.shared_codec import TOLD_BYTES
from edge_lb.shared_tables import (
    News,
    SharedSeat,
    SharedSeats,
    Sweeper,
    WatchedTable,
    _library,
)

BUCKET_FLOWS, ENTRY_BYTES = 8, 16
BUCKETS = 4
NOW = 5_000_000
OWNER = (1 << 39) - 1
SEATS = {
    1: SharedSeat(epoch=1, age_ticks=1000),
    2: SharedSeat(epoch=1 << 23, age_ticks=1000),  # epochs are compared without their upper bits
    9: SharedSeat(epoch=7, age_ticks=10),
}
EPOCHS = {1: 1, 2: 0, 9: 7}


@dataclass
class FakeTable:
    """A table of flow memory that no kernel has."""

    buckets: int = BUCKETS
    octets: bytearray = field(default_factory=lambda: bytearray(BUCKETS * 128))

    def watched(self) -> WatchedTable:
        return WatchedTable(1, cast(Map, self))

    @property
    def shape(self) -> Any:
        return SimpleNamespace(max_entries=self.buckets, value=SimpleNamespace(size=128))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def memory(self) -> Iterator[memoryview]:
        with memoryview(self.octets) as view:
            yield view

    def put(self, place: int, flow_hash: int, value: int) -> None:
        at = place * ENTRY_BYTES
        self.octets[at : at + 8] = (flow_hash ^ value).to_bytes(8, "little")
        self.octets[at + 8 : at + 16] = value.to_bytes(8, "little")

    def entries(self) -> dict[int, tuple[int, int]]:
        """Hash and value by place."""
        words = [
            int.from_bytes(self.octets[at : at + 8], "little")
            for at in range(0, len(self.octets), 8)
        ]
        pairs = zip(words[::2], words[1::2], strict=True)
        return {place: (seal ^ value, value) for place, (seal, value) in enumerate(pairs) if value}


def value_of(real: int, epoch: int, idle: int, *, again: bool = False) -> int:
    tick = (NOW - idle) & TICK_MASK
    return real | epoch << 16 | again << 39 | tick << 40


def bucket_of(flow_hash: int) -> int:
    return (flow_hash & 0xFFFFFFFF) * BUCKETS >> 32


def told(flow_hash: int, name: int, idle: int) -> bytes:
    parts = (flow_hash, 8), (name, 2), (min(idle >> 3, 0xFFFF), 2)
    return b"".join(number.to_bytes(size, "little") for number, size in parts)


def flows_of(news: News) -> list[tuple[int, int, int]]:
    """Hash, real and idle time as told."""
    found = []
    for at in range(0, len(news.flows), TOLD_BYTES):
        one = news.flows[at : at + TOLD_BYTES]
        name = int.from_bytes(one[8:10], "little")
        number = int.from_bytes(one[:8], "little")
        found.append((number, news.reals[name], int.from_bytes(one[10:], "little")))
    return found


def counts(value: int) -> bool:
    """The plain reading of what is shared."""
    seat = SEATS.get(value & 0xFFFF)
    idle = (NOW - (value >> 40)) & TICK_MASK
    return (
        seat is not None
        and value >> 16 & 0x7FFFFF == EPOCHS[value & 0xFFFF]
        and idle <= seat.age_ticks
    )


PLACES = st.integers(0, BUCKETS * BUCKET_FLOWS - 1)
ENTRIES = st.dictionaries(
    PLACES,
    st.tuples(
        st.integers(0, (1 << 64) - 1),
        st.sampled_from([1, 2, 3, 9]),  # 3 is not shared
        st.sampled_from([0, 1, 7]),  # epochs
        st.integers(0, 1100),
        st.booleans(),
    ),
    max_size=20,
)


def fill(table: FakeTable, entries: dict[int, tuple[int, int, int, int, bool]]) -> None:
    """The table with these entries and no others; each hash is made to fit its place's bucket."""
    table.octets[:] = bytes(len(table.octets))
    for place, (flow_hash, real, epoch, idle, again) in entries.items():
        low = (place // BUCKET_FLOWS << 32) // BUCKETS + (flow_hash & 0xFFFF)
        whole = flow_hash >> 32 << 32 | low
        table.put(place, whole, value_of(real, epoch, idle, again=again))


@settings(deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=4), st.integers(1, 30))
def test_every_sweep_finds_what_changed_and_nothing_else(
    sweeps: list[dict[int, tuple[int, int, int, int, bool]]], room: int
) -> None:
    table, seats, sweeper = FakeTable(), SharedSeats(SEATS), Sweeper(room)
    sweeper._tables[0] = table.watched()
    known: dict[int, tuple[int, int]] = {}

    for entries in sweeps:
        fill(table, entries)
        counted = {place: pair for place, pair in table.entries().items() if counts(pair[1])}
        wanted = sorted(
            (flow_hash, value & 0xFFFF, ((NOW - (value >> 40)) & TICK_MASK) >> 3)
            for place, (flow_hash, value) in counted.items()
            if known.get(place) != (flow_hash, value & OWNER)
        )
        found = sweeper.sweep(seats, NOW, share=0.0, most=100)
        repeated = sweeper.sweep(seats, NOW, share=0.0, most=100)

        assert sorted(flow for news in found for flow in flows_of(news)) == wanted
        assert all(len(news.flows) <= room * TOLD_BYTES for news in found)
        assert repeated == []
        known = {place: (pair[0], pair[1] & OWNER) for place, pair in counted.items()}
    sweeper.close()


@settings(deadline=None)
@given(ENTRIES, st.integers(1, 5))
def test_what_one_sweep_may_not_tell_comes_with_the_next(
    entries: dict[int, tuple[int, int, int, int, bool]], room: int
) -> None:
    table, seats, sweeper = FakeTable(), SharedSeats(SEATS), Sweeper(room)
    sweeper._tables[0] = table.watched()
    fill(table, entries)
    wanted = {flow_hash for flow_hash, value in table.entries().values() if counts(value)}

    heard: set[int] = set()
    for _ in range(2 * len(entries) + 2):
        found = sweeper.sweep(seats, NOW, share=0.0, most=1)
        assert len(found) <= 1
        heard |= {flow[0] for news in found for flow in flows_of(news)}

    assert heard == wanted
    sweeper.close()


@settings(deadline=None)
@given(ENTRIES)
def test_whatever_is_in_use_is_told_again_within_a_refresh(
    entries: dict[int, tuple[int, int, int, int, bool]],
) -> None:
    table, seats, sweeper = FakeTable(), SharedSeats(SEATS), Sweeper()
    sweeper._tables[0] = table.watched()
    fill(table, entries)
    wanted = {flow_hash for flow_hash, value in table.entries().values() if counts(value)}
    sweeper.sweep(seats, NOW, share=0.0, most=100)

    again: set[int] = set()
    for _ in range(8):
        for news in sweeper.sweep(seats, NOW, share=1 / 7, most=100):
            again |= {flow[0] for flow in flows_of(news)}

    assert again == wanted
    sweeper.close()


HEARD = st.lists(
    st.tuples(
        st.integers(0, 30),  # few flows, so that they meet
        st.integers(0, 5),  # names: 0..3 are known, 3 means no real here
        st.integers(0, 1100),
    ),
    max_size=40,
)
TARGETS = (1, 2, 9, 0)


def hash_of(number: int) -> int:
    return number * 0x9E3779B97F4A7C15 & ((1 << 64) - 1)


@settings(deadline=None)
@given(HEARD)
def test_the_table_of_those_told_holds_the_latest_word_on_each_flow(
    heard: list[tuple[int, int, int]],
) -> None:
    table, seats = FakeTable(), SharedSeats(SEATS)
    ffi, library = _library()
    flows = b"".join(told(hash_of(number), name, idle) for number, name, idle in heard)
    outcome = ffi.new("struct outcome *")
    reference: list[dict[int, tuple[int, int]]] = [{} for _ in range(BUCKETS)]  # real, idle by hash
    refused = 0

    for number, name, raw_idle in heard:
        real = TARGETS[name] if name < len(TARGETS) else 0
        idle = raw_idle >> 3 << 3
        if not real or idle > SEATS[real].age_ticks:
            refused += 1
            continue
        bucket = reference[bucket_of(hash_of(number))]
        held = bucket.get(hash_of(number))
        if held is None and len(bucket) == BUCKET_FLOWS:
            oldest = max(idle_of for _, idle_of in bucket.values())
            if oldest < idle:
                continue
            victims = [key for key, (_, idle_of) in bucket.items() if idle_of == oldest]
            if len(victims) > 1:
                return  # which of them goes is not told
            del bucket[victims[0]]
        if held is None or held[1] >= idle:
            bucket[hash_of(number)] = real, idle
    library.take_flows(
        ffi.from_buffer(table.octets), BUCKETS, ffi.from_buffer(flows), len(heard),
        ffi.new("uint16_t[]", TARGETS), len(TARGETS), seats.table, NOW, outcome,
    )  # fmt: skip

    found = {
        flow_hash: (value & 0xFFFF, (NOW - (value >> 40)) & TICK_MASK)
        for flow_hash, value in table.entries().values()
    }
    assert found == {key: held for bucket in reference for key, held in bucket.items()}
    assert outcome.refused == refused
    kept = outcome.taken + outcome.renewed + outcome.outdated + outcome.no_room
    assert kept + refused == len(heard)


@settings(deadline=None)
@given(ENTRIES, st.integers(0, 32), st.integers(0, 32))
def test_expiry_empties_what_counts_no_more(
    entries: dict[int, tuple[int, int, int, int, bool]], one: int, other: int
) -> None:
    table, seats = FakeTable(), SharedSeats(SEATS)
    ffi, library = _library()
    fill(table, entries)
    before = table.entries()
    first, end = sorted((one, other))

    left = library.expire(ffi.from_buffer(table.octets), first, end, seats.table, NOW)

    inside = {place: pair for place, pair in before.items() if first <= place < end}
    kept = {place for place, (_, value) in inside.items() if counts(value)}
    assert left == len(kept)
    assert set(table.entries()) == (set(before) - set(inside)) | kept
