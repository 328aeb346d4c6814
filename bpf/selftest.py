"""The data plane tried on this host's own kernel, in private maps, before or beside the real one.

Owns the table of packets for lb.bpf.c and the verdict each must get; that of real.bpf.c is in
real_cases.py. Every verdict of both programs has a case at least. Called by `waypost datapath
selftest` and by the tests. Touches no pinned map and no real interface; needs root, for BPF and for
a namespace of its own.
"""

from dataclasses import replace

from bpf.icmp_error_cases import ICMP_ERROR_CASES
from bpf.option_cases import OPTION_CASES
from bpf.packets import (
    ACK,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    SYN,
    TCP,
    UDP,
    ethernet,
    frame_of,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from bpf.program import TEST_QUEUE
from bpf.real_cases import REAL_CASES
from bpf.real_trial import Unwrapper
from bpf.selftest_filter import FILTER_CASES
from bpf.taken_over_cases import TAKEN_OVER_CASES
from bpf.trial import (
    BOUND_VIP,
    BOUND_VIP_V6,
    CLIENT,
    CLIENT_V6,
    IP_OPTIONS,
    OTHER,
    OTHER_V6,
    TUNNEL_MTU,
    TUNNELLED,
    Balancer,
    Case,
    CaseResult,
)
from bpf.unusual_cases import UNUSUAL_CASES
from bpf.vlan_cases import VLAN_CASES
from bpf.wide_cases import WIDE_CASES
from bpf.workbench import TUNNEL_SOURCE, Workbench

UNSPECIFIED = "::"
OCCUPIED_HEADROOM = 200  # metadata that leaves less than 32 bytes before the packet


def client_tcp(octet: int, *, flags: int = ACK, payload: bytes = b"") -> bytes:
    """A client's TCP frame to port 80 of the service 192.0.2.`octet`."""
    segment = tcp(40000, 80, flags, payload)
    return ethernet(ipv4(CLIENT, f"192.0.2.{octet}", TCP, segment))


def client_tcp_v6(octet: int, *, flags: int = ACK, payload: bytes = b"") -> bytes:
    """A client's TCP frame to port 80 of the service 2001:db8::`octet`."""
    segment = tcp(40000, 80, flags, payload)
    return frame_of(ipv6(CLIENT_V6, f"2001:db8::{octet:x}", TCP, segment))


def client_udp(octet: int, port: int = 53) -> bytes:
    """A client's UDP frame to a service, which takes any port."""
    return ethernet(ipv4(CLIENT, f"192.0.2.{octet}", UDP, udp(40000, port, b"question")))


def without_settings(balancer: Balancer) -> None:
    """The state before the agent's first plan."""
    balancer.write_settings(UNSPECIFIED, UNSPECIFIED)


def without_ipv6_source(balancer: Balancer) -> None:
    """An edge whose tunnel source is IPv4 alone."""
    balancer.write_settings(TUNNEL_SOURCE, UNSPECIFIED)


def without_flow_table(balancer: Balancer) -> None:
    """A receive queue that came into use after the agent started."""
    balancer.program.maps["flows"].delete_at(TEST_QUEUE)


def with_flow(balancer: Balancer) -> None:
    """The flow's first packet went through."""
    balancer.program.test_run(client_tcp(1), ifindex=balancer.bench.in_ifindex)


def with_full_memory(balancer: Balancer) -> None:
    """Flows in use fill the service's one bucket."""
    for port in range(CROWD):
        frame = frame_of(ipv4(CLIENT, "192.0.2.24", TCP, tcp(50000 + port, 80)))
        for _ in range(2):
            balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)


def with_flow_of_another_epoch(balancer: Balancer) -> None:
    """The flow's real left, and its index was given to another."""
    with_flow(balancer)
    balancer.write_real(replace(TUNNELLED, real="10.60.0.3"), epoch=2)


CROWD = 8  # flows, each in use: a full bucket
_TO_VIP = ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80))
_TOO_BIG = bytes(TUNNEL_MTU - 40 - 32 + 1)  # one byte more than fits: IP, TCP, tunnel

