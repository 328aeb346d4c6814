"""The owner chain of a packet read back from its octets, as bpf/chain.h lays them out.

Owns that reading; `bpf.packets.chain` writes. Called by edge_lb.layers, which shows a chain to a
person, and by tests. Pure; never on the way of a client's packet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from bpf.packets import CHAIN_KIND

CANDIDATES_MAX = 4
HEADER = "!BBBBI"
HEADER_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The reals that are tried after the first one; `next` is the one that is tried next."""

    generation: int
    candidates: tuple[IPv4Address | IPv6Address, ...]
    next: int = 0


def read_chain(options: bytes) -> Chain | None:
    """The chain in a GUE header's private data; None if they are something else."""
    if len(options) < HEADER_BYTES:
        return None
    kind, following, count, size, generation = struct.unpack_from(HEADER, options)
    addresses = options[HEADER_BYTES:]
    if kind != CHAIN_KIND or count > CANDIDATES_MAX or len(addresses) != count * size:
        return None
    if size not in (4, 16) or following > count:
        return None
    return Chain(
        generation=generation,
        next=following,
        candidates=tuple(
            ip_address(addresses[at : at + size]) for at in range(0, len(addresses), size)
        ),
    )
