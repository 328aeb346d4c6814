"""Nanoseconds a packet costs in the balancer: `bench_datapath.py [--quick] [--only PART]`.

Owns the measuring of lb.bpf.c by test runs in a private namespace, on one core; needs root. A test
run with a repeat does not restore the packet: the second run would meet an already wrapped one. So
a wrapper (bpf/bench/restore.bpf.c) restores it and tail-calls the balancer, a million times a run.
What the wrapper costs with a program that only returns XDP_TX is measured in the same rounds and
subtracted, of one flow or of many as the case has them. Every run checks its verdicts, so that no
figure is of another path than its name. The rounds go through all cases in turn, so that a busy
moment of the machine hits one round of each.
No NIC is involved: this says what the program costs, not what a network card reaches.
The last line is one JSON object.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

from datapath_stand import CLIENTS_MAX, IPV4, IPV6, Case, Stand, locked_bytes, stand

from bpf.compile import compile_stale
from bpf.packets import SYN
from bpf.program import Program
from edge_lb.datapath import Datapath
from gslb.fleet.model import Encap, FilterAction

ROUNDS = 7
PACKETS = 1_000_000
QUICK_PACKETS = 200_000
WARM_UP = 50_000
FLOORS = {
    (False, False): "floor: XDP_TX, one flow",
    (True, False): "floor: XDP_TX, many flows",
    (True, True): "floor: XDP_TX, many flows and VIPs",
}
LOOKUP_FLOOR = "floor: headers, one look-up, XDP_TX"

REMEMBERED, BY_SYN = "FORWARDED_REMEMBERED", "FORWARDED_SYN"
TABLE = (
    *(
        Case(
            name=f"one established flow, {version}, {encap.value}",
            verdict=REMEMBERED,
            encap=encap,
            family=family,
        )
        for version, family in (("IPv4", IPV4), ("IPv6", IPV6))
        for encap in Encap
    ),
    Case(name="the same, next hop by the FIB, IPv4, gue", verdict=REMEMBERED, next_hops=False),
    *(
        Case(
            name=f"100,000 flows remembered, {encap.value}",
            verdict=REMEMBERED,
            encap=encap,
            flows=100_000,
            memory=150_000,
        )
        for encap in Encap
    ),
    Case(
        name="SYN flood, memory full, gue",
        verdict=BY_SYN,
        flags=SYN,
        flows=CLIENTS_MAX,
        memory=1 << 16,
        remembered=True,
    ),
    Case(name="SYN, same flow, gue", verdict=BY_SYN, flags=SYN),
    Case(
        name="not for a VIP",
        verdict="PASSED_NOT_VIP",
        destination="203.0.113.1",
        remembered=False,
    ),
    Case(
        name="source denied, 1,000 rules",
        verdict="DROPPED_DENIED",
        flags=SYN,
        flows=100_000,
        remembered=False,
        action=FilterAction.DENY,
        strangers=1_000,
    ),
    Case(
        name="source limited, one established flow, gue",
        verdict=REMEMBERED,
        action=FilterAction.LIMIT,
    ),
    Case(
        name="source in none of 1,000 rules, gue",
        verdict=REMEMBERED,
        strangers=1_000,
    ),
)
CHAINS = (
    *(
        Case(
            name=f"gue, {words}, {version}",
            verdict=REMEMBERED,
            family=family,
            earlier=earlier,
        )
        for version, family in (("IPv4", IPV4), ("IPv6", IPV6))
        for earlier, words in (
            (None, "narrow ring"),
            (0, "wide ring, slot never moved"),
            (1, "chain of 1"),
            (2, "chain of 2"),
            (3, "chain of 3"),
        )
    ),
    *(
        Case(
            name=f"SYN by gue, {words}",
            verdict=BY_SYN,
            flags=SYN,
            earlier=earlier,
        )
        for earlier, words in ((None, "narrow ring"), (3, "chain of 3, which it leaves out"))
    ),
)
SCALES = (
    *(
        Case(name=f"100,000 flows over {vips:,} VIPs, gue", verdict=REMEMBERED, vips=vips,
             flows=100_000, memory=150_000)
        for vips in (1, 100, 10_000)
    ),
    *(
        Case(name=f"100,000 flows over {reals:,} reals, gue", verdict=REMEMBERED, reals=reals,
             flows=100_000, memory=150_000)
        for reals in (10, 1_000, 10_000)
    ),
    *(
        Case(name=f"{flows:,} flows remembered, gue", verdict=REMEMBERED, flows=flows,
             memory=max(1 << 16, flows * 3 // 2))
        for flows in (10_000, 1_000_000, 10_000_000)
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One path: nanoseconds with the wrapper, and without it; the median of the rounds.

    `best_net_ns` is the fastest round less the floor's fastest: on a busy machine the truest.
    `worst_net_ns` is the slowest round less the same.
    """

    path: str
    measured_ns: float
    net_ns: float
    best_net_ns: float
    worst_net_ns: float


