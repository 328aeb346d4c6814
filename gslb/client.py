"""Who is asking: the resolver's address and, where it was told, the subnet of the end user.

Owns the ECS option (RFC 7871) in both directions. Used by `gslb.answer`, `gslb.decide` and the
HTTPS front. Pure: knows no socket, and never decides where a client is (`gslb.geo` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

from gslb.fleet.model import Address, Network

ECS_CODE = 8
"""The EDNS option code of ECS (RFC 7871 section 6)."""

_FAMILY_BITS = {1: 32, 2: 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The asker. `subnet` comes from ECS or an override; None where only `address` is known."""

    address: Address
    subnet: Network | None = None

    @property
    def point(self) -> tuple[Address, int]:
        """The address to locate and how many of its bits are known.

        A subnet of length 0 says nothing (RFC 7871 section 7.1.2): the resolver's address stands.
        """
        if self.subnet is not None and self.subnet.prefixlen:
            return self.subnet.network_address, self.subnet.prefixlen
        return self.address, self.address.max_prefixlen

    @property
    def told(self) -> bool:
        """Whether a subnet that says something came with the question."""
        return self.subnet is not None and self.subnet.prefixlen > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecs:
    """A well-formed ECS option of a query. Family 0 (nothing told) has no subnet."""

    subnet: Network | None
    option: bytes  # as it came, for the echo

    def reply(self, scope_bits: int) -> bytes:
        """The option for the response, with code and length: the question's own, plus the scope."""
        body = self.option[:3] + bytes([scope_bits]) + self.option[4:]
        return ECS_CODE.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def parse_ecs(option: bytes) -> Ecs | None:
    """The content of an ECS option (after code and length), or None where it is malformed.

    Malformed (to be answered with FORMERR, RFC 7871 section 7.1.2): an unknown family, too long a
    prefix, a scope in a query, an address of the wrong length, or set bits beyond the prefix.
    """
    if len(option) < 4:
        return None
    family = int.from_bytes(option[:2], "big")
    source, scope = option[2], option[3]
    address = option[4:]
    if scope:
        return None
    if family == 0:
        return Ecs(subnet=None, option=option) if source == 0 and not address else None
    width = _FAMILY_BITS.get(family)
    if width is None or source > width or len(address) != (source + 7) // 8:
        return None
    spare = -source % 8
    if spare and address[-1] & ((1 << spare) - 1):
        return None
    packed = address.ljust(width // 8, b"\0")
    base = IPv4Address(packed) if family == 1 else IPv6Address(packed)
    return Ecs(subnet=ip_network((base, source)), option=option)
