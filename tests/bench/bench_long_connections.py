"""Long connections through every change, each way of keeping them in the same run; needs root.

    python tests/bench/bench_long_connections.py [--seeds 5] [--connections 2000] [--minutes 2]
                                                 [--modes chains,ring] [--apart] [--careless]

Owns the seeds and the figures; the parts are in long_connections/. Real TCP over veth: a client
opens so many connections to a VIP of each mode, through two edges behind a router that hashes
addresses and ports, to six reals; each sends a byte a second, checks the echo, lives for up to a
third of the run and is then replaced. Meanwhile what the seed draws happens. All modes live through
the same events at the same moments, in one world; `--apart` gives each mode a world of its own, for
the share of packets that took a detour. Each broken connection is judged. The run fails if one of
ours broke that had no right to. Progress goes to standard error; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
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


def main() -> int:
    """Run, print a table, and one JSON line at the end."""
    options = _options()
    modes = [MODES[name] for name in options.modes.split(",")]
    groups = [[mode] for mode in modes] if options.apart else [modes]
    end_in_good_order()
    compile_stale()
    rows: list[dict[str, Any]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        for group in groups:
            outcomes = run(
                seed,
                group,
                options.connections,
                options.minutes * 60,
                careful=not options.careless,
            )
            rows += [row(seed, outcome) for outcome in outcomes]
    show(rows, modes)
    setup = {"connections": options.connections, "minutes": options.minutes}
    setup |= {"seeds": options.seeds, "apart": options.apart, "careless": options.careless}
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


def row(seed: int, outcome: Outcome) -> dict[str, Any]:
    """One mode's figures of one run."""
    total, no_right = outcome.total, outcome.without_right
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
        "causes": dict(causes(outcome.judged).most_common(CAUSES_SHOWN)),
        "real_verdicts": {name: count for name, count in outcome.verdicts.items() if count},
    }


def show(rows: Sequence[dict[str, Any]], modes: Sequence[Mode]) -> None:
    """A table for a person."""
    print(f"{'':<48} {'connections':>12} {'had a right':>12} {'broken without':>15}  by seed")
    for mode in modes:
        of_mode = [row for row in rows if row["mode"] == mode.name]
        keys = ("connections", "had_right", "no_right")
        sums = {key: sum(row[key] for row in of_mode) for key in keys}
        by_seed = " ".join(f"{row['seed']}:{row['no_right']}" for row in of_mode)
        print(f"{mode.words:<48} {sums['connections']:>12,} {sums['had_right']:>12,}", end="")
        print(f" {sums['no_right']:>15,}  {by_seed}")


def end_in_good_order() -> None:
    """SIGTERM ends the bench as Ctrl-C does: all is taken away; a child of ours just ends."""
    ours = os.getpid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1) if os.getpid() == ours else os._exit(1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="long connections through every change")
    parser.add_argument("--seeds", type=int, default=5, help="so many, from 1")
    parser.add_argument("--connections", type=int, default=2000, help="of each mode")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each run")
    parser.add_argument("--modes", default=",".join(MODES), help=", ".join(MODES))
    parser.add_argument("--apart", action="store_true", help="a world for each mode")
    parser.add_argument("--careless", action="store_true", help="changes though an edge is unwell")
    found = parser.parse_args()
    unknown = set(found.modes.split(",")) - set(MODES)
    if unknown:
        parser.error(f"no mode {', '.join(sorted(unknown))}; there are {', '.join(MODES)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
