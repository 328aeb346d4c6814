"""Packets with an owner chain that no socket decides about, and the verdict that each must get.

Owns that table, a part of real_cases.py: what cannot be asked for, what cannot be handed on, and
chains that are none. Pure.
"""

from bpf.packets import (
    ICMP,
    ICMPV6,
    MORE_FRAGMENTS,
    TCP,
    UDP,
    chain,
    fragment_header,
    icmp,
    icmpv6,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from bpf.real_trial import (
    NARROW_REAL,
    OTHER_REAL,
    OTHER_REAL_V6,
    STRANGER,
    TAGGED_REAL,
    ChainCase,
    always,
    chained,
)
from bpf.trial import BOUND_VIP, BOUND_VIP_V6, CLIENT, CLIENT_V6, OTHER
from bpf.workbench import SILENT_REAL

ROUTER = "198.51.100.254"
ICMP_UNREACHABLE, ICMP_ECHO, ICMPV6_ECHO = 3, 8, 128
OCCUPIED_HEADROOM = 212  # metadata that leaves less than two VLAN tags before the packet

FRAGMENTING, FRAGMENTING_V6 = "198.51.100.71", "2001:db8:c::71"
STAYING = "198.51.100.72"  # its datagrams find nobody else
FRAGMENT = 44


def part(offset: int, client: str = FRAGMENTING) -> bytes:
    """A fragment of a UDP datagram that no socket here awaits; the first one has its ports."""
    if not offset:
        whole = udp(40000, 53, bytes(16))
        return ipv4(client, BOUND_VIP, UDP, whole, fragment=MORE_FRAGMENTS)
    return ipv4(client, BOUND_VIP, UDP, bytes(24), fragment=offset)


def part_v6(offset: int) -> bytes:
    """The same of IPv6."""
    header = fragment_header(UDP, offset, more=not offset)
    payload = bytes(24) if offset else udp(40000, 53, bytes(16))
    return ipv6(FRAGMENTING_V6, BOUND_VIP_V6, FRAGMENT, header + payload)


_NOT_OF_THE_VIP = ipv4(OTHER, CLIENT, TCP, bytes(8))
_STRAY = ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80))

_UNASKED = (
    ChainCase(
        verdict="PASSED_UNASKED",
        name="a ping",
        make=always(chained(ipv4(CLIENT, BOUND_VIP, ICMP, icmp(ICMP_ECHO, b"ping")))),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="a ping over IPv6",
        make=always(chained(icmpv6(CLIENT_V6, BOUND_VIP_V6, ICMPV6_ECHO, b"ping"))),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="an ICMP error that quotes no flow of the VIP",
        make=always(
            chained(ipv4(ROUTER, BOUND_VIP, ICMP, icmp(ICMP_UNREACHABLE, _NOT_OF_THE_VIP)))
        ),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="ICMPv6 inside IPv4",
        make=always(chained(ipv4(CLIENT, BOUND_VIP, ICMPV6, bytes(8)))),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="another protocol",
        make=always(chained(ipv4(CLIENT, BOUND_VIP, 89, bytes(24)))),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="half a TCP header",
        make=always(chained(ipv4(CLIENT, BOUND_VIP, TCP, bytes(8)))),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="half a UDP header",
        make=always(chained(ipv4(CLIENT, BOUND_VIP, UDP, bytes(4)))),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="half an ICMP header",
        make=always(chained(ipv4(CLIENT, BOUND_VIP, ICMP, bytes(4)))),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="a later fragment",
        make=always(chained(ipv4(CLIENT, BOUND_VIP, UDP, bytes(24), fragment=3))),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="a later fragment of IPv6",
        make=always(
            chained(
                ipv6(
                    CLIENT_V6,
                    BOUND_VIP_V6,
                    FRAGMENT,
                    fragment_header(UDP, 3, more=False) + bytes(16),
                )
            )
        ),
    ),
    ChainCase(
        verdict="HANDED_ON",
        name="a later fragment whose first one was handed on",
        make=always(chained(part(2))),
        before=chained(part(0)),
    ),
    ChainCase(
        verdict="HANDED_ON",
        name="a later fragment of IPv6 whose first one was handed on",
        make=always(chained(part_v6(2))),
        before=chained(part_v6(0)),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="a later fragment whose first one stayed",
        make=always(chained(part(2, client=STAYING))),
        before=chained(part(0, client=STAYING), tried=1),
    ),
    ChainCase(
        verdict="PASSED_UNASKED",
        name="extension headers beyond the packet",
        make=always(chained(ipv6(CLIENT_V6, BOUND_VIP_V6, 0, bytes([TCP, 9])))),
    ),
)

_DROPPED = (
    ChainCase(
        verdict="DROPPED_NOT_BOUND",
        name="a VIP that is bound nowhere",
        make=always(chained(ipv4(CLIENT, OTHER, TCP, tcp(40000, 80)), tried=1)),
    ),
    ChainCase(
        verdict="DROPPED_NOT_PEER",
        name="a candidate that is no real of the site",
        make=always(chained(_STRAY, STRANGER)),
    ),
    ChainCase(
        verdict="DROPPED_TTL", name="the last hop", make=always(chained(_STRAY, OTHER_REAL, ttl=1))
    ),
    ChainCase(
        verdict="DROPPED_TTL",
        name="the last hop of IPv6",
        make=always(chained(_STRAY, OTHER_REAL_V6, ttl=1)),
    ),
    ChainCase(
        verdict="DROPPED_TOO_BIG",
        name="a way with a small MTU",
        make=always(chained(_STRAY, NARROW_REAL)),
    ),
    ChainCase(
        verdict="DROPPED_NO_WAY",
        name="a real that nobody knows the way to",
        make=always(chained(_STRAY, SILENT_REAL)),
    ),
    ChainCase(
        verdict="DROPPED_NO_HEADROOM",
        name="no room for tags",
        make=always(chained(_STRAY, TAGGED_REAL)),
        metadata=OCCUPIED_HEADROOM,
    ),
    *(
        ChainCase(
            verdict="DROPPED_CHAIN_MALFORMED",
            name=name,
            make=always(chained(_STRAY, options=octets)),
        )
        for name, octets in (
            ("no candidate", bytes([0xC1, 0, 0, 4]) + bytes(8)),
            ("too many candidates", bytes([0xC1, 0, 5, 4]) + bytes(24)),
            ("more had it than there are", chain(OTHER_REAL, tried=2)),
            ("candidates of another family", chain(OTHER_REAL_V6)),
            ("candidates beyond the options", bytes([0xC1, 0, 2, 4]) + bytes(8)),
        )
    ),
    ChainCase(
        verdict="DROPPED_GUE_SHORT",
        name="a frame that ends within the chain",
        make=always(chained(_STRAY)[: 14 + 20 + 12 + 6]),
    ),
    ChainCase(
        verdict="PASSED_UNWRAPPED",
        name="private data of another kind",
        make=always(chained(_STRAY, options=chain(OTHER_REAL, kind=0x01))),
    ),
    ChainCase(
        verdict="PASSED_UNWRAPPED",
        name="private data that is shorter than a chain",
        make=always(chained(_STRAY, options=bytes([0xC1, 0, 0, 0]))),
    ),
)

CHAIN_FAULTS = (*_UNASKED, *_DROPPED)
