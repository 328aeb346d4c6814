"""Frames for tests of the data plane: built from parts, and read back into fields.

Owns the writing and reading of Ethernet, IPv4, IPv6, TCP, UDP and GUE bytes for the self test, the
tests and the benchmark. Pure; never on the way of a client's packet.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_ARP = 0x0806
ETHERTYPE_VLAN = 0x8100
ETHERTYPE_SERVICE_VLAN = 0x88A8
ICMP, IPIP, TCP, UDP, IPV6, ICMPV6 = 1, 4, 6, 17, 41, 58
SYN, ACK, FIN, RST = 0x02, 0x10, 0x01, 0x04
DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000
ETHERNET_BYTES = 14
GUE_PORT = 6080
CHAIN_KIND = 0xC1  # of an owner chain in GUE's private data (chain.h)
GUE_HLEN_BITS = 0x1F  # of the first octet: words of options


@dataclass(frozen=True, slots=True, kw_only=True)
class Ip:
    """A packet read back. `payload` is cut to the length.

    IPv6 has no `fragment` and no checksum, which is then right; its traffic class is `tos`.
    """

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int
    ttl: int
    tos: int
    fragment: int
    checksum_ok: bool
    payload: bytes
    flow_label: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A tunnel frame read back: outer packet, UDP ports and length, GUE and its options, inner."""

    outer: Ip
    source_port: int
    destination_port: int
    udp_length: int
    udp_checksum: int
    gue: bytes
    options: bytes
    inner: bytes


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071); 0 over a header whose checksum is right."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(payload: bytes, ethertype: int = ETHERTYPE_IPV4) -> bytes:
    """A frame from one locally administered address to another."""
    return (
        bytes.fromhex("020000000001")
        + bytes.fromhex("02000000000a")
        + struct.pack("!H", ethertype)
        + payload
    )


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    fragment: int = DONT_FRAGMENT,
    options: bytes = b"",
) -> bytes:
    """A packet with a right header checksum; `options` are whole words."""
    words = 5 + len(options) // 4
    length = words * 4 + len(payload)
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    head = struct.pack("!BBHHHBBH", 0x40 | words, tos, length, 0x1234, fragment, ttl, protocol, 0)
    total = checksum(head + addresses + options)
    return head[:10] + struct.pack("!H", total) + addresses + options + payload


def ipv6(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    flow_label: int = 0,
) -> bytes:
    """A packet without extension headers, unless `payload` begins with some."""
    first = 6 << 28 | tos << 20 | flow_label
    head = struct.pack("!IHBB", first, len(payload), protocol, ttl)
    return head + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """A packet of the family that the addresses are of."""
    build = ipv4 if ip_address(destination).version == 4 else ipv6
    return build(source, destination, protocol, payload)


