"""Seats: which number a VIP and each real behind it has in the data plane's maps, kept for life.

A seat belongs to one real behind one VIP, so that a real whose port 443 fails keeps the flows of
port 80. Numbers never change while the configuration names the pair; a freed number is given away
with a new epoch, so its new owner inherits no remembered flow. Pure; kept by `edge_lb.memory`,
used by `edge_lb.plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import msgspec

from gslb.fleet.model import Address, Fleet, Protocol, SiteName, Vip

VIPS_MAX = 16384  # max_entries of the maps vips and rings
OWN_MEMORIES_MAX = 63  # MAX_FLOW_TABLES of bpf/flows.h without the shared one
SEATS_MAX = 65535  # max_entries of the map reals, without index 0, which is "no real"


class Seat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The place of one real behind one VIP; a changed address is a new owner."""

    index: int
    epoch: int
    address: str


class Seats(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All numbers of one edge. `reals` is keyed by `seat_name`."""

    vips: dict[str, int] = {}
    reals: dict[str, Seat] = {}
    last_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundReal:
    """What the maps hold at one real index."""

    index: int
    epoch: int
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundVip:
    """What the maps hold for one VIP: its index, and the real indexes met in its ring."""

    index: int
    address: Address
    port: int
    protocol: Protocol
    ring_reals: frozenset[int]


def seat_name(vip: str, real: str) -> str:
    """The name of a pair; `/` is in no configured name."""
    return f"{vip}/{real}"


def capacity_faults(fleet: Fleet, site: SiteName) -> Iterator[tuple[str, str, str]]:
    """What the maps cannot hold: (path, reason, advice)."""
    vips = fleet.vips_of_site(site)
    pairs = sum(len(vip.reals) for vip in vips)
    if len(vips) > VIPS_MAX:
        yield "$.vip", f"{len(vips)} VIPs at site `{site}`", f"an edge holds {VIPS_MAX}"
    own = sum(vip.flows_per_queue > 0 for vip in vips)
    if own > OWN_MEMORIES_MAX:
        reason = f"{own} VIPs at site `{site}` have a flows_per_queue of their own"
        yield "$.vip", reason, f"an edge holds {OWN_MEMORIES_MAX}"
    if pairs > SEATS_MAX:
        reason = f"{pairs} pairs of a VIP and a real at site `{site}`"
        yield "$.vip", reason, f"an edge holds {SEATS_MAX}"


def assign(fleet: Fleet, site: SiteName, previous: Seats) -> Seats:
    """Seats for every VIP of `site` and every real behind it; those in `previous` are kept."""
    wanted = fleet.vips_of_site(site)
    vips = {vip.name: previous.vips[vip.name] for vip in wanted if vip.name in previous.vips}
    free_vips = _free(vips.values(), first=0)
    for vip in wanted:
        if vip.name not in vips:
            vips[vip.name] = next(free_vips)

    kept: dict[str, Seat] = {}
    for name, address in _pairs(fleet, wanted):
        seat = previous.reals.get(name)
        if seat is not None and seat.address == address:
            kept[name] = seat
    free = _free((seat.index for seat in kept.values()), first=1)
    epoch = previous.last_epoch
    for name, address in _pairs(fleet, wanted):
        if name not in kept:
            epoch += 1
            kept[name] = Seat(index=next(free), epoch=epoch, address=address)
    return Seats(
        vips={str(name): index for name, index in vips.items()}, reals=kept, last_epoch=epoch
    )


def apart(fleet: Fleet, site: SiteName, previous: Seats) -> Seats:
    """As `assign`, but a new owner has a number that nobody had: for comparing, not for maps."""
    assigned = assign(fleet, site, previous)
    fresh = _free((seat.index for seat in previous.reals.values()), first=1)
    reals = {
        name: seat
        if previous.reals.get(name) == seat
        else msgspec.structs.replace(seat, index=next(fresh))
        for name, seat in assigned.reals.items()
    }
    return msgspec.structs.replace(assigned, reals=reals)


def recover(
    fleet: Fleet,
    site: SiteName,
    remembered: Seats,
    held_vips: Iterable[FoundVip],
    held_reals: Mapping[int, FoundReal],
) -> Seats:
    """What is remembered, corrected by what the maps hold: flows live in the maps, not in a file.

    A remembered seat is dropped if the maps hold another owner at its index; a pair that is not
    remembered is found again by its VIP's ring and its address. Epochs never fall.
    """
    by_key = {(held.address, held.port, held.protocol): held for held in held_vips}
    vips = dict(remembered.vips)
    reals = {
        name: seat
        for name, seat in remembered.reals.items()
        if seat.index not in held_reals or _same_owner(seat, held_reals[seat.index])
    }
    for vip in fleet.vips_of_site(site):
        held = by_key.get((vip.address, vip.port, vip.protocol))
        if held is None:
            continue
        vips = {name: index for name, index in vips.items() if index != held.index}
        vips[vip.name] = held.index
        taken = {seat.index for seat in reals.values()}
        in_ring = {
            held_reals[index].address: held_reals[index]
            for index in held.ring_reals - taken
            if index in held_reals
        }
        for real in vip.reals:
            found = in_ring.get(fleet.reals[real].address)
            if found is not None and seat_name(vip.name, real) not in reals:
                reals[seat_name(vip.name, real)] = Seat(
                    index=found.index, epoch=found.epoch, address=str(found.address)
                )
    epochs = [remembered.last_epoch, *(held.epoch for held in held_reals.values())]
    return Seats(vips=vips, reals=reals, last_epoch=max(epochs))


def _same_owner(seat: Seat, held: FoundReal) -> bool:
    return seat.epoch == held.epoch and seat.address == str(held.address)


def _pairs(fleet: Fleet, vips: Iterable[Vip]) -> Iterator[tuple[str, str]]:
    for vip in vips:
        for real in vip.reals:
            yield seat_name(vip.name, real), str(fleet.reals[real].address)


def _free(taken: Iterable[int], *, first: int) -> Iterator[int]:
    """The unused numbers from `first`, lowest first; `taken` is read now."""
    used = set(taken)
    return (number for number in count(first) if number not in used)
