"""A capture of the loaded program, from wish to file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from datapath_plans import VIP, plan, real, ring_to, vip

from bpf.packets import (
    ETHERTYPE_ARP,
    SYN,
    TCP,
    ethernet,
    ipv4,
    one_hop_older,
    read_wrapped,
    tcp,
)
from bpf.workbench import Workbench
from edge_lb.capture import Capture, CaptureBusyError, Names, Wish
from edge_lb.datapath import Datapath
from edge_lb.flow import Flow, slot
from tests.unit.pcapng_reader import Block, read_blocks

pytestmark = pytest.mark.bpf

CLIENT = "198.51.100.7"
REQUEST = ethernet(ipv4(CLIENT, str(VIP), TCP, tcp(40000, 80, SYN)))
ARP = ethernet(bytes(28), ETHERTYPE_ARP)
NAMES = Names(vips={0: "www"}, reals={1: "web1"})
FLOW = Flow(client=VIP.__class__(CLIENT), client_port=40000, vip=VIP, vip_port=80, protocol=TCP)


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=64)
    made.open_private()
    made.apply(plan([real(1)], [vip(ring_to(1))]))
    yield made
    made.close()


@pytest.fixture
def capture(datapath: Datapath) -> Capture:
    return Capture(lambda: datapath.program, lambda: NAMES, interface="in0")


def send(datapath: Datapath, bench: Workbench, *frames: bytes) -> None:
    for frame in frames:
        datapath.program.test_run(frame, ifindex=bench.in_ifindex)


async def started(capture: Capture, wish: Wish) -> tuple[AsyncGenerator[bytes, None], bytes]:
    running = capture.run(wish, "waypost")
    return running, await anext(running)


async def rest(running: AsyncGenerator[bytes, None], opening: bytes) -> list[Block]:
    return read_blocks(opening + b"".join([piece async for piece in running]))


def is_sampling(datapath: Datapath) -> bool:
    return datapath.program.maps["capture"].at(0)["every"] != 0


async def test_packets_are_told_by_verdict_vip_slot_and_real(
    capture: Capture, datapath: Datapath, bench: Workbench
):
    running, opening = await started(capture, Wish(every=1, count=2, seconds=20.0))
    send(datapath, bench, REQUEST, ARP)

    blocks = await rest(running, opening)

    forwarded, passed = blocks[2:4]
    assert forwarded.options[1].decode() == f"FORWARDED_SYN vip=www slot={slot(FLOW)} real=web1"
    assert read_wrapped(forwarded.octets).inner == one_hop_older(REQUEST[14:])
    assert (passed.options[1], passed.octets) == (b"PASSED_NOT_IP", ARP)
    assert [int.from_bytes(block.options[2], "little") for block in (forwarded, passed)] == [2, 1]
    assert blocks[4].options == {5: bytes(8), 8: (2).to_bytes(8, "little")}
    assert not is_sampling(datapath)


async def test_only_what_is_asked_for(capture: Capture, datapath: Datapath, bench: Workbench):
    wish = Wish(every=1, count=1, seconds=20.0, verdict="FORWARDED_SYN", vip=0)
    running, opening = await started(capture, wish)
    send(datapath, bench, ARP, REQUEST)

    blocks = await rest(running, opening)

    assert blocks[2].options[1].startswith(b"FORWARDED_SYN")
    assert len(blocks) == 4


async def test_it_ends_with_its_time(capture: Capture, datapath: Datapath):
    running, opening = await started(capture, Wish(every=1, count=5, seconds=0.05))

    blocks = await rest(running, opening)

    assert [block.kind for block in blocks[2:]] == [5]
    assert not is_sampling(datapath)


async def test_one_capture_at_a_time(capture: Capture, datapath: Datapath):
    running, _ = await started(capture, Wish(every=1, count=5, seconds=20.0))

    with pytest.raises(CaptureBusyError):
        await anext(capture.run(Wish(every=1, count=5, seconds=20.0), "waypost"))

    assert is_sampling(datapath)
    await running.aclose()
    assert not is_sampling(datapath)
    later, _ = await started(capture, Wish(every=1, count=5, seconds=20.0))
    await later.aclose()


async def test_what_an_earlier_capture_left_is_not_shown(
    capture: Capture, datapath: Datapath, bench: Workbench
):
    running, _ = await started(capture, Wish(every=1, count=5, seconds=20.0))
    send(datapath, bench, ARP)
    await running.aclose()

    running, opening = await started(capture, Wish(every=1, count=1, seconds=20.0))
    send(datapath, bench, REQUEST)
    blocks = await rest(running, opening)

    assert [block.options[1][:13] for block in blocks[2:-1]] == [b"FORWARDED_SYN"]
