"""Packets as a pcapng file (draft-ietf-opsawg-pcapng), each with a comment and its direction.

Owns the blocks of the file. Called by `edge_lb.capture`; pure: packets in, bytes out. Any reader of
packet captures opens it: the file is one section, with one Ethernet interface.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
INTERFACE_STATISTICS = 5
ENHANCED_PACKET = 6
BYTE_ORDER = 0x1A2B3C4D
LENGTH_UNKNOWN = 0xFFFFFFFFFFFFFFFF
LINKTYPE_ETHERNET = 1
END_OF_OPTIONS = 0
COMMENT = 1
SECTION_APPLICATION = 4
INTERFACE_NAME, TIME_RESOLUTION = 2, 9
PACKET_FLAGS, PACKET_QUEUE = 2, 6
STATISTICS_LOST, STATISTICS_DELIVERED = 5, 8
INBOUND, OUTBOUND = 1, 2
NANOSECONDS = b"\x09"  # a negative power of ten


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One captured frame; `octets` may be less than the whole of `length` bytes."""

    unix_ns: int
    octets: bytes
    length: int
    outbound: bool
    queue: int
    comment: str


def opening(application: str, interface: str, snap_bytes: int) -> bytes:
    """The start of the file: who wrote it, and the interface that all packets belong to."""
    section = struct.pack("<IHHQ", BYTE_ORDER, 1, 0, LENGTH_UNKNOWN)
    section += _options((SECTION_APPLICATION, application.encode()))
    described = struct.pack("<HHI", LINKTYPE_ETHERNET, 0, snap_bytes)
    described += _options((INTERFACE_NAME, interface.encode()), (TIME_RESOLUTION, NANOSECONDS))
    return _block(SECTION_HEADER, section) + _block(INTERFACE_DESCRIPTION, described)


def packet(seen: Packet) -> bytes:
    """One packet's block."""
    head = struct.pack("<I", 0) + _time(seen.unix_ns)
    head += struct.pack("<II", len(seen.octets), seen.length)
    flags = OUTBOUND if seen.outbound else INBOUND
    options = _options(
        (COMMENT, seen.comment.encode()),
        (PACKET_FLAGS, struct.pack("<I", flags)),
        (PACKET_QUEUE, struct.pack("<I", seen.queue)),
    )
    return _block(ENHANCED_PACKET, head + _padded(seen.octets) + options)


def closing(unix_ns: int, *, delivered: int, lost: int) -> bytes:
    """The end of the file: how many packets are in it, and how many were lost."""
    options = _options(
        (STATISTICS_LOST, struct.pack("<Q", lost)),
        (STATISTICS_DELIVERED, struct.pack("<Q", delivered)),
    )
    return _block(INTERFACE_STATISTICS, struct.pack("<I", 0) + _time(unix_ns) + options)


def _time(unix_ns: int) -> bytes:
    return struct.pack("<II", unix_ns >> 32, unix_ns & 0xFFFFFFFF)


def _options(*options: tuple[int, bytes]) -> bytes:
    packed = [struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options]
    return b"".join(packed) + struct.pack("<HH", END_OF_OPTIONS, 0)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)