LB_CASES = (
    Case(verdict="PASSED_NOT_IP", name="ARP", frame=ethernet(bytes(28), ETHERTYPE_ARP)),
    Case(verdict="PASSED_MALFORMED", name="half an IPv4 header", frame=client_tcp(1)[:24]),
    Case(
        verdict="PASSED_MALFORMED",
        name="a header length below five words",
        frame=ethernet(b"\x44" + _TO_VIP[1:]),
    ),
    Case(
        verdict="PASSED_MALFORMED",
        name="a total length beyond the frame",
        frame=client_tcp(1, payload=b"cut")[:-3],
    ),
    Case(
        verdict="PASSED_MALFORMED",
        name="another version in IPv6",
        frame=ethernet(bytes(40), ETHERTYPE_IPV6),
    ),
    Case(
        verdict="PASSED_MALFORMED",
        name="an IPv6 length beyond the frame",
        frame=client_tcp_v6(1, payload=b"cut")[:-3],
    ),
    Case(
        verdict="PASSED_OTHER_PROTOCOL",
        name="OSPF",
        frame=ethernet(ipv4(CLIENT, OTHER, 89, bytes(24))),
    ),
    Case(
        verdict="PASSED_OTHER_PROTOCOL",
        name="OSPF over IPv6",
        frame=frame_of(ipv6(CLIENT_V6, OTHER_V6, 89, bytes(24))),
    ),
    Case(
        verdict="PASSED_NOT_VIP",
        name="the edge's own traffic over IPv6",
        frame=frame_of(ipv6(CLIENT_V6, OTHER_V6, TCP, tcp(40000, 22))),
    ),
    Case(
        verdict="PASSED_NOT_VIP",
        name="the edge's own traffic",
        frame=ethernet(ipv4(CLIENT, OTHER, TCP, tcp(40000, 22))),
    ),
    Case(
        verdict="DROPPED_SHORT",
        name="half a TCP header",
        frame=ethernet(ipv4(CLIENT, BOUND_VIP, TCP, bytes(8))),
    ),
    Case(
        verdict="DROPPED_SHORT",
        name="half a UDP header",
        frame=ethernet(ipv4(CLIENT, BOUND_VIP, UDP, bytes(4))),
    ),
    Case(
        verdict="DROPPED_NO_SERVICE",
        name="a protocol that no VIP has",
        frame=ethernet(ipv4(CLIENT, BOUND_VIP, 89, bytes(24))),
    ),
    Case(
        verdict="DROPPED_SHORT",
        name="half a TCP header over IPv6",
        frame=frame_of(ipv6(CLIENT_V6, BOUND_VIP_V6, TCP, bytes(8))),
    ),
    Case(
        verdict="DROPPED_NO_SERVICE",
        name="a protocol that no IPv6 VIP has",
        frame=frame_of(ipv6(CLIENT_V6, BOUND_VIP_V6, 89, bytes(24))),
    ),
    Case(
        verdict="DROPPED_NO_SERVICE",
        name="a port that no VIP has",
        frame=ethernet(ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 81))),
    ),
    Case(verdict="DROPPED_NO_RING", name="a VIP without a ring", frame=client_tcp(2)),
    Case(verdict="DROPPED_NO_REAL", name="an empty slot", frame=client_tcp(3)),
    Case(verdict="DROPPED_NO_REAL", name="a slot whose real is down", frame=client_tcp(10)),
    Case(
        verdict="DROPPED_NO_TUNNEL_SOURCE",
        name="no settings yet",
        frame=client_tcp(1),
        before=without_settings,
    ),
    Case(
        verdict="DROPPED_NO_TUNNEL_SOURCE",
        name="an IPv6 real, and no IPv6 source",
        frame=client_tcp(4),
        before=without_ipv6_source,
    ),
    Case(
        verdict="ANSWERED_TOO_BIG",
        name="one byte above the MTU, in IPv6",
        frame=client_tcp(4, payload=_TOO_BIG[20:]),
    ),
    Case(verdict="DROPPED_NO_ROUTE", name="a real without a route", frame=client_tcp(8)),
    Case(verdict="DROPPED_ROUTE_REFUSED", name="an unreachable route", frame=client_tcp(9)),
    Case(verdict="DROPPED_NO_NEIGHBOUR", name="an unresolved neighbour", frame=client_tcp(7)),
    Case(
        verdict="DROPPED_FORWARDING_OFF",
        name="an interface that does not forward",
        frame=client_tcp(1),
        by_out=True,
    ),
    Case(verdict="DROPPED_NOT_ON_LINK", name="an L2 real behind a router", frame=client_tcp(6)),
    Case(
        verdict="DROPPED_NOT_ON_LINK",
        name="an IPv6 L2 real behind a router",
        frame=client_tcp_v6(16),
    ),
    Case(
        verdict="DROPPED_NO_HEADROOM",
        name="no room before the packet",
        frame=client_tcp(1),
        metadata=OCCUPIED_HEADROOM,
    ),
    Case(
        verdict="FORWARDED_REMEMBERED",
        name="the second packet of a flow",
        frame=client_tcp(1),
        before=with_flow,
    ),
    Case(verdict="FORWARDED_NEW", name="a first packet, by tunnel", frame=client_tcp(1)),
    Case(verdict="FORWARDED_NEW", name="a first packet, by MAC", frame=client_tcp(5)),
    Case(verdict="FORWARDED_NEW", name="IPv4 in IPv6, by GUE", frame=client_tcp(4)),
    Case(verdict="FORWARDED_NEW", name="IPv6 in IPv4, by GUE", frame=client_tcp_v6(1)),
    Case(verdict="FORWARDED_NEW", name="IPv6 in IPv6, by GUE", frame=client_tcp_v6(4)),
    Case(verdict="FORWARDED_NEW", name="IPv4 in IPv4, by IPIP", frame=client_tcp(13)),
    Case(verdict="FORWARDED_NEW", name="IPv6 in IPv4, by IPIP", frame=client_tcp_v6(13)),
    Case(verdict="FORWARDED_NEW", name="IPv4 in IPv6, by IPIP", frame=client_tcp(14)),
    Case(verdict="FORWARDED_NEW", name="IPv6 in IPv6, by IPIP", frame=client_tcp_v6(14)),
    Case(verdict="FORWARDED_NEW", name="IPv6 by MAC", frame=client_tcp_v6(15)),
    Case(verdict="FORWARDED_NEW", name="back out the same interface", frame=client_tcp(11)),
    Case(verdict="FORWARDED_NEW", name="UDP to any port", frame=client_udp(1, 5353)),
    Case(
        verdict="FORWARDED_NEW",
        name="IPv4 options",
        frame=ethernet(ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80), options=IP_OPTIONS)),
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="exactly the MTU",
        frame=client_tcp(1, payload=_TOO_BIG[1:]),
    ),
    Case(verdict="FORWARDED_SYN", name="a SYN", frame=client_tcp(1, flags=SYN)),
    Case(
        verdict="FORWARDED_SYN",
        name="a SYN of a remembered flow",
        frame=client_tcp(1, flags=SYN),
        before=with_flow,
    ),
    Case(
        verdict="FORWARDED_REASSIGNED",
        name="a remembered real of another epoch",
        frame=client_tcp(1),
        before=with_flow_of_another_epoch,
    ),
    Case(
        verdict="FORWARDED_NO_MEMORY",
        name="a VIP without flow memory",
        frame=client_tcp(12),
    ),
    Case(
        verdict="FORWARDED_NO_ROOM",
        name="a flow that finds flows in use only",
        frame=client_tcp(24),
        before=with_full_memory,
    ),
    Case(
        verdict="FORWARDED_NO_TABLE",
        name="a receive queue without flow memory",
        frame=client_tcp(1),
        before=without_flow_table,
    ),
    *FILTER_CASES,
    *UNUSUAL_CASES,
    *OPTION_CASES,
    *VLAN_CASES,
    *ICMP_ERROR_CASES,
    *WIDE_CASES,
    *TAKEN_OVER_CASES,
)


def run() -> tuple[CaseResult, ...]:
    """Every case of both programs on this kernel. Raises the errors of bpf.errors."""
    with Workbench() as bench:
        balancer = Balancer(bench)
        try:
            results = [balancer.run(case) for case in LB_CASES]
        finally:
            balancer.close()
        unwrapper = Unwrapper(bench)
        try:
            results += [unwrapper.run(case) for case in REAL_CASES]
        finally:
            unwrapper.close()
    return tuple(results)
