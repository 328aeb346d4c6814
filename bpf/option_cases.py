"""Cases of the self test about what a VIP may choose: fallbacks, affinity, flows of two addresses.

Owns the packets and their verdicts; bpf/selftest.py runs them with its own. Pure.
"""

from bpf.packets import (
    ACK,
    MORE_FRAGMENTS,
    RST,
    SYN,
    TCP,
    UDP,
    frame_of,
    ip,
    ipv4,
    ipv6,
    quic,
    tcp,
    udp,
)
from bpf.trial import CLIENT, CLIENT_V6, QUIC_ROTATION, QUIC_SERVER_ID, Case
from bpf.unusual_cases import DESTINATION, extension, with_spent_replies

NONE_PASSED, NONE_RESET, TWO_TUPLE, BY_SOURCE, BY_ID = 19, 20, 21, 22, 23  # services of bpf.trial


def vip(octet: int) -> str:
    """The IPv4 address of a service."""
    return f"192.0.2.{octet}"


def vip_v6(octet: int) -> str:
    """The IPv6 address of a service."""
    return f"2001:db8::{octet:x}"


def segment(octet: int, flags: int = ACK, *, client: str = CLIENT) -> bytes:
    """TCP to port 80 of a service."""
    return frame_of(ip(client, vip(octet), TCP, tcp(40000, 80, flags)))


def segment_v6(octet: int, flags: int = ACK) -> bytes:
    """TCP to port 80 of a service over IPv6."""
    return frame_of(ip(CLIENT_V6, vip_v6(octet), TCP, tcp(40000, 80, flags)))


def fragment(octet: int, offset: int) -> bytes:
    """UDP in fragments; only the first has ports."""
    payload = bytes(16) if offset else udp(40000, 53, bytes(8))
    bits = offset or MORE_FRAGMENTS
    return frame_of(ipv4(CLIENT, vip(octet), UDP, payload, fragment=bits))


def connection_id(server_id: int = QUIC_SERVER_ID, rotation: int = QUIC_ROTATION) -> bytes:
    """A server's connection id: configuration, server id, a nonce."""
    return bytes([rotation << 5 | 7]) + server_id.to_bytes(2, "big") + b"nonce"


def datagram(payload: bytes, *, client: str = CLIENT) -> bytes:
    """UDP to the service that reads connection ids."""
    address = vip(BY_ID) if client == CLIENT else vip_v6(BY_ID)
    return frame_of(ip(client, address, UDP, udp(40000, 443, payload)))


OPTION_CASES = (
    Case(
        verdict="FORWARDED_QUIC",
        name="a short header",
        frame=datagram(quic(connection_id())),
    ),
    Case(
        verdict="FORWARDED_QUIC",
        name="a short header over IPv6",
        frame=datagram(quic(connection_id()), client=CLIENT_V6),
    ),
    Case(
        verdict="FORWARDED_QUIC",
        name="a long header",
        frame=datagram(quic(connection_id(), long_header=True)),
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a server id of nobody",
        frame=datagram(quic(connection_id(server_id=9))),
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="another configuration",
        frame=datagram(quic(connection_id(rotation=7))),
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a connection id too short for a server id",
        frame=datagram(quic(connection_id()[:2], long_header=True)),
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a datagram that ends in the server id",
        frame=datagram(quic(connection_id()[:2], payload=b"")),
    ),
    Case(verdict="FORWARDED_NEW", name="an empty datagram", frame=datagram(b"")),
    Case(
        verdict="FORWARDED_NEW",
        name="half a long header",
        frame=datagram(quic(b"", long_header=True)[:4]),
    ),
    Case(verdict="PASSED_NO_REAL", name="no real, the edge serves", frame=segment(NONE_PASSED)),
    Case(verdict="ANSWERED_RESET", name="no real, a SYN", frame=segment(NONE_RESET, SYN)),
    Case(verdict="ANSWERED_RESET", name="no real, an ACK", frame=segment(NONE_RESET)),
    Case(verdict="ANSWERED_RESET", name="no real, over IPv6", frame=segment_v6(NONE_RESET, SYN)),
    Case(verdict="DROPPED_NO_REAL", name="a reset is not reset", frame=segment(NONE_RESET, RST)),
    Case(
        verdict="DROPPED_NO_REAL",
        name="a reset over IPv6 is not reset",
        frame=segment_v6(NONE_RESET, RST),
    ),
    Case(
        verdict="DROPPED_NO_REAL",
        name="everybody is not reset",
        frame=segment(NONE_RESET, client="255.255.255.255"),
    ),
    Case(
        verdict="DROPPED_NO_REAL",
        name="behind an extension header",
        frame=frame_of(
            ipv6(CLIENT_V6, vip_v6(NONE_RESET), DESTINATION, extension(TCP) + tcp(40000, 80))
        ),
    ),
    Case(
        verdict="DROPPED_NO_REAL",
        name="UDP is not reset",
        frame=frame_of(ip(CLIENT, vip(NONE_RESET), UDP, udp(40000, 53, b"question"))),
    ),
    Case(
        verdict="DROPPED_REPLY_RATE",
        name="one reset too many",
        frame=segment(NONE_RESET, SYN),
        before=with_spent_replies,
    ),
    Case(
        verdict="DROPPED_REPLY_RATE",
        name="one reset too many over IPv6",
        frame=segment_v6(NONE_RESET, SYN),
        before=with_spent_replies,
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a later fragment alone, of two addresses",
        frame=fragment(TWO_TUPLE, 4),
    ),
    Case(verdict="FORWARDED_NEW", name="affinity by source", frame=segment(BY_SOURCE)),
)
