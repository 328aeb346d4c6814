"""ICMP of a VIP: pings answered, never without end; errors at the real whose packet they quote."""

import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from datapath_plans import VIP, index_of, plan, real, ring_of, ring_to, vip
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.packets import (
    ACK,
    ETHERNET_BYTES,
    ICMP,
    TCP,
    checksum,
    ethernet,
    frame_of,
    icmp,
    icmpv6,
    ipv4,
    one_hop_older,
    pseudo_header,
    read_ipv4,
    read_ipv6,
    read_wrapped,
    tcp,
)
from bpf.trial import BOUND_VIP, BOUND_VIP_V6, XDP_DROP, XDP_TX, Balancer
from bpf.unusual_cases import ECHO, ECHO_REPLY_V6, ECHO_V6, NEVER, ROUTER, UNREACHABLE, ping
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath

pytestmark = pytest.mark.bpf

CLIENT = IPv4Address("198.51.100.7")
MILLISECOND = 1_000_000
HOUR_NS = 3_600_000_000_000
BURST = 100


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy, not attached."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=1024)
    made.open_private()
    yield made
    made.close()


def run(datapath: Datapath, bench: Workbench, packet: bytes) -> bytes:
    return datapath.program.test_run(ethernet(packet), ifindex=bench.in_ifindex).packet


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=1400), ttl=st.integers(1, 255), tos=st.integers(0, 255),
    rest=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_ping_comes_back_as_a_reply_with_right_checksums(
    balancer: Balancer, data: bytes, ttl: int, tos: int, rest: int
):
    balancer.reset()
    request = ipv4(str(CLIENT), BOUND_VIP, ICMP, icmp(ECHO, data, rest=rest), ttl=ttl, tos=tos)
    frame = ethernet(request)

    result = balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)

    reply = read_ipv4(result.packet[ETHERNET_BYTES:])
    assert result.action == XDP_TX
    assert result.packet[:12] == frame[6:12] + frame[:6]
    assert (str(reply.source), reply.destination) == (BOUND_VIP, CLIENT)
    assert (reply.checksum_ok, reply.ttl, reply.tos) == (True, 64, tos)
    assert reply.payload[0] == 0
    assert checksum(reply.payload) == 0
    assert reply.payload[4:] == rest.to_bytes(4, "big") + data


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=1400), rest=st.integers(0, 2**32 - 1), client=st.ip_addresses(v=6))
def test_a_ping_over_ipv6_comes_back_with_a_right_checksum(
    balancer: Balancer, data: bytes, rest: int, client: IPv6Address
):
    balancer.reset()
    host = "2001:db8:c::7" if client.is_multicast or int(client) <= 1 else str(client)
    frame = frame_of(icmpv6(host, BOUND_VIP_V6, ECHO_V6, data, rest=rest))

    result = balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)

    reply = read_ipv6(result.packet[ETHERNET_BYTES:])
    assert result.action == XDP_TX
    assert (str(reply.source), str(reply.destination)) == (BOUND_VIP_V6, host)
    assert reply.payload[:1] == bytes([ECHO_REPLY_V6])
    assert checksum(pseudo_header(reply) + reply.payload) == 0
    assert reply.payload[4:] == rest.to_bytes(4, "big") + data


def test_as_many_pings_are_answered_as_the_bucket_has_credit_for(balancer: Balancer):
    balancer.reset()
    buckets = balancer.program.maps["reply_buckets"]
    value = buckets.shape.value.pack(credit_ns=3 * MILLISECOND, refilled_ns=NEVER)
    buckets.put_at(0, value)

    actions = [
        balancer.program.test_run(ping(), ifindex=balancer.bench.in_ifindex).action
        for _ in range(5)
    ]

    assert actions == [XDP_TX] * 3 + [XDP_DROP] * 2


def test_a_bucket_refills_with_the_clock_and_not_above_its_burst(balancer: Balancer):
    balancer.reset()
    balancer.write_buckets(refilled_ns=0)
    run = balancer.program.test_run

    answered = sum(
        run(ping(), ifindex=balancer.bench.in_ifindex, repeat=1).action == XDP_TX
        for _ in range(BURST)
    )
    now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    balancer.write_buckets(refilled_ns=now_ns + HOUR_NS)

    assert answered == BURST
    assert run(ping(), ifindex=balancer.bench.in_ifindex).action == XDP_DROP


def test_errors_follow_the_ring_as_their_flows_do(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(index) for index in range(1, 11)], [vip(ring_of(range(1, 11)))]))

    for port in range(1024, 1224):
        data = ipv4(str(CLIENT), str(VIP), TCP, tcp(port, 80, ACK))
        quoted = ipv4(str(VIP), str(CLIENT), TCP, tcp(80, port))[:28]
        error = ipv4(ROUTER, str(VIP), ICMP, icmp(UNREACHABLE, quoted, code=4, rest=1400))

        alone = read_wrapped(run(datapath, bench, error))
        flow = read_wrapped(run(datapath, bench, data))

        assert alone.outer.destination == flow.outer.destination
        assert alone.inner == one_hop_older(error)
    assert datapath.verdicts()["FORWARDED_ICMP"].packets == 200


def test_an_error_follows_a_remembered_flow_and_is_itself_not_remembered(
    datapath: Datapath, bench: Workbench
):
    data = ipv4(str(CLIENT), str(VIP), TCP, tcp(40000, 80, ACK))
    quoted = ipv4(str(VIP), str(CLIENT), TCP, tcp(80, 40000))[:28]
    error = ipv4(ROUTER, str(VIP), ICMP, icmp(UNREACHABLE, quoted, code=4, rest=1400))
    other = ipv4(str(VIP), str(CLIENT), TCP, tcp(80, 40001))[:28]
    stray = ipv4(ROUTER, str(VIP), ICMP, icmp(UNREACHABLE, other, code=4, rest=1400))
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    run(datapath, bench, data)
    run(datapath, bench, stray)

    datapath.apply(plan([real(1), real(2)], [vip(ring_to(2))]))

    places = [
        index_of(read_wrapped(run(datapath, bench, packet)).outer.destination)
        for packet in (error, stray)
    ]
    assert places == [1, 2]
