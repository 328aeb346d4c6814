"""What the data plane's maps hold, as values: VIPs and reals without names.

Owns the reading of map records, and what a plan leaves in the maps. Used by `edge_lb.datapath`, and
by the agent to find its seats again after a restart. Pure.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from bpf.layout import FieldValue, Layout, Record
from bpf.services import vip_record
from edge_lb.devices import NO_HOP, hop_fields
from edge_lb.flow import Address, address_from_octets, address_octets
from edge_lb.flow_memory import MemoryPlace
from edge_lb.plan import Plan, PlannedReal, RealForwarding
from gslb.fleet.model import (
    Affinity,
    Encap,
    Fallback,
    FlowMemory,
    Fragments,
    Protocol,
    Quic,
    VipOptions,
)

UNSPECIFIED = bytes(16)
IP_PROTOCOLS = {Protocol.TCP: socket.IPPROTO_TCP, Protocol.UDP: socket.IPPROTO_UDP}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldReal:
    """A real in the maps. Without an address the index is free; `epoch` was its last owner's."""

    index: int
    epoch: int
    address: Address | None
    encap: Encap
    state: RealForwarding


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldVip:
    """A VIP in the maps."""

    index: int
    address: Address
    port: int
    protocol: Protocol
    memory: MemoryPlace
    options: VipOptions
    chained: bool = False  # its ring is the wide one
    hands_on: bool = False  # and packets carry it
    remembers_moved: bool = False  # and no flow on a slot without an earlier owner
    shares_flows: bool = False  # with the other edges of the site


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """All that the pinned maps hold of the last plan."""

    reals: tuple[HeldReal, ...]
    vips: tuple[HeldVip, ...]


def expected(plan: Plan, places: Mapping[int, MemoryPlace]) -> Held:
    """What the maps hold once the plan is applied with these places; VIPs by index."""
    return Held(
        reals=tuple(
            HeldReal(
                index=real.index,
                epoch=real.epoch,
                address=real.address,
                encap=real.encap,
                state=real.state,
            )
            for real in plan.reals
        ),
        vips=tuple(
            HeldVip(
                index=vip.index,
                address=vip.address,
                port=vip.port,
                protocol=vip.protocol,
                memory=places[vip.index],
                options=vip.options,
                chained=vip.chains is not None,
                hands_on=vip.chains is not None and vip.hands_on,
                remembers_moved=vip.flow_memory is FlowMemory.MOVED,
                shares_flows=vip.shares_flows,
            )
            for vip in sorted(plan.vips, key=lambda vip: vip.index)
        ),
    )


def real_value(layout: Layout, real: PlannedReal) -> Record:
    """The record of a planned real."""
    fields: dict[str, FieldValue] = {
        "address": address_octets(real.address),
        "family": f"FAMILY_IPV{real.address.version}",
        "encap": f"ENCAP_{real.encap.name}",
        "state": f"REAL_{real.state.name}",
        "epoch": real.epoch,
        "tunnel_checksum": int(real.tunnel_checksum),
        **hop_fields(real.next_hop or NO_HOP, "hop."),
    }
    return layout.unpack(layout.pack(**fields))


def vip_service(layout: Layout, vip: HeldVip) -> bytes:
    """The service of a VIP, as the table of services holds it."""
    options = vip.options
    flags = {
        "VIP_BY_SOURCE": options.affinity is Affinity.SOURCE,
        "VIP_TWO_TUPLE": options.fragments is Fragments.TWO_TUPLE,
        "VIP_CHAINED": vip.chained,
        "VIP_HANDS_ON": vip.hands_on,
        "VIP_REMEMBERS_MOVED": vip.remembers_moved,
        "VIP_SHARES_FLOWS": vip.shares_flows,
    }
    return vip_record(
        layout,
        address_octets(vip.address),
        vip.port,
        IP_PROTOCOLS[vip.protocol],
        index=vip.index,
        flow_table=vip.memory.table,
        flow_buckets=vip.memory.buckets,
        flags=layout.field("vip.flags").bits([name for name, is_set in flags.items() if is_set]),
        fallback=f"FALLBACK_{options.fallback.name}",
        quic_id_bytes=options.quic.server_id_bytes,
        quic_rotation=options.quic.rotation,
    )


def held_real(index: int, record: Record) -> HeldReal:
    octets = record.octets("address")
    return HeldReal(
        index=index,
        epoch=record.integer("epoch"),
        address=None if octets == UNSPECIFIED else address_from_octets(octets),
        encap=Encap[record.enum("encap").removeprefix("ENCAP_")],
        state=RealForwarding[record.enum("state").removeprefix("REAL_")],
    )


def held_vip(service: Record) -> HeldVip:
    """A VIP as its service tells it."""
    protocols = {number: protocol for protocol, number in IP_PROTOCOLS.items()}
    flags = service.flags("vip.flags")
    return HeldVip(
        index=service.integer("vip.index"),
        address=address_from_octets(service.octets("address")),
        port=service.integer("port"),
        protocol=protocols[service.integer("protocol")],
        memory=MemoryPlace(service.integer("vip.flow_table"), service.integer("vip.flow_buckets")),
        options=VipOptions(
            affinity=Affinity.SOURCE if "VIP_BY_SOURCE" in flags else Affinity.FLOW,
            fallback=Fallback[service.enum("vip.fallback").removeprefix("FALLBACK_")],
            fragments=Fragments.TWO_TUPLE if "VIP_TWO_TUPLE" in flags else Fragments.MEMORY,
            quic=Quic(
                server_id_bytes=service.integer("vip.quic_id_bytes"),
                rotation=service.integer("vip.quic_rotation"),
            ),
        ),
        chained="VIP_CHAINED" in flags,
        hands_on="VIP_HANDS_ON" in flags,
        remembers_moved="VIP_REMEMBERS_MOVED" in flags,
        shares_flows="VIP_SHARES_FLOWS" in flags,
    )
