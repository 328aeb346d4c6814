"""Which real a packet gets: the ring, the memory of flows, and what overrules it."""

import random
import threading
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path

import pytest
from datapath_plans import VIP, index_of, plan, real, ring_of, ring_to, vip

from bpf.maps import Map
from bpf.packets import ACK, SYN, TCP, UDP, ethernet, ipv4, read_wrapped, tcp, udp
from bpf.program import TEST_QUEUE
from bpf.trial import XDP_DROP
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.flow import Flow, slot
from edge_lb.plan import RealForwarding
from gslb.fleet.model import Protocol

pytestmark = pytest.mark.bpf

CLIENT = IPv4Address("198.51.100.7")
FLOWS = 100_000
DROPPED = 0  # stands for "no real" in what `chosen` returns


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy, not attached."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=1024)
    made.open_private()
    yield made
    made.close()


def chosen(
    datapath: Datapath,
    bench: Workbench,
    *,
    client: IPv4Address = CLIENT,
    port: int = 40000,
    flags: int = ACK,
    protocol: int = TCP,
) -> int:
    """The index of the real that one packet went to, by the tunnel's destination."""
    transport = tcp(port, 80, flags) if protocol == TCP else udp(port, 80, b"x")
    frame = ethernet(ipv4(str(client), str(VIP), protocol, transport))
    result = datapath.program.test_run(frame, ifindex=bench.in_ifindex)
    if result.action == XDP_DROP:
        return DROPPED
    return index_of(read_wrapped(result.packet).outer.destination)


def make_memory_old(datapath: Datapath, bench: Workbench) -> None:
    """Lets every remembered flow have been seen at the clock's beginning."""
    table = datapath.program.maps["flows"].inner(TEST_QUEUE)
    assert table is not None
    long_ago = 1 << 63  # of the tick's upper half: months before and after now
    with table, table.memory() as memory, memory.cast("Q") as words:
        for at in range(0, len(words), 2):
            if words[at + 1]:
                words[at], words[at + 1] = words[at] ^ long_ago, words[at + 1] ^ long_ago


def test_the_program_chooses_as_python_does_for_100_000_flows(datapath: Datapath, bench: Workbench):
    ring = ring_of(range(1, 101))
    datapath.apply(plan([real(index) for index in range(1, 101)], [vip(ring)]))
    chance = random.Random(7)
    run, in_ifindex = datapath.program.test_run, bench.in_ifindex

    wrong = 0
    for _ in range(FLOWS):
        client, port = IPv4Address(chance.getrandbits(32)), chance.getrandbits(16)
        frame = ethernet(ipv4(str(client), str(VIP), TCP, tcp(port, 80, SYN)))
        packet = run(frame, ifindex=in_ifindex).packet
        flow = Flow(client=client, client_port=port, vip=VIP, vip_port=80, protocol=TCP)
        wrong += index_of(IPv4Address(packet[30:34])) != ring[slot(flow)]

    assert wrong == 0
    assert datapath.verdicts()["FORWARDED_SYN"].packets == FLOWS


def test_a_flow_keeps_its_real_when_the_ring_changes(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    before = chosen(datapath, bench)

    datapath.apply(plan([real(1), real(2)], [vip(ring_to(2))]))

    assert (before, chosen(datapath, bench)) == (1, 1)
    assert chosen(datapath, bench, port=40001) == 2


def test_a_syn_always_takes_the_ring_and_its_flow_follows(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    chosen(datapath, bench)
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(2))]))

    syn = chosen(datapath, bench, flags=SYN)

    assert (syn, chosen(datapath, bench)) == (2, 2)


def test_a_syn_flood_evicts_no_flow(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    chosen(datapath, bench)

    for number in range(5000):  # five times what a queue's table holds
        chosen(datapath, bench, client=IPv4Address(0x0A000000 + number), flags=SYN)
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(2))]))

    assert chosen(datapath, bench) == 1


def test_a_drained_real_keeps_its_flows_and_gets_no_new_ones(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    chosen(datapath, bench)

    draining = real(1, state=RealForwarding.DRAINING)
    datapath.apply(plan([draining, real(2)], [vip(ring_to(2))]))

    assert chosen(datapath, bench) == 1
    assert chosen(datapath, bench, port=40001) == 2


def test_flows_of_a_dead_real_are_chosen_anew(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    chosen(datapath, bench)

    dead = real(1, state=RealForwarding.DOWN)
    datapath.apply(plan([dead, real(2)], [vip(ring_to(2))]))

    assert chosen(datapath, bench) == 2
    assert datapath.verdicts()["FORWARDED_REASSIGNED"].packets == 1
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(2))]))
    assert chosen(datapath, bench) == 2


def test_a_new_owner_of_an_index_inherits_no_flows(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    chosen(datapath, bench)

    successor = real(1, epoch=2, host=99)
    datapath.apply(plan([successor, real(2)], [vip(ring_to(2))]))

    assert chosen(datapath, bench) == 2


def test_udp_is_remembered_from_its_first_packet_and_forgotten_with_age(
    datapath: Datapath, bench: Workbench
):
    udp_vip = [vip(ring_to(1), protocol=Protocol.UDP)]
    datapath.apply(plan([real(1), real(2)], udp_vip))
    chosen(datapath, bench, protocol=UDP)
    moved = [vip(ring_to(2), protocol=Protocol.UDP)]
    datapath.apply(plan([real(1), real(2)], moved))

    young = chosen(datapath, bench, protocol=UDP)
    make_memory_old(datapath, bench)

    assert (young, chosen(datapath, bench, protocol=UDP)) == (1, 2)


def test_locate_says_where_the_next_packet_goes(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    flow = Flow(client=CLIENT, client_port=40000, vip=VIP, vip_port=80, protocol=TCP)
    unseen = datapath.locate(flow)
    chosen(datapath, bench)
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(2))]))

    seen = datapath.locate(flow)

    assert (unseen.ring_real, unseen.remembered_real, unseen.queue) == (1, 0, -1)
    assert (seen.ring_real, seen.remembered_real, seen.queue) == (2, 1, TEST_QUEUE)
    assert seen.slot == slot(flow)


def test_a_ring_is_swapped_whole(datapath: Datapath, bench: Workbench):
    reals = [real(1), real(2)]
    datapath.apply(plan(reals, [vip(ring_to(1))]))
    done = threading.Event()

    def swap() -> None:
        for number in range(60):
            datapath.apply(plan(reals, [vip(ring_to(2 if number % 2 == 0 else 1))]))
        done.set()

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: list[int] = []
    port = 0
    while not done.is_set():
        port = (port + 1) % 60000
        seen.append(chosen(datapath, bench, port=port, flags=SYN))
    swapper.join()

    assert set(seen) == {1, 2}
    changes = sum(a != b for a, b in pairwise(seen))
    assert changes <= 60  # a ring seen half-written would flicker with every other port


def test_a_real_goes_down_when_no_ring_names_it_any_more(
    datapath: Datapath, bench: Workbench, monkeypatch: pytest.MonkeyPatch
):
    went_to: list[int] = []
    swap = Map.set_inners

    def watched(rings: Map, inners: Mapping[int, Map]) -> None:
        went_to.append(chosen(datapath, bench, flags=SYN))
        swap(rings, inners)
        went_to.append(chosen(datapath, bench, flags=SYN))

    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    monkeypatch.setattr(Map, "set_inners", watched)
    datapath.apply(plan([real(1, state=RealForwarding.DOWN), real(2)], [vip(ring_to(2))]))
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))

    assert went_to == [1, 2, 2, 1]
    assert datapath.verdicts()["DROPPED_NO_REAL"].packets == 0
