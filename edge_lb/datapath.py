"""A plan into the maps of lb.bpf.c, and counters and flows back out.

Owns what the edge's maps hold. Called by the agent alone, and by tests. It decides nothing:
indexes, epochs, states and rings come with the plan. A change is ordered so that no packet meets
half of it: reals, then the rings that VIPs use (one pointer each: the wide one where there are
chains, else the narrow one), then VIPs, then reals that are down and the narrow rings beside wide
ones; removals last. Only what differs from the last plan is written. Blocks for milliseconds.
"""

import socket
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from pathlib import Path

from bpf import program
from bpf.errors import RehearsalFailedError
from bpf.maps import Counter
from bpf.program import Program
from bpf.services import address_record, held_services, put_services
from edge_lb.devices import write_devices, write_vlans
from edge_lb.flow import (
    Address,
    Flow,
    address_octets,
    as_memory_sees,
    as_ring_sees,
    flow_hash,
    slot,
)
from edge_lb.flow_memory import NO_MEMORY, FlowMemory, MemoryPlace
from edge_lb.held import (
    IP_PROTOCOLS,
    Held,
    HeldVip,
    expected,
    held_real,
    held_vip,
    vip_service,
)
from edge_lb.plan import Plan, PlannedVip
from edge_lb.queues import receive_queues
from edge_lb.real_maps import retire_reals, write_reals
from edge_lb.rehearsal import borrowed, rehearse
from edge_lb.ring_maps import RingMaps
from edge_lb.server_ids import write_server_ids
from gslb.fleet.model import Protocol

GUE_PORT = 6080  # IANA: gue
UDP_FLOW_AGE_S = 30.0
TICK_S = 2**27 / 1e9  # TICK_NS_SHIFT of bpf/flows.h
GENERATION_MASK = 0xFFFFFFFF

Owner = tuple[int, Address, int, Protocol]  # a VIP's index, and whose it is


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPlace:
    """Where a flow goes. `remembered_real` counts if not 0; `queue` is -1 without memory.

    `earlier` are the reals that had the slot before, and may still hold its flows.
    """

    slot: int
    vip_index: int
    ring_real: int
    earlier: tuple[int, ...]
    remembered_real: int
    queue: int
    memory: MemoryPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class VipCounter:
    """What came for a VIP. `flow_hits` are packets whose real flow memory named."""

    packets: int
    bytes: int
    dropped: int
    flows_new: int
    flow_hits: int


class UnknownVipError(LookupError):
    """No VIP takes packets of this flow."""


