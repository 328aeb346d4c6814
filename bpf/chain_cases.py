"""Packets with an owner chain for real.bpf.c, and the verdict that each must get.

Owns that table, a part of real_cases.py; what no socket decides about is in chain_faults.py. The
frames are made when the sockets that they are about are there. Pure but for those.
"""

from collections.abc import Callable
from dataclasses import replace

from bpf.own_flows import OwnFlow, OwnSockets
from bpf.packets import (
    ACK,
    FIN,
    ICMP,
    MORE_FRAGMENTS,
    RST,
    SYN,
    TCP,
    UDP,
    icmp,
    icmpv6,
    ip,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from bpf.real_trial import (
    OTHER_REAL,
    OTHER_REAL_V6,
    STRANGER,
    TAGGED_REAL,
    THIRD_REAL,
    UNKNOWN_WAY,
    ChainCase,
    Make,
    always,
    chained,
)
from bpf.trial import (
    BOUND_VIP,
    BOUND_VIP_V6,
    CLIENT,
    CLIENT_V6,
    IP_OPTIONS,
    OTHER,
    TUNNEL_END,
)

VIPS = {"IPv4": BOUND_VIP, "IPv6": BOUND_VIP_V6}
ICMP_UNREACHABLE, ICMPV6_TOO_BIG = 3, 2
ROUTER, ROUTER_V6 = "198.51.100.254", "2001:db8:c::fe"
HOP_BY_HOP = bytes([TCP, 0, 1, 4, 0, 0, 0, 0])


def quoting(flow: OwnFlow, protocol: int) -> bytes:
    """An ICMP error of a router on the way to the client, about a packet from the VIP."""
    if ":" in flow.vip:
        return icmpv6(ROUTER_V6, flow.vip, ICMPV6_TOO_BIG, flow.answer(protocol), rest=1280)
    return ipv4(ROUTER, flow.vip, ICMP, icmp(ICMP_UNREACHABLE, flow.answer(protocol), code=4))


def _established(vip: str, wrap: Callable[[OwnFlow], bytes] = OwnFlow.segment) -> Make:
    return lambda sockets: chained(wrap(sockets.established(sockets.listener(vip))[0]))


def _cookie(vip: str, *, off_by: int = 0, flags: int = ACK) -> Make:
    def make(sockets: OwnSockets) -> bytes:
        flow = sockets.cookie(sockets.listener(vip))
        acknowledged = (flow.acknowledged + off_by) % (1 << 32)
        return chained(replace(flow, acknowledged=acknowledged).segment(flags))

    return make


def _listened(vip: str) -> Make:
    def make(sockets: OwnSockets) -> bytes:
        port: int = sockets.listener(vip).getsockname()[1]
        return chained(_to(vip, TCP, tcp(40000, port)))

    return make


def _to(vip: str, protocol: int, payload: bytes) -> bytes:
    return ip(CLIENT_V6 if ":" in vip else CLIENT, vip, protocol, payload)


def _both(verdict: str, name: str, make: Callable[[str], Make]) -> tuple[ChainCase, ...]:
    return tuple(
        ChainCase(verdict=verdict, name=f"{name}, {family}", make=make(vip))
        for family, vip in VIPS.items()
    )


_STRAY = ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80))
_STRAY_V6 = ipv6(CLIENT_V6, BOUND_VIP_V6, TCP, tcp(40000, 80))

