"""Cases of the self test about wide rings: which packets leave with an owner chain, and how long.

Owns the packets, their verdicts and their numbers of candidates; bpf/selftest.py runs them with its
own. What a real does with a chain is in chain_cases.py. Pure.
"""

from collections.abc import Callable
from dataclasses import replace

from bpf.packets import (
    ACK,
    ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN,
    MORE_FRAGMENTS,
    SYN,
    TCP,
    UDP,
    frame_of,
    icmp,
    icmpv6,
    ip,
    ipv4,
    tagged,
    tcp,
    udp,
)
from bpf.packets import ICMP as ICMP_PROTOCOL
from bpf.trial import CLIENT, CLIENT_V6, EARLIER, TUNNEL_MTU, Balancer, Case

CHAINED, CHAINED_V6, NO_RING = 25, 26, 27  # services of bpf.trial
MOVED, UNMOVED, EMPTY, BY_IPIP, NEVER_MOVED, UNFIT = 30, 31, 32, 33, 34, 35
NEVER_HANDED_ON = 36
UNREACHABLE, UNREACHABLE_V6 = 3, 1
TAGS = (ETHERTYPE_SERVICE_VLAN, 7), (ETHERTYPE_VLAN, 3)
CHAIN_OF_THREE = 8 + 3 * 4
CHAIN_OF_THREE_V6 = 8 + 3 * 16


def address_of(octet: int, version: int = 4) -> str:
    """The address of a service."""
    return f"192.0.2.{octet}" if version == 4 else f"2001:db8::{octet:x}"


def client_of(version: int) -> str:
    """The client of that IP version."""
    return CLIENT if version == 4 else CLIENT_V6


def segment(octet: int, version: int = 4, *, flags: int = ACK, payload: bytes = b"") -> bytes:
    """TCP from port 40000 to port 80 of a service, as a frame."""
    transport = tcp(40000, 80, flags, payload)
    return frame_of(ip(client_of(version), address_of(octet, version), TCP, transport))


def error_about(octet: int, version: int = 4) -> bytes:
    """An ICMP error about a segment that the service sent to its client, as a frame."""
    vip, client = address_of(octet, version), client_of(version)
    quote = ip(vip, client, TCP, tcp(80, 40000))[:48]
    if version == 4:
        return frame_of(ipv4("203.0.113.1", vip, ICMP_PROTOCOL, icmp(UNREACHABLE, quote[:28])))
    return frame_of(icmpv6("2001:db8:f::1", vip, UNREACHABLE_V6, quote))


def fragment(octet: int, offset: int) -> bytes:
    """UDP in fragments; only the first has ports."""
    payload = bytes(16) if offset else udp(40000, 53, bytes(8))
    bits = offset or MORE_FRAGMENTS
    return frame_of(ipv4(CLIENT, address_of(octet), UDP, payload, fragment=bits))


def with_flow(octet: int) -> Callable[[Balancer], None]:
    """The first packet of the service's flow went through."""

    def send(balancer: Balancer) -> None:
        balancer.program.test_run(segment(octet), ifindex=balancer.bench.in_ifindex)

    return send


def with_first_fragment(balancer: Balancer) -> None:
    """The datagram's first fragment went through."""
    frame = fragment(CHAINED, 0)
    balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)


def with_an_owner_down(balancer: Balancer) -> None:
    """One of the earlier owners died."""
    balancer.write_real(replace(EARLIER[0], state="REAL_DOWN"), epoch=1)


def with_an_owner_in_grace(balancer: Balancer) -> None:
    """One of the earlier owners went down not long ago: it may hold its flows."""
    balancer.write_real(replace(EARLIER[0], state="REAL_IN_GRACE"), epoch=1)


def with_an_owner_draining(balancer: Balancer) -> None:
    """One of the earlier owners is drained: it keeps its flows."""
    balancer.write_real(replace(EARLIER[0], state="REAL_DRAINING"), epoch=1)


def too_big(version: int, chain: int, octet: int) -> bytes:
    """One byte more than fits with the tunnel and the chain."""
    wrapping = (20 if octet == CHAINED else 40) + 12 + chain
    return segment(octet, version, payload=bytes(fitting(version, wrapping) + 1))


