"""The whole wanted content of the data plane's maps, as one value.

Owns the types that `edge_lb.datapath` applies, and the rules of who gets new flows: DOWN and
DRAINING reals and those of weight 0 hold no slot, a DRAINING one keeps its flows, SUSPECT and
UNKNOWN serve. A VIP without a serving real gets an empty ring, so that the verdict names it. Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

from edge_lb.rendezvous import Member
from edge_lb.rings import Rings
from edge_lb.seats import Seats, seat_name
from gslb.fleet.health import SERVING, RealState
from gslb.fleet.model import (
    Address,
    Encap,
    Fleet,
    FlowMemory,
    Protocol,
    RealName,
    SiteName,
    Vip,
    VipName,
    VipOptions,
)

CHAIN_OWNERS = 4  # of a slot: the present one and three before it; SLOT_OWNERS of bpf/maps.h


class RealForwarding(Enum):
    """What the data plane may do with a real."""

    DOWN = "down"  # nothing; its remembered flows are chosen anew
    UP = "up"
    DRAINING = "draining"  # its remembered flows only
    IN_GRACE = "in grace"  # as DOWN, but owner chains may end with it

    @property
    def is_live(self) -> bool:
        """Whether a packet may be sent to it at once."""
        return self in (RealForwarding.UP, RealForwarding.DRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class VlanTag:
    """One tag of a frame: the EtherType that announces it, and its 16 bits."""

    protocol: int
    tci: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """The way to a real: interface, MAC addresses, tags, and the bytes of IP packet that fit.

    `is_direct` if no router is between. `ifindex` is never a VLAN device, but what carries it;
    `tags` are outer first.
    """

    ifindex: int
    mtu: int
    destination: bytes
    source: bytes
    is_direct: bool
    tags: tuple[VlanTag, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VlanDevice:
    """A VLAN device of the edge: the interface that carries it, and its tags, outer first."""

    ifindex: int
    carrier: int
    tags: tuple[VlanTag, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedReal:
    """One real behind one VIP; `name` is VIP/REAL, `index` and `epoch` are its seat.

    Without a `next_hop` the kernel's FIB is asked for every packet.
    """

    name: str
    index: int
    epoch: int
    address: Address
    encap: Encap
    state: RealForwarding
    tunnel_checksum: bool = False
    next_hop: NextHop | None = None
    server_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVip:
    """One VIP and its ring: RING_SLOTS real indexes, 0 where there is none.

    `chains` is the ring widened: CHAIN_OWNERS real indexes for each slot, the present owner (as in
    `ring`), then earlier ones, the latest to lose the slot first, then 0. None where no slot has
    an earlier owner that may still hold its flows. Packets carry them if `hands_on`; otherwise they
    only tell flow memory which slots moved.
    """

    name: str
    index: int
    address: Address
    port: int
    protocol: Protocol
    ring: array[int]
    chains: array[int] | None = None
    hands_on: bool = False
    flow_memory: FlowMemory = FlowMemory.ALL
    own_flows: int = 0  # for each receive queue, in a table of its own; 0: in the shared one
    shares_flows: bool = False  # with the other edges of the site
    options: VipOptions = field(default_factory=VipOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the maps shall hold. `mtu` is bytes of IP packet on the way to the reals."""

    generation: int
    vips: tuple[PlannedVip, ...]
    reals: tuple[PlannedReal, ...]
    tunnel_source: IPv4Address
    mtu: int
    tunnel_source_v6: IPv6Address | None = None
    vlans: tuple[VlanDevice, ...] = ()
    history_generation: int = 0  # of what the chains were computed from; packets carry 32 bits

    def same_content(self, other: Plan) -> bool:
        """Whether both leave the same maps; the generation does not matter."""
        return (
            self.vips == other.vips
            and self.reals == other.reals
            and self.tunnel_source == other.tunnel_source
            and self.tunnel_source_v6 == other.tunnel_source_v6
            and self.mtu == other.mtu
            and self.vlans == other.vlans
            and self.history_generation == other.history_generation
        )


Standings = Mapping[tuple[VipName, RealName], RealState]


def members_of(
    fleet: Fleet,
    vip: Vip,
    seats: Seats,
    standings: Standings,
    drained: frozenset[RealName],
    weights: Mapping[str, int] = MappingProxyType({}),
) -> tuple[Member, ...]:
    """Who gets new flows of a VIP. `weights` by `seat_name` go before those of fleet.toml."""
    members: list[Member] = []
    for name in vip.reals:
        if name in drained or standings.get((vip.name, name), RealState.UNKNOWN) not in SERVING:
            continue
        pair = seat_name(vip.name, name)
        weight = weights.get(pair, fleet.reals[name].weight)
        if weight > 0:
            members.append(Member(name=name, weight=weight, index=seats.reals[pair].index))
    return tuple(members)


