"""Waypost beside its peers over veth: `python tests/bench/bench_veth.py [--quick]`; needs root.

Owns the order of the run and the figures; the network is veth_world.py's, the loads and their
proofs veth_loads.py's. In the same run and before the same two reals: Waypost by each of its
tunnels, nginx `stream`, HAProxy in TCP mode, nftables DNAT with jhash, and no balancer at all, as
the ceiling. Every round goes through all of them in turn. All hosts are namespaces of this machine
and share its cores, so a balancer that costs less leaves more to client and reals: the figures
compare, they do not promise. Answers of Waypost's reals go to the client directly; of the others,
back through the balancer. Offloads are off everywhere, as XDP needs them on veth, so the peers go
without the segmentation that saves them work on a real card. CPU is all that the machine was busy
during the load (/proc/stat), client and reals included. At the end: the time from `real drain` to
the last new flow on the drained real. Progress goes to standard error; the last line is one JSON
object. Bounded to eight minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import create_connection

from veth_files import BIG_BYTES, PORT
from veth_loads import (
    SITE,
    TARGETS,
    UDP_FLOWS,
    VIP_ADDRESSES,
    Load,
    Sample,
    Step,
    proved,
    run,
    send_packets,
)
from veth_world import PREFIX, VethWorld

from bpf.compile import compile_stale
from gslb.fleet.model import Encap
from ops.lab.world import inside

BULK_FLOWS = 4
DRAIN_WATCH_S = 0.4
GIGABIT = 1e9 / 8
FIRST_RATE = 20_000.0  # small packets a second
LOSS_MAX = 0.005  # a share; cores are taken away for milliseconds here, so it is not 0
KEPT_UP = 0.9  # of the asked rate: a sender that does less, and again, can do no more
STEPS_MAX, SHORT_MAX, HALVINGS = 10, 2, 2

LOADS = (
    *(Load(name=f"requests/s, {flows:,} flows", flows=flows) for flows in (1, 100, 1_000, 10_000)),
    Load(name="new connections/s", flows=50, new_connections=True),
    Load(name="download", path="/big", flows=BULK_FLOWS, unit_bytes=BIG_BYTES),
    Load(name="upload", path="/sink", flows=BULK_FLOWS, unit_bytes=BIG_BYTES, upload=True),
)
ECHOES = {"small packets, one way": False, "small packets, echo": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a run may take."""

    rounds: int
    load_s: float
    step_s: float
    drains: int


THOROUGH = Pace(rounds=3, load_s=1.0, step_s=0.3, drains=7)
QUICK = Pace(rounds=1, load_s=0.3, step_s=0.1, drains=2)


