"""Cases of the self test about what the edge tells clients by ICMP: packets too big, no hop left.

Owns the packets and their verdicts; bpf/selftest.py runs them with its own. Pure.
"""

from bpf.option_cases import TWO_TUPLE, vip
from bpf.packets import (
    DONT_FRAGMENT,
    MORE_FRAGMENTS,
    TCP,
    UDP,
    ethernet,
    frame_of,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from bpf.trial import (
    BOUND_VIP,
    BOUND_VIP_V6,
    CLIENT,
    CLIENT_V6,
    IP_OPTIONS,
    TUNNEL_MTU,
    Case,
)
from bpf.unusual_cases import error, from_vip, ping, with_spent_replies

FITS = TUNNEL_MTU - 32  # of the client's packet, in GUE over IPv4


def sized(ip_bytes: int, *, fragment: int = DONT_FRAGMENT, source: str = CLIENT) -> bytes:
    """TCP over IPv4 in a packet of so many bytes."""
    segment = tcp(40000, 80, payload=bytes(ip_bytes - 40))
    return ethernet(ipv4(source, BOUND_VIP, TCP, segment, fragment=fragment))


def sized_v6(ip_bytes: int) -> bytes:
    """TCP over IPv6 in a packet of so many bytes."""
    segment = tcp(40000, 80, payload=bytes(ip_bytes - 60))
    return frame_of(ipv6(CLIENT_V6, BOUND_VIP_V6, TCP, segment))


def expiring(
    *,
    ttl: int = 1,
    source: str = CLIENT,
    destination: str = BOUND_VIP,
    fragment: int = DONT_FRAGMENT,
    options: bytes = b"",
) -> bytes:
    """UDP over IPv4 with hardly a hop left."""
    datagram = bytes(16) if 0 < fragment < MORE_FRAGMENTS else udp(40000, 53, b"question")
    packet = ipv4(source, destination, UDP, datagram, ttl=ttl, fragment=fragment, options=options)
    return ethernet(packet)


def expiring_v6(*, ttl: int = 1, source: str = CLIENT_V6) -> bytes:
    """TCP over IPv6 with hardly a hop left."""
    return frame_of(ipv6(source, BOUND_VIP_V6, TCP, tcp(40000, 80), ttl=ttl))


def last_hop(frame: bytes) -> bytes:
    """An IPv4 frame without options as it is with TTL 1; its header checksum grows by as much."""
    ttl, check = frame[22], int.from_bytes(frame[24:26], "big")
    check += (ttl - 1) << 8
    check = (check & 0xFFFF) + (check >> 16)
    return frame[:22] + b"\1" + frame[23:24] + check.to_bytes(2, "big") + frame[26:]


SIZE_CASES = (
    Case(verdict="ANSWERED_TOO_BIG", name="one byte above the MTU", frame=sized(FITS + 1)),
    Case(verdict="ANSWERED_TOO_BIG", name="one byte above, IPv6", frame=sized_v6(FITS + 1)),
    Case(verdict="FORWARDED_NEW", name="exactly the MTU, IPv6", frame=sized_v6(FITS)),
    Case(
        verdict="DROPPED_TOO_BIG",
        name="a packet that its sender let be fragmented",
        frame=sized(FITS + 1, fragment=0),
    ),
    Case(
        verdict="DROPPED_TOO_BIG",
        name="from a group",
        frame=sized(FITS + 1, source="239.0.0.1"),
    ),
    Case(
        verdict="DROPPED_TOO_BIG",
        name="an ICMP error about nothing that was sent",
        frame=error(from_vip() + bytes(FITS)),
    ),
    Case(
        verdict="DROPPED_REPLY_RATE",
        name="one too many that is too big",
        frame=sized(FITS + 1),
        before=with_spent_replies,
    ),
    Case(
        verdict="DROPPED_REPLY_RATE",
        name="one too many that is too big, IPv6",
        frame=sized_v6(FITS + 1),
        before=with_spent_replies,
    ),
)

HOP_CASES = (
    Case(verdict="ANSWERED_TIME_EXCEEDED", name="TTL 1", frame=expiring()),
    Case(verdict="ANSWERED_TIME_EXCEEDED", name="TTL 0", frame=expiring(ttl=0)),
    Case(verdict="ANSWERED_TIME_EXCEEDED", name="hop limit 1", frame=expiring_v6()),
    Case(verdict="ANSWERED_TIME_EXCEEDED", name="hop limit 0", frame=expiring_v6(ttl=0)),
    Case(
        verdict="ANSWERED_TIME_EXCEEDED",
        name="TTL 1 and IPv4 options",
        frame=expiring(options=IP_OPTIONS),
    ),
    Case(
        verdict="ANSWERED_TIME_EXCEEDED",
        name="a first fragment with TTL 1",
        frame=expiring(fragment=MORE_FRAGMENTS),
    ),
    Case(verdict="FORWARDED_NEW", name="TTL 2", frame=expiring(ttl=2)),
    Case(verdict="FORWARDED_NEW", name="hop limit 2", frame=expiring_v6(ttl=2)),
    Case(verdict="ANSWERED_PING", name="a ping that need go no further", frame=last_hop(ping())),
    Case(
        verdict="DROPPED_TTL",
        name="a later fragment with TTL 1",
        frame=expiring(destination=vip(TWO_TUPLE), fragment=1),
    ),
    Case(
        verdict="DROPPED_TTL",
        name="an ICMP error with TTL 1",
        frame=last_hop(error(from_vip())),
    ),
    Case(verdict="DROPPED_TTL", name="TTL 1 from a group", frame=expiring(source="239.0.0.1")),
    Case(verdict="DROPPED_TTL", name="hop limit 1 from nobody", frame=expiring_v6(source="::")),
    Case(
        verdict="DROPPED_REPLY_RATE",
        name="one too many with TTL 1",
        frame=expiring(),
        before=with_spent_replies,
    ),
    Case(
        verdict="DROPPED_REPLY_RATE",
        name="one too many with hop limit 1",
        frame=expiring_v6(),
        before=with_spent_replies,
    ),
)

ICMP_ERROR_CASES = (*SIZE_CASES, *HOP_CASES)