def fitting(version: int, wrapping: int) -> int:
    """The payload of a segment that just fits."""
    return TUNNEL_MTU - wrapping - (40 if version == 4 else 60)


WIDE_CASES = (
    *(
        Case(
            verdict="FORWARDED_NEW",
            name=f"a chain of three, IPv{inner} in {outer}",
            frame=segment(octet, inner),
            candidates=3,
        )
        for octet, outer in ((CHAINED, "IPv4"), (CHAINED_V6, "IPv6"))
        for inner in (4, 6)
    ),
    Case(
        verdict="FORWARDED_REMEMBERED",
        name="a remembered flow, and the others of its chain",
        frame=segment(CHAINED),
        before=with_flow(CHAINED),
        candidates=3,
    ),
    Case(verdict="FORWARDED_SYN", name="a SYN, no chain", frame=segment(CHAINED, flags=SYN)),
    Case(
        verdict="FORWARDED_ICMP",
        name="an ICMP error follows the chain",
        frame=error_about(CHAINED),
        candidates=3,
    ),
    Case(
        verdict="FORWARDED_ICMP",
        name="an ICMPv6 error follows the chain",
        frame=error_about(CHAINED_V6, 6),
        candidates=3,
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a first fragment follows the chain",
        frame=fragment(CHAINED, 0),
        candidates=3,
    ),
    Case(
        verdict="FORWARDED_FRAGMENT",
        name="a later fragment follows the first one, with its chain",
        frame=fragment(CHAINED, 1),
        before=with_first_fragment,
        candidates=3,
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a dead owner is left out of the chain",
        frame=segment(CHAINED),
        before=with_an_owner_down,
        candidates=2,
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="an owner in its grace is in the chain",
        frame=segment(CHAINED),
        before=with_an_owner_in_grace,
        candidates=3,
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a draining owner is in the chain",
        frame=segment(CHAINED),
        before=with_an_owner_draining,
        candidates=3,
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="no candidate is alive, by GUE and of the family",
        frame=segment(UNFIT),
    ),
    Case(
        verdict="FORWARDED_REMEMBERED",
        name="a VIP that hands nothing on: memory alone",
        frame=segment(NEVER_HANDED_ON),
        before=with_flow(NEVER_HANDED_ON),
    ),
    Case(verdict="FORWARDED_NEW", name="a real by IPIP, no chain", frame=segment(BY_IPIP)),
    Case(verdict="FORWARDED_NO_MEMORY", name="a slot that never moved", frame=segment(NEVER_MOVED)),
    Case(
        verdict="FORWARDED_NEW",
        name="tagged, with a chain",
        frame=tagged(segment(CHAINED), *TAGS),
        candidates=3,
    ),
    Case(verdict="DROPPED_NO_RING", name="a wide ring that is not there", frame=segment(NO_RING)),
    Case(
        verdict="FORWARDED_NEW",
        name="nobody serves: the latest earlier owner, and the others",
        frame=segment(EMPTY),
        candidates=2,
    ),
    Case(
        verdict="DROPPED_NO_REAL",
        name="nobody serves: no new connection",
        frame=segment(EMPTY, flags=SYN),
    ),
    Case(
        verdict="FORWARDED_REMEMBERED",
        name="moved alone is remembered, and this moved",
        frame=segment(MOVED),
        before=with_flow(MOVED),
        candidates=1,
    ),
    Case(
        verdict="FORWARDED_NO_MEMORY",
        name="moved alone is remembered, and this never moved",
        frame=segment(UNMOVED),
        before=with_flow(UNMOVED),
    ),
    Case(
        verdict="FORWARDED_SYN",
        name="a SYN forgets wherever its slot stands",
        frame=segment(UNMOVED, flags=SYN),
    ),
    Case(
        verdict="ANSWERED_TOO_BIG",
        name="one byte above the MTU, with the chain",
        frame=too_big(4, CHAIN_OF_THREE, CHAINED),
    ),
    Case(
        verdict="ANSWERED_TOO_BIG",
        name="one byte above the MTU, with the chain, in IPv6",
        frame=too_big(6, CHAIN_OF_THREE_V6, CHAINED_V6),
    ),
)
