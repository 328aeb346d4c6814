"""The headers of a frame, decoded one after the other for a person to read.

Owns the words of `waypost trace packet`. Called by `edge_lb.trace`; pure. Reads what the edge can
send, tunnels included, and stops at what it does not know or what is cut off.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from bpf.chain import read_chain
from bpf.packets import GUE_HLEN_BITS, GUE_PORT, checksum

IPIP, TCP, UDP, IPV6_IN_IP, ICMP, ICMPV6 = 4, 6, 17, 41, 1, 58
CHAIN_THEN = " then "  # between the candidates of an owner chain
TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
Decoded = tuple[dict[str, str], str, bytes]  # fields, the next layer's name, its bytes


@dataclass(frozen=True, slots=True)
class Layer:
    """One header; fields in their order on the wire."""

    name: str
    fields: dict[str, str]


def decode(frame: bytes) -> tuple[Layer, ...]:
    """Every header that is known, from Ethernet inwards."""
    found: list[Layer] = []
    name, rest = "ethernet", frame
    while name in _DECODERS:
        try:
            fields, following, rest = _DECODERS[name](rest)
        except (struct.error, ValueError):
            found.append(Layer(name, {"cut off": f"{len(rest)} bytes"}))
            break
        found.append(Layer(name, fields))
        name = following
    return tuple(found)


def chain_in(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """The addresses of the owner chain that a packet carries, in order."""
    told = (layer.fields.get("chain", "") for layer in layers if layer.name == "gue")
    return tuple(filter(None, next(told, "").split(CHAIN_THEN)))


def mac(octets: bytes) -> str:
    """A MAC address as people write it."""
    return octets.hex(":")


def _ethernet(data: bytes) -> Decoded:
    (kind,) = struct.unpack_from("!H", data, 12)
    fields = {"source": mac(data[6:12]), "destination": mac(data[:6])}
    return fields, _ETHERTYPES.get(kind, ""), data[14:]


def _vlan(data: bytes) -> Decoded:
    tag, kind = struct.unpack_from("!HH", data)
    fields = {"id": str(tag & 0xFFF), "priority": str(tag >> 13)}
    return fields, _ETHERTYPES.get(kind, ""), data[4:]


def _ipv4(data: bytes) -> Decoded:
    first, tos, length, _, fragment, ttl, protocol, _ = struct.unpack_from("!BBHHHBBH", data)
    header = (first & 0xF) * 4
    fields = {
        "source": str(IPv4Address(data[12:16])),
        "destination": str(IPv4Address(data[16:20])),
        "ttl": str(ttl),
        "dscp": str(tos >> 2),
        "length": str(length),
        "flags": "df" if fragment & 0x4000 else "",
        "checksum": "right" if checksum(data[:header]) == 0 else "wrong",
    }
    return fields, _PROTOCOLS.get(protocol, ""), data[header:length]


def _ipv6(data: bytes) -> Decoded:
    first, length, protocol, hops = struct.unpack_from("!IHBB", data)
    fields = {
        "source": str(IPv6Address(data[8:24])),
        "destination": str(IPv6Address(data[24:40])),
        "hop limit": str(hops),
        "dscp": str(first >> 22 & 0x3F),
        "length": str(length),
    }
    return fields, _PROTOCOLS.get(protocol, ""), data[40 : 40 + length]


def _udp(data: bytes) -> Decoded:
    source, destination, length, total = struct.unpack_from("!HHHH", data)
    fields = {
        "source port": str(source),
        "destination port": str(destination),
        "length": str(length),
        "checksum": f"0x{total:04x}" if total else "none",
    }
    return fields, "gue" if destination == GUE_PORT else "", data[8:length]


def _tcp(data: bytes) -> Decoded:
    source, destination, _, _, _, flags = struct.unpack_from("!HHIIBB", data)
    words = [name for bit, name in enumerate(TCP_FLAGS) if flags >> bit & 1]
    fields = {
        "source port": str(source),
        "destination port": str(destination),
        "flags": " ".join(words),
    }
    return fields, "", data[20:]


def _gue(data: bytes) -> Decoded:
    first, protocol, _ = struct.unpack_from("!BBH", data)
    inner_at = 4 + (first & GUE_HLEN_BITS) * 4
    fields = {"variant": str(first >> 6), "protocol": str(protocol)}
    chain = read_chain(data[4:inner_at])
    if chain is not None:
        fields["chain"] = CHAIN_THEN.join(map(str, chain.candidates))
        fields["next"] = str(chain.next)
        fields["generation"] = str(chain.generation)
    return fields, _PROTOCOLS.get(protocol, ""), data[inner_at:]


def _icmp(data: bytes) -> Decoded:
    kind, code = struct.unpack_from("!BB", data)
    return {"type": str(kind), "code": str(code)}, "", data[8:]


_ETHERTYPES = {0x0800: "ipv4", 0x86DD: "ipv6", 0x8100: "vlan", 0x88A8: "vlan"}
_PROTOCOLS = {
    IPIP: "ipv4",
    TCP: "tcp",
    UDP: "udp",
    IPV6_IN_IP: "ipv6",
    ICMP: "icmp",
    ICMPV6: "icmpv6",
}
_DECODERS: dict[str, Callable[[bytes], Decoded]] = {
    "ethernet": _ethernet,
    "vlan": _vlan,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "udp": _udp,
    "tcp": _tcp,
    "gue": _gue,
    "icmp": _icmp,
    "icmpv6": _icmp,
}
