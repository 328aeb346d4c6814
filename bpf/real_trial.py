"""A private copy of real.bpf.c with known maps: a real server with its VIPs, and its neighbours.

Owns the set-up behind the self test and the tests of that program. Touches no pinned map and no
real interface; the VIPs are addresses of the workbench's own namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from pyroute2 import IPRoute

from bpf import packets
from bpf.own_flows import OwnSockets
from bpf.packets import GUE_PORT, IPV6, UDP, chain, frame_of, gue, ipv4, ipv6, udp
from bpf.program import Program, interface_index
from bpf.trial import (
    BOUND_VIP,
    BOUND_VIP_V6,
    TUNNEL_END,
    TUNNEL_END_V6,
    Case,
    CaseResult,
    judge,
    mapped,
    moved,
    verdict_counts,
)
from bpf.workbench import IFA_F_NODAD, MTU, SILENT_REAL, TUNNEL_SOURCE, TUNNEL_SOURCE_V6, Workbench

OTHER_REAL = "10.60.0.3"  # by the interface that packets come in by
OTHER_REAL_V6 = "fd60::3"
THIRD_REAL = "10.60.0.4"  # by the other interface
UNKNOWN_WAY = "10.60.0.5"  # for the kernel to say
NARROW_REAL = "10.60.0.6"  # behind a small MTU
TAGGED_REAL = "10.60.0.7"  # behind two VLAN tags
STRANGER = "203.0.113.77"
SMALL_MTU = 80
HOP_MAC = bytes.fromhex("0200000000fd")
OWN_MAC = bytes.fromhex("0200000000aa")
TAGS = ((packets.ETHERTYPE_SERVICE_VLAN, 7), (packets.ETHERTYPE_VLAN, 100))


Make = Callable[[OwnSockets], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainCase:
    """A verdict, and the frame that earns it, made when its sockets are there.

    The frame `before` it, if there is one, is not counted.
    """

    verdict: str
    name: str
    make: Make
    before: bytes = b""
    metadata: int = 0


def chained(
    inner: bytes, *candidates: str, tried: int = 0, ttl: int = 64, options: bytes = b""
) -> bytes:
    """A tunnel frame from the edge with an owner chain, of the family of its candidates."""
    candidates = candidates or (OTHER_REAL,)
    options = options or chain(*candidates, tried=tried)
    is_ipv6 = ":" in candidates[0]
    protocol = {"protocol": IPV6} if inner[0] >> 4 == 6 else {}
    datagram = udp(50000, GUE_PORT, gue(inner, options=options, **protocol))
    if is_ipv6:
        return frame_of(ipv6(TUNNEL_SOURCE_V6, TUNNEL_END_V6, UDP, datagram, ttl=ttl))
    return frame_of(ipv4(TUNNEL_SOURCE, TUNNEL_END, UDP, datagram, ttl=ttl))


def always(frame: bytes) -> Make:
    """A frame that is about no socket."""
    return lambda _: frame


class Unwrapper:
    """A private copy of real.bpf.c: a tunnel address and a bound VIP of each family, and peers."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.program = Program.load("real")
        maps = self.program.maps
        for name, address in (
            ("tunnels", TUNNEL_END),
            ("tunnels", TUNNEL_END_V6),
            ("bound_vips", BOUND_VIP),
            ("bound_vips", BOUND_VIP_V6),
        ):
            maps[name].put(mapped(address), maps[name].shape.value.scalar(1))
        maps["settings"].put_at(0, maps["settings"].shape.value.pack(gue_port=GUE_PORT))
        self.put_peer(OTHER_REAL, bench.in_ifindex)
        self.put_peer(OTHER_REAL_V6, bench.in_ifindex)
        self.put_peer(THIRD_REAL, bench.out_ifindex)
        self.put_peer(UNKNOWN_WAY, 0)
        self.put_peer(SILENT_REAL, 0)
        self.put_peer(NARROW_REAL, bench.in_ifindex, mtu=SMALL_MTU)
        self.put_peer(TAGGED_REAL, bench.in_ifindex, tags=TAGS)
        _bind()

    def close(self) -> None:
        """Ends the private copy."""
        self.program.close()

    def put_peer(
        self, address: str, ifindex: int, *, mtu: int = MTU, tags: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Has another real be there, and the way to it; by interface 0 the way is not known."""
        (outer, inner) = (*tags, (0, 0), (0, 0))[:2]
        peers = self.program.maps["peers"]
        value = peers.shape.value.pack(
            ifindex=ifindex,
            mtu=mtu,
            destination=HOP_MAC,
            source=OWN_MAC,
            **{"outer.protocol": outer[0], "outer.tci": outer[1]},
            **{"inner.protocol": inner[0], "inner.tci": inner[1]},
        )
        peers.put(mapped(address), value)

    def run(self, case: Case | ChainCase) -> CaseResult:
        """Runs one case: the action, and the one counter that moved, must be the case's."""
        with OwnSockets() as sockets:
            frame = case.frame if isinstance(case, Case) else case.make(sockets)
            if isinstance(case, ChainCase) and case.before:
                self.program.test_run(case.before, ifindex=self.bench.in_ifindex)
            counts = verdict_counts(self.program)
            result = self.program.test_run(
                bytes(case.metadata) + frame,
                ifindex=self.bench.in_ifindex,
                metadata=case.metadata,
            )
        counted = moved(counts, verdict_counts(self.program))
        return judge(case.verdict, case.name, result.action, counted)


def _bind() -> None:
    """The VIPs as addresses of the loopback."""
    with IPRoute() as netlink:
        for address in (BOUND_VIP, BOUND_VIP_V6):
            bits, index = ip_address(address).max_prefixlen, interface_index("lo")
            netlink.addr("replace", index=index, address=address, prefixlen=bits, flags=IFA_F_NODAD)
