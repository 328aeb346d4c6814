"""A flow and its slot: the Python twin of bpf/flow.h.

Owns the flow hash on this side. Called by datapath.py to tell where a flow goes, and by tests,
which compare it with the loaded program over many flows. Pure. Change both or none.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from edge_lb.maglev import RING_SLOTS

Address = IPv4Address | IPv6Address

SEED = 0x57A7905700000001
MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
FINISH_1 = 0xBF58476D1CE4E5B9  # splitmix64's finisher
FINISH_2 = 0x94D049BB133111EB
WORD = 0xFFFFFFFFFFFFFFFF
WORD_BYTES = 8
MAPPED_PREFIX = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The 5-tuple of a client's packets; `protocol` is the IP protocol number (6 TCP, 17 UDP)."""

    client: Address
    client_port: int
    vip: Address
    vip_port: int
    protocol: int


def address_octets(address: Address) -> bytes:
    """Sixteen bytes; an IPv4 address is v4-mapped."""
    return MAPPED_PREFIX + address.packed if address.version == 4 else address.packed


def address_from_octets(octets: bytes) -> Address:
    """The address of sixteen bytes; a v4-mapped one is IPv4."""
    if octets.startswith(MAPPED_PREFIX):
        return IPv4Address(octets[len(MAPPED_PREFIX) :])
    return IPv6Address(octets)


def flow_octets(flow: Flow) -> bytes:
    """The forty bytes of `struct flow_key`; ports are in network order."""
    return b"".join(
        (
            address_octets(flow.client),
            address_octets(flow.vip),
            flow.client_port.to_bytes(2, "big"),
            flow.vip_port.to_bytes(2, "big"),
            flow.protocol.to_bytes(4, "little"),
        )
    )


def flow_hash(flow: Flow) -> int:
    """64 bits, the same on every edge."""
    octets = flow_octets(flow)
    value = SEED
    for at in range(0, len(octets), WORD_BYTES):
        word = int.from_bytes(octets[at : at + WORD_BYTES], "little")
        value = (value ^ word) * MULTIPLIER & WORD
        value ^= value >> 32
    value = (value ^ value >> 30) * FINISH_1 & WORD
    value = (value ^ value >> 27) * FINISH_2 & WORD
    return value ^ value >> 31


def slot(flow: Flow) -> int:
    """The flow's slot in its VIP's ring."""
    return flow_hash(flow) % RING_SLOTS
