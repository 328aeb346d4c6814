"""The other reals of the site, which a packet with an owner chain may be handed on to.

Owns who they are, and the map of real.bpf.c with the way to each. Called by `edge_lb.unwrap`. To
whom it does not name, that program sends nothing; it decides about no packet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bpf.maps import Map
from edge_lb.devices import NO_HOP, hop_fields
from edge_lb.flow import address_octets
from edge_lb.plan import NextHop
from gslb.fleet.model import Address, Encap, Fleet, RealName


def peers_of(fleet: Fleet, name: RealName) -> frozenset[Address]:
    """The other reals of this one's site that packets reach by GUE, which alone has chains.

    One that no VIP names any more may still hold flows, so it is one of them.
    """
    site = fleet.reals[name].site
    return frozenset(
        real.address
        for real in fleet.reals.values()
        if real.site == site
        and real.name != name
        and Encap.GUE in (fleet.encaps_of(real.name) or (real.encap or Encap.GUE,))
    )


def write_peers(peers: Map, wanted: Iterable[Address], hops: Mapping[Address, NextHop]) -> None:
    """Exactly these; one without a known way is there too, and the kernel is asked for it."""
    layout = peers.shape.value
    records = {
        address_octets(address): layout.pack(**hop_fields(hops.get(address, NO_HOP)))
        for address in wanted
    }
    for key, value in records.items():
        held = peers.get(key)
        if held is None or dict(held) != dict(layout.unpack(value)):
            peers.put(key, value)
    for key in tuple(peers.keys()):
        if key not in records:
            peers.delete(key)
