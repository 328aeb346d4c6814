"""Nanoseconds a packet costs at a real: `python tests/bench/bench_real.py [--quick]`.

Owns the measuring of real.bpf.c by test runs in a private namespace, on one core; needs root. Every
packet is made anew before its run, verdicts are checked, and the cost of that is measured with a
program that only transmits and subtracted: see bench_datapath.py. The sockets are real ones: a
connection, a listener, a cookie that it gave out. The last line is one JSON object.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from bench_datapath import PACKETS, QUICK_PACKETS, ROUNDS, WARM_UP, Figure, figure, rounded, show
from datapath_stand import IPV4, Stand, UnexpectedVerdictError, stand

from bpf import libbpf
from bpf.compile import compile_stale
from bpf.own_flows import OwnFlow, OwnSockets
from bpf.packets import ACK, IPV6, SYN, TCP, UDP, frame_of, gue, ip, tcp, udp
from bpf.program import Program
from bpf.real_trial import OTHER_REAL, THIRD_REAL, UNKNOWN_WAY, Unwrapper, chained
from bpf.trial import (
    BOUND_VIP,
    BOUND_VIP_V6,
    CLIENT,
    CLIENT_V6,
    TUNNEL_END,
    TUNNEL_END_V6,
    moved,
    verdict_counts,
)
from bpf.workbench import TUNNEL_SOURCE, TUNNEL_SOURCE_V6
from edge_lb.namespaces import namespace_ids

PAYLOAD = bytes(26)  # no frame is shorter than what the wrapper writes
NOWHERE = 200  # behind what the wrapper writes, so that it varies nothing
ALL_ALIKE = replace(IPV4, client_at=NOWHERE, vip_at=NOWHERE, ports_at=NOWHERE)
SHARE_OF_VERDICT = 0.999
FLOOR = "floor: XDP_TX"
THREE = (OTHER_REAL, THIRD_REAL, OTHER_REAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A frame made of what the sockets give, and its verdict; a container may be asked too."""

    name: str
    verdict: str
    make: Callable[[OwnSockets], bytes]
    has_container: bool = False


def plain(client: str, vip: str, *, outer_ipv6: bool = False) -> bytes:
    """A tunnel frame without a chain."""
    inner = ip(client, vip, TCP, tcp(40000, 80, ACK, PAYLOAD))
    protocol = {"protocol": IPV6} if ":" in vip else {}
    ends = (TUNNEL_SOURCE_V6, TUNNEL_END_V6) if outer_ipv6 else (TUNNEL_SOURCE, TUNNEL_END)
    return frame_of(ip(*ends, UDP, udp(50000, 6080, gue(inner, **protocol))))


def stray(client: str, vip: str, *chain: str, flags: int = ACK, tried: int = 0) -> bytes:
    """A packet of no flow here."""
    return chained(ip(client, vip, TCP, tcp(40000, 80, flags, PAYLOAD)), *chain, tried=tried)


def held(vip: str, *chain: str) -> Callable[[OwnSockets], bytes]:
    """A packet of an established connection."""

    def make(sockets: OwnSockets) -> bytes:
        flow, _, _ = sockets.established(sockets.listener(vip))
        return chained(flow.segment(payload=PAYLOAD), *chain)

    return make


def listened(sockets: OwnSockets) -> bytes:
    """A packet for a listener, without its cookie."""
    port: int = sockets.listener(BOUND_VIP).getsockname()[1]
    flow = OwnFlow(client=CLIENT, client_port=40000, vip=BOUND_VIP, vip_port=port)
    return chained(flow.segment(payload=PAYLOAD))


