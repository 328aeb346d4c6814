"""The router of the long connections: ECMP over layer 4 to the edges, plain or resilient.

Owns the routes to the VIPs in the router's namespace, and how it hashes. The kernel's next-hop
objects are spoken to by netlink in plain bytes, for pyroute2 has no words for them. A resilient
group keeps a flow at its edge while that edge is there and the flow is in use.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from pyroute2 import NetNS

from ops.lab.world import inside

BUCKETS = 256  # of a resilient group
IDLE_S = 120  # a bucket that was in use more lately than that is not moved
_NEW_ROUTE, _NEW_NEXT_HOP = 24, 104
_REQUEST_ACK_REPLACE_CREATE = 0x0001 | 0x0004 | 0x0100 | 0x0400
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=BBBBI")
_MEMBER = struct.Struct("=IBBH")
_RTA_DESTINATION, _RTA_NEXT_HOP = 1, 30
_NHA_ID, _NHA_GROUP, _NHA_GROUP_TYPE, _NHA_INTERFACE, _NHA_GATEWAY, _NHA_RESILIENT = (
    1,
    2,
    3,
    5,
    6,
    12,
)
_RESILIENT_BUCKETS, _RESILIENT_IDLE = 1, 2
_RESILIENT_TYPE = 1
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_WORLD, _UNICAST = 254, 4, 0, 1
_NESTED = 0x8000
_GROUP_FIRST = 1000


class Router:
    """Routes of one namespace; `interface` leads to the edges."""

    def __init__(self, namespace: str, interface: str) -> None:
        self._namespace = namespace
        with NetNS(namespace) as router:
            self._interface = int(router.link_lookup(ifname=interface)[0])

    def lead(self, vip: str, gateways: Sequence[str]) -> None:
        """Packets for the VIP go to one of these, by a hash of addresses and ports."""
        hops = [{"gateway": gateway, "hops": 0} for gateway in gateways]
        with NetNS(self._namespace) as router:
            router.route("replace", dst=f"{vip}/32", multipath=hops)

    def lead_resiliently(self, vip: str, gateways: Sequence[str]) -> None:
        """The same, but a flow in use stays where it is while its edge is among them."""
        group = _GROUP_FIRST + int(IPv4Address(vip)) % 256
        members = b""
        for gateway in gateways:
            number = int(IPv4Address(gateway)) % 256
            self._put_next_hop(number, gateway)
            members += _MEMBER.pack(number, 0, 0, 0)
        resilient = _attribute(_RESILIENT_BUCKETS, struct.pack("=H", BUCKETS))
        resilient += _attribute(_RESILIENT_IDLE, struct.pack("=I", IDLE_S * 100))
        body = _NEXT_HOP.pack(socket.AF_UNSPEC, 0, _PROTOCOL_STATIC, 0, 0)
        body += _attribute(_NHA_ID, struct.pack("=I", group))
        body += _attribute(_NHA_GROUP, members)
        body += _attribute(_NHA_GROUP_TYPE, struct.pack("=H", _RESILIENT_TYPE))
        body += _attribute(_NHA_RESILIENT | _NESTED, resilient)
        self._say(_NEW_NEXT_HOP, body)
        route = _ROUTE.pack(
            socket.AF_INET, 32, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_WORLD, _UNICAST, 0
        )
        route += _attribute(_RTA_DESTINATION, socket.inet_aton(vip))
        route += _attribute(_RTA_NEXT_HOP, struct.pack("=I", group))
        self._say(_NEW_ROUTE, route)

    def rehash(self, seed: int) -> None:
        """Every flow is hashed anew."""
        with inside(self._namespace):
            Path("/proc/sys/net/ipv4/fib_multipath_hash_seed").write_text(str(seed))

    def _put_next_hop(self, number: int, gateway: str) -> None:
        body = _NEXT_HOP.pack(socket.AF_INET, 0, _PROTOCOL_STATIC, 0, 0)
        body += _attribute(_NHA_ID, struct.pack("=I", number))
        body += _attribute(_NHA_INTERFACE, struct.pack("=I", self._interface))
        body += _attribute(_NHA_GATEWAY, socket.inet_aton(gateway))
        self._say(_NEW_NEXT_HOP, body)

    def _say(self, kind: int, body: bytes) -> None:
        length = _HEADER.size + len(body)
        request = _HEADER.pack(length, kind, _REQUEST_ACK_REPLACE_CREATE, 1, 0) + body
        with (
            inside(self._namespace),
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel,
        ):
            kernel.send(request)
            (error,) = struct.unpack_from("=i", kernel.recv(65536), _HEADER.size)
        if error:
            raise OSError(-error, f"the kernel refused a next hop: {os.strerror(-error)}")


def _attribute(kind: int, body: bytes) -> bytes:
    padding = bytes(-len(body) % 4)
    return struct.pack("=HH", 4 + len(body), kind) + body + padding