def measure(bench: Stand, cases: tuple[Case, ...], packets: int) -> list[Figure]:
    """All cases in turn, ROUNDS times; the floors with them."""
    with ExitStack() as held:
        runs: dict[str, Callable[[int], float]] = {
            **{
                name: held.enter_context(
                    bench.floor_transmit(flows=2 if many_flows else 1, vips=2 if many_vips else 1)
                )
                for (many_flows, many_vips), name in FLOORS.items()
            },
            LOOKUP_FLOOR: held.enter_context(bench.floor_lookup()),
        }
        floor_of = {case.name: FLOORS[case.flows > 1, case.vips > 1] for case in cases}
        for case in cases:
            runs[case.name] = held.enter_context(bench.case(case))
        seen: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run(WARM_UP)
        for _ in range(ROUNDS):
            for name, run in runs.items():
                seen[name].append(run(packets))
    return [
        figure(name, rounds, seen[floor_of.get(name, FLOORS[False, False])])
        for name, rounds in seen.items()
    ]


def figure(path: str, rounds: list[float], floor: list[float]) -> Figure:
    """The figure of one path, less the floor of its kind."""
    return Figure(
        path=path,
        measured_ns=statistics.median(rounds),
        net_ns=statistics.median(rounds) - statistics.median(floor),
        best_net_ns=min(rounds) - min(floor),
        worst_net_ns=max(rounds) - min(floor),
    )


def within_limits(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """The cases that the maps of this build have room for."""
    with Program.load("lb") as program:
        vips = program.maps["rings"].shape.max_entries
        reals = program.maps["reals"].shape.max_entries
    return tuple(case for case in cases if case.vips <= vips and case.reals < reals)


def flow_memory_bytes(flows: int) -> int:
    """Kernel memory of one core's flow memory with room for so many."""
    datapath = Datapath("in0", Path(), flows_per_queue=flows)
    datapath.open_private()
    with closing(datapath):
        table = datapath.program.maps["flows"].inner(0)
        assert table is not None
        with table:
            return locked_bytes(table)


def added_bytes(bench: Stand, case: Case) -> int:
    """How much longer a packet leaves than it came: tunnel and chain."""
    with bench.case(case) as run:
        run(WARM_UP)
        return len(run.run.last_packet) - len(run.run.frame)


def rounded(figure: Figure) -> dict[str, object]:
    """For the JSON line: tenths of a nanosecond."""
    return {
        name: round(value, 1) if isinstance(value, float) else value
        for name, value in asdict(figure).items()
    }


def show(title: str, figures: list[Figure]) -> None:
    """One table for a person."""
    print(f"{title:<42} measured    net   best  worst  (ns)")
    for figure in figures:
        nets = f"{figure.net_ns:>6.0f} {figure.best_net_ns:>6.0f} {figure.worst_net_ns:>6.0f}"
        print(f"{figure.path:<42} {figure.measured_ns:>8.0f} {nets}")


PARTS = {
    "paths": ("ns a packet, 100 reals", TABLE),
    "chains": ("owner chains", CHAINS),
    "scales": ("flat in VIPs, reals, flows", SCALES),
}


def main() -> int:
    """Prints tables, then one JSON line."""
    arguments = argparse.ArgumentParser(description="nanoseconds a packet costs in the balancer")
    arguments.add_argument("--quick", action="store_true", help="paths alone, fewer packets")
    arguments.add_argument("--only", choices=PARTS, help="this table alone")
    chosen = arguments.parse_args()
    quick: bool = chosen.quick
    only: str | None = chosen.only or ("paths" if quick else None)
    packets = QUICK_PACKETS if quick else PACKETS
    compile_stale()
    figures: list[Figure] = []
    with stand() as bench:
        for part, (title, cases) in PARTS.items():
            if only in (None, part):
                measured = measure(bench, within_limits(cases), packets)
                show(title, measured)
                figures += measured
        sizes = {case.name: added_bytes(bench, case) for case in CHAINS}
        memory = flow_memory_bytes(1_000_000)
    for name, added in sizes.items():
        print(f"{name:<42} {added:>8} bytes more than the client's packet")
    print(f"flow memory for a million flows: {memory / 1e6:.0f} MB")
    result = {
        "bench": "datapath",
        "rounds": ROUNDS,
        "packets": packets,
        "paths": [rounded(figure) for figure in figures],
        "added_bytes": sizes,
        "flow_memory_bytes_per_million": memory,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
