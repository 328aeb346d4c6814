"""Nanoseconds a packet costs in the balancer: `python tests/bench/bench_datapath.py`.

Owns the measuring of lb.bpf.c by test runs in a private namespace; needs root. Each figure is the
kernel's own duration of one run on a fresh packet, many times: with repeat above 1 the kernel does
not restore the packet, and the second run would meet an already wrapped one. A run of one packet is
dearer than one of a busy driver's batch (cold caches, a system call between), so a program that
only passes is measured beside it as the floor. No NIC is involved: this says what the program
costs, not what a network card reaches.
The last line is one JSON object.
"""

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import cycle

from bpf.compile import compile_stale
from bpf.libbpf import RunResult
from bpf.packets import ACK, SYN, TCP, ethernet, ipv4, tcp
from bpf.program import Program
from bpf.selftest import CLIENT, OTHER, client_tcp
from bpf.trial import BOUND_VIP, Balancer
from bpf.workbench import Workbench

ROUNDS = 9
PACKETS = 4000  # a round of one path takes about 50 ms
WARM_UP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One path: median of the rounds' medians, and the extremes of them, in nanoseconds."""

    path: str
    median_ns: float
    lowest_ns: float
    highest_ns: float


def measure(path: str, run: Callable[[bytes], RunResult], frames: list[bytes]) -> Figure:
    """Runs the frames in turn, ROUNDS * PACKETS times."""
    source = cycle(frames)
    for _ in range(WARM_UP):
        run(next(source))
    rounds = [
        statistics.median(run(next(source)).duration_ns for _ in range(PACKETS))
        for _ in range(ROUNDS)
    ]
    return Figure(
        path=path,
        median_ns=statistics.median(rounds),
        lowest_ns=min(rounds),
        highest_ns=max(rounds),
    )


def to_vip(port: int, flags: int) -> bytes:
    """A client's frame to the tunnelled service."""
    return ethernet(ipv4(CLIENT, BOUND_VIP, TCP, tcp(port, 80, flags, bytes(26))))


def figures() -> list[Figure]:
    """Every path, the floor first."""
    many = [to_vip(port, ACK) for port in range(1024, 61024)]  # more than a flow table holds here
    with Workbench() as bench:
        balancer = Balancer(bench)

        def balance(frame: bytes) -> RunResult:
            return balancer.program.test_run(frame, ifindex=bench.in_ifindex)

        with Program.load("pass") as floor:
            found = [measure("floor: pass", floor.test_run, [client_tcp(1)])]
        own = ethernet(ipv4(CLIENT, OTHER, TCP, tcp(40000, 22)))
        found.append(measure("not a VIP", balance, [own]))
        found.append(measure("remembered, GUE", balance, [to_vip(40000, ACK)]))
        found.append(measure("remembered, L2", balance, [client_tcp(5)]))
        found.append(measure("SYN by the ring, GUE", balance, [to_vip(40000, SYN)]))
        found.append(measure("new and remembered, GUE", balance, many))
        balancer.close()
    return found


def main() -> int:
    """Prints a table, then one JSON line."""
    compile_stale()
    found = figures()
    for figure in found:
        spread = f"{figure.lowest_ns:.0f} to {figure.highest_ns:.0f}"
        print(f"{figure.path:<26} {figure.median_ns:>6.0f} ns   ({spread})")
    print(json.dumps({"bench": "datapath", "paths": [asdict(figure) for figure in found]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
