"""Long connections through every change, each way of keeping them in the same run; needs root.

    python tests/bench/bench_long_connections.py [--seeds 5] [--connections 2000] [--minutes 2]
                                                 [--modes chains,ring] [--apart]

Owns the order of the runs and the figures; the parts are in long_connections/. Real TCP over veth:
a client opens so many connections to a VIP of each mode, through two edges behind a router that
hashes addresses and ports, to six reals; each sends a byte a second, checks the echo, lives for up
to a third of the run and is then replaced. Meanwhile what the seed draws happens. All modes live
through the same events at the same moments, in one world; `--apart` gives each mode a world of its
own, for the share of packets that took a detour. Each broken connection is judged. The run fails if
one of ours broke that had no right to. Progress goes to standard error; the last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from long_connections.clients import Client, Lives
from long_connections.conductor import Conductor
from long_connections.files import Wanted
from long_connections.modes import MODES, OURS, Mode
from long_connections.router import Router
from long_connections.schedule import draw
from long_connections.verdict import causes, judge
from long_connections.world import BRIDGE, World

from bpf.compile import compile_stale

REALS, SPARE_REALS = tuple(f"real{i}" for i in range(1, 7)), ("real7", "real8")
EDGES, SPARE_EDGES = ("edge1", "edge2"), ("edge3",)
SHORTEST_S = 5.0
SLACK_S = 20.0  # a connection's closing, which may wait for lost packets
RAMP_S = 10.0
SETTLE_S = 2.0
FIRST_SEED = 1


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
            rows += run(seed, group, options.connections, options.minutes * 60)
    show(rows, modes)
    setup = {"connections": options.connections, "minutes": options.minutes}
    setup |= {"seeds": options.seeds, "apart": options.apart, "cores": os.cpu_count()}
    print(json.dumps({"bench": "long_connections", "setup": setup, "results": rows}))
    return int(any(row["no_right"] for row in rows if row["mode"] in OURS))


def run(seed: int, modes: Sequence[Mode], connections: int, seconds: float) -> list[dict[str, Any]]:
    """One seed's events, with all of these modes at once; a row for each."""
    events = draw(
        seed,
        seconds=seconds,
        reals=REALS,
        spare_reals=SPARE_REALS,
        edges=EDGES,
        spare_edges=SPARE_EDGES,
    )
    lives = Lives(count=connections, ramp_s=RAMP_S, shortest_s=SHORTEST_S, longest_s=seconds / 3)
    wanted = Wanted(
        modes=modes,
        edges=(*EDGES, *SPARE_EDGES),
        reals=(*REALS, *SPARE_REALS),
        serving=list(REALS),
        longest_s=lives.longest_s + SLACK_S,
    )
    told = Teller(seed)
    told.tell(f"seed {seed}, {len(events)} events; building the world")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        closing(World(Path(folder), wanted, EDGES)) as world,
    ):
        router = Router(world.namespace("router"), BRIDGE)
        conductor = Conductor(world, router, modes, EDGES, told.tell)
        world.wait(lambda: all(map(world.is_well, (*EDGES, *wanted.reals))))
        world.wait(lambda: all(map(world.knows_all, EDGES)))
        conductor.lead()
        told.tell(f"opening {connections} connections a mode")
        clients = [Client(world, mode, lives, seed) for mode in modes]
        time.sleep(RAMP_S + SETTLE_S)
        held_up(clients, connections)
        told.begin()
        conductor.run(events, seconds, lambda: told.progress(clients))
        told.tell("closing all connections")
        for client in clients:
            client.stop()
        for client in clients:
            client.wait()
        detour = detours(world)
        return [row(seed, client, conductor, detour) for client in clients]


def held_up(clients: Sequence[Client], connections: int) -> None:
    """A run begins with nearly all connections open; the rest are between two lives."""
    for client in clients:
        found = client.sum()
        if found.open < 0.9 * connections or found.broken:
            raise RuntimeError(f"{client.mode.name} begins with {found}")


def detours(world: World) -> dict[str, int]:
    """Packets that reals took out of a tunnel to keep them, and that they handed on."""
    found: Counter[str] = Counter()
    for real in world.wanted.reals:
        for counter in world.ask(real, "/drops")["counters"]:
            found[counter["name"]] += counter["packets"]
    return dict(found)


def row(
    seed: int, client: Client, conductor: Conductor, verdicts: dict[str, int]
) -> dict[str, Any]:
    """One mode's figures of one run."""
    total = client.sum()
    judged = judge(client.broken(), conductor.ends, conductor.happened)
    no_right = [one for one in judged if not one.had_right]
    return {
        "seed": seed,
        "mode": client.mode.name,
        "connections": total.ended + total.broken,
        "broken": total.broken,
        "had_right": len(judged) - len(no_right),
        "no_right": len(no_right),
        "refused": total.refused,
        "late": total.late,
        "longest_pause_s": client.longest_pause_s(),
        "causes": dict(causes(judged).most_common(8)),
        "real_verdicts": {name: count for name, count in verdicts.items() if count},
    }


def show(rows: Sequence[dict[str, Any]], modes: Sequence[Mode]) -> None:
    """A table for a person."""
    print(f"{'':<48} {'connections':>12} {'had a right':>12} {'broken without':>15}  by seed")
    for mode in modes:
        of_mode = [row for row in rows if row["mode"] == mode.name]
        sums = {
            key: sum(row[key] for row in of_mode)
            for key in ("connections", "had_right", "no_right")
        }
        by_seed = " ".join(f"{row['seed']}:{row['no_right']}" for row in of_mode)
        print(f"{mode.words:<48} {sums['connections']:>12,} {sums['had_right']:>12,}", end="")
        print(f" {sums['no_right']:>15,}  {by_seed}")


def end_in_good_order() -> None:
    """SIGTERM ends the bench as Ctrl-C does: all is taken away; a child of ours just ends."""
    ours = os.getpid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1) if os.getpid() == ours else os._exit(1))


class Teller:
    """The time line, to standard error."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._begun_s: float | None = None
        self._broken: dict[str, int] = {}

    def begin(self) -> None:
        """From now on times are those of the run."""
        self._begun_s = time.monotonic()

    def tell(self, words: str) -> None:
        """One line."""
        at = time.strftime("%H:%M:%S")
        if self._begun_s is not None:
            at += f" {time.monotonic() - self._begun_s:6.1f} s"
        print(f"{at} {words}", file=sys.stderr, flush=True)

    def progress(self, clients: Sequence[Client]) -> None:
        """What broke since the last time, if anything did."""
        for client in clients:
            name, found = client.mode.name, client.sum()
            if found.broken > self._broken.get(name, 0):
                fresh = found.broken - self._broken.get(name, 0)
                self.tell(f"    {name}: {fresh} broken, {found.broken} in all")
                self._broken[name] = found.broken


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="long connections through every change")
    parser.add_argument("--seeds", type=int, default=5, help="so many, from 1")
    parser.add_argument("--connections", type=int, default=2000, help="of each mode")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each run")
    parser.add_argument("--modes", default=",".join(MODES), help=", ".join(MODES))
    parser.add_argument("--apart", action="store_true", help="a world for each mode")
    found = parser.parse_args()
    unknown = set(found.modes.split(",")) - set(MODES)
    if unknown:
        parser.error(f"no mode {', '.join(sorted(unknown))}; there are {', '.join(MODES)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
