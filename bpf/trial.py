"""A private copy of lb.bpf.c with known maps, and the judging of one packet run through a program.

Owns the set-up behind the self test and the tests: services of every kind; what a real server has
is in real_trial.py. Touches no pinned map and no real interface.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from bpf import packets
from bpf.layout import FieldValue, Layout
from bpf.program import TEST_QUEUE, Program
from bpf.services import address_record, put_services, vip_record
from bpf.workbench import (
    NEAR_REAL,
    NEAR_REAL_V6,
    SAME_SIDE_REAL,
    SILENT_REAL,
    TUNNEL_SOURCE,
    TUNNEL_SOURCE_V6,
    Workbench,
)

CLIENT = "198.51.100.7"
CLIENT_V6 = "2001:db8:c::7"
OTHER = "198.51.100.9"  # an address of no VIP
OTHER_V6 = "2001:db8:c::9"
IP_OPTIONS = bytes([1, 1, 1, 0])  # three no-operations, end of list (RFC 791 section 3.1)
TUNNEL_MTU = 1500
GENERATION = 0x01020304  # of the history, as every chain says it
QUIC_ROTATION, QUIC_SERVER_ID = 1, 0x0102  # of the service that reads connection ids
REPLY_NS = 1_000_000  # what one costs a bucket: 1000 a second
FLOW_BUCKETS = 256  # of the flow memory of all services
SLOT_BYTES = 2
TUNNEL_END = "10.60.0.2"  # the real server's own addresses
TUNNEL_END_V6 = "fd60::2"
BOUND_VIP = "192.0.2.1"
BOUND_VIP_V6 = "2001:db8::1"
XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4
ACTIONS = {
    "PASSED": {XDP_PASS},
    "DROPPED": {XDP_DROP},
    "ANSWERED": {XDP_TX},
    "FORWARDED": {XDP_TX, XDP_REDIRECT},
    "HANDED": {XDP_TX, XDP_REDIRECT},
}
MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One case of the self test; `detail` says what was seen when it failed."""

    case: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One VIP of the bench: its addresses' last octet, and where all its slots lead."""

    octet: int
    real: str  # empty: the slots are empty
    encap: str = "ENCAP_GUE"
    state: str = "REAL_UP"
    has_ring: bool = True
    flow_memory: bool = True
    by_source: bool = False
    two_tuple: bool = False
    owners: tuple[int, ...] | None = None  # of each slot before its real; None: a narrow ring
    hands_on: bool = True
    remembers_moved: bool = False
    shares_flows: bool = False
    fallback: str = "FALLBACK_DROP"
    quic_id_bytes: int = 0
    flow_buckets: int = FLOW_BUCKETS
    tunnel_checksum: bool = False


TUNNELLED = Service(octet=1, real=TUNNEL_END)
SHARING = Service(octet=40, real=TUNNEL_END, shares_flows=True)
SERVICES = (
    TUNNELLED,
    Service(octet=2, real="", has_ring=False),
    Service(octet=3, real=""),
    Service(octet=4, real=TUNNEL_END_V6),
    Service(octet=5, real=NEAR_REAL, encap="ENCAP_L2"),
    Service(octet=6, real="10.60.0.6", encap="ENCAP_L2"),
    Service(octet=7, real=SILENT_REAL),
    Service(octet=8, real="203.0.113.8"),
    Service(octet=9, real="10.70.0.9"),
    Service(octet=10, real="10.60.0.10", state="REAL_DOWN"),
    Service(octet=11, real=SAME_SIDE_REAL, encap="ENCAP_L2"),
    Service(octet=12, real=TUNNEL_END, flow_memory=False),
    Service(octet=13, real=TUNNEL_END, encap="ENCAP_IPIP"),
    Service(octet=14, real=TUNNEL_END_V6, encap="ENCAP_IPIP"),
    Service(octet=15, real=NEAR_REAL_V6, encap="ENCAP_L2"),
    Service(octet=16, real="fd60::6", encap="ENCAP_L2"),
    Service(octet=17, real=TUNNEL_END, tunnel_checksum=True),
    Service(octet=18, real=TUNNEL_END_V6, tunnel_checksum=True),
    Service(octet=19, real="", fallback="FALLBACK_PASS"),
    Service(octet=20, real="", fallback="FALLBACK_RESET"),
    Service(octet=21, real=TUNNEL_END, two_tuple=True),
    Service(octet=22, real=TUNNEL_END, by_source=True),
    Service(octet=23, real=TUNNEL_END, quic_id_bytes=2),
    Service(octet=24, real=TUNNEL_END, flow_buckets=1),
    Service(octet=25, real=TUNNEL_END, owners=(101, 102, 103)),
    Service(octet=26, real=TUNNEL_END_V6, owners=(111, 112, 113)),
    Service(octet=27, real=TUNNEL_END, owners=(101, 102, 103), has_ring=False),
    Service(octet=28, real=TUNNEL_END, owners=(101, 102, 103), tunnel_checksum=True),
    Service(octet=29, real=TUNNEL_END_V6, owners=(111, 112, 113), tunnel_checksum=True),
    Service(octet=30, real=TUNNEL_END, owners=(101,), remembers_moved=True),
    Service(octet=31, real=TUNNEL_END, owners=(), remembers_moved=True),
    Service(octet=32, real="", owners=(101, 102, 103)),
    Service(octet=33, real=TUNNEL_END, encap="ENCAP_IPIP", owners=(101, 102, 103)),
    Service(octet=34, real=TUNNEL_END, owners=(), flow_memory=False),
    Service(octet=35, real=TUNNEL_END, owners=(104, 105, 111)),
    Service(octet=36, real=TUNNEL_END, owners=(101,), hands_on=False, remembers_moved=True),
    SHARING,
)
# Earlier owners of slots, by index: none has a ring of its own.
EARLIER = (
    *(Service(octet=index, real=f"10.60.1.{index}") for index in (101, 102, 103)),
    Service(octet=104, real="10.60.1.104", state="REAL_DOWN"),
    Service(octet=105, real="10.60.1.105", encap="ENCAP_IPIP"),
    *(Service(octet=index, real=f"fd60::1:{index}") for index in (111, 112, 113)),
)


