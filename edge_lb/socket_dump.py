"""Every live socket of this network namespace, as the kernel's own list tells it (sock_diag).

Owns the question and the reading of the answer. Called by `edge_lb.census_taker` in a thread. It
decodes by `struct`, and of each socket only what names it: 112,000 sockets take 0.2 s of a
virtual core, half of it the kernel's part. pyroute2's DiagSocket makes objects of every attribute
of every socket, and takes 17 s there (bench_census.py). Needs no privilege. Raises OSError.

The kernel lets go of its table between parts of the answer, so a socket that lives may be missing
when its neighbours go meanwhile: `edge_lb.census` does not believe one absence.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

IN_FLIGHT = (1 << 1) | (1 << 3) | (1 << 4) | (1 << 5) | (1 << 8) | (1 << 9) | (1 << 11)
"""ESTABLISHED, SYN_RECV, FIN_WAIT1 and 2, CLOSE_WAIT, LAST_ACK, CLOSING (net/tcp_states.h).

A listener holds no flow, a TIME_WAIT none any more.
"""

ESTABLISHED = 1 << 1  # of UDP: a connected socket

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x001, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ROOM = 1 << 20  # octets of one read

_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST = struct.Struct("=BBBBI48x")  # inet_diag_req_v2, without an inet_diag_sockid
_ERRNO = struct.Struct("=i")
_SHORTEST = _HEADER.size + 72  # inet_diag_msg
_IDENTITY = struct.Struct("!BxxxHH16s16s")  # of inet_diag_msg: family, ports, addresses
_MAPPED = bytes(10) + b"\xff\xff"

Sockets = dict[bytes, bytes]
"""Of each socket its cookie, unique while the machine is up, and what `identity` reads."""


class Identity(NamedTuple):
    """A socket's ends; an address is sixteen octets, an IPv4 one v4-mapped."""

    port: int
    peer_port: int
    address: bytes
    peer: bytes


def dump(family: socket.AddressFamily, protocol: int, states: int) -> Sockets:
    """All sockets of a family and protocol in these states."""
    found: Sockets = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.bind((0, 0))
        netlink.send(question(family, protocol, states))
        while gather(netlink.recv(_ROOM), found):
            pass
    return found


def question(family: int, protocol: int, states: int) -> bytes:
    """The message that asks for a dump."""
    body = _REQUEST.pack(family, protocol, 0, 0, states)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body


def gather(answer: bytes, found: Sockets) -> bool:
    """Take the sockets of one read of the answer; False after the last one. Raises OSError."""
    at, end = 0, len(answer)
    head = _HEADER.unpack_from
    while at < end:
        length, kind, _, _, _ = head(answer, at)
        if kind == _SOCK_DIAG_BY_FAMILY and length >= _SHORTEST:
            found[answer[at + 60 : at + 68]] = answer[at + 16 : at + 56]
        elif kind in (_NLMSG_DONE, _NLMSG_ERROR):
            if code := -_ERRNO.unpack_from(answer, at + _HEADER.size)[0]:
                raise OSError(code, f"the kernel's list of sockets: {os.strerror(code)}")
            return False
        at += (length + 3) & ~3 or end
    return True


def identity(raw: bytes) -> Identity:
    """What a socket of a dump is."""
    family, port, peer_port, address, peer = _IDENTITY.unpack(raw)
    if family == socket.AF_INET:
        address, peer = _MAPPED + address[:4], _MAPPED + peer[:4]
    return Identity(port, peer_port, address, peer)
