"""Cases of the self test off the common path: ICMP, fragments, extension headers.

Owns the packets and their verdicts; bpf/selftest.py runs them with its own. Pure.
"""

from bpf.packets import (
    ICMP,
    ICMPV6,
    MORE_FRAGMENTS,
    TCP,
    UDP,
    ethernet,
    fragment_header,
    frame_of,
    icmp,
    icmpv6,
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
    OTHER,
    OTHER_V6,
    Balancer,
    Case,
)
from bpf.workbench import TUNNEL_SOURCE, TUNNEL_SOURCE_V6

ROUTER, ROUTER_V6 = "203.0.113.1", "2001:db8:f::1"  # on the way to the client: errors are theirs
ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
TOO_BIG_V6, ECHO_V6, ECHO_REPLY_V6 = 2, 128, 129
FRAG_NEEDED = 4
HOP_BY_HOP, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 44, 51, 60
NEVER = 1 << 62  # a moment of the clock that will not come
FIRST_PART, LATER_PART = udp(40000, 53, bytes(24)), bytes(16)


def extension(following: int, units: int = 0) -> bytes:
    """A hop-by-hop or destination header: eight bytes, and `units` of eight more."""
    return bytes([following, units]) + bytes(6 + 8 * units)


def ping(
    source: str = CLIENT, destination: str = BOUND_VIP, *, fragment: int = 0, options: bytes = b""
) -> bytes:
    """An echo request."""
    return ethernet(
        ipv4(
            source, destination, ICMP, icmp(ECHO, b"are you there?", rest=0x00070001),
            fragment=fragment, options=options,
        )
    )  # fmt: skip


def from_vip(protocol: int = TCP, *, source: str = BOUND_VIP, fragment: int = 0) -> bytes:
    """What a real sent to the client of `client_tcp(1)`: its ports are the other way round."""
    segment = tcp(80, 40000) if protocol == TCP else udp(53, 40000, b"answer")
    return ipv4(source, CLIENT, protocol, segment, fragment=fragment)


def error(quote: bytes, *, kind: int = UNREACHABLE, code: int = FRAG_NEEDED) -> bytes:
    """An ICMP error to the VIP from a router on the way."""
    message = icmp(kind, quote, code=code, rest=1400)
    return ethernet(ipv4(ROUTER, BOUND_VIP, ICMP, message))


def with_spent_replies(balancer: Balancer) -> None:
    """As many answers as a core may give were given."""
    balancer.write_buckets(refilled_ns=NEVER)


def ping_v6(source: str = CLIENT_V6, destination: str = BOUND_VIP_V6) -> bytes:
    """An echo request."""
    return frame_of(icmpv6(source, destination, ECHO_V6, b"are you there?", rest=0x00070001))


def error_v6(quote: bytes, *, kind: int = TOO_BIG_V6) -> bytes:
    """An ICMPv6 error to the VIP from a router on the way."""
    return frame_of(icmpv6(ROUTER_V6, BOUND_VIP_V6, kind, quote, rest=1400))


def from_vip_v6(payload: bytes, protocol: int = TCP, *, source: str = BOUND_VIP_V6) -> bytes:
    """What a real sent to the client."""
    return ipv6(source, CLIENT_V6, protocol, payload)


def first_fragment(destination: str = BOUND_VIP) -> bytes:
    """The first fragment of a datagram, with its ports."""
    return ethernet(ipv4(CLIENT, destination, UDP, FIRST_PART, fragment=MORE_FRAGMENTS))


