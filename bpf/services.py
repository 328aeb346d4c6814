"""The table of services, as bpf/services.h reads it: built whole, and put in place by one write.

Owns the placing of services in buckets, and the hash that names them: change services.h and this
file together. Called by edge_lb.datapath, the self test and the benchmark. A table is built anew
for every change of VIPs; a change of reals does not touch it.
"""

from collections.abc import Iterator, Sequence

from bpf.layout import FieldValue, Layout, Record
from bpf.program import Program

MULTIPLIER = 0x9E3779B97F4A7C15  # FLOW_HASH_MULTIPLIER of flow.h: 2^64 / golden ratio, odd
WORD = 0xFFFFFFFFFFFFFFFF
ADDRESS_BYTES = 16
KEY_BYTES = ADDRESS_BYTES + 4  # and port, protocol, kind
COUNT_BYTES = 8  # of the head, before its marks
BUCKET_SERVICES = 2
NOW = 0  # the only index of the map `services`
MOVES_MAX = 64  # of one placing; then the table is made with more buckets
GROWTH = 5 / 4


class ServicesFullError(ValueError):
    """More services than the table of the data plane holds."""


def put_services(program: Program, records: Sequence[bytes]) -> None:
    """Makes these all the services there are: a packet sees those before or these."""
    outer = program.maps["services"]
    assert outer.shape.inner is not None
    with program.new_inner("services") as table:
        buckets_max = table.shape.max_entries - 1
        table.fill(build_table(records, table.shape.value.size, buckets_max))
        outer.set_inner(NOW, table)


def held_services(program: Program) -> tuple[Record, ...]:
    """Every VIP's service in the kernel's table, in no order."""
    table = program.maps["services"].inner(NOW)
    if table is None:
        return ()
    with table:
        data = table.dump()
    layout = program.btf.struct("service")
    found = (layout.unpack(raw) for raw in _occupied(data, layout.size, table.shape.value.size))
    return tuple(record for record in found if record.enum("kind") == "SERVICE_VIP")


def vip_record(
    layout: Layout, address: bytes, port: int, protocol: int, **vip: FieldValue
) -> bytes:
    """A VIP's service; `vip` are the fields of `struct vip`. Port 0: any."""
    fields = {f"vip.{name}": value for name, value in vip.items()}
    return layout.pack(address=address, port=port, protocol=protocol, kind="SERVICE_VIP", **fields)


def address_record(layout: Layout, address: bytes) -> bytes:
    """What tells that some VIP has this address."""
    empty = layout.unpack(bytes(layout.size))
    return layout.pack(**{**empty, "address": address, "kind": "SERVICE_ADDRESS"})


def build_table(records: Sequence[bytes], bucket_bytes: int, buckets_max: int) -> bytes:
    """The values of the table's array: the head, then as many buckets as it tells.

    Every record ends in one of its two buckets; what is in the way moves to its other one (cuckoo
    hashing). Raises ServicesFullError.
    """
    buckets = max(len(records), 8)
    while buckets <= buckets_max:
        placed = _place(records, buckets)
        if placed is not None:
            return _head(records, buckets, bucket_bytes) + b"".join(
                b"".join(bucket).ljust(bucket_bytes, b"\0") for bucket in placed
            )
        buckets = int(buckets * GROWTH) + 1
    raise ServicesFullError(f"{len(records)} services, and the table holds {buckets_max}")


def choices(record: bytes, buckets: int) -> tuple[int, int]:
    """The two buckets of a record's key, counted from 0."""
    value = service_hash(record[:KEY_BYTES])
    return (value >> 32) * buckets >> 32, (value & 0xFFFFFFFF) * buckets >> 32


def address_hash(address: bytes) -> int:
    """64 bits, as address_hash() of services.h."""
    first, second = (int.from_bytes(address[at : at + 8], "little") for at in (0, 8))
    value = first * MULTIPLIER & WORD
    value = ((value ^ value >> 32) ^ second) * MULTIPLIER & WORD
    return value ^ value >> 32


def service_hash(key: bytes) -> int:
    """64 bits, as service_hash() of services.h."""
    word = int.from_bytes(key[ADDRESS_BYTES:KEY_BYTES], "little")
    value = (address_hash(key[:ADDRESS_BYTES]) ^ word) * MULTIPLIER & WORD
    return value ^ value >> 32


def _head(records: Sequence[bytes], buckets: int, size: int) -> bytes:
    """The number of buckets, and a mark for each address."""
    bits = 8 * (size - COUNT_BYTES)
    marks = 0
    for record in records:
        marks |= 1 << ((address_hash(record[:ADDRESS_BYTES]) >> 32) * bits >> 32)
    count = buckets.to_bytes(COUNT_BYTES, "little")
    return count + marks.to_bytes(size - COUNT_BYTES, "little")


def _place(records: Sequence[bytes], buckets: int) -> list[list[bytes]] | None:
    """The records by bucket; None if some find no place in so many buckets."""
    placed: list[list[bytes]] = [[] for _ in range(buckets)]
    for record in records:
        homeless, avoided = record, -1
        for move in range(MOVES_MAX):
            first, second = choices(homeless, buckets)
            free = [number for number in (first, second) if len(placed[number]) < BUCKET_SERVICES]
            if free:
                placed[free[0]].append(homeless)
                break
            at = second if first == avoided else first
            placed[at].append(homeless)
            homeless, avoided = placed[at].pop(move % BUCKET_SERVICES), at
        else:
            return None
    return placed


def _occupied(data: bytes, record_bytes: int, bucket_bytes: int) -> Iterator[bytes]:
    buckets = int.from_bytes(data[:4], "little")
    for at in range(bucket_bytes, (1 + buckets) * bucket_bytes, record_bytes):
        record = data[at : at + record_bytes]
        if any(record):
            yield record
