"""For whom a request is answered: the peer, or the one that a trusted caller speaks for.

Owns the rules of `client` and X-Forwarded-For. Used by `httpdns.app` and the dialects. Pure: an
address that anyone can forge is never believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from gslb.fleet.model import Address, Network
from httpdns.protocol import ErrorCode, Fault

FORWARDED_MAX = 32
"""How many X-Forwarded-For entries are looked at; a longer chain is no real one."""


def plain(address: Address) -> Address:
    """An IPv4 client that came over an IPv6 socket, as IPv4."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _address(text: str) -> Address:
    """An address as text, IPv6 in brackets or not. ValueError for others, and for an IPv6 zone."""
    if "%" in text:
        raise ValueError("an IPv6 zone means nothing to another host")
    return plain(ip_address(text.removeprefix("[").removesuffix("]")))


def peer_address(client: str) -> Address:
    """The peer of a connection from ADDRESS:PORT or [ADDRESS]:PORT, as the HTTP server writes it.

    Raises ValueError for anything else.
    """
    host, _, _port = client.rpartition(":")
    return _address(host.partition("%")[0])


class Callers:
    """Who may speak for others; built once for each configuration."""

    __slots__ = ("_trusted",)

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def trusts(self, address: Address) -> bool:
        """Whether requests from this address may name another client."""
        return any(address in network for network in self._trusted)

    def client(self, peer: Address, forwarded: Sequence[str], override: str) -> Address | Fault:
        """For whom to answer.

        `override` (the parameter `client`) counts most; from an untrusted peer it is a fault, so
        that nobody believes to be steered when he is not. X-Forwarded-For of an untrusted peer is
        ignored. Of a trusted one, the entry nearest to us that is not itself trusted counts.
        """
        trusted = bool(self._trusted) and self.trusts(peer)
        if override:
            try:
                address = _address(override)
            except ValueError:
                return Fault(
                    code=ErrorCode.CLIENT_MALFORMED,
                    detail=f"`{override[:64]}` is not an IP address",
                )
            if not trusted:
                return Fault(
                    code=ErrorCode.CLIENT_NOT_TRUSTED, detail=f"{peer} may not speak for others"
                )
            return address
        if not trusted or not forwarded:
            return peer
        return self._forwarded(peer, forwarded)

    def _forwarded(self, peer: Address, headers: Sequence[str]) -> Address:
        """Walk the chain from our end; stop at what is not an address or not trusted."""
        client = peer
        chain = [part.strip() for header in headers for part in header.split(",")]
        for text in reversed(chain[-FORWARDED_MAX:]):
            try:
                client = _address(text)
            except ValueError:
                return client
            if not self.trusts(client):
                return client
        return client