def later_fragment(destination: str = BOUND_VIP) -> bytes:
    """The last fragment of the same datagram."""
    return ethernet(ipv4(CLIENT, destination, UDP, LATER_PART, fragment=len(FIRST_PART) // 8))


def first_fragment_v6() -> bytes:
    """The same over IPv6."""
    head = fragment_header(UDP, 0, more=True)
    return frame_of(ipv6(CLIENT_V6, BOUND_VIP_V6, FRAGMENT, head + FIRST_PART))


def later_fragment_v6(destination: str = BOUND_VIP_V6) -> bytes:
    """The same over IPv6."""
    head = fragment_header(UDP, len(FIRST_PART) // 8, more=False)
    return frame_of(ipv6(CLIENT_V6, destination, FRAGMENT, head + LATER_PART))


def extended(headers: bytes, *, first: int, destination: str = BOUND_VIP_V6) -> bytes:
    """TCP to port 80 behind extension headers."""
    return frame_of(ipv6(CLIENT_V6, destination, first, headers + tcp(40000, 80)))


def with_first_fragment(balancer: Balancer) -> None:
    """The datagram's first fragment went through, in either family."""
    for frame in (first_fragment(), first_fragment_v6()):
        balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)


ICMP_CASES = (
    Case(
        verdict="PASSED_ICMP",
        name="a ping of the edge itself",
        frame=ping(destination=TUNNEL_SOURCE),
    ),
    Case(
        verdict="PASSED_ICMP",
        name="neighbour discovery",
        frame=frame_of(icmpv6(CLIENT_V6, "ff02::1:ff00:1", 135, bytes(16))),
    ),
    Case(
        verdict="PASSED_ICMP",
        name="a ping of the edge itself, IPv6",
        frame=ping_v6(destination=TUNNEL_SOURCE_V6),
    ),
    Case(verdict="ANSWERED_PING", name="a ping of an IPv6 VIP", frame=ping_v6()),
    Case(
        verdict="DROPPED_REPLY_RATE",
        name="one ping too many, IPv6",
        frame=ping_v6(),
        before=with_spent_replies,
    ),
    Case(verdict="DROPPED_ICMP", name="a ping from an IPv6 VIP", frame=ping_v6(BOUND_VIP_V6)),
    Case(verdict="DROPPED_ICMP", name="a ping from an IPv6 group", frame=ping_v6("ff02::1")),
    Case(verdict="DROPPED_ICMP", name="a ping from no address", frame=ping_v6("::")),
    Case(verdict="DROPPED_ICMP", name="a ping from IPv6 loopback", frame=ping_v6("::1")),
    Case(
        verdict="DROPPED_ICMP",
        name="a ping behind an extension header",
        frame=frame_of(
            ipv6(CLIENT_V6, BOUND_VIP_V6, DESTINATION, extension(ICMPV6) + bytes([128]) + bytes(7))
        ),
    ),
    Case(
        verdict="DROPPED_ICMP",
        name="an IPv6 echo reply to a VIP",
        frame=frame_of(icmpv6(CLIENT_V6, BOUND_VIP_V6, ECHO_REPLY_V6, b"here")),
    ),
    Case(
        verdict="FORWARDED_ICMP",
        name="packet too big, with eight bytes of TCP",
        frame=error_v6(from_vip_v6(tcp(80, 40000))[:48]),
    ),
    Case(
        verdict="FORWARDED_ICMP",
        name="an error that quotes a first fragment",
        frame=error_v6(from_vip_v6(fragment_header(UDP, 0, more=True) + udp(53, 40000), FRAGMENT)),
    ),
    Case(
        verdict="DROPPED_QUOTE",
        name="seven bytes of TCP over IPv6",
        frame=error_v6(from_vip_v6(tcp(80, 40000))[:47]),
    ),
    Case(
        verdict="DROPPED_QUOTE",
        name="a quote of a later IPv6 fragment",
        frame=error_v6(from_vip_v6(fragment_header(UDP, 1, more=False) + udp(53, 40000), FRAGMENT)),
    ),
    Case(
        verdict="DROPPED_QUOTE",
        name="a quote of another IPv6 host's packet",
        frame=error_v6(from_vip_v6(tcp(80, 40000), source=ROUTER_V6)),
    ),
    Case(verdict="ANSWERED_PING", name="a ping of a VIP", frame=ping()),
    Case(
        verdict="DROPPED_REPLY_RATE",
        name="one ping too many",
        frame=ping(),
        before=with_spent_replies,
    ),
    Case(verdict="DROPPED_ICMP", name="a ping from a VIP to itself", frame=ping(BOUND_VIP)),
    Case(verdict="DROPPED_ICMP", name="a ping from everybody", frame=ping("255.255.255.255")),
    Case(verdict="DROPPED_ICMP", name="a ping from a group", frame=ping("224.0.0.1")),
    Case(verdict="DROPPED_ICMP", name="a ping from loopback", frame=ping("127.0.0.1")),
    Case(verdict="DROPPED_ICMP", name="a ping from nobody", frame=ping("0.0.0.0")),
    Case(verdict="DROPPED_ICMP", name="a ping in fragments", frame=ping(fragment=MORE_FRAGMENTS)),
    Case(verdict="DROPPED_ICMP", name="a ping with a route", frame=ping(options=IP_OPTIONS)),
    Case(
        verdict="DROPPED_ICMP",
        name="an echo reply to a VIP",
        frame=ethernet(ipv4(CLIENT, BOUND_VIP, ICMP, icmp(ECHO_REPLY, b"here"))),
    ),
    Case(
        verdict="DROPPED_ICMP",
        name="half an ICMP header",
        frame=ethernet(ipv4(CLIENT, BOUND_VIP, ICMP, bytes(4))),
    ),
    Case(
        verdict="FORWARDED_ICMP",
        name="fragmentation needed, with eight bytes of TCP",
        frame=error(from_vip()[:28]),
    ),
    Case(verdict="FORWARDED_ICMP", name="an error that quotes UDP", frame=error(from_vip(UDP))),
    Case(
        verdict="FORWARDED_ICMP",
        name="time exceeded",
        frame=error(from_vip(), kind=TIME_EXCEEDED, code=0),
    ),
    Case(verdict="DROPPED_QUOTE", name="seven bytes of TCP", frame=error(from_vip()[:27])),
    Case(
        verdict="DROPPED_QUOTE",
        name="a quote of a later fragment",
        frame=error(from_vip(fragment=1)),
    ),
    Case(
        verdict="DROPPED_QUOTE",
        name="a quote of another host's packet",
        frame=error(from_vip(source=ROUTER)),
    ),
    Case(
        verdict="DROPPED_QUOTE",
        name="a quote of neither TCP nor UDP",
        frame=error(ipv4(BOUND_VIP, CLIENT, 89, bytes(24))),
    ),
)

FRAGMENT_CASES = (
    Case(verdict="FORWARDED_NEW", name="a first fragment", frame=first_fragment()),
    Case(verdict="FORWARDED_NEW", name="a first IPv6 fragment", frame=first_fragment_v6()),
    Case(
        verdict="FORWARDED_FRAGMENT",
        name="a later fragment",
        frame=later_fragment(),
        before=with_first_fragment,
    ),
    Case(
        verdict="FORWARDED_FRAGMENT",
        name="a later IPv6 fragment",
        frame=later_fragment_v6(),
        before=with_first_fragment,
    ),
    Case(verdict="DROPPED_FRAGMENT", name="a later fragment alone", frame=later_fragment()),
    Case(verdict="DROPPED_FRAGMENT", name="a later IPv6 one alone", frame=later_fragment_v6()),
    Case(
        verdict="PASSED_NOT_VIP",
        name="a first fragment for the edge itself",
        frame=first_fragment(OTHER),
    ),
    Case(
        verdict="PASSED_NOT_VIP",
        name="a later fragment for the edge itself",
        frame=later_fragment(OTHER),
    ),
    Case(
        verdict="PASSED_NOT_VIP",
        name="a later IPv6 fragment for the edge itself",
        frame=later_fragment_v6(OTHER_V6),
    ),
)

EXTENSION_CASES = (
    Case(
        verdict="FORWARDED_NEW",
        name="hop-by-hop and destination options",
        frame=extended(extension(DESTINATION) + extension(TCP, 2), first=HOP_BY_HOP),
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="an authentication header",
        frame=extended(bytes([TCP, 4]) + bytes(22), first=AUTHENTICATION),
    ),
    Case(
        verdict="FORWARDED_NEW",
        name="a fragment that is the whole datagram",
        frame=extended(fragment_header(TCP, 0, more=False), first=FRAGMENT),
    ),
    Case(
        verdict="DROPPED_EXTENSIONS",
        name="too many extension headers",
        frame=extended(extension(DESTINATION) * 6 + extension(TCP), first=DESTINATION),
    ),
    Case(
        verdict="DROPPED_EXTENSIONS",
        name="an extension header beyond the frame",
        frame=extended(extension(TCP)[:1] + bytes([255]) + bytes(6), first=DESTINATION),
    ),
    Case(
        verdict="PASSED_NOT_VIP",
        name="extension headers for the edge itself",
        frame=extended(extension(DESTINATION) * 7, first=DESTINATION, destination=OTHER_V6),
    ),
    Case(
        verdict="DROPPED_NO_SERVICE",
        name="no next header",
        frame=extended(extension(59), first=DESTINATION),
    ),
)

UNUSUAL_CASES = (*ICMP_CASES, *FRAGMENT_CASES, *EXTENSION_CASES)
