"""Connections that break through changes of servers and balancers, by several ways of balancing.

`python tests/bench/bench_survival.py [--quick] [--pictures FOLDER]`; needs no root. A simulation
of 468 servers, 8 balancers and 100,000 connections at once; what chooses is the very code that
edges run, which the run proves before it measures. First JET's published run is made again, as an
anchor. The same seeds give the same figures; they are printed. Progress goes to standard error; the
last line is one JSON object. `--quick` is a small proof that all of it works, and is no figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from math import sqrt
from pathlib import Path

from survival import line_up as chosen
from survival.anchor import PUBLISHED, Published, Run
from survival.changes import Script
from survival.line_up import line_up
from survival.owner_chains import OwnerChains, RememberingChains, ShippedChains
from survival.pictures import draw
from survival.proof import reference_ring, wrong_chains, wrong_choices
from survival.run import Builder, Figures, World, simulate
from survival.systems import System
from survival.tables import Servers
from survival.traffic import Connections

from bpf.compile import compile_stale

SEEDS = (1, 2, 3, 4, 5)
ANCHOR_SEED = 12345
STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of runs
PROOF_SEED, PROOF_S, PROOF_FLOWS = 7, 120.0, 2_000
QUICK_ANCHOR = Published(concurrent=5_000, memory=1_250, length_s=150.0)
QUICK_CONCURRENT, QUICK_S, QUICK_PROOF_FLOWS = 10_000, 40.0, 200

Row = dict[str, float]
Table = dict[str, dict[str, Row]]  # changes a minute -> system -> figures


def main() -> None:
    """Anchor, proof, every world; tables for a person, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description="which connections survive, by system")
    parser.add_argument("--quick", action="store_true", help="small worlds: a proof, no figures")
    parser.add_argument("--pictures", type=Path, help="a folder to draw the figures into")
    options = parser.parse_args()
    compile_stale()
    told = Progress()
    setting = QUICK_ANCHOR if options.quick else Published()
    line = {
        "bench": "survival",
        "seeds": SEEDS[:1] if options.quick else SEEDS,
        "anchor": anchor(setting, [ANCHOR_SEED] if options.quick else [ANCHOR_SEED, *SEEDS], told),
        "wrong": prove(options.quick, told),
        "worlds": {
            name: sweep(make, rates, options.quick, told)
            for name, make, rates in worlds(options.quick)
        },
    }
    if options.pictures:
        draw(line["worlds"], options.pictures)
    print(json.dumps(line))


def worlds(quick: bool) -> list[tuple[str, Callable[[float], World], Sequence[float]]]:
    """Names of worlds, how to make each, and the rates of change."""
    if quick:
        small = partial(chosen.short_world, concurrent=QUICK_CONCURRENT)
        return [("short", lambda rate: replace(small(rate), length_s=QUICK_S), (20.0,))]
    return [("short", chosen.short_world, chosen.RATES), ("long", chosen.long_world, chosen.RATES)]


def anchor(setting: Published, seeds: Iterable[int], told: Progress) -> dict[str, object]:
    """JET's published run by our tables, as AnchorHash seats servers and as a plain table does."""
    found: dict[str, object] = {"published": PUBLISHED}
    for name, is_last_first in (("last out, first in", True), ("first out, first in", False)):
        runs = []
        for seed in seeds:
            run = Run(replace(setting, last_out_first_in=is_last_first), seed)
            lost = run.run(partial(told, f"anchor, {name}, seed {seed}"))
            runs.append({"seed": seed, "connections": run.connections, **lost})
            told.done()
        found[name] = runs
        print(f"anchor, {name}:")
        for row in runs:
            print("  seed {seed}: {connections:,} connections".format(**row), end="")
            print("; broken by full tracking {full tracking:,}, by JET {JET:,}".format(**row))
    return found


def prove(quick: bool, told: Progress) -> dict[str, int]:
    """Choices and chains of a run that are not what edges choose and find; all 0."""
    systems: list[System] = []
    moment_s = QUICK_S if quick else PROOF_S

    def build(
        world: World, script: Script, servers: Servers, flows: Connections
    ) -> Sequence[System]:
        systems.extend(line_up(world, script, servers, flows))
        return systems

    concurrent = QUICK_CONCURRENT if quick else chosen.CONCURRENT
    world = replace(chosen.short_world(20.0, concurrent), length_s=moment_s)
    simulate(world, PROOF_SEED, build, partial(told, "proof"))
    told.done()
    flows = systems[0].flows
    sample = flows.live[: QUICK_PROOF_FLOWS if quick else PROOF_FLOWS]
    shipped = next(system for system in systems if isinstance(system, ShippedChains))
    wrong = {"choices": wrong_choices(shipped, sample, reference_ring(shipped.servers))}
    for system in systems:
        if type(system) in (OwnerChains, ShippedChains, RememberingChains):
            system.learn(moment_s)
            wrong[system.name] = wrong_chains(system, moment_s)
    print(f"not as edges choose and find, of {len(sample)} flows and all slots: {wrong}")
    return wrong


def sweep(
    make: Callable[[float], World], rates: Sequence[float], quick: bool, told: Progress
) -> Table:
    """Every rate of change, by every seed."""
    found: Table = {}
    for rate in rates:
        world = make(rate)
        runs = [
            simulate(world, seed, build_all, partial(told, f"{world.name}, {rate:g}, seed {seed}"))
            for seed in (SEEDS[:1] if quick else SEEDS)
        ]
        told.done()
        found[f"{rate:g}"] = {each[0].system: summed(each) for each in zip(*runs, strict=True)}
        show(world, rate, found[f"{rate:g}"])
    return found


build_all: Builder = line_up


def summed(runs: Sequence[Figures]) -> Row:
    """Means over the seeds; for shares also half the width of a 95 % confidence interval."""
    values = [{key: value for key, value in asdict(run).items() if key != "system"} for run in runs]
    row = {key: statistics.fmean(value[key] for value in values) for key in values[0]}
    if len(runs) > 1:
        scale = STUDENT_95[len(runs)] / sqrt(len(runs))
        for key in ("broken_share", "detour_share"):
            row[f"{key}_pm"] = statistics.stdev(value[key] for value in values) * scale
    return {key: float(f"{value:.4g}") for key, value in row.items()}


def show(world: World, rate: float, rows: dict[str, Row]) -> None:
    """A table for a person."""
    print(f"{world.name} connections, {rate:g} changes a minute")
    print(f"  {'system':<32} {'broken':>20} {'detours':>9} {'hops':>7} {'max/mean':>9} {'kB':>7}")
    for name, row in rows.items():
        broken = f"{row['broken_share']:.5%} +-{row.get('broken_share_pm', 0):.5%}"
        print(f"  {name:<32} {broken:>20} {row['detour_share']:>9.3%}", end="")
        print(f" {row['extra_hops']:>7.4f} {row['max_over_mean']:>9.2f}", end="")
        print(f" {row['state_bytes'] / 1000:>7,.0f}")


class Progress:
    """What is under way, for a person who waits: a line in place, at most once a second."""

    def __init__(self) -> None:
        self._told_s = 0.0

    def __call__(self, what: str, share: float) -> None:
        """So much of it is done."""
        if time.monotonic() - self._told_s > 1:
            self._told_s = time.monotonic()
            sys.stderr.write(f"\r{what}: {share:.0%}   ")
            sys.stderr.flush()

    def done(self) -> None:
        """The next is told on a line of its own."""
        sys.stderr.write("\n")


if __name__ == "__main__":
    main()
