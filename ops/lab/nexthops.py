"""The kernel's next-hop objects and resilient groups, in the namespace of the caller.

Owns the netlink messages (linux/nexthop.h), which pyroute2 has no words for. A resilient group has
buckets: a flow stays with its bucket, and a bucket with its member while that is there and the
bucket is in use. Called by `ops.lab.resilient`, and by the bench of long connections.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

_NEW_ROUTE, _NEW_NEXT_HOP, _DELETE_NEXT_HOP = 24, 104, 105
_REQUEST, _ACK, _REPLACE, _CREATE = 0x0001, 0x0004, 0x0100, 0x0400
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=BBBBI")
_MEMBER = struct.Struct("=IBBH")
_RTA_DESTINATION, _RTA_NEXT_HOP = 1, 30
_NHA_ID, _NHA_GROUP, _NHA_GROUP_TYPE, _NHA_INTERFACE, _NHA_GATEWAY = 1, 2, 3, 5, 6
_NHA_RESILIENT = 12 | 0x8000  # nested
_RESILIENT_TYPE, _BUCKETS, _IDLE = 1, 1, 2
_MAIN_TABLE, _PROTOCOL_STATIC, _UNICAST = 254, 4, 1
_CLOCKS_A_SECOND = 100  # USER_HZ


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """A gateway and the index of the interface that leads to it."""

    gateway: IPv4Address
    interface: int


def put_next_hop(number: int, way: Way) -> None:
    """A next hop by this number, new or instead of what had it."""
    body = _NEXT_HOP.pack(socket.AF_INET, 0, _PROTOCOL_STATIC, 0, 0)
    body += _attribute(_NHA_ID, struct.pack("=I", number))
    body += _attribute(_NHA_INTERFACE, struct.pack("=I", way.interface))
    body += _attribute(_NHA_GATEWAY, way.gateway.packed)
    _say(_NEW_NEXT_HOP, _REPLACE | _CREATE, body)


def put_group(number: int, members: Sequence[int], *, buckets: int, idle_s: float) -> None:
    """A resilient group of next hops; of one that is there, only what must move does."""
    resilient = _attribute(_BUCKETS, struct.pack("=H", buckets))
    resilient += _attribute(_IDLE, struct.pack("=I", int(idle_s * _CLOCKS_A_SECOND)))
    body = _NEXT_HOP.pack(socket.AF_UNSPEC, 0, _PROTOCOL_STATIC, 0, 0)
    body += _attribute(_NHA_ID, struct.pack("=I", number))
    body += _attribute(_NHA_GROUP, b"".join(_MEMBER.pack(one, 0, 0, 0) for one in members))
    body += _attribute(_NHA_GROUP_TYPE, struct.pack("=H", _RESILIENT_TYPE))
    body += _attribute(_NHA_RESILIENT, resilient)
    _say(_NEW_NEXT_HOP, _REPLACE | _CREATE, body)


def remove(number: int) -> None:
    """The next hop or group of this number, and the routes that use it."""
    body = _NEXT_HOP.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    _say(_DELETE_NEXT_HOP, 0, body + _attribute(_NHA_ID, struct.pack("=I", number)))


def put_route(address: IPv4Address, group: int) -> None:
    """A host route by a group, new or instead of the one that is there."""
    route = _ROUTE.pack(socket.AF_INET, 32, 0, 0, _MAIN_TABLE, _PROTOCOL_STATIC, 0, _UNICAST, 0)
    route += _attribute(_RTA_DESTINATION, address.packed)
    route += _attribute(_RTA_NEXT_HOP, struct.pack("=I", group))
    _say(_NEW_ROUTE, _REPLACE | _CREATE, route)


def _say(kind: int, flags: int, body: bytes) -> None:
    length = _HEADER.size + len(body)
    request = _HEADER.pack(length, kind, _REQUEST | _ACK | flags, 1, 0) + body
    family = socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
    with socket.socket(*family) as kernel:
        kernel.send(request)
        (error,) = struct.unpack_from("=i", kernel.recv(65536), _HEADER.size)
    if error:
        raise OSError(-error, f"the kernel refused a next hop: {os.strerror(-error)}")


def _attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(body), kind) + body + bytes(-len(body) % 4)