class Datapath:
    """One interface's data plane. `close` leaves packets flowing, `unload` ends that."""

    def __init__(
        self,
        interface: str,
        pin_dir: Path,
        object_path: Path | None = None,
        *,
        flows_per_queue: int = 262_144,
        udp_flow_age_s: float = UDP_FLOW_AGE_S,
    ) -> None:
        self._interface = interface
        self._pin_dir = pin_dir
        self._object_path = object_path
        self._flows_per_queue = flows_per_queue
        self._udp_age_ticks = int(udp_flow_age_s / TICK_S)
        self._program: program.Program | None = None
        self._memory: FlowMemory | None = None
        self._rings: RingMaps | None = None
        self._applied: tuple[Plan, Held] | None = None  # None while the maps may hold else

    @property
    def program(self) -> program.Program:
        """The loaded program; only between `open` and `close`."""
        if self._program is None:
            raise RuntimeError("the data plane is not open")
        return self._program

    @property
    def flow_memory(self) -> FlowMemory:
        """The flow memory of the loaded program."""
        if self._memory is None:
            raise RuntimeError("the data plane is not open")
        return self._memory

    @property
    def rings(self) -> RingMaps:
        """The rings of the loaded program."""
        if self._rings is None:
            raise RuntimeError("the data plane is not open")
        return self._rings

    def open(self) -> bool:
        """Loads and attaches; True when pins of an earlier start were taken over.

        A running program is replaced in place: flows, rings, counters stay. This one is rehearsed
        on the live maps first; if it fails, the one that runs goes on, and RehearsalFailedError
        says why. Raises the errors of bpf.errors.
        """
        self.open_private(self._pin_dir, queues=receive_queues(self._interface))
        try:
            if program.held_interface(self._pin_dir) == program.interface_index(self._interface):
                with self.rehearsal_twin() as twin:
                    faults = self.rehearse(twin)
                if faults:
                    raise RehearsalFailedError(faults)
            return self.program.attach(self._interface, self._pin_dir)
        except BaseException:
            self.close()
            raise

    def rehearsal_twin(self) -> Program:
        """This program once more, on the live maps, for `rehearse`; the caller closes it."""
        live = self.program
        return live.twin(own=[name for name, held in live.maps.items() if not borrowed(held.shape)])

    def rehearse(self, twin: Program, some: tuple[int, int] | None = None) -> tuple[str, ...]:
        """What the twin gets wrong on the live maps, in words; no packet leaves.

        `some` is (first, count): so many of the VIPs only, the first again after the last.
        """
        ifindex = program.interface_index(self._interface)
        applied = self._applied
        held = applied[1] if applied is not None else self.read_back()
        if some is not None and len(held.vips) > some[1]:
            first = some[0] % len(held.vips)
            vips = (held.vips + held.vips)[first : first + some[1]]
            held = replace(held, vips=vips)
        return rehearse(twin, ifindex, held, self.owners)

    def open_private(self, pin_dir: Path | None = None, *, queues: int = 1) -> None:
        """Loads without attaching; without `pin_dir` in private maps, for trials and tests."""
        self._program = program.Program.load(
            "lb",
            path=self._object_path,
            constants={"udp_flow_age_ticks": self._udp_age_ticks},
            pin_dir=pin_dir,
        )
        self._memory = FlowMemory(
            self._program,
            flows_per_queue=self._flows_per_queue,
            queues=queues,
            udp_age_ticks=self._udp_age_ticks,
        )
        self._rings = RingMaps(self._program)

    def close(self) -> None:
        """Gives back every descriptor. Pins stay, so packets keep flowing."""
        self.program.close()
        self._program = self._memory = self._rings = None
        self._applied = None

    def unload(self) -> None:
        """Detaches and removes all pins: packets meet the plain stack from here on."""
        if self._program is not None:
            self.close()
        program.unload(self._pin_dir)

    def apply(self, plan: Plan) -> None:
        """Makes the maps say what the plan says. Safe to repeat after a failure half-way."""
        applied, self._applied = self._applied, None
        held = self.read_back() if applied is None else applied[1]
        owners = {_owner(vip) for vip in plan.vips}
        before = {vip.index: vip.memory for vip in held.vips if _owner(vip) in owners}
        places = self.flow_memory.places(plan.vips, before)
        wanted = expected(plan, places)
        if applied is None or _settings(applied[0]) != _settings(plan):
            self._write_settings(plan)
        hops = (real.next_hop for real in plan.reals if real.next_hop is not None)
        write_devices(self.program.maps["devices"], hops)
        write_vlans(self.program.maps["vlans"], plan.vlans)
        written = {real.index: real for real in applied[0].reals} if applied is not None else {}
        changed = [real for real in plan.reals if written.get(real.index) != real]
        write_reals(self.program, [one for one in changed if one.state.is_live])
        self._free_reassigned_indexes(held, owners)
        narrow = {vip.index: vip.ring for vip in plan.vips if vip.chains is None}
        wide = {vip.index: vip.chains for vip in plan.vips if vip.chains is not None}
        self.rings.write_narrow(narrow)
        self.rings.write_wide(wide)
        write_server_ids(self.program.maps["quic_servers"], plan)
        if applied is None or held.vips != wanted.vips:
            self._write_services(wanted.vips)
        # No ring sends to these at once any more.
        write_reals(self.program, [one for one in changed if not one.state.is_live])
        self.rings.write_narrow({vip.index: vip.ring for vip in plan.vips if vip.index in wide})
        self.rings.remove_wide(but=wide)
        self._retire_vips(held, plan)
        retire_reals(self.program, held.reals, plan.reals)
        self.flow_memory.keep(places)
        self._applied = plan, wanted

    @property
    def held(self) -> Held | None:
        """What the maps hold of the last plan; None amid a change."""
        return None if self._applied is None else self._applied[1]

    def read_back(self) -> Held:
        """What the maps hold now, so that a restarted agent keeps indexes and epochs."""
        maps = self.program.maps
        layout = maps["reals"].shape.value
        raw, never_used = maps["reals"].dump(), bytes(layout.size)
        values = [raw[at : at + layout.size] for at in range(0, len(raw), layout.size)]
        reals = tuple(
            held_real(index, layout.unpack(value))
            for index, value in enumerate(values)
            if value != never_used
        )
        vips = tuple(held_vip(service) for service in held_services(self.program))
        return Held(reals=reals, vips=tuple(sorted(vips, key=lambda vip: vip.index)))

    def ring(self, vip_index: int) -> "array[int]":
        """The narrow ring of a VIP as the kernel has it; empty when there is none."""
        return self.rings.ring(vip_index)

    def members(self, vip_index: int) -> frozenset[int]:
        """Every index that the rings of a VIP name, of earlier owners too."""
        return frozenset(self.ring(vip_index)) | frozenset(self.rings.chains(vip_index))

    def owners(self, vip: HeldVip, slot: int) -> tuple[int, ...]:
        """Who a VIP has in a slot: the owner, then earlier ones if there are any; 0 for none."""
        if not vip.chained:
            return (self.rings.real(vip.index, slot),)
        owner, *earlier = self.rings.owners(vip.index, slot)
        return owner, *(index for index in earlier if index)

    def owners_by_index(self, vip_index: int, slot: int) -> tuple[int, ...]:
        """The same for the VIP of an index; none if no VIP has it."""
        found = (vip for vip in self._held_vips() if vip.index == vip_index)
        return next((self.owners(vip, slot) for vip in found), (0,))

    def verdicts(self) -> dict[str, Counter]:
        """Every verdict by name, the ones at zero too."""
        verdicts = self.program.maps["verdicts"]
        names = self.program.verdict_names()
        return {name: verdicts.total(index) for index, name in enumerate(names)}

    def vip_counters(self, indexes: Iterable[int]) -> dict[int, VipCounter]:
        """Packets that came for each VIP, and what became of them."""
        counters = self.program.maps["vip_counters"]
        return {index: VipCounter(**counters.sums(index)) for index in indexes}

    def chain_counters(self) -> dict[int, Counter]:
        """Packets that left with an owner chain, by its candidates, and their chains' bytes."""
        counters = self.program.maps["chain_counters"]
        return {count: counters.total(count) for count in range(1, counters.shape.max_entries)}

    def real_counters(self, indexes: Iterable[int]) -> dict[int, Counter]:
        """Packets that were sent to each real, since its epoch began."""
        counters = self.program.maps["real_counters"]
        return {index: counters.total(index) for index in indexes}

    def locate(self, flow: Flow) -> FlowPlace:
        """Where a packet of this flow would go now. UnknownVipError when no VIP takes it."""
        vip = self._vip(flow)
        in_ring = as_ring_sees(flow, vip.options)
        owner, *earlier = self.owners(vip, slot(in_ring))
        asked = bool(earlier) or not vip.remembers_moved
        remembered = self.flow_memory.recall(
            vip.memory if asked else NO_MEMORY,
            flow_hash(as_memory_sees(flow, vip.options)),
            ages=flow.protocol == socket.IPPROTO_UDP,
        )
        return FlowPlace(
            slot=slot(in_ring),
            vip_index=vip.index,
            ring_real=owner,
            earlier=tuple(earlier),
            remembered_real=remembered.real if remembered else 0,
            queue=remembered.queue if remembered else -1,
            memory=vip.memory,
        )

    def _vip(self, flow: Flow) -> HeldVip:
        """The VIP that takes the flow: the one of its port before the one of any port."""
        for port in (flow.vip_port, 0):
            for vip in self._held_vips():
                key = vip.address, vip.port, IP_PROTOCOLS[vip.protocol]
                if key == (flow.vip, port, flow.protocol):
                    return vip
        raise UnknownVipError(f"no VIP takes {flow.vip} port {flow.vip_port}")

    def _held_vips(self) -> tuple[HeldVip, ...]:
        return self._applied[1].vips if self._applied is not None else self.read_back().vips

    def _write_settings(self, plan: Plan) -> None:
        settings = self.program.maps["settings"]
        settings.put_at(
            0,
            settings.shape.value.pack(
                tunnel_source=address_octets(plan.tunnel_source),
                tunnel_source_v6=address_octets(plan.tunnel_source_v6 or IPv6Address("::")),
                gue_port=GUE_PORT,
                mtu=plan.mtu,
                generation=plan.history_generation & GENERATION_MASK,
            ),
        )

    def _write_services(self, vips: Sequence[HeldVip]) -> None:
        layout = self.program.btf.struct("service")
        addresses = {address_octets(vip.address) for vip in vips}
        records = [vip_service(layout, vip) for vip in vips]
        records += [address_record(layout, address) for address in sorted(addresses)]
        put_services(self.program, records)

    def _free_reassigned_indexes(self, held: Held, owners: set[Owner]) -> None:
        """A VIP that leaves must not be seen with the ring of the one that takes its index."""
        taken = {index for index, *_ in owners}
        leaving = {vip for vip in held.vips if vip.index in taken and _owner(vip) not in owners}
        if leaving:
            self._write_services([vip for vip in held.vips if vip not in leaving])
        counters = self.program.maps["vip_counters"]
        for vip in leaving:
            counters.put_at(vip.index, bytes(counters.shape.value.size))

    def _retire_vips(self, held: Held, plan: Plan) -> None:
        """Frees indexes that no VIP has any more."""
        maps = self.program.maps
        kept = {vip.index for vip in plan.vips}
        for vip in held.vips:
            if vip.index not in kept:
                self.rings.remove(vip.index)
                maps["vip_counters"].put_at(vip.index, bytes(maps["vip_counters"].shape.value.size))


def _owner(vip: HeldVip | PlannedVip) -> Owner:
    """Whose an index is."""
    return vip.index, vip.address, vip.port, vip.protocol


def _settings(plan: Plan) -> tuple[Address, Address | None, int, int]:
    return plan.tunnel_source, plan.tunnel_source_v6, plan.mtu, plan.history_generation
