"""Fragments: every one of a datagram at the same real, whatever happens to the ring meanwhile."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from datapath_plans import VIP, index_of, plan, real, ring_of, ring_to, vip

from bpf.packets import MORE_FRAGMENTS, UDP, ethernet, ipv4, one_hop_older, read_wrapped, udp
from bpf.trial import XDP_DROP
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.plan import RealForwarding
from gslb.fleet.model import Protocol

pytestmark = pytest.mark.bpf


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy, not attached."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=1024)
    made.open_private()
    yield made
    made.close()


def first(client: str, port: int = 40000) -> bytes:
    return ipv4(client, str(VIP), UDP, udp(port, 80, bytes(56)), fragment=MORE_FRAGMENTS)


def later(client: str, offset: int = 8) -> bytes:
    return ipv4(client, str(VIP), UDP, bytes(64), fragment=offset)


def place(datapath: Datapath, bench: Workbench, packet: bytes) -> int:
    """The real's index; the packet must arrive whole."""
    sent = read_wrapped(
        datapath.program.test_run(ethernet(packet), ifindex=bench.in_ifindex).packet
    )
    assert sent.inner == one_hop_older(packet)
    return index_of(IPv4Address(str(sent.outer.destination)))


def test_all_fragments_of_many_datagrams_keep_together(datapath: Datapath, bench: Workbench):
    ring = ring_of(range(1, 11))
    datapath.apply(plan([real(i) for i in range(1, 11)], [vip(ring, protocol=Protocol.UDP)]))

    places = set()
    for number in range(200):
        client = f"198.51.{number}.7"
        at = place(datapath, bench, first(client, 1000 + number))
        assert [place(datapath, bench, later(client, 8 * (n + 1))) for n in range(3)] == [at] * 3
        places.add(at)

    assert len(places) == 10
    assert datapath.verdicts()["FORWARDED_FRAGMENT"].packets == 600


def test_a_new_ring_does_not_part_a_datagram(datapath: Datapath, bench: Workbench):
    reals = [real(1), real(2)]
    datapath.apply(plan(reals, [vip(ring_to(1), protocol=Protocol.UDP)]))
    place(datapath, bench, first("198.51.100.7"))

    datapath.apply(plan(reals, [vip(ring_to(2), protocol=Protocol.UDP)]))

    assert place(datapath, bench, later("198.51.100.7")) == 1


def test_the_rest_of_a_dead_real_s_datagram_goes_where_the_flow_goes(
    datapath: Datapath, bench: Workbench
):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1), protocol=Protocol.UDP)]))
    place(datapath, bench, first("198.51.100.7"))

    dead = real(1, state=RealForwarding.DOWN)
    datapath.apply(plan([dead, real(2)], [vip(ring_to(2), protocol=Protocol.UDP)]))

    assert place(datapath, bench, later("198.51.100.7")) == 2


def test_the_word_of_a_first_fragment_ages(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1), protocol=Protocol.UDP)]))
    place(datapath, bench, first("198.51.100.7"))
    datagrams = datapath.program.maps["datagrams"]
    for key in tuple(datagrams.keys()):
        value = datagrams.get(key)
        assert value is not None
        datagrams.put(key, datagrams.shape.value.pack(**{**value, "seen_ns": 0}))

    frame = ethernet(later("198.51.100.7"))

    assert datapath.program.test_run(frame, ifindex=bench.in_ifindex).action == XDP_DROP
    assert datapath.verdicts()["DROPPED_FRAGMENT"].packets == 1


def test_datagrams_of_other_clients_are_not_mixed_up(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1), protocol=Protocol.UDP)]))
    place(datapath, bench, first("198.51.100.7"))

    frame = ethernet(later("198.51.100.8"))

    assert datapath.program.test_run(frame, ifindex=bench.in_ifindex).action == XDP_DROP
