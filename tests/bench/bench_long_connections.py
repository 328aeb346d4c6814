"""Long connections through every change, by each way of keeping them; needs root.

    python tests/bench/bench_long_connections.py [--seeds 5] [--connections 2000] [--minutes 2]
                                                 [--modes chains,memory+ring] [--careless]

Owns the seeds and the figures; the parts are in long_connections/. Real TCP over veth: a client
opens so many connections to a VIP of each mode, through two edges behind a router that hashes
addresses and ports, to six reals; each sends a byte a second, checks the echo, lives for up to a
third of the run and is then replaced. Meanwhile what the seed draws happens, the same for each way:
each has a world of its own, one after the other, but for those that a `+` puts into one. Each
broken connection is judged, and what was known of it when it broke is told. The run fails if one of
ours broke that had no right to. Progress goes to standard error, a table for docs/performance.md to
standard output; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from long_connections.clients import Lives
from long_connections.modes import MODES, OURS, Mode
from long_connections.schedule import draw
from long_connections.trial import Outcome, Trial, hold_through
from long_connections.verdict import causes

from bpf.compile import compile_stale

REALS, SPARE_REALS = tuple(f"real{i}" for i in range(1, 7)), ("real7", "real8")
EDGES, SPARE_EDGES = ("edge1", "edge2"), ("edge3",)
SHORTEST_S = 5.0
RAMP_S = 10.0
FIRST_SEED = 1
CAUSES_SHOWN = 8
KEPT = (
    "PASSED_UNWRAPPED",
    "PASSED_OWN_SOCKET",
    "PASSED_SYN_COOKIE",
    "PASSED_SYN",
    "PASSED_LAST_RESORT",
)
WORLD_S = 45.0  # to build one, fill it and empty it: for telling how long all will take


def main() -> int:
    """Run, print a table, and one JSON line at the end."""
    options = _options()
    groups = [[MODES[name] for name in group.split("+")] for group in options.modes.split(",")]
    end_in_good_order()
    compile_stale()
    rows: list[dict[str, Any]] = []
    seconds = options.minutes * 60
    left = options.seeds * len(groups)
    for group in groups:
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            tell_end(left, seconds)
            outcomes = run(seed, group, options.connections, seconds, careful=not options.careless)
            rows += [row(seed, outcome, len(group)) for outcome in outcomes]
            left -= 1
        show(rows)
    setup = {"connections": options.connections, "minutes": options.minutes}
    setup |= {"seeds": options.seeds, "modes": options.modes, "careless": options.careless}
    setup |= {"cores": os.cpu_count()}
    print(json.dumps({"bench": "long_connections", "setup": setup, "results": rows}))
    return int(any(row["no_right"] for row in rows if row["mode"] in OURS))


def run(
    seed: int, modes: Sequence[Mode], connections: int, seconds: float, *, careful: bool
) -> list[Outcome]:
    """One seed's events, with all of these modes at once."""
    trial = Trial(
        modes=modes,
        lives=Lives(count=connections, ramp_s=RAMP_S, shortest_s=SHORTEST_S, longest_s=seconds / 3),
        reals=REALS,
        edges=EDGES,
        spare_reals=SPARE_REALS,
        spare_edges=SPARE_EDGES,
        seed=seed,
        careful=careful,
    )
    events = draw(
        seed,
        seconds=seconds,
        reals=REALS,
        spare_reals=SPARE_REALS,
        edges=EDGES,
        spare_edges=SPARE_EDGES,
    )
    return hold_through(trial, events, seconds)


def row(seed: int, outcome: Outcome, together: int) -> dict[str, Any]:
    """One mode's figures of one run; only of a mode alone in its world is the detour known."""
    total, no_right = outcome.total, outcome.without_right
    handed_on = outcome.verdicts["HANDED_ON"]
    kept = sum(count for name, count in outcome.verdicts.items() if name in KEPT)
    return {
        "seed": seed,
        "mode": outcome.mode.name,
        "connections": total.ended + total.broken,
        "broken": total.broken,
        "had_right": len(outcome.judged) - len(no_right),
        "no_right": len(no_right),
        "refused": total.refused,
        "late": total.late,
        "longest_pause_s": outcome.longest_pause_s,
        "handed_on": handed_on if together == 1 else 0,
        "packets": kept if together == 1 else 0,
        "held_for_dead": outcome.held_for_dead,
        "load": round(os.getloadavg()[0], 1),
        "causes": dict(causes(outcome.judged).most_common(CAUSES_SHOWN)),
        "real_verdicts": {name: count for name, count in outcome.verdicts.items() if count},
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """The table of all modes that are done, as docs/performance.md has it."""
    print(
        "| way | connections | broken, with a right | broken without | by seed | handed on |",
        end="",
    )
    print(" reals held for dead |")
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["mode"] for row in rows):
        of_mode = [row for row in rows if row["mode"] == name]
        keys = ("connections", "had_right", "no_right", "handed_on", "packets", "held_for_dead")
        sums = {key: sum(row[key] for row in of_mode) for key in keys}
        by_seed = ", ".join(str(row["no_right"]) for row in of_mode)
        share = f"{sums['handed_on'] / sums['packets']:.1%}" if sums["packets"] else ""
        print(f"| {MODES[name].words} | {sums['connections']:,} | {sums['had_right']:,} |", end="")
        print(
            f" {sums['no_right']:,} | {by_seed} | {share} | {sums['held_for_dead']} |", flush=True
        )


def tell_end(worlds: int, seconds: float) -> None:
    """When it will all be done."""
    end_s = time.time() + worlds * (seconds + RAMP_S + WORLD_S)
    at = time.strftime("%H:%M", time.localtime(end_s))
    print(f"{worlds} worlds to go, until about {at}", file=sys.stderr, flush=True)


def end_in_good_order() -> None:
    """SIGTERM ends the bench as Ctrl-C does: all is taken away; a child of ours just ends."""
    ours = os.getpid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1) if os.getpid() == ours else os._exit(1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="long connections through every change")
    parser.add_argument("--seeds", type=int, default=5, help="so many, from 1")
    parser.add_argument("--connections", type=int, default=2000, help="of each mode")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each run")
    parser.add_argument("--modes", default=",".join(MODES), help="+ joins some in one world")
    parser.add_argument("--careless", action="store_true", help="changes though an edge is unwell")
    found = parser.parse_args()
    unknown = set(found.modes.replace("+", ",").split(",")) - set(MODES)
    if unknown:
        parser.error(f"no mode {', '.join(sorted(unknown))}; there are {', '.join(MODES)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
