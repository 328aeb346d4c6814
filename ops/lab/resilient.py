"""Sticky ECMP on the lab's router: BIRD's routes as resilient groups of next hops.

BIRD installs plain multipath routes; when an edge leaves one, flows of the others move too. So BIRD
writes to a table that no packet is routed by, and this process (in the router's namespace, `python
-m ops.lab.resilient TABLE`) follows it: one group of next hops a VIP address, and a route by it in
the main table. Owns those groups and routes. A group loses and gains members in place.
"""

from __future__ import annotations

import select
import sys
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_ROUTE

from ops.lab import nexthops
from ops.lab.nexthops import Way

BUCKETS = 512
IDLE_S = 120.0  # a bucket that was in use more lately than that is not moved to balance
LOOK_S = 1.0  # and at every route's change; an event may be lost
_FIRST_GROUP = 10_000  # next hops are numbered below


class Groups:
    """The groups that this process keeps, each with its members by number."""

    def __init__(self) -> None:
        self._numbers: dict[Way, int] = {}
        self._groups: dict[IPv4Address, tuple[int, tuple[int, ...]]] = {}

    def follow(self, wanted: dict[IPv4Address, tuple[Way, ...]]) -> None:
        """Make the kernel's groups and routes so; only what differs is written."""
        for address in self._groups.keys() - wanted.keys():
            number, _ = self._groups.pop(address)
            nexthops.remove(number)
        for address, ways in sorted(wanted.items()):
            members = tuple(self._number(way) for way in ways)
            number, held = self._groups.get(address, (self._free(), ()))
            if members != held:
                nexthops.put_group(number, members, buckets=BUCKETS, idle_s=IDLE_S)
                if not held:
                    nexthops.put_route(address, number)
                self._groups[address] = (number, members)

    def _number(self, way: Way) -> int:
        if way not in self._numbers:
            nexthops.put_next_hop(len(self._numbers) + 1, way)
            self._numbers[way] = len(self._numbers) + 1
        return self._numbers[way]

    def _free(self) -> int:
        taken = {number for number, _ in self._groups.values()}
        return next(n for n in range(_FIRST_GROUP, 2 * _FIRST_GROUP) if n not in taken)


def told(kernel: IPRoute, table: int) -> dict[IPv4Address, tuple[Way, ...]]:
    """The ways to each host address that a table has."""
    found: dict[IPv4Address, tuple[Way, ...]] = {}
    for route in kernel.get_routes(family=2, table=table):
        several = route.get_attr("RTA_MULTIPATH")
        ways = [_way(hop, hop["oif"]) for hop in several] if several else [_only(route)]
        if route["dst_len"] == 32:
            found[IPv4Address(route.get_attr("RTA_DST"))] = tuple(sorted(ways))
    return found


def _only(route: Any) -> Way:
    return _way(route, route.get_attr("RTA_OIF"))


def _way(hop: Any, interface: int) -> Way:
    return Way(IPv4Address(hop.get_attr("RTA_GATEWAY")), interface)


def main(table: int) -> None:
    """Follow the table for ever."""
    groups = Groups()
    with IPRoute() as events, IPRoute() as kernel:
        events.bind(RTMGRP_IPV4_ROUTE)
        while True:
            groups.follow(told(kernel, table))
            if select.select([events.fileno()], [], [], LOOK_S)[0]:
                events.get()


if __name__ == "__main__":
    main(int(sys.argv[1]))
