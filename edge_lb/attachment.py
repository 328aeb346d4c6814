"""Whether the data path stands, seen from outside of the agent: its pinned link, its interface.

Called by `edge_lb.announcer`, which must know it also while no agent lives. Reads only.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

from bpf.errors import BpfError
from bpf.program import held_interface

_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_IFF_UP, _IFF_RUNNING = 0x1, 0x40  # linux/if.h; RUNNING: the carrier is there
_IFREQ = struct.Struct("16sH22x")


def what_is_broken(interface: str, pin_dir: Path) -> str:
    """The first thing that keeps packets from the program, in words; empty if nothing does."""
    try:
        held = held_interface(pin_dir)
    except BpfError as error:
        return f"the pinned link cannot be read: {error}"
    try:
        index = socket.if_nametoindex(interface)
    except OSError:
        return f"there is no interface {interface}"
    if held != index:
        return f"the program is not attached to {interface}"
    flags = _flags(interface)
    if not flags & _IFF_UP:
        return f"{interface} is down"
    if not flags & _IFF_RUNNING:
        return f"{interface} has no carrier"
    return ""


def _flags(interface: str) -> int:
    """The interface's flags; 0 when it has just gone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        try:
            reply = fcntl.ioctl(channel, _SIOCGIFFLAGS, _IFREQ.pack(interface.encode(), 0))
        except OSError:
            return 0
    return int(_IFREQ.unpack(reply)[1])
