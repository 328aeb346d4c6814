"""A plan into the maps of lb.bpf.c, and counters and flows back out.

Owns what the edge's maps hold. Called by the agent alone, and by tests. It decides nothing:
indexes, epochs, states and rings come with the plan. A change is ordered so that no packet meets
half of it: reals, then rings (one pointer each), then VIPs; removals last. Only what differs from
the last plan is written. Blocks for milliseconds.
"""

import socket
import time
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from bpf import libbpf, program
from bpf.errors import RehearsalFailedError
from bpf.layout import FieldValue, Record
from bpf.maps import Counter, Map
from edge_lb.devices import write_devices, write_vlans
from edge_lb.flow import Address, Flow, address_octets, as_memory_sees, as_ring_sees, slot
from edge_lb.held import (
    NO_HOP,
    Held,
    HeldVip,
    expected,
    held_real,
    held_vip,
    real_value,
    vip_key,
    vip_options,
    vip_value,
)
from edge_lb.plan import Plan, PlannedReal, PlannedVip
from edge_lb.queues import receive_queues
from edge_lb.rehearsal import borrowed, rehearse
from edge_lb.server_ids import write_server_ids

GUE_PORT = 6080  # IANA: gue
UDP_FLOW_AGE_S = 30.0
RINGS_AT_ONCE = 32  # half a megabyte each, held twice while they are swapped


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPlace:
    """Where a flow goes. `remembered_real` counts if not 0; `queue` is -1 without memory."""

    slot: int
    vip_index: int
    ring_real: int
    remembered_real: int
    queue: int


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
        flows_per_queue: int = 65536,
        udp_flow_age_s: float = UDP_FLOW_AGE_S,
    ) -> None:
        self._interface = interface
        self._pin_dir = pin_dir
        self._object_path = object_path
        self._flows_per_queue = flows_per_queue
        self._udp_flow_age_ns = int(udp_flow_age_s * 1e9)
        self._program: program.Program | None = None
        self._rings: dict[int, array[int]] = {}  # as last written or read
        self._applied: tuple[Plan, Held] | None = None  # None while the maps may hold else

    @property
    def program(self) -> program.Program:
        """The loaded program; only between `open` and `close`."""
        if self._program is None:
            raise RuntimeError("the data plane is not open")
        return self._program

    def open(self) -> bool:
        """Loads and attaches; True when pins of an earlier start were taken over.

        A running program is replaced in place: flows, rings, counters stay. This one is rehearsed
        on the live maps first; if it fails, the one that runs goes on, and RehearsalFailedError
        says why. Raises the errors of bpf.errors.
        """
        self.open_private(self._pin_dir, queues=receive_queues(self._interface))
        try:
            if program.held_interface(self._pin_dir) == program.interface_index(self._interface):
                self._rehearse()
            return self.program.attach(self._interface, self._pin_dir)
        except BaseException:
            self.close()
            raise

    def _rehearse(self) -> None:
        live = self.program
        own = [name for name, held in live.maps.items() if not borrowed(held.shape)]
        with live.twin(own=own) as twin:
            ifindex = program.interface_index(self._interface)
            faults = rehearse(twin, ifindex, self.read_back(), self._ring_real)
        if faults:
            raise RehearsalFailedError(faults)

    def open_private(self, pin_dir: Path | None = None, *, queues: int = 1) -> None:
        """Loads without attaching; without `pin_dir` in private maps, for trials and tests."""
        self._program = program.Program.load(
            "lb",
            path=self._object_path,
            constants={"udp_flow_age_ns": self._udp_flow_age_ns},
            pin_dir=pin_dir,
        )
        flows = self.program.maps["flows"]
        for queue in range(min(queues, flows.shape.max_entries)):
            if not self._has_flow_table(flows, queue):
                with self.program.new_inner("flows", max_entries=self._flows_per_queue) as table:
                    flows.set_inner(queue, table)

    def _has_flow_table(self, flows: Map, queue: int) -> bool:
        """Whether an earlier start left a table of the configured size; another is replaced."""
        table = flows.inner(queue)
        if table is None:
            return False
        with table:
            return libbpf.map_info(table.fd).max_entries == self._flows_per_queue

    def close(self) -> None:
        """Gives back every descriptor. Pins stay, so packets keep flowing."""
        self.program.close()
        self._program = None
        self._rings.clear()
        self._applied = None

    def unload(self) -> None:
        """Detaches and removes all pins: packets meet the plain stack from here on."""
        if self._program is not None:
            self.close()
        program.unload(self._pin_dir)

    def apply(self, plan: Plan) -> None:
        """Makes the maps say what the plan says. Safe to repeat after a failure half-way."""
        applied, self._applied = self._applied, None
        wanted = expected(plan)
        held = self.read_back() if applied is None else applied[1]
        if applied is None or _settings(applied[0]) != _settings(plan):
            self._write_settings(plan)
        write_devices(self.program.maps["devices"], plan)
        write_vlans(self.program.maps["vlans"], plan)
        written = {real.index: real for real in applied[0].reals} if applied is not None else {}
        for real in plan.reals:
            if written.get(real.index) != real:
                self._write_real(real)
        self._free_reassigned_indexes(held, plan)
        self._write_rings(plan.vips)
        write_server_ids(self.program.maps["quic_servers"], plan)
        known = set(held.vips) if applied is not None else set[HeldVip]()
        for vip, entry in zip(plan.vips, wanted.vips, strict=True):
            if entry not in known:
                self._write_vip(vip)
        self._remove_vips(held, plan)
        self._retire_reals(held, plan)
        self._applied = plan, wanted

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
        vips = tuple(held_vip(key, value) for key, value in maps["vips"].items())
        return Held(reals=reals, vips=tuple(sorted(vips, key=lambda vip: vip.index)))

    def ring(self, vip_index: int) -> "array[int]":
        """The ring of a VIP as the kernel has it; empty when there is none."""
        values = array("I")
        inner = self.program.maps["rings"].inner(vip_index)
        if inner is not None:
            with inner:
                values.frombytes(inner.dump())
        return values

    def verdicts(self) -> dict[str, Counter]:
        """Every verdict by name, the ones at zero too."""
        verdicts = self.program.maps["verdicts"]
        names = self.program.verdict_names()
        return {name: verdicts.total(index) for index, name in enumerate(names)}

    def vip_counters(self, indexes: Iterable[int]) -> dict[int, VipCounter]:
        """Packets that came for each VIP, and what became of them."""
        counters = self.program.maps["vip_counters"]
        return {index: VipCounter(**counters.sums(index)) for index in indexes}

    def real_counters(self, indexes: Iterable[int]) -> dict[int, Counter]:
        """Packets that were sent to each real, since its epoch began."""
        counters = self.program.maps["real_counters"]
        return {index: counters.total(index) for index in indexes}

    def locate(self, flow: Flow) -> FlowPlace:
        """Where a packet of this flow would go now. UnknownVipError when no VIP takes it."""
        vip = self._vip(flow)
        vip_index, options = vip.integer("index"), vip_options(vip)
        flow, in_ring = as_memory_sees(flow, options), as_ring_sees(flow, options)
        queue, remembered = self._recall(flow, vip_index)
        return FlowPlace(
            slot=slot(in_ring),
            vip_index=vip_index,
            ring_real=self._ring_real(vip_index, in_ring),
            remembered_real=remembered,
            queue=queue,
        )

    def _ring_real(self, vip_index: int, flow: Flow) -> int:
        """The real that a VIP's ring names for a flow as the ring sees it; 0 for none."""
        ring = self.program.maps["rings"].inner(vip_index)
        if ring is None:
            return 0
        with ring:
            return ring.at(slot(flow)).integer("")

    def _vip(self, flow: Flow) -> Record:
        vips = self.program.maps["vips"]
        for port in (flow.vip_port, 0):
            key = vips.shape.key.pack(
                address=address_octets(flow.vip), port=port, protocol=flow.protocol
            )
            value = vips.get(key)
            if value is not None:
                return value
        raise UnknownVipError(f"no VIP takes {flow.vip} port {flow.vip_port}")

    def _recall(self, flow: Flow, vip_index: int) -> tuple[int, int]:
        """The queue whose table has the flow, and its real, while that memory still counts."""
        flows = self.program.maps["flows"]
        key = self.program.btf.struct("flow_key").pack(
            client=address_octets(flow.client),
            client_port=flow.client_port,
            vip_port=flow.vip_port,
            vip_index=vip_index,
        )
        for queue in flows.filled():
            table = flows.inner(queue)
            if table is None:
                continue
            with table:
                memory = table.get(key)
            if memory is None or not self._is_fresh(flow, memory):
                continue
            real = self.program.maps["reals"].at(memory.integer("real"))
            if real.enum("state") != "REAL_DOWN" and real["epoch"] == memory["epoch"]:
                return queue, memory.integer("real")
        return -1, 0

    def _is_fresh(self, flow: Flow, memory: Record) -> bool:
        if flow.protocol != socket.IPPROTO_UDP:
            return True
        age = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - memory.integer("last_seen_ns")
        return age <= self._udp_flow_age_ns

    def _write_settings(self, plan: Plan) -> None:
        settings = self.program.maps["settings"]
        settings.put_at(
            0,
            settings.shape.value.pack(
                tunnel_source=address_octets(plan.tunnel_source),
                tunnel_source_v6=address_octets(plan.tunnel_source_v6 or IPv6Address("::")),
                gue_port=GUE_PORT,
                mtu=plan.mtu,
            ),
        )

    def _write_real(self, real: PlannedReal) -> None:
        """Writes a real. What a packet may not see half of has its switch off meanwhile."""
        reals = self.program.maps["reals"]
        layout = reals.shape.value
        old, new = reals.at(real.index), real_value(layout, real)
        if dict(old) == dict(new):
            return
        is_new_owner = old["epoch"] != new["epoch"] or old["address"] != new["address"]
        off: dict[str, FieldValue] = {"hop.ifindex": NO_HOP.ifindex}
        if is_new_owner:
            off["state"] = "REAL_DOWN"
        reals.put_at(real.index, layout.pack(**{**old, **off}))
        reals.put_at(real.index, layout.pack(**{**new, **off}))
        if is_new_owner:
            counters = self.program.maps["real_counters"]
            counters.put_at(real.index, bytes(counters.shape.value.size))
        reals.put_at(real.index, layout.pack(**new))

    def _write_rings(self, vips: Sequence[PlannedVip]) -> None:
        """Puts every ring that differs into a new map each, and swaps the pointers."""
        for vip in vips:
            if vip.index not in self._rings:  # an earlier start's; later ones are known
                self._rings[vip.index] = self.ring(vip.index)
        changed = [vip for vip in vips if self._rings[vip.index] != vip.ring]
        for some in (
            changed[at : at + RINGS_AT_ONCE] for at in range(0, len(changed), RINGS_AT_ONCE)
        ):
            with ExitStack() as stack:
                inners: dict[int, Map] = {}
                for vip in some:
                    self._rings.pop(vip.index)
                    inners[vip.index] = stack.enter_context(self.program.new_inner("rings"))
                    inners[vip.index].fill(vip.ring.tobytes())
                self.program.maps["rings"].set_inners(inners)
            self._rings.update({vip.index: vip.ring for vip in some})

    def _write_vip(self, vip: PlannedVip) -> None:
        vips, addresses = self.program.maps["vips"], self.program.maps["vip_addresses"]
        addresses.put(address_octets(vip.address), addresses.shape.value.scalar(1))
        vips.put(vip_key(vips, vip), vip_value(vips.shape.value, vip))

    def _free_reassigned_indexes(self, held: Held, plan: Plan) -> None:
        """A VIP that leaves must not be seen with the ring of the one that takes its index."""
        vips, counters = self.program.maps["vips"], self.program.maps["vip_counters"]
        owners = {vip.index: vip_key(vips, vip) for vip in plan.vips}
        for vip in held.vips:
            key = vip_key(vips, vip)
            if vip.index in owners and owners[vip.index] != key:
                vips.delete(key)
                counters.put_at(vip.index, bytes(counters.shape.value.size))

    def _remove_vips(self, held: Held, plan: Plan) -> None:
        maps = self.program.maps
        kept = {vip_key(maps["vips"], vip) for vip in plan.vips}
        kept_indexes = {vip.index for vip in plan.vips}
        for vip in held.vips:
            key = vip_key(maps["vips"], vip)
            if key not in kept:
                maps["vips"].delete(key)
            if vip.index not in kept_indexes:
                maps["rings"].delete_at(vip.index)
                self._rings.pop(vip.index, None)
                maps["vip_counters"].put_at(vip.index, bytes(maps["vip_counters"].shape.value.size))
        addresses = {address_octets(vip.address) for vip in plan.vips}
        for octets in set(maps["vip_addresses"].keys()) - addresses:
            maps["vip_addresses"].delete(octets)

    def _retire_reals(self, held: Held, plan: Plan) -> None:
        """Frees indexes, keeping their epochs: the next owner must have a later one."""
        reals = self.program.maps["reals"]
        kept = {real.index for real in plan.reals}
        for real in held.reals:
            if real.index not in kept and real.address is not None:
                layout = reals.shape.value
                freed = layout.unpack(bytes(layout.size))
                reals.put_at(real.index, layout.pack(**{**freed, "epoch": real.epoch}))


def _settings(plan: Plan) -> tuple[Address, Address | None, int]:
    return plan.tunnel_source, plan.tunnel_source_v6, plan.mtu
