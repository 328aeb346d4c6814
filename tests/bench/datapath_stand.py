"""The balancer on a stand: millions of packets through lb.bpf.c, each restored before its run.

Owns the set-up of one case and the measuring of it. Used by bench_datapath.py, and by one test that
keeps it true. Works in the caller's private network namespace (bpf.workbench), attaches nothing.
"""

from __future__ import annotations

import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from socket import if_nametoindex

from pyroute2 import IPRoute

from bpf import packets
from bpf.compile import SOURCES, compile_source
from bpf.maps import Map
from bpf.packets import ACK, TCP, tcp
from bpf.program import Program
from bpf.services import address_record, held_services, put_services
from bpf.trial import XDP_TX, moved, verdict_counts
from bpf.workbench import GATEWAY, MTU, NEIGHBOURS, TUNNEL_SOURCE, TUNNEL_SOURCE_V6, Workbench
from edge_lb.datapath import Datapath
from edge_lb.filter import ALL_VIPS, Entry, EntryKey, FilterPlan, Pace, pace
from edge_lb.filter_maps import FilterMaps
from edge_lb.flow import Address, address_octets
from edge_lb.plan import CHAIN_OWNERS, NextHop, Plan, PlannedReal, PlannedVip, RealForwarding
from edge_lb.rendezvous import RING_SLOTS
from gslb.fleet.model import Encap, FilterAction, Protocol, Rate

CLIENT = "100.0.0.255"  # restore.bpf.c counts in the second octet up, in the fourth down
VIP = "198.0.0.255"
PORT = 80
CLIENTS_MAX = 1 << 24
CLIENTS = IPv4Network("100.0.0.0/8")
STRANGER = int(IPv4Address("100.128.0.0"))  # restore.bpf.c never counts so far
RATE_OF_ALL = Rate(packets_per_s=100_000_000, burst=100_000_000)
NEAR_REALS_MAX = 250
OWN_MAC = "02:00:00:00:00:aa"
WORD_OFFSETS = (0, 6, 14, 22, 30, 38, 46, 54, 62)
FRAME_BYTES = 80
TCP_HEADER_BYTES = 20
SHARE_OF_VERDICT = 0.999
BENCH_PROGRAMS = SOURCES / "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Where restore.bpf.c finds what it varies, and where reals are; inside and outside alike."""

    client: str
    vip: str
    client_at: int
    vip_at: int
    ports_at: int
    far_real: Address  # behind the gateway of the workbench
    near_real: Address  # on the subnet of in0