TABLE = (
    Case(
        name="no chain, IPv4 in IPv4",
        verdict="PASSED_UNWRAPPED",
        make=lambda _: plain(CLIENT, BOUND_VIP),
    ),
    Case(
        name="no chain, IPv6 in IPv4",
        verdict="PASSED_UNWRAPPED",
        make=lambda _: plain(CLIENT_V6, BOUND_VIP_V6),
    ),
    Case(
        name="no chain, IPv4 in IPv6",
        verdict="PASSED_UNWRAPPED",
        make=lambda _: plain(CLIENT, BOUND_VIP, outer_ipv6=True),
    ),
    Case(
        name="established here, chain of 1",
        verdict="PASSED_OWN_SOCKET",
        make=held(BOUND_VIP, OTHER_REAL),
    ),
    Case(
        name="established here, chain of 3",
        verdict="PASSED_OWN_SOCKET",
        make=held(BOUND_VIP, *THREE),
    ),
    Case(
        name="established here, IPv6, chain of 1",
        verdict="PASSED_OWN_SOCKET",
        make=held(BOUND_VIP_V6, OTHER_REAL),
    ),
    Case(
        name="connected UDP, chain of 1",
        verdict="PASSED_OWN_SOCKET",
        make=lambda sockets: chained(
            sockets.datagrams(BOUND_VIP, connected=True).datagram(PAYLOAD)
        ),
    ),
    Case(
        name="SYN cookie of a listener here",
        verdict="PASSED_SYN_COOKIE",
        make=lambda sockets: chained(
            sockets.cookie(sockets.listener(BOUND_VIP)).segment(payload=PAYLOAD)
        ),
    ),
    Case(
        name="SYN with a chain",
        verdict="PASSED_SYN",
        make=lambda _: stray(CLIENT, BOUND_VIP, flags=SYN),
    ),
    Case(
        name="handed on, chain of 1",
        verdict="HANDED_ON",
        make=lambda _: stray(CLIENT, BOUND_VIP, OTHER_REAL),
    ),
    Case(
        name="handed on, chain of 3",
        verdict="HANDED_ON",
        make=lambda _: stray(CLIENT, BOUND_VIP, *THREE),
    ),
    Case(
        name="handed on, IPv6",
        verdict="HANDED_ON",
        make=lambda _: stray(CLIENT_V6, BOUND_VIP_V6, OTHER_REAL),
    ),
    Case(name="handed on past a listener here", verdict="HANDED_ON", make=listened),
    Case(
        name="handed on by the kernel's FIB",
        verdict="HANDED_ON",
        make=lambda _: stray(CLIENT, BOUND_VIP, UNKNOWN_WAY),
    ),
    Case(
        name="handed on, one namespace asked too",
        verdict="HANDED_ON",
        make=lambda _: stray(CLIENT, BOUND_VIP, OTHER_REAL),
        has_container=True,
    ),
    Case(
        name="the last of its chain, a stray",
        verdict="PASSED_LAST_RESORT",
        make=lambda _: stray(CLIENT, BOUND_VIP, OTHER_REAL, tried=1),
    ),
)


class CheckedRun:
    """Runs one case, made anew each time (a cookie is good for two minutes); checks verdicts."""

    def __init__(
        self, bench: Stand, case: Case, program: Program, sockets: OwnSockets, container: int
    ) -> None:
        self.program = program
        self.frame = b""
        self.last_packet = b""
        self._bench = bench
        self._case = case
        self._sockets = sockets
        self._container = container

    def __call__(self, repeat: int) -> float:
        asked = self.program.maps["socket_namespaces"]
        is_used = int(self._case.has_container)
        asked.put_at(0, asked.shape.value.pack(id=self._container, is_used=is_used))
        self.frame = self._case.make(self._sockets)
        run = self._bench.restorer(self.program, self.frame, family=ALL_ALIKE)
        with run.wrapper:
            before = verdict_counts(self.program)
            spent_ns = run(repeat)
            seen = moved(before, verdict_counts(self.program))
        self.last_packet = run.last_packet
        if seen.get(self._case.verdict, 0) < repeat * SHARE_OF_VERDICT:
            raise UnexpectedVerdictError(f"{self._case.name}: {seen}")
        return spent_ns


@contextmanager
def container() -> Iterator[int]:
    """Another network namespace, without sockets: its number in ours."""
    ours = libbpf.enter_new_network()
    other = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    libbpf.return_to_network(ours)
    try:
        (number,) = namespace_ids([f"/proc/self/fd/{other}"]).values()
        yield number
    finally:
        os.close(other)


@contextmanager
def runs(bench: Stand, cases: tuple[Case, ...]) -> Iterator[dict[str, CheckedRun]]:
    """Each case on one private program, its sockets open until the end."""
    with closing(Unwrapper(bench.bench)) as real, OwnSockets() as sockets, container() as number:
        yield {case.name: CheckedRun(bench, case, real.program, sockets, number) for case in cases}


def measure(bench: Stand, packets: int) -> list[Figure]:
    """All cases in turn, ROUNDS times; the floor with them."""
    with bench.floor_transmit() as floor, runs(bench, TABLE) as checked:
        every: dict[str, Callable[[int], float]] = {FLOOR: floor, **checked}
        seen: dict[str, list[float]] = {name: [] for name in every}
        for run in every.values():
            run(WARM_UP)
        for _ in range(ROUNDS):
            for name, run in every.items():
                seen[name].append(run(packets))
    return [figure(name, rounds, seen[FLOOR]) for name, rounds in seen.items()]


def main() -> int:
    """Prints a table, then one JSON line."""
    arguments = argparse.ArgumentParser(description="nanoseconds a packet costs at a real")
    arguments.add_argument("--quick", action="store_true", help="fewer packets")
    quick: bool = arguments.parse_args().quick
    packets = QUICK_PACKETS if quick else PACKETS
    compile_stale()
    with stand() as bench:
        figures = measure(bench, packets)
    show("ns a packet at a real", figures)
    paths = [rounded(each) for each in figures]
    print(json.dumps({"bench": "real", "rounds": ROUNDS, "packets": packets, "paths": paths}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
