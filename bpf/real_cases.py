"""Packets for real.bpf.c, and the verdict that each must get.

Owns that table; run by the self test and by the tests, through `bpf.real_trial.Unwrapper`. Pure.
"""

from bpf.chain_cases import CHAIN_CASES
from bpf.chain_faults import CHAIN_FAULTS
from bpf.packets import (
    DONT_FRAGMENT,
    ETHERTYPE_IPV6,
    ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN,
    GUE_PORT,
    IPIP,
    IPV6,
    MORE_FRAGMENTS,
    TCP,
    UDP,
    ethernet,
    frame_of,
    gue,
    ip,
    ipv4,
    ipv6,
    tagged,
    tcp,
    udp,
)
from bpf.real_trial import ChainCase
from bpf.trial import (
    BOUND_VIP,
    BOUND_VIP_V6,
    CLIENT,
    CLIENT_V6,
    IP_OPTIONS,
    OTHER,
    OTHER_V6,
    TUNNEL_END,
    TUNNEL_END_V6,
    Case,
)
from bpf.workbench import TUNNEL_SOURCE, TUNNEL_SOURCE_V6

GUE_VARIANT_1, GUE_CONTROL = 0x40, 0x20


def wrapped(
    inner: bytes,
    *,
    source: str = TUNNEL_SOURCE,
    destination: str = TUNNEL_END,
    port: int = GUE_PORT,
) -> bytes:
    """A tunnel frame from the edge; `inner` starts with the GUE header."""
    return frame_of(ip(source, destination, UDP, udp(50000, port, inner)))


def ipip(inner: bytes, *, source: str = TUNNEL_SOURCE, destination: str = TUNNEL_END) -> bytes:
    """A tunnel frame from the edge that holds the client's packet at once."""
    return frame_of(ip(source, destination, IPIP if inner[0] >> 4 == 4 else IPV6, inner))


_TO_VIP = ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80))
_TO_VIP_V6 = ipv6(CLIENT_V6, BOUND_VIP_V6, TCP, tcp(40000, 80))

