"""The witness of self-doubt: does the edge's own gateway answer ARP? (docs/decisions/0005)

Owns finding the gateway of the interface and one ARP exchange with it (RFC 826) by a packet socket
of its own, so the answer is as fresh as the question. Asked by `edge_lb.agent` only when every
check fails. Without a gateway, the interface's carrier is the witness.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address

from pyroute2 import IPRoute

from edge_lb.links import links_of

TRIES = 3
TRY_S = 0.3  # for one answer: a gateway on the same Ethernet answers in well under a millisecond
_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_REQUEST, _REPLY = 1, 2
_FORMAT = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826: hardware 1, protocol IPv4, 6 and 4 bytes


def arp_probe(mac: bytes, wanted: IPv4Address) -> bytes:
    """An Ethernet frame that asks who has `wanted`, from no address (RFC 5227): caches nothing."""
    arp = _FORMAT.pack(1, 0x0800, 6, 4, _REQUEST, mac, bytes(4), bytes(6), wanted.packed)
    return _BROADCAST + mac + _ARP.to_bytes(2, "big") + arp


def answers(frame: bytes, wanted: IPv4Address) -> bool:
    """Whether an Ethernet frame is an ARP reply of `wanted`."""
    arp = frame[14 : 14 + _FORMAT.size]
    if frame[12:14] != _ARP.to_bytes(2, "big") or len(arp) < _FORMAT.size:
        return False
    *_, operation, _mac, sender, _to, _target = _FORMAT.unpack(arp)
    return bool(operation == _REPLY and sender == wanted.packed)


class Gateway:
    """The way out of one interface."""

    def __init__(self, interface: str) -> None:
        self._interface = interface

    async def reachable(self) -> bool:
        """Whether the gateway answers now; takes at most TRIES * TRY_S seconds."""
        try:
            wanted, device, carrier = await asyncio.to_thread(self._find)
            if wanted is None or not carrier:
                return carrier
            return await self._ask(wanted, device)
        except OSError:
            return False  # an interface that is gone or down leads nowhere

    def _find(self) -> tuple[IPv4Address | None, str, bool]:
        """The gateway of the default route by this interface, or by a VLAN device on it, if any.

        Then the device, and whether the interface has carrier. Netlink's library runs an event loop
        of its own: this is called in a thread.
        """
        index = socket.if_nametoindex(self._interface)
        with IPRoute() as route:
            carrier = any(link.get_attr("IFLA_CARRIER") for link in route.get_links(index))
            links = links_of(route.get_links())
            for found in route.get_default_routes(family=socket.AF_INET):
                gateway, out = found.get_attr("RTA_GATEWAY"), found.get_attr("RTA_OIF")
                if gateway and out in links and links[out].carrier == index:
                    return IPv4Address(gateway), socket.if_indextoname(out), carrier
        return None, "", carrier

    async def _ask(self, wanted: IPv4Address, device: str) -> bool:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as link:
            link.setblocking(False)
            link.bind((device, _ARP))
            mac = link.getsockname()[4]
            for _ in range(TRIES):
                link.send(arp_probe(mac, wanted))
                try:
                    async with asyncio.timeout(TRY_S):
                        while not answers(await loop.sock_recv(link, 128), wanted):
                            pass
                        return True
                except TimeoutError:
                    continue
        return False
