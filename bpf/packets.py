"""Frames for tests of the data plane: built from parts, and read back into fields.

Owns the writing and reading of Ethernet, IPv4, TCP, UDP and GUE bytes for the self test, the tests
and the benchmark. Pure; never on the way of a client's packet.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_ARP = 0x0806
ETHERTYPE_VLAN = 0x8100
ICMP, IPIP, TCP, UDP = 1, 4, 6, 17
SYN, ACK, FIN = 0x02, 0x10, 0x01
DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000
ETHERNET_BYTES = 14
GUE_PORT = 6080


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipv4:
    """An IPv4 packet read back. `checksum_ok` is the header's; `payload` is cut to the length."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    ttl: int
    tos: int
    fragment: int
    checksum_ok: bool
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A tunnel frame read back: the outer packet, UDP ports and length, GUE word, inner packet."""

    outer: Ipv4
    source_port: int
    destination_port: int
    udp_length: int
    udp_checksum: int
    gue: bytes
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


def tcp(source_port: int, destination_port: int, flags: int = ACK, payload: bytes = b"") -> bytes:
    """A TCP segment; its checksum is left 0, nothing here reads it."""
    head = struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 1, 0x50, flags, 512, 0, 0)
    return head + payload


def udp(source_port: int, destination_port: int, payload: bytes = b"") -> bytes:
    """A datagram without a checksum, which IPv4 allows."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def gue(inner: bytes, *, first: int = 0, protocol: int = IPIP, options: bytes = b"") -> bytes:
    """A GUE header and what it carries; `first` is the variant, control bit and hlen."""
    return struct.pack("!BBH", first | len(options) // 4, protocol, 0) + options + inner


def read_ipv4(packet: bytes) -> Ipv4:
    """The fields of a packet; bytes after its total length are left out."""
    first, tos, length, _, fragment, ttl, protocol, _ = struct.unpack_from("!BBHHHBBH", packet)
    header = (first & 0xF) * 4
    return Ipv4(
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
    """The layers of a tunnel frame without GUE options."""
    outer = read_ipv4(frame[ETHERNET_BYTES:])
    source, destination, length, total = struct.unpack_from("!HHHH", outer.payload)
    return Wrapped(
        outer=outer,
        source_port=source,
        destination_port=destination,
        udp_length=length,
        udp_checksum=total,
        gue=outer.payload[8:12],
        inner=outer.payload[12:],
    )


def one_hop_older(packet: bytes) -> bytes:
    """The packet as a router would hand it on: TTL less one, checksum right."""
    header = (packet[0] & 0xF) * 4
    aged = packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + b"\0\0" + packet[12:header]
    return aged[:10] + struct.pack("!H", checksum(aged)) + aged[12:] + packet[header:]
