"""tc's two hooks of an interface, where a BPF program sees what comes in and what leaves.

Owns the clsact qdisc and our own filters on it, by netlink; what others hung there stays. Used by
`edge_lb.prober` and `edge_lb.vip_traffic`. A filter keeps its program when the process ends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from bpf.errors import BpfError, CallFailedError, InterfaceBusyError, NotPermittedError
from bpf.program import interface_name

INGRESS = 0xFFFFFFF2  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
EGRESS = 0xFFFFFFF3
_QDISC = 0xFFFF0000  # where clsact is; the older `ingress` has the same place, and no way out
_PRIORITY, _HANDLE = 57, 0x5750  # ours alone among the filters of an interface


def attach(ip: IPRoute, index: int, hook: int, fd: int, name: str) -> None:
    """Hang a program at a hook, in place of an earlier start's. Raises NetlinkError."""
    try:
        ip.tc("add", "clsact", index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        kinds = {qdisc.get_attr("TCA_KIND") for qdisc in _qdiscs(ip, index)}
        if kinds != {"clsact"}:
            name = interface_name(index)
            raise InterfaceBusyError(
                f"{name} has an `ingress` qdisc where clsact is to be",
                mend=f"`tc qdisc del dev {name} ingress`; clsact takes its filters too",
            ) from error
    ip.tc(
        "replace-filter",
        "bpf",
        index,
        _HANDLE,
        fd=fd,
        name=name,
        parent=hook,
        prio=_PRIORITY,
        direct_action=True,
    )


def detach(ip: IPRoute, index: int, name: str) -> bool:
    """Take the filters of that name off, and the qdisc if nothing else needs it; was there any?"""
    left = 0
    found = False
    for hook in (INGRESS, EGRESS):
        for held in _filters(ip, index, hook):
            if held.get_nested("TCA_OPTIONS", "TCA_BPF_NAME") == name:
                ip.tc("del-filter", "bpf", index, _HANDLE, parent=hook, prio=_PRIORITY)
                found = True
            else:
                left += 1
    if found and not left:
        ip.tc("del", "clsact", index)
    return found


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Netlink's refusals as errors of bpf.errors."""
    try:
        yield
    except NetlinkError as error:
        raise failure(what, error.code) from error


def failure(what: str, number: int) -> BpfError:
    """The error for an errno."""
    reason = f"{what}: {os.strerror(number)}"
    if number in (errno.EPERM, errno.EACCES):
        return NotPermittedError(reason, mend="run as root")
    return CallFailedError(reason, number=number)


def _qdiscs(ip: IPRoute, index: int) -> list[Any]:
    return [
        qdisc
        for qdisc in ip.get_qdiscs(index)
        if qdisc["index"] == index and qdisc["handle"] == _QDISC
    ]


def _filters(ip: IPRoute, index: int, hook: int) -> list[Any]:
    """Every filter at a hook, without the heads that the kernel lists with them."""
    return [held for held in ip.get_filters(index=index, parent=hook) if held["handle"]]
