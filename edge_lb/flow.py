"""A flow and its slot: the Python twin of bpf/flow.h.

Owns the flow hash on this side. Called by datapath.py to tell where a flow goes, by census.py to
count flows by slot, and by tests, which compare it with the loaded program over many flows. Pure.
Change both or none.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from bpf.services import MULTIPLIER, WORD
from edge_lb.rendezvous import RING_SLOTS
from gslb.fleet.model import Affinity, Fragments, VipOptions

Address = IPv4Address | IPv6Address

SEED = 0x57A7905700000001
FINISH = 0xBF58476D1CE4E5B9
MAPPED_PREFIX = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2
_BELOW_SLOT = 64 - (RING_SLOTS - 1).bit_length()
_WORDS = Struct("<4I")  # sixteen octets as the CPU reads them in words of four


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The 5-tuple of a client's packets; `protocol` is the IP protocol number (6 TCP, 17 UDP)."""

    client: Address
    client_port: int
    vip: Address
    vip_port: int
    protocol: int


def as_memory_sees(flow: Flow, options: VipOptions) -> Flow:
    """The flow that the data plane remembers: without ports where all between two is one."""
    together = options.fragments is Fragments.TWO_TUPLE
    return replace(flow, client_port=0, vip_port=0) if together else flow


def as_ring_sees(flow: Flow, options: VipOptions) -> Flow:
    """The flow that the data plane hashes: without ports where a client's flows go together."""
    return flow if ring_knows_ports(options) else replace(flow, client_port=0, vip_port=0)


def ring_knows_ports(options: VipOptions) -> bool:
    """Whether flows between the same two addresses may have different slots."""
    return options.affinity is Affinity.FLOW and options.fragments is not Fragments.TWO_TUPLE


def address_octets(address: Address) -> bytes:
    """Sixteen bytes; an IPv4 address is v4-mapped."""
    return MAPPED_PREFIX + address.packed if address.version == 4 else address.packed


def address_from_octets(octets: bytes) -> Address:
    """The address of sixteen bytes; a v4-mapped one is IPv4."""
    if octets.startswith(MAPPED_PREFIX):
        return IPv4Address(octets[len(MAPPED_PREFIX) :])
    return IPv6Address(octets)


def flow_hash(flow: Flow) -> int:
    """64 bits, the same on every edge."""
    ports = flow.client_port.to_bytes(2, "big") + flow.vip_port.to_bytes(2, "big")
    return octets_hash(address_octets(flow.client), address_octets(flow.vip), ports, flow.protocol)


def octets_hash(client_octets: bytes, vip_octets: bytes, port_octets: bytes, protocol: int) -> int:
    """The same of octets as packets have them: the client's port, then the VIP's."""
    client, vip = _WORDS.unpack(client_octets), _WORDS.unpack(vip_octets)
    ports = int.from_bytes(port_octets, "little")
    value = SEED
    if not vip_octets.startswith(MAPPED_PREFIX):
        value = _round(value, client[0], client[1])
        value = _round(value, client[2], vip[2])
        value = _round(value, vip[0], vip[1])
    value = _round(value, client[3], vip[3])
    value = _round(value, ports, protocol)
    value = value * FINISH & WORD
    return value ^ value >> 32


def slot(flow: Flow) -> int:
    """The flow's slot in its VIP's ring."""
    return slot_of_hash(flow_hash(flow))


def slot_of_hash(value: int) -> int:
    """The slot of a flow's hash: its upper bits."""
    return value >> _BELOW_SLOT


def _round(value: int, low: int, high: int) -> int:
    value = (value ^ (low | high << 32)) * MULTIPLIER & WORD
    return value ^ value >> 32