def nothing(_: "Balancer") -> None:
    """No preparation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A frame and its verdict. `before` prepares; `by_out` lets it come in by out0.

    `candidates` are those of the chain that it must leave with; 0: it leaves without one.
    """

    verdict: str
    name: str
    frame: bytes
    before: Callable[["Balancer"], None] = nothing
    by_out: bool = False
    metadata: int = 0
    candidates: int = 0


class Balancer:
    """A private copy of lb.bpf.c with SERVICES in its maps; real indexes equal the octets."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.program = Program.load("lb", constants={"reply_cost_ns": REPLY_NS})
        for service in SERVICES:
            self._serve(service)
        for real in EARLIER:
            self.write_real(real, epoch=1)
        layout = self.program.btf.struct("service")
        put_services(
            self.program,
            [
                record
                for service in SERVICES
                for record in _records(layout, service, self._flags(service))
            ],
        )
        self.reset()

    def close(self) -> None:
        """Ends the private copy."""
        self.program.close()

    def reset(self) -> None:
        """Settings as they should be, the first real up in epoch 1, no flow, buckets full."""
        self.write_settings(TUNNEL_SOURCE, TUNNEL_SOURCE_V6)
        for real in (TUNNELLED, SHARING, EARLIER[0]):
            self.write_real(real, epoch=1)
        self.empty_filter()
        self.set_vlan(self.bench.out_ifindex, carrier=0)
        with self.program.new_inner("flows", max_entries=FLOW_BUCKETS) as table:
            self.program.maps["flows"].set_inner(TEST_QUEUE, table)
        self.program.maps["taken_over"].delete_at(0)
        self.write_buckets(refilled_ns=0)
        for datagram in tuple(self.program.maps["datagrams"].keys()):
            self.program.maps["datagrams"].delete(datagram)

    def write_buckets(self, *, refilled_ns: int, answers: int = 0) -> None:
        """Leaves so many replies of each kind; more from that moment of the monotonic clock on."""
        buckets = self.program.maps["reply_buckets"]
        value = buckets.shape.value.pack(credit_ns=answers * REPLY_NS, refilled_ns=refilled_ns)
        for kind in range(buckets.shape.max_entries):
            buckets.put_at(kind, value)

    def set_vlan(self, ifindex: int, *, carrier: int, tags: Sequence[tuple[int, int]] = ()) -> None:
        """Has an interface of the bench be a VLAN device on `carrier`; on 0: be none."""
        vlans = self.program.maps["vlans"]
        key = vlans.shape.key.scalar(ifindex)
        if not carrier:
            vlans.delete(key)
            return
        fields: dict[str, FieldValue] = {"ifindex": carrier}
        for name, (protocol, tci) in zip(("outer", "inner"), (*tags, (0, 0)), strict=False):
            fields |= {f"{name}.protocol": protocol, f"{name}.tci": tci}
        vlans.put(key, vlans.shape.value.pack(**fields))

    def write_settings(self, tunnel_source: str, tunnel_source_v6: str) -> None:
        """Writes the settings; "::" means not configured."""
        settings = self.program.maps["settings"]
        value = settings.shape.value.pack(
            tunnel_source=mapped(tunnel_source),
            tunnel_source_v6=mapped(tunnel_source_v6),
            gue_port=packets.GUE_PORT,
            mtu=TUNNEL_MTU,
            generation=GENERATION,
        )
        settings.put_at(0, value)

    def empty_filter(self) -> None:
        """No rule, no limit."""
        maps = self.program.maps
        maps["filter_settings"].put_at(0, bytes(maps["filter_settings"].shape.value.size))
        maps["vip_limits"].put_at(TUNNELLED.octet, bytes(maps["vip_limits"].shape.value.size))
        for trie in (maps["filter_ipv4"], maps["filter_ipv6"]):
            for key in tuple(trie.keys()):
                trie.delete(key)

    def write_real(self, service: Service, *, epoch: int) -> None:
        """Writes a service's real under the service's octet; its next hop is for the FIB to say."""
        reals = self.program.maps["reals"]
        layout = reals.shape.value
        fields: dict[str, FieldValue] = {
            "address": mapped(service.real),
            "family": f"FAMILY_IPV{ip_address(service.real).version}",
            "encap": service.encap,
            "state": service.state,
            "epoch": epoch,
            "tunnel_checksum": int(service.tunnel_checksum),
        }
        reals.put_at(service.octet, layout.pack(**{**layout.unpack(bytes(layout.size)), **fields}))

    def run(self, case: Case) -> CaseResult:
        """Runs one case: the action, and the one counter that moved, must be the case's."""
        self.reset()
        case.before(self)
        counts, chains = verdict_counts(self.program), chain_counts(self.program)
        ifindex = self.bench.out_ifindex if case.by_out else self.bench.in_ifindex
        frame = bytes(case.metadata) + case.frame
        result = self.program.test_run(frame, ifindex=ifindex, metadata=case.metadata)
        judged = judge(
            case.verdict, case.name, result.action, moved(counts, verdict_counts(self.program))
        )
        chained = moved(chains, chain_counts(self.program))
        if chained != ({str(case.candidates): 1} if case.candidates else {}):
            detail = f"{judged.detail}, chains {chained}, wanted {case.candidates} candidates"
            judged = replace(judged, ok=False, detail=detail)
        return judged

    def _flags(self, service: Service) -> int:
        """The bits of `enum vip_flag`."""
        wanted = {
            "VIP_BY_SOURCE": service.by_source,
            "VIP_TWO_TUPLE": service.two_tuple,
            "VIP_CHAINED": service.owners is not None,
            "VIP_HANDS_ON": service.owners is not None and service.hands_on,
            "VIP_REMEMBERS_MOVED": service.remembers_moved,
            "VIP_SHARES_FLOWS": service.shares_flows,
        }
        field = self.program.btf.struct("service").field("vip.flags")
        return field.bits([name for name, is_wanted in wanted.items() if is_wanted])

    def _serve(self, service: Service) -> None:
        maps = self.program.maps
        if service.real:
            self.write_real(service, epoch=1)
        if service.has_ring:
            index = service.octet if service.real else 0
            outer = "rings" if service.owners is None else "chains"
            with self.program.new_inner(outer) as ring:
                together = ring.shape.value.size // SLOT_BYTES
                owners = (index, *(service.owners or ()), 0, 0, 0)[:together]
                if service.owners is None:
                    owners = (index,) * together
                value = b"".join(owner.to_bytes(SLOT_BYTES, "little") for owner in owners)
                ring.fill(value * ring.shape.max_entries)
                maps[outer].set_inner(service.octet, ring)
        if service.quic_id_bytes:
            servers = maps["quic_servers"]
            key = servers.shape.key.pack(vip_index=service.octet, server_id=QUIC_SERVER_ID)
            servers.put(key, servers.shape.value.pack(real=service.octet, epoch=1))