_HELD = (
    *_both("PASSED_OWN_SOCKET", "an established connection", _established),
    *_both(
        "PASSED_OWN_SOCKET",
        "a reset of an established connection",
        lambda vip: _established(vip, lambda flow: flow.segment(RST | ACK)),
    ),
    *_both(
        "PASSED_OWN_SOCKET",
        "an ICMP error about an established connection",
        lambda vip: _established(vip, lambda flow: quoting(flow, TCP)),
    ),
    *_both(
        "PASSED_OWN_SOCKET",
        "a connected UDP socket",
        lambda vip: lambda sockets: chained(sockets.datagrams(vip, connected=True).datagram()),
    ),
    *_both(
        "PASSED_OWN_SOCKET",
        "an ICMP error about a connected UDP socket",
        lambda vip: lambda sockets: chained(quoting(sockets.datagrams(vip, connected=True), UDP)),
    ),
    ChainCase(
        verdict="PASSED_OWN_SOCKET",
        name="an established connection, the last of the chain",
        make=lambda sockets: chained(
            sockets.established(sockets.listener(BOUND_VIP))[0].segment(), tried=1
        ),
    ),
    ChainCase(
        verdict="PASSED_OWN_SOCKET",
        name="IPv6 in IPv4",
        make=lambda sockets: chained(
            sockets.established(sockets.listener(BOUND_VIP_V6))[0].segment(), OTHER_REAL
        ),
    ),
    ChainCase(
        verdict="PASSED_OWN_SOCKET",
        name="IPv4 in IPv6",
        make=lambda sockets: chained(
            sockets.established(sockets.listener(BOUND_VIP))[0].segment(), OTHER_REAL_V6
        ),
    ),
    ChainCase(
        verdict="PASSED_OWN_SOCKET",
        name="IPv4 options inside",
        make=_established(
            BOUND_VIP,
            lambda flow: ipv4(
                flow.client, flow.vip, TCP, tcp(flow.client_port, flow.vip_port), options=IP_OPTIONS
            ),
        ),
    ),
    ChainCase(
        verdict="PASSED_OWN_SOCKET",
        name="an IPv6 extension header inside",
        make=_established(
            BOUND_VIP_V6,
            lambda flow: ipv6(
                flow.client, flow.vip, 0, HOP_BY_HOP + tcp(flow.client_port, flow.vip_port)
            ),
        ),
    ),
    ChainCase(
        verdict="PASSED_OWN_SOCKET",
        name="the first fragment of a datagram",
        make=lambda sockets: chained(_first_fragment(sockets.datagrams(BOUND_VIP, connected=True))),
    ),
    *_both("PASSED_SYN_COOKIE", "the ACK of a SYN cookie", _cookie),
    *_both("PASSED_SYN_COOKIE", "with the first data", lambda vip: _cookie(vip, flags=ACK | 0x08)),
    *_both("PASSED_SYN", "a SYN", lambda vip: always(chained(_to(vip, TCP, tcp(4, 80, SYN))))),
    *_both(
        "PASSED_LAST_RESORT",
        "a stray that all of the chain had",
        lambda vip: always(chained(_to(vip, TCP, tcp(40000, 80)), tried=1)),
    ),
    *_both(
        "PASSED_LAST_RESORT",
        "a connection in time-wait that nobody else holds",
        lambda vip: lambda sockets: chained(sockets.time_wait(vip).segment(FIN | ACK), tried=1),
    ),
    ChainCase(
        verdict="PASSED_LAST_RESORT",
        name="only our own address is left",
        make=always(chained(_STRAY, OTHER_REAL, TUNNEL_END, tried=1)),
    ),
)


def _first_fragment(flow: OwnFlow) -> bytes:
    part = udp(flow.client_port, flow.vip_port, bytes(16))
    return ipv4(flow.client, flow.vip, UDP, part, fragment=MORE_FRAGMENTS)


_HANDED_ON = (
    *_both(
        "HANDED_ON",
        "a flow that nobody holds",
        lambda vip: always(chained(_to(vip, TCP, tcp(40000, 80)))),
    ),
    *_both("HANDED_ON", "a listener, and no cookie", _listened),
    *_both("HANDED_ON", "a listener, and a wrong cookie", lambda vip: _cookie(vip, off_by=1)),
    *_both("HANDED_ON", "a reset cannot bring a cookie", lambda vip: _cookie(vip, flags=RST | ACK)),
    *_both(
        "HANDED_ON",
        "a connection in time-wait, whose port may be in use again elsewhere",
        lambda vip: lambda sockets: chained(sockets.time_wait(vip).segment(FIN | ACK)),
    ),
    *_both(
        "HANDED_ON",
        "a connection closed with unread data",
        lambda vip: lambda sockets: chained(sockets.closed_unread(sockets.listener(vip)).segment()),
    ),
    *_both(
        "HANDED_ON",
        "a UDP socket that is open to all",
        lambda vip: lambda sockets: chained(sockets.datagrams(vip, connected=False).datagram()),
    ),
    *_both(
        "HANDED_ON",
        "an ICMP error about a flow of another real",
        lambda vip: always(
            chained(
                quoting(
                    OwnFlow(
                        client=CLIENT_V6 if ":" in vip else CLIENT,
                        client_port=40000,
                        vip=vip,
                        vip_port=80,
                    ),
                    TCP,
                )
            )
        ),
    ),
    ChainCase(verdict="HANDED_ON", name="in IPv6", make=always(chained(_STRAY_V6, OTHER_REAL_V6))),
    ChainCase(
        verdict="HANDED_ON", name="by another interface", make=always(chained(_STRAY, THIRD_REAL))
    ),
    ChainCase(
        verdict="HANDED_ON", name="by the kernel's way", make=always(chained(_STRAY, UNKNOWN_WAY))
    ),
    ChainCase(
        verdict="HANDED_ON", name="behind VLAN tags", make=always(chained(_STRAY, TAGGED_REAL))
    ),
    ChainCase(
        verdict="HANDED_ON",
        name="past our own address",
        make=always(chained(_STRAY, TUNNEL_END, OTHER_REAL)),
    ),
    ChainCase(
        verdict="HANDED_ON",
        name="to the last of four",
        make=always(chained(_STRAY, STRANGER, STRANGER, STRANGER, OTHER_REAL, tried=3)),
    ),
    ChainCase(
        verdict="HANDED_ON",
        name="for a VIP that is not bound here",
        make=always(chained(ipv4(CLIENT, OTHER, TCP, tcp(40000, 80)))),
    ),
)

CHAIN_CASES = (*_HELD, *_HANDED_ON)
