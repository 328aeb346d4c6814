"""Waypost beside its peers over veth: `python tests/bench/bench_veth.py [--rounds 3]`; needs root.

Owns the loads and the figures; the network is veth_world.py's. In the same run and before the same
two reals (nginx): Waypost by GUE, nginx `stream`, HAProxy in TCP mode, nftables DNAT with jhash,
and no balancer at all, as the ceiling. Every round goes through all of them in turn. All hosts are
namespaces of this machine and share its cores, so a balancer that costs less leaves more to client
and reals: the figures compare, they do not promise. Answers of Waypost's reals go to the client
directly; of the others, back through the balancer. Offloads are off everywhere, as XDP needs them
on veth, so the peers go without the segmentation that saves them work on a real card.
CPU is all that the machine was busy during the load (/proc/stat), client and reals included.
At the end: the time from `real drain` to the last new flow on the drained real.
The last line is one JSON object. Bounded to about three minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection

from veth_world import BIG_BYTES, PEERS, PREFIX, WAYPOST_VIP, VethWorld, address

from bpf.compile import compile_stale
from ops.lab.world import inside

TARGETS = {"waypost": WAYPOST_VIP, **PEERS, "no balancer": address("real1")}
VIA = {"waypost": "edge", **dict.fromkeys(PEERS, "proxy"), "no balancer": "real1"}
BULK_FLOWS = 4
DRAINS = 7
DRAIN_WATCH_S = 0.4
_H2LOAD = re.compile(r"finished in [\d.]+m?s, ([\d.]+) req/s")
_H2LOAD_FAILED = re.compile(r"(\d+) failed")
_AB = re.compile(r"Requests per second:\s+([\d.]+)")
_AB_FAILED = re.compile(r"Failed requests:\s+(\d+)")
GIGABIT = 1e9 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the client does; `unit_bytes` of payload move with each request of a bulk load."""

    name: str
    path: str
    flows: int
    unit_bytes: int = 0
    new_connections: bool = False
    upload: bool = False


