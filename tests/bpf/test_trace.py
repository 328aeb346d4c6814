"""One described packet through a twin of the loaded program: what it tells and leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from datapath_plans import VIP, plan, real, ring_to, vip

from bpf.packets import TCP, UDP, ethernet, ipv4, read_wrapped, tcp
from bpf.workbench import GATEWAY, NEIGHBOURS, TUNNEL_SOURCE, Workbench
from edge_lb.capture import ANY_VIP
from edge_lb.datapath import Datapath
from edge_lb.flow import Flow, slot
from edge_lb.layers import decode
from edge_lb.plan import RealForwarding
from edge_lb.trace import Described, trace
from gslb.fleet.model import Protocol

pytestmark = pytest.mark.bpf

CLIENT = IPv4Address("198.51.100.7")
FLOW = Flow(client=CLIENT, client_port=40000, vip=VIP, vip_port=80, protocol=TCP)


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=64)
    made.open_private()
    made.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    yield made
    made.close()


def send(datapath: Datapath, bench: Workbench) -> None:
    frame = ethernet(ipv4(str(CLIENT), str(VIP), TCP, tcp(40000, 80)))
    datapath.program.test_run(frame, ifindex=bench.in_ifindex)


def counted(datapath: Datapath) -> tuple[object, ...]:
    return datapath.verdicts(), datapath.vip_counters([0]), datapath.real_counters([1, 2])


def test_a_new_flow_is_told_by_slot_ring_real_and_next_hop(datapath: Datapath, bench: Workbench):
    seen = trace(datapath, Described(flow=FLOW), ifindex=bench.in_ifindex)

    layers = {layer.name: layer.fields for layer in decode(seen.frame)[:4]}
    assert (seen.verdict, seen.action) == ("FORWARDED_NEW", "sent back out")
    assert (seen.vip, seen.slot, seen.ring_real, seen.real) == (0, slot(FLOW), 1, 1)
    assert (seen.remembered_real, seen.out_ifindex) == (0, bench.in_ifindex)
    assert layers["ethernet"]["destination"] == NEIGHBOURS[GATEWAY][1]
    assert layers["udp"]["destination port"] == "6080"
    assert str(read_wrapped(seen.frame).outer.source) == TUNNEL_SOURCE


def test_a_remembered_flow_keeps_its_real_in_the_trace(datapath: Datapath, bench: Workbench):
    send(datapath, bench)
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(2))]))

    seen = trace(datapath, Described(flow=FLOW), ifindex=bench.in_ifindex)

    assert seen.verdict == "FORWARDED_REMEMBERED"
    assert (seen.remembered_real, seen.queue, seen.ring_real, seen.real) == (1, 0, 2, 1)


@pytest.mark.parametrize("syn", [True, False])
def test_nothing_is_counted_remembered_or_forgotten(
    datapath: Datapath, bench: Workbench, syn: bool
):
    send(datapath, bench)
    other = Flow(client=CLIENT, client_port=40001, vip=VIP, vip_port=80, protocol=TCP)
    before = counted(datapath)

    for flow in (FLOW, other):
        trace(datapath, Described(flow=flow, syn=syn), ifindex=bench.in_ifindex)

    assert counted(datapath) == before
    assert datapath.locate(FLOW).remembered_real == 1
    assert datapath.locate(other).remembered_real == 0


def test_a_size_that_does_not_fit_is_answered(datapath: Datapath, bench: Workbench):
    seen = trace(datapath, Described(flow=FLOW, size=1469), ifindex=bench.in_ifindex)

    assert (seen.verdict, seen.action, seen.real) == ("ANSWERED_TOO_BIG", "sent back out", 1)
    assert len(seen.frame) == 14 + 576


def test_what_is_for_no_vip_has_neither_slot_nor_real(datapath: Datapath, bench: Workbench):
    flow = Flow(client=CLIENT, client_port=1, vip=CLIENT, vip_port=53, protocol=UDP)

    seen = trace(datapath, Described(flow=flow), ifindex=bench.in_ifindex)

    assert (seen.verdict, seen.action) == ("PASSED_NOT_VIP", "passed to the stack")
    assert (seen.vip, seen.slot, seen.real, seen.out_ifindex) == (ANY_VIP, -1, 0, 0)


def test_a_real_that_is_down_is_told(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1, state=RealForwarding.DOWN)], [vip(ring_to(1))]))

    seen = trace(datapath, Described(flow=FLOW), ifindex=bench.in_ifindex)

    assert (seen.verdict, seen.ring_real, seen.real) == ("DROPPED_NO_REAL", 1, 1)


def test_udp_is_traced_as_well(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1), protocol=Protocol.UDP)]))
    flow = Flow(client=CLIENT, client_port=40000, vip=VIP, vip_port=80, protocol=UDP)

    seen = trace(datapath, Described(flow=flow, size=100), ifindex=bench.in_ifindex)

    assert (seen.verdict, seen.slot) == ("FORWARDED_NEW", slot(flow))
