"""Connections that break through changes of servers and balancers, by several ways of balancing.

`python tests/bench/bench_survival.py [--jobs N] [--seeds N] [--pictures FOLDER] [--write FILE]`; no
root. A simulation of 468 servers, 8 balancers and 100,000 connections at once; what chooses is the
very code that edges run, which the run proves. JET's published run is made again, as an anchor. The
same seeds give the same figures, in however many processes (`--jobs`). Progress goes to standard
error; standard output has the tables of docs/performance.md (`--write` puts them there), and on its
last line one JSON object. `--quick` is a small proof that all of it works, and is no figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, replace
from math import sqrt
from pathlib import Path

from survival import line_up as chosen
from survival.anchor import PUBLISHED, Published, Run
from survival.changes import Script
from survival.line_up import line_up
from survival.owner_chains import OwnerChains, RememberingChains
from survival.pictures import draw
from survival.proof import wrong_chains, wrong_choices
from survival.report import placed, tables
from survival.run import Figures, World, simulate
from survival.systems import System
from survival.tables import Servers
from survival.traffic import Connections

from bpf.compile import compile_stale

SEEDS = 5
ANCHOR_SEED = 12345
ANCHORS = {"last out, first in": True, "first out, first in": False}
STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of runs
PROOF_SEED, PROOF_S, PROOF_FLOWS = 7, 120.0, 2_000
QUICK_ANCHOR = Published(concurrent=5_000, memory=1_250, length_s=150.0)
QUICK_CONCURRENT, QUICK_S, QUICK_RATE, QUICK_PROOF_FLOWS = 10_000, 40.0, 20.0, 200

Row = dict[str, float]


def main() -> None:
    """Anchor, proof, every world; tables for a person, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description="which connections survive, by system")
    parser.add_argument("--quick", action="store_true", help="small worlds: a proof, no figures")
    parser.add_argument("--pictures", type=Path, help="a folder to draw the figures into")
    parser.add_argument("--write", type=Path, help="a text whose marked tables are replaced")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the runs")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, choices=range(1, SEEDS + 1), help="runs of each rate"
    )
    options = parser.parse_args()
    compile_stale()
    seeds = range(1, (1 if options.quick else options.seeds) + 1)
    with ProcessPoolExecutor(options.jobs) as pool:
        runs = Runs(pool)
        wrong = runs.submit(prove, options.quick)
        setting = QUICK_ANCHOR if options.quick else Published()
        anchors = {
            name: [
                runs.submit(anchor, replace(setting, last_out_first_in=is_last_first), seed)
                for seed in ([ANCHOR_SEED] if options.quick else [ANCHOR_SEED, *seeds])
            ]
            for name, is_last_first in ANCHORS.items()
        }
        cells = [
            (world, [runs.submit(simulate, world, seed, line_up) for seed in seeds])
            for world in worlds(options.quick)
        ]
        print(f"not as edges choose and find, of all slots: {wrong.result()}")
        anchored = {name: [run.result() for run in each] for name, each in anchors.items()}
        found: dict[str, dict[str, dict[str, Row]]] = {}
        for world, each in cells:
            by_system = zip(*(run.result() for run in each), strict=True)
            rows = {figures[0].system: summed(figures) for figures in by_system}
            found.setdefault(world.name, {})[f"{world.churn.per_minute:g}"] = rows
    if options.pictures:
        draw(found, options.pictures)
    words = tables(found, anchored, len(seeds))
    print(*words.values(), sep="\n")
    if options.write:
        options.write.write_text(placed(options.write.read_text(), words))
    line = {
        "bench": "survival",
        "seeds": list(seeds),
        "anchor": {"published": PUBLISHED, **anchored},
        "wrong": wrong.result(),
        "worlds": found,
    }
    print(json.dumps(line))


def worlds(quick: bool) -> list[World]:
    """Each world at each rate of change."""
    if quick:
        return [replace(chosen.short_world(QUICK_RATE, QUICK_CONCURRENT), length_s=QUICK_S)]
    makers = (chosen.short_world, chosen.long_world)
    return [make(rate) for make in makers for rate in chosen.RATES]


def anchor(setting: Published, seed: int) -> dict[str, int]:
    """JET's published run by our tables."""
    run = Run(setting, seed)
    lost = run.run()
    return {"seed": seed, "connections": run.connections, **lost}


def prove(quick: bool) -> dict[str, int]:
    """Choices and chains of a run that are not what edges choose and find; all 0."""
    systems: list[System] = []
    moment_s = QUICK_S if quick else PROOF_S

    def build(
        world: World, script: Script, servers: Servers, flows: Connections
    ) -> Sequence[System]:
        systems.extend(line_up(world, script, servers, flows))
        return systems

    concurrent = QUICK_CONCURRENT if quick else chosen.CONCURRENT
    world = replace(chosen.short_world(QUICK_RATE, concurrent), length_s=moment_s)
    simulate(world, PROOF_SEED, build)
    chains = [system for system in systems if type(system) in (OwnerChains, RememberingChains)]
    sample = chains[0].flows.live[: QUICK_PROOF_FLOWS if quick else PROOF_FLOWS]
    wrong = {"choices": wrong_choices(chains[0], sample)}
    for system in chains:
        system.learn(moment_s)
        wrong[system.name] = wrong_chains(system, moment_s)
    return wrong


def summed(runs: Sequence[Figures]) -> Row:
    """Means over the seeds; for shares also half the width of a 95 % confidence interval."""
    values = [{key: value for key, value in asdict(run).items() if key != "system"} for run in runs]
    row = {key: statistics.fmean(value[key] for value in values) for key in values[0]}
    if len(runs) > 1:
        scale = STUDENT_95[len(runs)] / sqrt(len(runs))
        for key in ("broken_share", "detour_share"):
            row[f"{key}_pm"] = statistics.stdev(value[key] for value in values) * scale
    return {key: float(f"{value:.4g}") for key, value in row.items()}


class Runs:
    """Runs under way in other processes, and how many are done, for a person who waits."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self._submitted, self._done = 0, 0

    def submit(self, *call: object) -> Future[object]:
        """One more."""
        self._submitted += 1
        future = self._pool.submit(*call)
        future.add_done_callback(self._tell)
        return future

    def _tell(self, _future: Future[object]) -> None:
        self._done += 1
        end = "\n" if self._done == self._submitted else ""
        sys.stderr.write(f"\r{self._done} of {self._submitted} runs{end}")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