def main() -> int:
    """Measure, print tables, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description="Waypost beside its peers over veth")
    parser.add_argument("--quick", action="store_true", help="one round of short loads: a proof")
    pace = QUICK if parser.parse_args().quick else THOROUGH
    compile_stale()
    with tempfile.TemporaryDirectory() as folder:
        upload = Path(folder) / "upload"
        upload.write_bytes(bytes(BIG_BYTES))
        tell("building the network")
        with closing(VethWorld(Path(folder), SITE)) as world:
            world.wait(world.all_up)
            samples = measure(world, upload, pace)
            climbs = measure_packets(world, pace)
            tell("draining a real")
            drains_ms = [drain(world) * 1e3 for _ in range(pace.drains)]
    results = {load.name: show(load, samples[load.name]) for load in LOADS}
    results |= {name: show_packets(name, climbs[name]) for name in ECHOES}
    last_flow = spread(drains_ms)
    print("from `real drain` to the last new flow on that real: ", end="")
    print("median {median:.1f} ms ({min:.1f} to {max:.1f})".format(**last_flow), end="")
    print(f", {pace.drains} drains")
    setup = {"rounds": pace.rounds, "seconds": pace.load_s, "cores": os.cpu_count()}
    line = {"bench": "veth", "setup": setup, "results": results, "drain_to_last_flow_ms": last_flow}
    print(json.dumps(line))
    return 0


Samples = dict[str, dict[str, list[Sample]]]
Climbs = dict[str, dict[str, list["Climb"]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """The best step that lost nothing to speak of, and the first above it that did, if any did."""

    best: Step
    too_much: Step | None


def measure(world: VethWorld, upload: Path, pace: Pace) -> Samples:
    """Every load by TCP against every target, once a round."""
    targets = [target for target in TARGETS if target.by_tcp]
    samples: Samples = {load.name: {target.name: [] for target in targets} for load in LOADS}
    for number in range(pace.rounds):
        for load in LOADS:
            tell(f"round {number + 1} of {pace.rounds}: {load.name}")
            for target in targets:
                samples[load.name][target.name].append(
                    run(world, load, target, upload, pace.load_s)
                )
    return samples


def measure_packets(world: VethWorld, pace: Pace) -> Climbs:
    """Small packets by UDP against every target that takes them, once a round."""
    targets = [target for target in TARGETS if target.by_udp]
    climbs: Climbs = {name: {target.name: [] for target in targets} for name in ECHOES}
    world.receive_on((os.cpu_count() or 1) - 1)
    for number in range(pace.rounds):
        for name, echo in ECHOES.items():
            tell(f"round {number + 1} of {pace.rounds}: {name}")
            for target in targets:
                known = climbs[name][target.name]
                first = known[-1].best.asked if known else FIRST_RATE
                send = partial(send_packets, world, target, seconds=pace.step_s, echo=echo)
                with proved(world, target, target.udp_vip, UDP_FLOWS // 2):
                    known.append(climb(send, first))
    world.receive_on(None)
    return climbs


def climb(send: Callable[[float], Step], first: float) -> Climb:
    """Twice the rate until packets are lost, or half of it until none are; then between the two."""
    best: Step | None = None
    too_much: Step | None = None
    asked, halvings, short = first, 0, 0
    for _ in range(STEPS_MAX):
        step = send(asked)
        if step.lost > LOSS_MAX:
            too_much = step
        else:
            best = step if best is None or step.arrived > best.arrived else best
            short += step.sent < asked * KEPT_UP
            if short == SHORT_MAX:
                break
        if too_much is None:
            asked *= 2
        elif best is None:
            asked /= 2
        elif halvings < HALVINGS:
            asked, halvings = math.sqrt(best.asked * too_much.asked), halvings + 1
        else:
            break
    return Climb(best=best or step, too_much=too_much)


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
        row = spread(rates) | {
            "packets_in": statistics.median(sample.packets for sample in samples),
            "cpu_s": statistics.median(work),
        }
        digits = 2 if is_bulk else 0
        figures = [f"{row[key]:,.{digits}f}" for key in ("median", "min", "max")]
        print(f"  {target:<22} {figures[0]:>14} {figures[1]:>9} {figures[2]:>9}", end="")
        print(f" {row['packets_in']:>13,.0f} {row['cpu_s']:>11.2f}")
        found[target] = {key: round(value, 4) for key, value in row.items()}
    return found


def show_packets(name: str, targets: dict[str, list[Climb]]) -> dict[str, dict[str, float]]:
    """A table for a person; the same for the JSON line."""
    print(f"{name:<24} {'median /s':>14} {'lowest':>9} {'highest':>9}", end="")
    print(f" {'packets/s in':>13} {'CPU s/1M':>11} {'lost':>7}  then, of the offered, lost")
    found: dict[str, dict[str, float]] = {}
    for target, climbs in targets.items():
        row = spread([climb.best.arrived for climb in climbs]) | {
            "packets_in": statistics.median(climb.best.packets for climb in climbs),
            "cpu_s": statistics.median(climb.best.cpu_s for climb in climbs),
            "lost": statistics.median(climb.best.lost for climb in climbs),
        }
        print(f"  {target:<22} {row['median']:>14,.0f} {row['min']:>9,.0f}", end="")
        print(f" {row['max']:>9,.0f} {row['packets_in']:>13,.0f} {row['cpu_s']:>11.2f}", end="")
        print(f" {row['lost']:>7.2%}", end="")
        above = [climb.too_much for climb in climbs if climb.too_much is not None]
        if above:
            row["above_sent"] = statistics.median(step.sent for step in above)
            row["above_lost"] = statistics.median(step.lost for step in above)
            print(f"  {row['above_sent']:,.0f}: {row['above_lost']:.1%}", end="")
        print()
        found[target] = {key: round(value, 4) for key, value in row.items()}
    return found


def spread(figures: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(figures), "min": min(figures), "max": max(figures)}


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
        with create_connection((VIP_ADDRESSES[Encap.GUE], PORT), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            body = b""
            while part := connection.recv(4096):
                body += part
        seen.append((began_s, body))


def tell(what: str) -> None:
    """Progress, for a person who waits."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