def site_members(
    fleet: Fleet,
    site: SiteName,
    seats: Seats,
    standings: Standings,
    drained: frozenset[RealName],
    weights: Mapping[str, int],
) -> dict[str, tuple[Member, ...]]:
    """`members_of` every VIP of a site."""
    return {
        vip.name: members_of(fleet, vip, seats, standings, drained, weights)
        for vip in fleet.vips_of_site(site)
    }


def dead_of(vip: Vip, standings: Standings) -> frozenset[str]:
    """The reals of a VIP that get nothing, drained or not."""
    return frozenset(
        name
        for name in vip.reals
        if standings.get((vip.name, name), RealState.UNKNOWN) not in SERVING
    )


def build_plan(
    fleet: Fleet,
    site: SiteName,
    seats: Seats,
    standings: Standings,
    drained: frozenset[RealName],
    *,
    generation: int,
    tunnel_source: IPv4Address,
    mtu: int,
    rings: Rings,
    tunnel_source_v6: IPv6Address | None = None,
    next_hops: Mapping[Address, NextHop] = MappingProxyType({}),
    vlans: tuple[VlanDevice, ...] = (),
    members: Mapping[str, tuple[Member, ...]] = MappingProxyType({}),
    chains: Mapping[str, array[int]] = MappingProxyType({}),
    history_generation: int = 0,
    in_grace: Container[tuple[VipName, RealName]] = (),
) -> Plan:
    """The plan of one site. `seats` must hold every pair; a pair without a standing is UNKNOWN.

    `members` by VIP go before those of `members_of`; `chains` are of the VIPs that have any, and
    may end with reals that are down and `in_grace`.
    """
    vips: list[PlannedVip] = []
    reals: list[PlannedReal] = []
    for vip in fleet.vips_of_site(site):
        for name in vip.reals:
            real = fleet.reals[name]
            seat = seats.reals[seat_name(vip.name, name)]
            reals.append(
                PlannedReal(
                    name=seat_name(vip.name, name),
                    index=seat.index,
                    epoch=seat.epoch,
                    address=real.address,
                    encap=vip.encap_of(real),
                    state=_state(vip, name, standings, drained, in_grace),
                    tunnel_checksum=vip.tunnel_checksum,
                    next_hop=_next_hop(next_hops.get(real.address), vip.encap_of(real), mtu),
                    server_id=real.server_id,
                )
            )
        vips.append(
            PlannedVip(
                name=vip.name,
                index=seats.vips[vip.name],
                address=vip.address,
                port=vip.port,
                protocol=vip.protocol,
                ring=rings.ring(
                    members[vip.name]
                    if vip.name in members
                    else members_of(fleet, vip, seats, standings, drained)
                ),
                chains=chains.get(vip.name),
                hands_on=vip.owner_chain > 0,
                flow_memory=vip.flow_memory,
                own_flows=vip.flows_per_queue,
                shares_flows=vip.share_flows,
                options=vip.options,
            )
        )
    rings.forget_unused()
    return Plan(
        generation=generation,
        vips=tuple(vips),
        reals=tuple(reals),
        tunnel_source=tunnel_source,
        mtu=mtu,
        tunnel_source_v6=tunnel_source_v6,
        vlans=vlans,
        history_generation=history_generation,
    )


def _next_hop(found: NextHop | None, encap: Encap, mtu: int) -> NextHop | None:
    """The way as the edge may use it; a router cannot be told which real a bare packet is for."""
    if found is None or (encap is Encap.L2 and not found.is_direct):
        return None
    return replace(found, mtu=min(found.mtu, mtu))


def _state(
    vip: Vip,
    name: RealName,
    standings: Standings,
    drained: frozenset[RealName],
    in_grace: Container[tuple[VipName, RealName]] = (),
) -> RealForwarding:
    pair = vip.name, name
    state = forwarding(standings.get(pair, RealState.UNKNOWN), drained=name in drained)
    is_graced = state is RealForwarding.DOWN and pair in in_grace
    return RealForwarding.IN_GRACE if is_graced else state


def forwarding(standing: RealState, *, drained: bool) -> RealForwarding:
    """What a real may get: a dead one nothing, not even its old flows, drained or not."""
    if standing not in SERVING:
        return RealForwarding.DOWN
    return RealForwarding.DRAINING if drained else RealForwarding.UP


def left_empty(
    fleet: Fleet,
    site: SiteName,
    standings: Standings,
    drained: frozenset[RealName],
    leaving: RealName,
) -> tuple[VipName, ...]:
    """The VIPs that would have no serving real if `leaving` were drained, and have one now."""

    def serving(vip: Vip, name: RealName, gone: frozenset[RealName]) -> bool:
        up = _state(vip, name, standings, gone) is RealForwarding.UP
        return up and fleet.reals[name].weight > 0

    return tuple(
        vip.name
        for vip in fleet.vips_of_site(site)
        if leaving in vip.reals
        and any(serving(vip, name, drained) for name in vip.reals)
        and not any(serving(vip, name, drained | {leaving}) for name in vip.reals)
    )