LOADS = (
    *(
        Load(name=f"requests/s, {flows:,} flows", path="/", flows=flows)
        for flows in (1, 100, 1_000)
    ),
    Load(name="new connections/s", path="/", flows=50, new_connections=True),
    Load(name="download", path="/big", flows=BULK_FLOWS, unit_bytes=BIG_BYTES),
    Load(name="upload", path="/sink", flows=BULK_FLOWS, unit_bytes=BIG_BYTES, upload=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One load against one target: requests, packets into the balancer, CPU, all a second."""

    rate: float
    packets: float
    cpu: float


def main() -> int:
    """Measure, print tables, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description="Waypost beside its peers over veth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    compile_stale()
    with tempfile.TemporaryDirectory() as folder:
        upload = Path(folder) / "upload"
        upload.write_bytes(bytes(BIG_BYTES))
        with closing(VethWorld(Path(folder))) as world:
            samples = measure(world, upload, options.rounds, options.seconds)
            drains_s = [drain(world) for _ in range(DRAINS)]
    results = {load.name: show(load, samples[load.name]) for load in LOADS}
    lowest_ms, highest_ms = min(drains_s) * 1e3, max(drains_s) * 1e3
    median_ms = statistics.median(drains_s) * 1e3
    print("from `real drain` to the last new flow on that real: ", end="")
    print(f"median {median_ms:.1f} ms ({lowest_ms:.1f} to {highest_ms:.1f}), {DRAINS} drains")
    setup = {"rounds": options.rounds, "seconds": options.seconds, "cores": os.cpu_count()}
    last_flow = {"median": median_ms, "min": lowest_ms, "max": highest_ms}
    line = {"bench": "veth", "setup": setup, "results": results, "drain_to_last_flow_ms": last_flow}
    print(json.dumps(line))
    return 0


Samples = dict[str, dict[str, list[Sample]]]


def measure(world: VethWorld, upload: Path, rounds: int, seconds: int) -> Samples:
    """Every load against every target, once a round."""
    samples: Samples = {load.name: {target: [] for target in TARGETS} for load in LOADS}
    for _ in range(rounds):
        for load in LOADS:
            for target in TARGETS:
                samples[load.name][target].append(run(world, load, target, upload, seconds))
    return samples


def run(world: VethWorld, load: Load, target: str, upload: Path, seconds: int) -> Sample:
    """One load against one target."""
    url = f"http://{TARGETS[target]}{load.path}"
    if load.new_connections:
        command = ["ab", "-q", "-r", f"-t{seconds}", "-n1000000", f"-c{load.flows}", url]
        rate_of, failed_of = _AB, _AB_FAILED
    else:
        command = ["h2load", "--h1", "-t1", f"-c{load.flows}", f"-D{seconds}"]
        command += [f"-d{upload}"] if load.upload else []
        command.append(url)
        rate_of, failed_of = _H2LOAD, _H2LOAD_FAILED
    packets, busy_s, began_s = world.received(VIA[target]), busy_cpu_s(), time.monotonic()
    output = world.run("client", *command)
    took_s = time.monotonic() - began_s
    rate, failed = rate_of.search(output), failed_of.search(output)
    if rate is None or failed is None or int(failed[1]):
        raise RuntimeError(f"{load.name} against {target}:\n{output}")
    return Sample(
        rate=float(rate[1]),
        packets=(world.received(VIA[target]) - packets) / took_s,
        cpu=(busy_cpu_s() - busy_s) / took_s,
    )


def busy_cpu_s() -> float:
    """Seconds that all cores together were busy since boot."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, irq, softirq, _stolen = ticks
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def show(load: Load, targets: dict[str, list[Sample]]) -> dict[str, dict[str, float]]:
    """A table for a person; the same for the JSON line."""
    is_bulk = load.unit_bytes > 0
    unit = "Gbit/s" if is_bulk else "/s"
    per = "CPU s/Gbit" if is_bulk else "CPU s/100k"
    print(f"{load.name:<24} {'median ' + unit:>14} {'lowest':>9} {'highest':>9}", end="")
    print(f" {'packets/s in':>13} {per:>11}")
    scale = load.unit_bytes / GIGABIT if is_bulk else 1.0
    found: dict[str, dict[str, float]] = {}
    for target, samples in targets.items():
        rates = [sample.rate * scale for sample in samples]
        work = [
            sample.cpu / (sample.rate * scale) * (1 if is_bulk else 100_000) for sample in samples
        ]
        row = {
            "median": statistics.median(rates),
            "min": min(rates),
            "max": max(rates),
            "packets_in": statistics.median(sample.packets for sample in samples),
            "cpu_s": statistics.median(work),
        }
        digits = 2 if is_bulk else 0
        figures = [f"{row[key]:,.{digits}f}" for key in ("median", "min", "max")]
        print(f"  {target:<22} {figures[0]:>14} {figures[1]:>9} {figures[2]:>9}", end="")
        print(f" {row['packets_in']:>13,.0f} {row['cpu_s']:>11.2f}")
        found[target] = {key: round(value, 4) for key, value in row.items()}
    return found


def drain(world: VethWorld) -> float:
    """Seconds from asking for a drain to the last new connection that its real still got."""
    seen: list[tuple[float, bytes]] = []
    with ThreadPoolExecutor(1) as other, inside(PREFIX + "client"):
        _connect_for(seen, DRAIN_WATCH_S)
        asked_s = time.monotonic()
        answer = other.submit(world.ask, "/real/drain", {"name": "real1"})
        _connect_for(seen, DRAIN_WATCH_S)
        answer.result()
        settled_s = time.monotonic()
        _connect_for(seen, DRAIN_WATCH_S)
    world.ask("/real/undrain", {"name": "real1"})
    at_drained = [when_s for when_s, body in seen if body.endswith(b"real1")]
    if not at_drained or at_drained[-1] > settled_s:
        raise RuntimeError(
            "the drained real got flows before it was asked for, or after the answer"
        )
    return max(at_drained[-1] - asked_s, 0.0)


def _connect_for(seen: list[tuple[float, bytes]], seconds: float) -> None:
    """New connections one after the other: when each began, and what its real said."""
    end_s = time.monotonic() + seconds
    while (began_s := time.monotonic()) < end_s:
        with create_connection((WAYPOST_VIP, 80), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            body = b""
            while part := connection.recv(4096):
                body += part
        seen.append((began_s, body))


if __name__ == "__main__":
    sys.exit(main())