IPV4 = Family(
    client=CLIENT,
    vip=VIP,
    client_at=26,
    vip_at=30,
    ports_at=34,
    far_real=IPv4Address("10.60.0.2"),
    near_real=IPv4Address("10.50.0.2"),
)
IPV6 = Family(
    client="2001:db8:1::6400:ff",
    vip="2001:db8:2::c600:ff",
    client_at=34,
    vip_at=50,
    ports_at=54,
    far_real=IPv6Address("fd60::2"),
    near_real=IPv6Address("fd50::2"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Who sends what to how many; `remembered` fills the flow memory first.

    With `earlier` owners the VIP's ring is a wide one that has so many in each slot, which travel
    in the packet. Without `next_hops` the kernel's FIB is asked for every packet. With `action` the
    client's prefix has that rule of the source filter; `strangers` are denied prefixes beside it
    that no packet comes from.
    """

    name: str
    verdict: str
    encap: Encap = Encap.GUE
    family: Family = IPV4
    next_hops: bool = True
    flags: int = ACK
    destination: str = ""  # empty: the VIP
    flows: int = 1
    vips: int = 1
    reals: int = 100
    earlier: int | None = None  # None: a narrow ring
    memory: int = 65536
    remembered: bool = True
    action: FilterAction | None = None
    strangers: int = 0


class UnexpectedVerdictError(AssertionError):
    """The packets took another way than the case says, so the figure would be of something else."""


class Stand:
    """Compiled wrappers, kept for many cases. The workbench must be entered before."""

    def __init__(self, bench: Workbench, folder: Path) -> None:
        self.bench = bench
        self._objects = folder
        for source in sorted(BENCH_PROGRAMS.glob("*.bpf.c")):
            compile_source(source, folder / source.with_suffix(".o").name)
        with IPRoute() as netlink:
            for number in range(NEAR_REALS_MAX):
                for family in (IPV4, IPV6):
                    netlink.neigh(
                        "replace",
                        dst=str(family.near_real + number),
                        lladdr=near_mac(number),
                        ifindex=bench.in_ifindex,
                        state="permanent",
                    )

    def load(self, name: str, **constants: int | bytes) -> Program:
        """One of the bench's own programs."""
        return Program.load(name, path=self._objects / f"{name}.bpf.o", constants=constants)

    def restorer(
        self,
        under_test: Program,
        frame: bytes,
        *,
        family: Family = IPV4,
        flows: int = 1,
        vips: int = 1,
    ) -> Run:
        """The wrapper around a program, for one frame."""
        words = b"".join(frame[at : at + 8] for at in WORD_OFFSETS)
        wrapper = self.load(
            "restore",
            frame_bytes=len(frame),
            header=words,
            client_at=family.client_at,
            vip_at=family.vip_at,
            ports_at=family.ports_at,
            flows=flows,
            vips=vips,
        )
        slot = wrapper.maps["under_test"]
        slot.put_at(0, slot.shape.value.scalar(under_test.fd))
        return Run(wrapper, frame, self.bench.in_ifindex)

    @contextmanager
    def floor_transmit(self, *, flows: int = 1, vips: int = 1) -> Iterator[Run]:
        """The wrapper and XDP_TX; to count flows or VIPs costs the wrapper time of its own."""
        with self.load("floor_transmit") as program:
            run = self.restorer(program, frame_of(IPV4, ACK), flows=flows, vips=vips)
            with run.wrapper:
                yield run.expecting(XDP_TX)

    @contextmanager
    def floor_lookup(self) -> Iterator[Run]:
        """The wrapper, the reading of headers, one hit in a hash, XDP_TX."""
        with self.load("floor_lookup") as program:
            services = program.maps["services"]
            key = services.shape.key.pack(
                address=address_octets(ip_address(VIP)), port=PORT, protocol=TCP
            )
            services.put(key, services.shape.value.scalar(1))
            run = self.restorer(program, frame_of(IPV4, ACK))
            with run.wrapper:
                yield run.expecting(XDP_TX)

    @contextmanager
    def case(self, case: Case) -> Iterator[CaseRun]:
        """The wrapper and the balancer, its maps filled as the case says."""
        datapath = Datapath("in0", Path(), flows_per_queue=case.memory)
        with ExitStack() as held:
            datapath.open_private()
            held.callback(datapath.close)
            program = datapath.program
            datapath.apply(plan_of(case))
            copy_vip(program, case.vips)
            filter_of(case, program)
            if case.remembered:
                fill = self._turns(case, program, frame_of(case.family, ACK))
                with fill.wrapper:
                    fill(max(case.flows, case.vips))
            run = self._turns(case, program, frame_of(case.family, case.flags, case.destination))
            held.enter_context(run.wrapper)
            yield CaseRun(case, program, run)

    def _turns(self, case: Case, program: Program, frame: bytes) -> Run:
        return self.restorer(program, frame, family=case.family, flows=case.flows, vips=case.vips)


class Run:
    """Runs one frame again and again; the answer is nanoseconds a packet, wrapper included."""

    def __init__(self, wrapper: Program, frame: bytes, ifindex: int) -> None:
        self.wrapper = wrapper
        self.frame = frame
        self._ifindex = ifindex
        self._action: int | None = None
        self.last_packet = b""

    def expecting(self, action: int) -> Run:
        """From now on the last packet's action must be this."""
        self._action = action
        return self

    def __call__(self, repeat: int) -> float:
        began_ns = time.thread_time_ns()  # not the wall's: what others run meanwhile is not ours
        result = self.wrapper.test_run(self.frame, ifindex=self._ifindex, repeat=repeat)
        spent_ns = time.thread_time_ns() - began_ns
        self.last_packet = result.packet
        if self._action is not None and result.action != self._action:
            raise UnexpectedVerdictError(f"action {result.action}, wanted {self._action}")
        return spent_ns / repeat


class CaseRun:
    """A run of the balancer that looks at the verdicts afterwards."""

    def __init__(self, case: Case, program: Program, run: Run) -> None:
        self.case = case
        self.program = program
        self.run = run

    def __call__(self, repeat: int) -> float:
        before = verdict_counts(self.program)
        duration_ns = self.run(repeat)
        seen = moved(before, verdict_counts(self.program))
        if seen.get(self.case.verdict, 0) < repeat * SHARE_OF_VERDICT:
            raise UnexpectedVerdictError(f"{self.case.name}: {seen}, wanted {self.case.verdict}")
        return duration_ns


@contextmanager
def stand() -> Iterator[Stand]:
    """A stand in a namespace of its own."""
    with Workbench() as bench, tempfile.TemporaryDirectory() as folder:
        yield Stand(bench, Path(folder))


def frame_of(family: Family, flags: int, destination: str = "") -> bytes:
    """The first client's frame; restore.bpf.c fills the client's port in."""
    destination = destination or family.vip
    payload = bytes(FRAME_BYTES - family.ports_at - TCP_HEADER_BYTES)
    segment = tcp(0, PORT, flags, payload)
    return packets.frame_of(packets.ip(family.client, destination, TCP, segment))


def plan_of(case: Case) -> Plan:
    """One VIP, and its reals in turn along the ring."""
    is_near = case.encap is Encap.L2
    first = case.family.near_real if is_near else case.family.far_real
    assert case.encap is not Encap.L2 or case.reals <= NEAR_REALS_MAX
    reals = tuple(
        PlannedReal(
            name=f"real-{index}",
            index=index,
            epoch=1,
            address=first + index - 1,
            encap=case.encap,
            state=RealForwarding.UP,
            next_hop=next_hop(index - 1 if is_near else None) if case.next_hops else None,
        )
        for index in range(1, case.reals + 1)
    )
    vip = PlannedVip(
        name="vip",
        index=0,
        address=ip_address(case.family.vip),
        port=PORT,
        protocol=Protocol.TCP,
        ring=array("H", (1 + slot % case.reals for slot in range(RING_SLOTS))),
        chains=None if case.earlier is None else wide_ring(case.reals, case.earlier),
        hands_on=True,
    )
    return Plan(
        generation=1,
        vips=(vip,),
        reals=reals,
        tunnel_source=IPv4Address(TUNNEL_SOURCE),
        tunnel_source_v6=IPv6Address(TUNNEL_SOURCE_V6),
        mtu=1500,
    )


def wide_ring(reals: int, earlier: int) -> array[int]:
    """Reals in turn along the ring; those after a slot's owner had it before."""
    ring = array("H")
    for slot in range(RING_SLOTS):
        owners = [1 + (slot + number) % reals for number in range(1 + earlier)]
        ring.extend(owners + [0] * (CHAIN_OWNERS - len(owners)))
    return ring


def near_mac(number: int) -> str:
    """The address of a real on the subnet of in0."""
    return f"02:00:00:01:00:{number:02x}"


def next_hop(near: int | None) -> NextHop:
    """The way to a real on the subnet, or to those behind the gateway."""
    destination = NEIGHBOURS[GATEWAY][1] if near is None else near_mac(near)
    return NextHop(
        ifindex=if_nametoindex("in0"),
        mtu=MTU,
        destination=bytes.fromhex(destination.replace(":", "")),
        source=bytes.fromhex(OWN_MAC.replace(":", "")),
        is_direct=near is not None,
    )


def copy_vip(program: Program, count: int) -> None:
    """More VIPs like the first, sharing its ring: what is measured is finding them."""
    rings, layout = program.maps["rings"], program.btf.struct("service")
    (first,) = held_services(program)
    ring = rings.inner(0)
    assert ring is not None
    records = [layout.pack(**first)]
    addresses = {first.octets("address")}
    with ring:
        rings.set_inners(dict.fromkeys(range(1, count), ring))
    for number in range(1, count):
        address = address_octets(ip_address(vip_address(number)))
        changed = {"address": address, "port": PORT ^ number >> 8, "vip.index": number}
        records.append(layout.pack(**{**first, **changed}))
        addresses.add(address)
    put_services(program, [*records, *(address_record(layout, each) for each in addresses)])


def filter_of(case: Case, program: Program) -> None:
    """The source filter of a case; none leaves its maps as they were made."""
    maps = FilterMaps(program)
    entries = {
        EntryKey(ALL_VIPS, IPv4Network((STRANGER + (number << 8), 24))): Entry(
            1 + number, FilterAction.DENY, Pace()
        )
        for number in range(case.strangers)
    }
    if case.action is not None:
        rate = RATE_OF_ALL if case.action is FilterAction.LIMIT else None
        entries[EntryKey(ALL_VIPS, CLIENTS)] = Entry(0, case.action, pace(rate, maps.ticks_per_s))
    maps.apply(FilterPlan(entries=entries, limits={}, indexes={}))


def vip_address(number: int) -> str:
    """Where restore.bpf.c sends the packet of a turn."""
    low = number & 0xFF
    return str(IPv4Address(int(IPv4Address(VIP)) ^ (low << 16 | low)))


def locked_bytes(held: Map) -> int:
    """Kernel memory of a map, as the kernel reckons it."""
    for line in Path(f"/proc/self/fdinfo/{held.fd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "memlock":
            return int(value)
    raise LookupError("this kernel does not tell the memory of maps")
