"""Packets of flows that another edge told of: part of the self test's table.

Owns the service that shares its flows, and what its table of told flows holds before a packet. A
flow is told by having this very program remember it, and moving what it remembers over.
"""

from dataclasses import replace

from bpf.packets import ACK, SYN, TCP, ethernet, frame_of, ipv4, ipv6, tcp
from bpf.program import TEST_QUEUE
from bpf.trial import CLIENT, CLIENT_V6, FLOW_BUCKETS, SHARING, Balancer, Case

COUNT_BYTES = slice(8, 16)  # of the table's first bucket


def segment(flags: int = ACK) -> bytes:
    """A client's TCP frame to the service."""
    packet = ipv4(CLIENT, f"192.0.2.{SHARING.octet}", TCP, tcp(40000, 80, flags))
    return ethernet(packet)


def segment_v6() -> bytes:
    """A client's TCP frame to the service, IPv6."""
    return frame_of(ipv6(CLIENT_V6, f"2001:db8::{SHARING.octet:x}", TCP, tcp(40000, 80, ACK)))


def with_told_flows(balancer: Balancer) -> None:
    """Another edge told of both flows; this one has met neither."""
    maps = balancer.program.maps
    for frame in (segment(), segment_v6()):
        balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)
    met = maps["flows"].inner(TEST_QUEUE)
    assert met is not None
    with met, balancer.program.new_inner("taken_over", max_entries=1 + FLOW_BUCKETS) as told:
        head = bytearray(told.shape.value.size)
        head[COUNT_BYTES] = FLOW_BUCKETS.to_bytes(8, "little")
        told.fill(bytes(head) + met.dump())
        maps["taken_over"].set_inner(0, told)
        met.fill(bytes(len(met.dump())))


def with_told_flow_begun_anew(balancer: Balancer) -> None:
    """The client used the told flow's port for a new connection."""
    with_told_flows(balancer)
    balancer.program.test_run(segment(SYN), ifindex=balancer.bench.in_ifindex)


def with_told_flow_of_another_epoch(balancer: Balancer) -> None:
    """The told flow's real left, and its index was given to another."""
    with_told_flows(balancer)
    balancer.write_real(replace(SHARING, real="10.60.0.3"), epoch=2)


def with_flow_taken_over(balancer: Balancer) -> None:
    """The told flow's first packet went through."""
    with_told_flows(balancer)
    balancer.program.test_run(segment(), ifindex=balancer.bench.in_ifindex)


TAKEN_OVER_CASES = (
    Case(
        verdict="FORWARDED_TAKEN_OVER",
        name="a flow that another edge told of",
        frame=segment(),
        before=with_told_flows,
    ),
    Case(
        verdict="FORWARDED_TAKEN_OVER",
        name="a flow that another edge told of, IPv6",
        frame=segment_v6(),
        before=with_told_flows,
    ),
    Case(
        verdict="FORWARDED_REMEMBERED",
        name="a flow that was taken over",
        frame=segment(),
        before=with_flow_taken_over,
    ),
    Case(verdict="FORWARDED_NEW", name="a flow that nobody told of", frame=segment()),
    Case(
        verdict="FORWARDED_SYN",
        name="the port of a told flow, used again",
        frame=segment(SYN),
        before=with_told_flows,
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a new connection by the port of a told flow",
        frame=segment(),
        before=with_told_flow_begun_anew,
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a told flow of a real that is another now",
        frame=segment(),
        before=with_told_flow_of_another_epoch,
    ),
)
