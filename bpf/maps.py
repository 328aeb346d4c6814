"""Maps of a loaded program: read, write, walk, sum.

Owns the `Map` class. Made by program.py; used by edge_lb.datapath, the real server's agent, the
self test. Keys and values are bytes packed by the map's own layouts. A map owns its descriptor.
"""

import itertools
import mmap
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

from bpf import libbpf
from bpf.btf import read_btf
from bpf.errors import LayoutMismatchError
from bpf.layout import Layout, MapShape, Record

BPF_MAP_TYPE_PERCPU_ARRAY = 6
BPF_F_RDONLY_PROG = 1 << 7  # the kernel sets it on a map of devices, and lets nobody ask for it
BPF_F_MMAPABLE = 1 << 10
BPF_F_INNER_MAP = 1 << 12  # of inner maps that differ in size


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Packets and bytes since the maps were made, summed over CPUs."""

    packets: int
    bytes: int

    def __sub__(self, earlier: "Counter") -> "Counter":
        return Counter(packets=self.packets - earlier.packets, bytes=self.bytes - earlier.bytes)


class Map:
    """One map by its descriptor. `close` gives the descriptor back; pins keep the map."""

    def __init__(self, fd: int, shape: MapShape) -> None:
        self.fd = fd
        self.shape = shape

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: bytes) -> Record | None:
        """The value of `key`, or None."""
        raw = libbpf.map_lookup(self.fd, key, self.shape.value.size)
        return None if raw is None else self.shape.value.unpack(raw)

    def at(self, index: int) -> Record:
        """The value at an index of an array."""
        record = self.get(self.shape.key.scalar(index))
        if record is None:
            raise IndexError(f"{self.shape.name} has no index {index}")
        return record

    def put(self, key: bytes, value: bytes) -> None:
        """Sets `key`, new or not."""
        libbpf.map_update(self.fd, key, value)

    def put_at(self, index: int, value: bytes) -> None:
        """Sets an index of an array; of a per-CPU array, on every CPU."""
        if self.shape.type == BPF_MAP_TYPE_PERCPU_ARRAY:
            value = value.ljust(_stride(self.shape.value)) * libbpf.possible_cpus()
        libbpf.map_update(self.fd, self.shape.key.scalar(index), value)

    def delete(self, key: bytes) -> bool:
        """Removes `key`; tells whether it was there."""
        return libbpf.map_delete(self.fd, key)

    def delete_at(self, index: int) -> bool:
        """Empties an index of an array of maps; tells whether it was filled."""
        return libbpf.map_delete(self.fd, self.shape.key.scalar(index))

    def keys(self) -> Iterator[bytes]:
        """Every key of a hash. Keys that come or go meanwhile may be missed or met twice."""
        key: bytes | None = None
        while (key := libbpf.map_next_key(self.fd, key, self.shape.key.size)) is not None:
            yield key

    def items(self) -> Iterator[tuple[Record, Record]]:
        """Every key and value of a hash, unpacked."""
        for key in tuple(self.keys()):
            value = self.get(key)
            if value is not None:
                yield self.shape.key.unpack(key), value

    def fill(self, values: bytes) -> None:
        """Sets an array's values from index 0 on, at once; `values` are joined records."""
        if self.shape.flags & BPF_F_MMAPABLE:
            with self.memory() as memory:
                memory[: len(values)] = values
            return
        count = len(values) // self.shape.value.size
        keys = array("I", range(count)).tobytes()
        libbpf.map_update_batch(self.fd, keys, values, count)

    def dump(self) -> bytes:
        """All values of an array, joined."""
        if self.shape.flags & BPF_F_MMAPABLE:
            with self.memory() as memory:
                return memory.tobytes()
        info = libbpf.map_info(self.fd)
        return libbpf.map_lookup_batch(self.fd, info.key_size, info.value_size, info.max_entries)

    @contextmanager
    def memory(self) -> Iterator[memoryview]:
        """The joined values of an array, in the kernel's own memory; for maps made to be mapped."""
        size = self.shape.value.size * self.shape.max_entries
        if _stride(self.shape.value) != self.shape.value.size:
            raise TypeError(f"{self.shape.name} has gaps between its values")
        pages = -(-size // mmap.PAGESIZE)
        with (
            mmap.mmap(self.fd, pages * mmap.PAGESIZE) as mapped,
            memoryview(mapped) as octets,
            octets[:size] as values,
        ):
            yield values

    def sums(self, index: int) -> dict[str, int]:
        """The fields of a per-CPU array's value, each summed over CPUs."""
        return self.sums_of(self.shape.key.scalar(index))

    def sums_of(self, key: bytes) -> dict[str, int]:
        """The fields of a per-CPU map's value, each summed over CPUs; zeros without that key."""
        values = self.each_cpu(key)
        return {
            field.name: sum(value.integer(field.name) for value in values)
            for field in self.shape.value.fields
        }

    def each_cpu(self, key: bytes) -> list[Record]:
        """A per-CPU map's value as each CPU has it; none without that key."""
        stride, layout = _stride(self.shape.value), self.shape.value
        raw = libbpf.map_lookup(self.fd, key, stride * libbpf.possible_cpus()) or b""
        return [layout.unpack(raw[at : at + layout.size]) for at in range(0, len(raw), stride)]

    def put_zeros(self, key: bytes) -> None:
        """Sets a per-CPU map's `key`, new or not, to zero on every CPU."""
        libbpf.map_update(self.fd, key, bytes(_stride(self.shape.value) * libbpf.possible_cpus()))

    def put_sums(self, index: int, values: "Mapping[str, int]") -> None:
        """Sets a per-CPU array's value: on the first CPU as given, on the others zero."""
        stride = _stride(self.shape.value)
        first = self.shape.value.pack(**values)
        raw = first.ljust(stride * libbpf.possible_cpus(), b"\0")
        libbpf.map_update(self.fd, self.shape.key.scalar(index), raw)

    def total(self, index: int) -> Counter:
        """A counter of a per-CPU array, summed over CPUs."""
        sums = self.sums(index)
        return Counter(packets=sums["packets"], bytes=sums["bytes"])

    def inner_number(self, index: int) -> int | None:
        """The kernel's number of the map at an index of an array of maps; None if it is empty."""
        if self.shape.inner is None:
            raise TypeError(f"{self.shape.name} is not an array of maps")
        raw = libbpf.map_lookup(self.fd, self.shape.key.scalar(index), self.shape.key.size)
        return None if raw is None else self.shape.key.unpack(raw).integer("")

    def inner(self, index: int) -> "Map | None":
        """The map at an index of an array of maps; the caller closes it."""
        number = self.inner_number(index)
        if number is None or self.shape.inner is None:
            return None
        fd = libbpf.map_fd_by_id(number)
        shape = replace(self.shape.inner, max_entries=libbpf.map_info(fd).max_entries)
        return Map(fd, shape)

    def filled(self, indexes: Iterable[int]) -> Iterator[int]:
        """Those indexes of an array of maps that hold a map."""
        for index in indexes:
            if libbpf.map_lookup(self.fd, self.shape.key.scalar(index), self.shape.key.size):
                yield index

    def set_inner(self, index: int, inner: "Map") -> None:
        """Puts a map at an index by one pointer write: a packet sees the old or the new one."""
        self.set_inners({index: inner})

    def set_inners(self, inners: "Mapping[int, Map]") -> None:
        """Puts many maps, each by one pointer write; waits once for packets that see old ones."""
        keys = array("I", inners).tobytes()
        descriptors = array("I", [inner.fd for inner in inners.values()]).tobytes()
        libbpf.map_update_batch(self.fd, keys, descriptors, len(inners))


def create_inner(outer: MapShape, btf_fd: int, *, max_entries: int | None = None) -> Map:
    """A new map fit for the array of maps `outer`; in no array yet."""
    if outer.inner is None:
        raise TypeError(f"{outer.name} is not an array of maps")
    shape = replace(outer.inner, max_entries=max_entries or outer.inner.max_entries)
    info = libbpf.MapInfo(
        type=shape.type,
        key_size=shape.key.size,
        value_size=shape.value.size,
        max_entries=shape.max_entries,
        flags=shape.flags,
        btf_id=0,
        key_type_id=shape.key_type_id,
        value_type_id=shape.value_type_id,
    )
    return Map(libbpf.create_map(name=outer.name, info=info, btf_fd=btf_fd), shape)


def check_layout(fd: int, shape: MapShape) -> None:
    """Refuses an existing map of another layout: LayoutMismatchError names the field."""
    info = libbpf.map_info(fd)
    facts = {
        "type": (info.type, shape.type),
        "key_size": (info.key_size, shape.key.size),
        "value_size": (info.value_size, shape.value.size),
        "map_flags": (info.flags & ~BPF_F_RDONLY_PROG, shape.flags),
    }
    if not shape.flags & BPF_F_INNER_MAP:  # else it is as large as its maker chose
        facts["max_entries"] = (info.max_entries, shape.max_entries)
    if info.btf_id:
        types = read_btf(libbpf.btf_by_id(info.btf_id))
        ours_theirs = ((shape.key, info.key_type_id), (shape.value, info.value_type_id))
        for ours, type_id in ours_theirs:
            if difference := ours.difference(types.layout(type_id)):
                raise LayoutMismatchError(shape.name, f"{ours.name}: {difference}")
    for name, (found, wanted) in facts.items():
        if found != wanted:
            raise LayoutMismatchError(shape.name, f"{name} is {found}, wanted {wanted}")
    if shape.inner is not None:
        outer = Map(fd, shape)
        for index in itertools.islice(outer.filled(range(shape.max_entries)), 1):
            inner = outer.inner(index)
            if inner is not None:
                with inner:
                    check_layout(inner.fd, shape.inner)


def _stride(value: Layout) -> int:
    """Bytes from one value of an array to the next: the kernel rounds up to eight."""
    return (value.size + 7) // 8 * 8