def frame_of(packet: bytes) -> bytes:
    """The frame of an IP packet, of the ethertype that its version tells."""
    return ethernet(packet, ETHERTYPE_IPV4 if packet[0] >> 4 == 4 else ETHERTYPE_IPV6)


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """The frame with VLAN tags, outer first; each is its EtherType and its 16 bits."""
    return frame[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[12:]


def with_checksum(packet: bytes) -> bytes:
    """The packet of TCP or UDP, without extension headers, with its transport checksum right."""
    read = read_ip(packet)
    at = 16 if read.protocol == TCP else 6
    payload = read.payload[:at] + b"\0\0" + read.payload[at + 2 :]
    total = checksum(pseudo_header(read) + payload) or 0xFFFF
    start = len(packet) - len(payload)
    return packet[:start] + payload[:at] + struct.pack("!H", total) + payload[at + 2 :]


def pseudo_header(packet: Ip) -> bytes:
    """What a TCP or UDP checksum covers besides the segment (RFC 9293, 768, 8200)."""
    shape = "!BBH" if packet.source.version == 4 else "!I3xB"
    length, protocol = len(packet.payload), packet.protocol
    tail = struct.pack(shape, *((0, protocol, length) if shape[1] == "B" else (length, protocol)))
    return packet.source.packed + packet.destination.packed + tail


def tcp(
    source_port: int,
    destination_port: int,
    flags: int = ACK,
    payload: bytes = b"",
    *,
    sequence: int = 1,
    acknowledged: int = 1,
) -> bytes:
    """A TCP segment; its checksum is left 0, nothing here reads it."""
    numbers = sequence, acknowledged
    head = struct.pack(
        "!HHIIBBHHH", source_port, destination_port, *numbers, 0x50, flags, 512, 0, 0
    )
    return head + payload


def udp(source_port: int, destination_port: int, payload: bytes = b"") -> bytes:
    """A datagram without a checksum, which IPv4 allows."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def icmp(kind: int, body: bytes, *, code: int = 0, rest: int = 0) -> bytes:
    """An ICMP message with a right checksum; `body` is what an error quotes, or a ping's data."""
    head = struct.pack("!BBHI", kind, code, 0, rest)
    return head[:2] + struct.pack("!H", checksum(head + body)) + head[4:] + body


def icmpv6(source: str, destination: str, kind: int, body: bytes, *, rest: int = 0) -> bytes:
    """An IPv6 packet with an ICMPv6 message whose checksum is right."""
    message = struct.pack("!BBHI", kind, 0, 0, rest) + body
    total = checksum(pseudo_header(read_ipv6(ipv6(source, destination, ICMPV6, message))) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    return ipv6(source, destination, ICMPV6, message)


def quic(connection_id: bytes, *, long_header: bool = False, payload: bytes = bytes(20)) -> bytes:
    """A QUIC packet for `connection_id` (RFC 8999); its payload is not protected."""
    if long_header:
        return b"\xc3\0\0\0\1" + bytes([len(connection_id)]) + connection_id + b"\0" + payload
    return b"\x43" + connection_id + payload


def fragment_header(protocol: int, offset: int, *, more: bool, datagram: int = 7) -> bytes:
    """The IPv6 fragment extension header; `offset` in units of eight bytes."""
    return struct.pack("!BBHI", protocol, 0, offset << 3 | more, datagram)


def gue(inner: bytes, *, first: int = 0, protocol: int = IPIP, options: bytes = b"") -> bytes:
    """A GUE header and what it carries; `first` is the variant, control bit and hlen."""
    return struct.pack("!BBH", first | len(options) // 4, protocol, 0) + options + inner


def chain(*candidates: str, tried: int = 0, generation: int = 1, kind: int = CHAIN_KIND) -> bytes:
    """An owner chain for GUE's private data; the first `tried` candidates have had the packet."""
    addresses = [ip_address(candidate).packed for candidate in candidates]
    octets = len(addresses[0])
    head = struct.pack("!BBBBI", kind, tried, len(addresses), octets, generation)
    return head + b"".join(addresses)


def read_ip(packet: bytes) -> Ip:
    """The fields of a packet of either family."""
    return read_ipv4(packet) if packet[0] >> 4 == 4 else read_ipv6(packet)


def read_ipv6(packet: bytes) -> Ip:
    """The fields of an IPv6 packet; bytes after its length are left out."""
    first, length, protocol, ttl = struct.unpack_from("!IHBB", packet)
    return Ip(
        source=IPv6Address(packet[8:24]),
        destination=IPv6Address(packet[24:40]),
        protocol=protocol,
        ttl=ttl,
        tos=first >> 20 & 0xFF,
        fragment=0,
        checksum_ok=True,
        payload=packet[40 : 40 + length],
        flow_label=first & 0xFFFFF,
    )


def read_ipv4(packet: bytes) -> Ip:
    """The fields of an IPv4 packet; bytes after its total length are left out."""
    first, tos, length, _, fragment, ttl, protocol, _ = struct.unpack_from("!BBHHHBBH", packet)
    header = (first & 0xF) * 4
    return Ip(
        source=IPv4Address(packet[12:16]),
        destination=IPv4Address(packet[16:20]),
        protocol=protocol,
        ttl=ttl,
        tos=tos,
        fragment=fragment,
        checksum_ok=checksum(packet[:header]) == 0,
        payload=packet[header:length],
    )


def read_wrapped(frame: bytes) -> Wrapped:
    """The layers of an untagged tunnel frame."""
    outer = read_ip(frame[ETHERNET_BYTES:])
    source, destination, length, total = struct.unpack_from("!HHHH", outer.payload)
    inner_at = 12 + (outer.payload[8] & GUE_HLEN_BITS) * 4
    return Wrapped(
        outer=outer,
        source_port=source,
        destination_port=destination,
        udp_length=length,
        udp_checksum=total,
        gue=outer.payload[8:12],
        options=outer.payload[12:inner_at],
        inner=outer.payload[inner_at:],
    )


def one_hop_older(packet: bytes) -> bytes:
    """The packet as a router would hand it on: TTL less one, checksum right."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes([packet[7] - 1]) + packet[8:]
    header = (packet[0] & 0xF) * 4
    aged = packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + b"\0\0" + packet[12:header]
    return aged[:10] + struct.pack("!H", checksum(aged)) + aged[12:] + packet[header:]
