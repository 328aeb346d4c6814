"""Network namespaces of a real's containers, whose sockets hold flows of its VIPs too.

Owns their numbers as the kernel gives them to our namespace, and the short visits to them. Called
by `edge_lb.real_agent`, which tells real.bpf.c the numbers, and by `edge_lb.census_taker`. A
namespace that is not there holds nothing. It changes nothing in any of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

NO_NUMBER = (-1, 0xFFFFFFFF)  # how the kernel, and how netlink's library says so


def namespace_ids(paths: Iterable[str]) -> dict[str, int]:
    """The number of each namespace that is there; one without a number gets one.

    Blocks; not in an event loop. Raises OSError.
    """
    found: dict[str, int] = {}
    for path in paths:
        with _opened(path) as fd:
            if fd is not None:
                try:
                    found[path] = _number(fd)
                except NetlinkError as error:
                    raise OSError(error.code, f"the number of {path}: {error}") from error
    return found


def _number(fd: int) -> int:
    with IPRoute() as netlink:
        number: int = netlink.get_netnsid(fd=fd)["nsid"]
        if number in NO_NUMBER:
            netlink.set_netnsid(fd=fd)
            number = netlink.get_netnsid(fd=fd)["nsid"]
        return number


@contextmanager
def visited(path: str) -> Iterator[bool]:
    """Has this thread be in the namespace; False where it is not there. An empty path: our own."""
    if not path:
        yield True
        return
    with _opened("/proc/thread-self/ns/net") as own, _opened(path) as fd:
        if own is None or fd is None:
            yield False
            return
        netns.setns(fd)
        try:
            yield True
        finally:
            netns.setns(own)


@contextmanager
def _opened(path: str) -> Iterator[int | None]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)
