"""The placing of services in the table that the data plane reads."""

from random import Random

import pytest

from bpf.services import KEY_BYTES, ServicesFullError, build_table, choices

RECORD_BYTES, BUCKET_BYTES = 32, 64
ROOM = 32768


def records(count: int, seed: int = 1) -> list[bytes]:
    """Services with different keys; the last of a record's bytes tell it from others."""
    chance = Random(seed)
    keys = {chance.randbytes(KEY_BYTES - 1) + b"\1" for _ in range(count)}
    return [key + number.to_bytes(12, "little") for number, key in enumerate(sorted(keys))]


def at_bucket(table: bytes, number: int) -> list[bytes]:
    """The two records of a bucket; the table's head comes before the first."""
    start = (1 + number) * BUCKET_BYTES
    return [table[at : at + RECORD_BYTES] for at in (start, start + RECORD_BYTES)]


@pytest.mark.parametrize("count", [0, 1, 7, 100, 5000])
def test_every_service_lies_in_one_of_its_two_buckets(count: int):
    services = records(count)

    table = build_table(services, BUCKET_BYTES, ROOM)

    buckets = int.from_bytes(table[:4], "little")
    assert len(table) == (1 + buckets) * BUCKET_BYTES
    for service in services:
        first, second = choices(service, buckets)
        found = at_bucket(table, first) + at_bucket(table, second)
        assert service in found
    placed = [record for number in range(buckets) for record in at_bucket(table, number)]
    assert sorted(record for record in placed if any(record)) == sorted(services)


def test_a_bucket_that_overflows_makes_the_table_larger():
    services = records(200, seed=3)
    crowded = [one for one in records(20000, seed=5) if choices(one, 64) == (7, 7)][:3]

    assert len(crowded) == 3, "three for two places"
    table = build_table([*services[:61], *crowded], BUCKET_BYTES, ROOM)

    assert int.from_bytes(table[:4], "little") > 64


def test_more_services_than_the_table_holds_are_refused():
    with pytest.raises(ServicesFullError, match="30 services, and the table holds 20"):
        build_table(records(30), BUCKET_BYTES, 20)


def test_the_largest_site_finds_its_place():
    table = build_table(records(ROOM), BUCKET_BYTES, ROOM)

    assert int.from_bytes(table[:4], "little") == ROOM