REAL_CASES: tuple[Case | ChainCase, ...] = (
    Case(verdict="PASSED_NOT_TUNNELLED", name="plain TCP", frame=ethernet(_TO_VIP)),
    Case(
        verdict="PASSED_NOT_TUNNELLED",
        name="IPv6",
        frame=ethernet(bytes(40), ETHERTYPE_IPV6),
    ),
    Case(
        verdict="PASSED_NOT_TUNNELLED",
        name="a tunnel to somebody else",
        frame=wrapped(gue(_TO_VIP), destination=OTHER),
    ),
    Case(
        verdict="PASSED_NOT_TUNNELLED",
        name="UDP to another port",
        frame=wrapped(gue(_TO_VIP), port=53),
    ),
    Case(
        verdict="PASSED_NOT_TUNNELLED",
        name="a fragment",
        frame=ethernet(
            ipv4(CLIENT, TUNNEL_END, UDP, udp(1, GUE_PORT, gue(_TO_VIP)), fragment=MORE_FRAGMENTS)
        ),
    ),
    Case(
        verdict="PASSED_NOT_TUNNELLED",
        name="IPIP to somebody else",
        frame=ipip(_TO_VIP, source=CLIENT, destination=OTHER),
    ),
    Case(
        verdict="PASSED_NOT_TUNNELLED",
        name="half an outer header",
        frame=wrapped(b"")[:30],
    ),
    Case(verdict="PASSED_UNWRAPPED", name="a client's packet", frame=wrapped(gue(_TO_VIP))),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="IPv6 in IPv4, by GUE",
        frame=wrapped(gue(_TO_VIP_V6, protocol=IPV6)),
    ),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="IPv4 in IPv6, by GUE",
        frame=wrapped(gue(_TO_VIP), source=TUNNEL_SOURCE_V6, destination=TUNNEL_END_V6),
    ),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="IPv6 in IPv6, by GUE",
        frame=wrapped(
            gue(_TO_VIP_V6, protocol=IPV6), source=TUNNEL_SOURCE_V6, destination=TUNNEL_END_V6
        ),
    ),
    Case(verdict="PASSED_UNWRAPPED", name="IPv4 in IPv4, by IPIP", frame=ipip(_TO_VIP)),
    Case(verdict="PASSED_UNWRAPPED", name="IPv6 in IPv4, by IPIP", frame=ipip(_TO_VIP_V6)),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="IPv4 in IPv6, by IPIP",
        frame=ipip(_TO_VIP, source=TUNNEL_SOURCE_V6, destination=TUNNEL_END_V6),
    ),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="IPv6 in IPv6, by IPIP",
        frame=ipip(_TO_VIP_V6, source=TUNNEL_SOURCE_V6, destination=TUNNEL_END_V6),
    ),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="the longest GUE options",
        frame=wrapped(gue(_TO_VIP, options=bytes(124))),
    ),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="options in the outer IPv4 header",
        frame=ethernet(
            ipv4(
                CLIENT,
                TUNNEL_END,
                UDP,
                udp(1, GUE_PORT, gue(_TO_VIP)),
                options=IP_OPTIONS,
                fragment=DONT_FRAGMENT,
            )
        ),
    ),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="a VLAN tag",
        frame=tagged(wrapped(gue(_TO_VIP)), (ETHERTYPE_VLAN, 100)),
    ),
    Case(
        verdict="PASSED_UNWRAPPED",
        name="IPv6 in IPv4, by IPIP, two VLAN tags",
        frame=tagged(ipip(_TO_VIP_V6), (ETHERTYPE_SERVICE_VLAN, 7), (ETHERTYPE_VLAN, 100)),
    ),
    Case(
        verdict="PASSED_NOT_TUNNELLED",
        name="three VLAN tags",
        frame=tagged(ipip(_TO_VIP), *[(ETHERTYPE_VLAN, 100)] * 3),
    ),
    Case(verdict="DROPPED_GUE_SHORT", name="no GUE header", frame=wrapped(b"")),
    Case(
        verdict="DROPPED_GUE_SHORT",
        name="options beyond the frame",
        frame=wrapped(gue(b"", first=31)),
    ),
    Case(
        verdict="DROPPED_GUE_VERSION",
        name="variant 1",
        frame=wrapped(gue(_TO_VIP, first=GUE_VARIANT_1)),
    ),
    Case(
        verdict="DROPPED_GUE_CONTROL",
        name="a control message",
        frame=wrapped(gue(_TO_VIP, first=GUE_CONTROL)),
    ),
    Case(
        verdict="DROPPED_GUE_PROTOCOL",
        name="Ethernet inside",
        frame=wrapped(gue(_TO_VIP, protocol=143)),
    ),
    Case(
        verdict="DROPPED_INNER_MALFORMED",
        name="half a packet inside",
        frame=wrapped(gue(_TO_VIP[:12])),
    ),
    Case(
        verdict="DROPPED_INNER_MALFORMED",
        name="a total length beyond the frame",
        frame=wrapped(gue(_TO_VIP[:-1])),
    ),
    Case(
        verdict="DROPPED_INNER_MALFORMED",
        name="IPv4 inside that is called IPv6",
        frame=wrapped(gue(_TO_VIP, protocol=IPV6)),
    ),
    Case(
        verdict="DROPPED_INNER_MALFORMED",
        name="an IPv6 length beyond the frame",
        frame=ipip(_TO_VIP_V6[:-1]),
    ),
    Case(
        verdict="DROPPED_NOT_BOUND",
        name="an IPv6 VIP of another real",
        frame=ipip(ipv6(CLIENT_V6, OTHER_V6, TCP, tcp(40000, 80))),
    ),
    Case(
        verdict="DROPPED_NOT_BOUND",
        name="a VIP of another real",
        frame=wrapped(gue(ipv4(CLIENT, OTHER, TCP, tcp(40000, 80)))),
    ),
    *CHAIN_CASES,
    *CHAIN_FAULTS,
)
