"""The way to each real, as the kernel's routes and neighbours have it: interface, MAC addresses.

Owns the asking by netlink, the listening for what changes, and the keeping of neighbours resolved:
packets that a program sends do not tell the kernel that a neighbour is in use. A Part of the edge's
agent, which plans with what `hops` holds, and of a real's, for the reals beside it. It changes no
route and no address, and decides nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from edge_lb.links import Link, links_of, mac_of
from edge_lb.plan import NextHop, VlanDevice
from gslb.fleet.model import Address

LOOK_S = 15.0  # how often neighbours are looked after; the kernel believes one for about 30 s
BURST_S = 0.02  # what changes together is looked at once
GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400  # links, neighbours, addresses and routes of both
NEIGHBOUR_MESSAGES = (28, 29)  # RTM_NEWNEIGH, RTM_DELNEIGH
ROUTE_UNICAST = 1
SETTLED = 0x02 | 0x40 | 0x80  # reachable, or so by an operator's word (NUD_CONNECTED)
USABLE = SETTLED | 0x04 | 0x08 | 0x10  # stale, or being asked again (NUD_VALID)
CONFIRMABLE = 0x02 | 0x04 | 0x08  # learned, so that it may be asked whether it is still so
ASK = 0x10  # NUD_PROBE: three questions to the known MAC address, a second apart, then forget it
IN_USE = 0x1  # NTF_USE: resolve it, as a packet would
READ_BYTES = 1 << 16


_Neighbour = tuple[int, Address]  # the interface, and who is asked for on it


@dataclass(frozen=True, slots=True)
class _Known:
    """What the kernel knows of a neighbour; without a MAC address it is being asked for."""

    mac: bytes | None
    state: int


@dataclass(frozen=True, slots=True)
class _Route:
    """Where packets for an address leave, and to whom on that link."""

    ifindex: int
    neighbour: Address
    mtu: int  # of the route; 0: the link's


class NextHops:
    """Keeps `hops` and `vlans` true; `changed` is called in the event loop after every change."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.hops: Mapping[Address, NextHop] = {}
        self.vlans: tuple[VlanDevice, ...] = ()
        self._changed = changed
        self._wanted: frozenset[Address] = frozenset()
        self._doubted: set[Address] = set()
        self._routes: dict[Address, _Route | None] = {}
        self._woken = asyncio.Event()

    def want(self, addresses: Iterable[Address]) -> None:
        """The reals whose ways are wanted from now on."""
        self._wanted = frozenset(addresses)
        self._woken.set()

    def doubt(self, address: Address) -> None:
        """A check of this real failed: the MAC address that leads there may be another by now.

        The kernel believes a neighbour for half a minute, and is told sooner only by one that
        announces itself. Asked now, it knows within three seconds.
        """
        self._doubted.add(address)
        self._woken.set()

    def refresh(
        self, *, routes_changed: bool = True, doubted: Iterable[Address] = frozenset()
    ) -> bool:
        """Ask the kernel; tells whether anything is different. Blocks; not in an event loop."""
        with IPRoute() as netlink:
            links = links_of(netlink.get_links())
            neighbours = _neighbours(netlink)
            if routes_changed:
                self._routes.clear()
            for address in self._wanted - self._routes.keys():
                self._routes[address] = _route(netlink, address)
            ways = {address: self._routes[address] for address in self._wanted}
            _look_after(netlink, (way for way in ways.values() if way), links, neighbours)
            _confirm(netlink, (way for one in doubted if (way := ways.get(one))), neighbours)
        hops: dict[Address, NextHop] = {}
        for address, way in ways.items():
            link = links.get(way.ifindex) if way else None
            known = neighbours.get((way.ifindex, way.neighbour)) if way else None
            mac = known.mac if known and known.state & USABLE else None
            if way is not None and link is not None and mac is not None:
                hops[address] = NextHop(
                    ifindex=link.carrier,
                    mtu=min(way.mtu or link.mtu, link.mtu),
                    destination=mac,
                    source=link.mac,
                    is_direct=way.neighbour == address,
                    tags=link.tags,
                )
        vlans = tuple(
            VlanDevice(ifindex=index, carrier=link.carrier, tags=link.tags)
            for index, link in sorted(links.items())
            if link.tags
        )
        before = self.hops, self.vlans
        self.hops, self.vlans = hops, vlans
        return (hops, vlans) != before

    async def run(self) -> None:
        """Follow the kernel until cancelled."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
            events.setblocking(False)
            events.bind((0, GROUPS))
            routes_changed = True

            def read() -> None:
                nonlocal routes_changed
                routes_changed |= _routes_changed(events)
                self._woken.set()

            loop.add_reader(events, read)
            try:
                while True:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await self._woken.wait()
                    await asyncio.sleep(BURST_S)
                    self._woken.clear()
                    again, routes_changed = routes_changed, False
                    doubted, self._doubted = self._doubted, set()
                    try:
                        # In a thread: netlink's library runs an event loop of its own.
                        different = await asyncio.to_thread(
                            self.refresh, routes_changed=again, doubted=doubted
                        )
                    except (NetlinkError, OSError):
                        routes_changed = True  # the kernel changed under the questions
                        continue
                    if different:
                        self._changed()
            finally:
                loop.remove_reader(events)


def _look_after(
    netlink: IPRoute,
    ways: Iterable[_Route],
    links: Mapping[int, Link],
    neighbours: Mapping[_Neighbour, _Known],
) -> None:
    """Have the kernel resolve every neighbour, or ask again whether it is still there."""
    settled = {key for key, known in neighbours.items() if known.state & SETTLED}
    for ifindex, neighbour in {(way.ifindex, way.neighbour) for way in ways} - settled:
        if ifindex in links:
            with suppress(NetlinkError):
                netlink.neigh("replace", dst=str(neighbour), ifindex=ifindex, flags=IN_USE, state=0)


def _confirm(
    netlink: IPRoute, ways: Iterable[_Route], neighbours: Mapping[_Neighbour, _Known]
) -> None:
    """Have the kernel ask now whether these neighbours are still where it believes them."""
    for key in {(way.ifindex, way.neighbour) for way in ways}:
        known = neighbours.get(key)
        if known is not None and known.state & CONFIRMABLE:
            with suppress(NetlinkError):
                netlink.neigh("change", dst=str(key[1]), ifindex=key[0], state=ASK)


def _neighbours(netlink: IPRoute) -> dict[_Neighbour, _Known]:
    known: dict[_Neighbour, _Known] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for found in netlink.get_neighbours(family=family):
            key = found["ifindex"], ip_address(found.get_attr("NDA_DST"))
            mac = mac_of(found.get_attr("NDA_LLADDR"))
            known[key] = _Known(mac=mac, state=found["state"])
    return known


def _route(netlink: IPRoute, address: Address) -> _Route | None:
    """The kernel's own choice; None for an address that it cannot or need not send to."""
    try:
        (route,) = netlink.route("get", dst=str(address))
    except NetlinkError:
        return None
    if route["type"] != ROUTE_UNICAST:
        return None
    via = route.get_attr("RTA_VIA")
    gateway = route.get_attr("RTA_GATEWAY") or (via["addr"] if via else None)
    metrics: Any = route.get_attr("RTA_METRICS")
    mtu = metrics.get_attr("RTAX_MTU") if metrics else None
    return _Route(
        ifindex=route.get_attr("RTA_OIF"),
        neighbour=ip_address(gateway) if gateway else address,
        mtu=mtu or 0,
    )


def _routes_changed(events: socket.socket) -> bool:
    """Read all that is there; whether it was about more than neighbours."""
    changed = False
    while True:
        try:
            data = events.recv(READ_BYTES)
        except BlockingIOError:
            return changed
        except OSError:  # ENOBUFS: more came than the socket holds
            return True
        at = 0
        while at + 16 <= len(data):
            length = int.from_bytes(data[at : at + 4], "little")
            changed |= int.from_bytes(data[at + 4 : at + 6], "little") not in NEIGHBOUR_MESSAGES
            at += max(16, length + 3 & ~3)