def _records(layout: Layout, service: Service, flags: int) -> Iterator[bytes]:
    """What the table of services holds of one."""
    for address in map(mapped, (f"192.0.2.{service.octet}", f"2001:db8::{service.octet:x}")):
        yield address_record(layout, address)
        for protocol, port in ((packets.TCP, 80), (packets.UDP, 0)):
            yield vip_record(
                layout,
                address,
                port,
                protocol,
                index=service.octet,
                flow_table=0,
                flow_buckets=service.flow_buckets if service.flow_memory else 0,
                flags=flags,
                fallback=service.fallback,
                quic_id_bytes=service.quic_id_bytes,
                quic_rotation=QUIC_ROTATION,
            )


def mapped(address: str) -> bytes:
    """Sixteen octets; an IPv4 address is v4-mapped."""
    value = ip_address(address)
    return MAPPED + value.packed if value.version == 4 else value.packed


def verdict_counts(program: Program) -> dict[str, int]:
    """Packets by verdict."""
    verdicts = program.maps["verdicts"]
    names = program.verdict_names()
    return {name: verdicts.total(index).packets for index, name in enumerate(names)}


def chain_counts(program: Program) -> dict[str, int]:
    """Packets that left with a chain, by its number of candidates."""
    counters = program.maps["chain_counters"]
    return {
        str(count): counters.total(count).packets for count in range(counters.shape.max_entries)
    }


def moved(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Which verdicts were counted in between, and how often."""
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def judge(verdict: str, name: str, action: int, counted: dict[str, int]) -> CaseResult:
    """Compares what was seen with what must be."""
    allowed = ACTIONS[verdict.partition("_")[0]]
    ok = counted == {verdict: 1} and action in allowed
    seen = ", ".join(f"{name} {number}" for name, number in counted.items()) or "no verdict"
    return CaseResult(case=name, ok=ok, detail=f"action {action}, {seen}")
