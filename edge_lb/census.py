"""The flows of each VIP that a real holds, by slot, counted from its sockets: pure.

Owns which VIP a socket is of, its slot, and since when it is known. `edge_lb.census_taker` calls it
with what `edge_lb.socket_dump` found. A socket is known by its cookie, so that only new ones are
hashed. One that is missing is believed gone at the second time: a candidate of an owner chain that
is struck out too early breaks a flow, one that stays a round longer costs a detour.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from edge_lb.flow import address_octets, octets_hash, ring_knows_ports, slot_of_hash
from edge_lb.held import IP_PROTOCOLS
from edge_lb.rendezvous import RING_SLOTS
from edge_lb.socket_dump import Sockets, identity
from gslb.fleet.history import SLOT_COUNT_MAX, VipFlows, pack_slots
from gslb.fleet.model import Protocol, Vip

_NO_PORTS = bytes(4)
_EMPTY = pack_slots(bytes(RING_SLOTS))


class _Known(NamedTuple):
    """A socket of a VIP; `vip` is its number among those counted."""

    vip: int
    slot: int
    since_s: float


class Census:
    """The flows of these VIPs, one protocol's. Seconds are Unix time."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._vips: tuple[Vip, ...] = ()
        self._numbers: dict[tuple[bytes, int], int] = {}  # by address and port
        self._known: dict[bytes, _Known | None] = {}  # by cookie; None: of no VIP here
        self._missed: set[bytes] = set()
        self._since: dict[bytes, float] = {}  # of what was known before the VIPs changed

    def watch(self, vips: Iterable[Vip]) -> None:
        """Count for exactly these; what is known of a socket's age stays."""
        wanted = tuple(vip for vip in vips if vip.protocol is self.protocol)
        if wanted == self._vips:
            return
        self._vips = wanted
        self._numbers = {
            (address_octets(vip.address), vip.port): number for number, vip in enumerate(wanted)
        }
        self._since |= {
            cookie: known.since_s for cookie, known in self._known.items() if known is not None
        }
        self._known, self._missed = {}, set()

    @property
    def wants(self) -> bool:
        """Whether there is anything to count."""
        return bool(self._vips)

    def take(self, sockets: Sockets, now_s: float) -> None:
        """One round: all live sockets of the protocol at this moment."""
        known = self._known
        absent = known.keys() - sockets.keys()
        gone = absent & self._missed
        for cookie in gone:
            del known[cookie]
        self._missed = absent - gone
        since = self._since
        for cookie in sockets.keys() - known.keys():
            known[cookie] = self._place(sockets[cookie], since.get(cookie, now_s))
        self._since = {}

    def flows(self) -> tuple[VipFlows, ...]:
        """What each VIP has, those without a flow too, in the order of the configuration."""
        totals = [0] * len(self._vips)
        oldest = [float("inf")] * len(self._vips)
        slots = [bytearray() for _ in self._vips]
        for known in self._known.values():
            if known is None:
                continue
            number = known.vip
            counts = slots[number]
            if not counts:
                counts.extend(bytes(RING_SLOTS))
            if counts[known.slot] < SLOT_COUNT_MAX:
                counts[known.slot] += 1
            totals[number] += 1
            oldest[number] = min(oldest[number], known.since_s)
        return tuple(
            VipFlows(
                vip=vip.name,
                flows=total,
                oldest_s=since_s if total else None,
                slots=pack_slots(bytes(counts)) if total else _EMPTY,
            )
            for vip, total, since_s, counts in zip(self._vips, totals, oldest, slots, strict=True)
        )

    def _place(self, raw: bytes, since_s: float) -> _Known | None:
        """The VIP and slot of a socket; None if it is of none of them."""
        ends = identity(raw)
        number = self._numbers.get((ends.address, ends.port))
        if number is None:
            number = self._numbers.get((ends.address, 0))
        if number is None:
            return None
        ports = ends.peer_port.to_bytes(2, "big") + ends.port.to_bytes(2, "big")
        if not ring_knows_ports(self._vips[number].options):
            ports = _NO_PORTS
        value = octets_hash(ends.peer, ends.address, ports, IP_PROTOCOLS[self.protocol])
        return _Known(number, slot_of_hash(value), since_s)
