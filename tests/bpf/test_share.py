"""Flows that one edge remembers are taken over by the other, whatever becomes of Redis between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from share_stand import (
    DNS_ADDRESS,
    TLS_ADDRESS,
    Edge,
    hash_of,
    open_stream,
    sharing,
    until,
)

from bpf.packets import SYN
from bpf.workbench import Workbench
from edge_lb.shared_codec import TOLD_BYTES, Batch, encode
from edge_lb.shared_tables import Outcome, SharedSeats
from gslb.fleet.flow_stream import Bounds
from gslb.fleet.model import Fleet
from tests.contract.stands import RedisStand

pytestmark = pytest.mark.bpf

ROOMY = Bounds(messages=1000, age_s=600.0)


@pytest.fixture
async def stand() -> AsyncIterator[RedisStand]:
    made = RedisStand()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def one(bench: Workbench) -> Iterator[Edge]:
    """Its ring leads to the first real of each VIP."""
    made = Edge(bench, "edge1", first=1, towards=0)
    yield made
    made.close()


@pytest.fixture
def two(bench: Workbench) -> Iterator[Edge]:
    """Its ring leads to the second."""
    made = Edge(bench, "edge2", first=30, towards=1)
    yield made
    made.close()


async def test_an_edge_takes_over_what_another_remembers(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    async with sharing(stand, one), sharing(stand, two) as heard:
        one.send(range(200))
        await until(lambda: heard.outcome.taken >= 200)

        assert (heard.recall(hash_of(7)), heard.recall(hash_of(999))) == (30, 0)
        assert two.send(range(200)) == {"FORWARDED_TAKEN_OVER": 200}
        assert two.send(range(200)) == {"FORWARDED_REMEMBERED": 200}
        assert (two.sent_to(0), two.sent_to(1)) == (400, 0)
        assert two.send([999]) == {"FORWARDED_NEW": 1}
        assert two.sent_to(1) == 1


async def test_both_tell_and_both_hear(stand: RedisStand, one: Edge, two: Edge) -> None:
    async with sharing(stand, one) as first, sharing(stand, two) as second:
        one.send(range(50))
        two.send(range(100, 150))
        await until(lambda: first.outcome.taken >= 50 and second.outcome.taken >= 50)

        assert one.send(range(100, 150)) == {"FORWARDED_TAKEN_OVER": 50}
        assert two.send(range(50)) == {"FORWARDED_TAKEN_OVER": 50}
        assert (one.sent_to(1), two.sent_to(0)) == (50, 50)


async def test_udp_flows_are_shared_as_well(stand: RedisStand, one: Edge, two: Edge) -> None:
    async with sharing(stand, one), sharing(stand, two) as heard:
        one.send(range(20), to=DNS_ADDRESS)
        await until(lambda: heard.outcome.taken >= 20)

        assert two.send(range(20), to=DNS_ADDRESS) == {"FORWARDED_TAKEN_OVER": 20}
        assert two.sent_to(2) == 20


async def test_flows_of_other_vips_stay_at_home(stand: RedisStand, one: Edge, two: Edge) -> None:
    async with sharing(stand, one) as told, sharing(stand, two) as heard:
        one.send(range(20), to=TLS_ADDRESS)
        one.send(range(5))
        await until(lambda: heard.outcome.taken >= 5)

        assert two.send(range(20), to=TLS_ADDRESS) == {"FORWARDED_NEW": 20}
        assert told.told == 5


async def test_a_syn_is_a_new_connection_whatever_was_told(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    async with sharing(stand, one), sharing(stand, two) as heard:
        one.send(range(10))
        await until(lambda: heard.outcome.taken >= 10)

        assert two.send(range(10), flags=SYN) == {"FORWARDED_SYN": 10}
        assert two.send(range(10)) == {"FORWARDED_NEW": 10}
        assert (two.sent_to(0), two.sent_to(1)) == (0, 20)


async def test_a_real_that_is_down_here_gets_none_of_them(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    async with sharing(stand, one), sharing(stand, two) as heard:
        one.send(range(10))
        await until(lambda: heard.outcome.taken >= 10)
        two.make_plan(down=[0])

        assert two.send(range(10)) == {"FORWARDED_NEW": 10}
        assert two.sent_to(0) == 0


async def test_a_real_that_fleet_toml_does_not_name_here_is_refused(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    batch = Batch(edge="edge9", run=1, number=1, names=("www/gone",), flows=bytes(TOLD_BYTES * 7))
    stream = open_stream(stand)
    async with sharing(stand, two) as heard:
        await stream.append([encode(batch)], ROOMY)
        await until(lambda: heard.outcome.refused >= 7)

        assert heard.outcome == Outcome(refused=7)
    await stream.close()


async def test_damaged_messages_are_counted_and_those_behind_them_are_heard(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    stream = open_stream(stand)
    async with sharing(stand, two) as heard:
        await stream.append([{b"nonsense": b"\xff" * 40}, {b"flows": b""}], ROOMY)
        async with sharing(stand, one):
            one.send(range(10))
            await until(lambda: heard.outcome.taken >= 10)

        assert heard.malformed == 2
        assert heard.trouble == ""
    await stream.close()


async def test_messages_that_were_gone_before_they_were_read_are_counted(
    stand: RedisStand, two: Edge
) -> None:
    stream = open_stream(stand)
    batch = Batch(edge="edge9", run=1, number=5, names=("www/web1",), flows=bytes(TOLD_BYTES))
    numbers = ((1, 5), (1, 6), (1, 10), (1, 6), (2, 1), (2, 3))  # of two runs
    async with sharing(stand, two) as heard:
        for run, number in numbers:
            told = Batch(edge="edge9", run=run, number=number, names=batch.names, flows=batch.flows)
            await stream.append([encode(told)], ROOMY)
        await until(lambda: heard.outcome.taken + heard.outcome.renewed >= len(numbers))

        assert heard.batches_missed == 3 + 1
    await stream.close()


async def test_an_edge_that_starts_empty_hears_what_was_told_before(
    stand: RedisStand, bench: Workbench, one: Edge
) -> None:
    async with sharing(stand, one) as told:
        one.send(range(100))
        await until(lambda: told.told >= 100)

    late = Edge(bench, "edge3", first=50, towards=1)
    async with sharing(stand, late) as heard:
        await until(lambda: heard.outcome.taken >= 100)
        assert late.send(range(100)) == {"FORWARDED_TAKEN_OVER": 100}
    late.close()


async def test_an_agent_that_starts_again_goes_on_telling_and_hearing(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    async with sharing(stand, one), sharing(stand, two) as heard:
        one.send(range(100))
        await until(lambda: heard.outcome.taken >= 100)
    one.send(range(100, 150))  # while both are down
    assert two.send(range(50)) == {"FORWARDED_TAKEN_OVER": 50}  # packets go on

    async with sharing(stand, one), sharing(stand, two) as again:
        await until(lambda: again.outcome.taken >= 50 and again.outcome.renewed >= 100)
        assert two.send(range(50, 150)) == {"FORWARDED_TAKEN_OVER": 100}
        assert again.batches_missed == 0


async def test_a_lost_redis_is_told_once_and_what_came_meanwhile_is_told_after(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    async with sharing(stand, one) as told, sharing(stand, two) as heard:
        one.send(range(10))
        await until(lambda: heard.outcome.taken >= 10)
        await stand.lose()
        await until(lambda: bool(told.trouble) and bool(heard.trouble))
        one.send(range(10, 60))
        assert two.send(range(10)) == {"FORWARDED_TAKEN_OVER": 10}
        await stand.come_back(with_kept=False)
        await until(lambda: heard.outcome.taken >= 60)

        assert two.send(range(10, 60)) == {"FORWARDED_TAKEN_OVER": 50}
        await until(lambda: not told.trouble and not heard.trouble)
    for edge in (one, two):
        assert [event.name for event in edge.events.since(0)] == ["share.lost", "share.back"]


async def test_a_stream_that_began_anew_is_read_from_its_beginning(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    future = f"{1 << 45}-0"  # the clock of the Redis that is lost was ahead
    async with stand.client() as client:
        await client.xadd("waypost:flows:fra", {"nonsense": "1"}, id=future)
    async with sharing(stand, two) as heard:
        await until(lambda: heard.malformed == 1)
        await stand.lose()
        await until(lambda: bool(heard.trouble))
        await stand.come_back(with_kept=False)
        async with sharing(stand, one):
            one.send(range(10))
            await until(lambda: heard.outcome.taken >= 10)
            assert two.send(range(10)) == {"FORWARDED_TAKEN_OVER": 10}


async def test_an_own_flow_is_forgotten_when_another_edge_saw_it_later_with_another_real(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    """The client used its port again, through the other edge."""
    two.send([1])  # long ago: its tick is set back
    table = two.datapath.program.maps["flows"].inner(0)
    assert table is not None
    with table, table.memory() as memory, memory.cast("Q") as words:
        (at,) = (at for at in range(1, len(words), 2) if words[at])
        aged = words[at] - (1000 << 40) & (1 << 64) - 1
        words[at - 1], words[at] = words[at - 1] ^ words[at] ^ aged, aged
    async with sharing(stand, one), sharing(stand, two) as heard:
        one.send([1])
        await until(lambda: heard.outcome.forgotten >= 1)

        assert two.send([1]) == {"FORWARDED_TAKEN_OVER": 1}
        assert two.sent_to(0) == 1


async def test_no_more_is_kept_than_there_is_room_for(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    room = 64
    async with sharing(stand, one), sharing(stand, two, flows=room) as heard:
        one.send(range(2000))
        await until(lambda: heard.outcome.taken + heard.outcome.no_room >= 2000)
        table = heard._table()

        assert len(list(table.entries())) <= 3 * room
        assert heard.outcome.evicted + heard.outcome.no_room >= 2000 - 3 * room


async def test_what_is_told_no_more_ends_when_its_age_is_over(
    stand: RedisStand, one: Edge, two: Edge
) -> None:
    async with sharing(stand, one), sharing(stand, two, refresh_s=0.2) as heard:
        one.send(range(10))
        await until(lambda: heard.outcome.taken >= 10)
        await until(lambda: heard.held == 10)
        two.fleet = one.fleet = shared_no_more(two)
        table = heard._table()
        table.expire(SharedSeats({}), 1.0)

        assert list(table.entries()) == []
        assert two.send(range(10)) == {"FORWARDED_NEW": 10}


def shared_no_more(edge: Edge) -> Fleet:
    """The fleet with no VIP that shares its flows."""
    vips = {name: replace(vip, share_flows=False) for name, vip in edge.fleet.vips.items()}
    return replace(edge.fleet, vips=vips)
