"""What a plan costs whose VIP remembers many turns of its ring, and what the memory itself takes.

One VIP of 468 reals, of which one leaves or comes back at each turn, at random moments by a printed
seed. For each number of turns: the history as JSON, the sets of members that two edges' time lines
tell (`eras`), the chains of the next turn, those of a report of flows alone, and those of an
agent's first plan, which builds every ring anew. CPU time of one core.

    python tests/bench/bench_chains.py            # a few minutes
    python tests/bench/bench_chains.py --quick    # a proof: one short history, one round

Prints one JSON object at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from math import inf

from bpf.compile import compile_stale
from edge_lb.history import Present, last_members, unwritten, write_down
from edge_lb.owners import Era, alive, chain, eras
from edge_lb.rendezvous import Member
from edge_lb.rings import Rings, Weights, weights_of
from gslb.fleet.history import EdgeHistory
from gslb.fleet.store import Reading, encode

SEED = 20_261_123
REALS, AWAY = 468, 8
TURNS = (64, 256, 1024, 2048)
ROUNDS = 7
AGE_S = 3600.0
NOW_S = 1_800_000_000.0
NAMES = [f"web-{number:03}" for number in range(REALS)]
SEATS = {name: number for number, name in enumerate(NAMES, 1)}


class World:
    """A VIP whose reals leave and come back, and the time line that an edge writes of it."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self._away: list[str] = []
        self.history = unwritten("fra", "edge1")
        self.write(NOW_S)

    def turn(self, now_s: float) -> None:
        """One real leaves, or the first that left comes back."""
        if len(self._away) >= AWAY or (self._away and self._random.random() < 0.5):
            self._away.pop(0)
        else:
            here = [name for name in NAMES if name not in self._away]
            self._away.append(self._random.choice(here))
        self.write(now_s)

    def write(self, now_s: float) -> None:
        """What the ring is made of now."""
        present = {"web": Present(weights=self.weights, age_s=AGE_S)}
        self.history = write_down(self.history, present, now_s).history

    @property
    def weights(self) -> Weights:
        """Who serves."""
        return weights_of({name: 100 for name in NAMES if name not in self._away})

    def eras(self) -> tuple[Era, ...]:
        """As two edges tell them, that saw all of it alike."""
        (line,) = self.history.vips
        return eras([(line, inf), (line, inf)])

    def chain(self, rings: Rings, past: tuple[Era, ...]) -> int:
        """The chains of now; how many entries will end by age."""
        members = tuple(Member(name=n, weight=w, index=SEATS[n]) for n, w in self.weights)
        some = alive(past, self.weights, now_s=NOW_S, age_s=AGE_S)
        made = chain(rings.ring(members), some, SEATS, depth=3, age_s=AGE_S, rings=rings)
        return sum(entries for _, entries in made.ends)


def measured(turns: int, rounds: int) -> dict[str, object]:
    """Of a history of so many turns."""
    world = World()
    for number in range(turns):
        world.turn(NOW_S - AGE_S / 2 + number)
    rings = Rings()
    past = world.eras()
    first_ms = took_ms(lambda: world.chain(rings, past))
    found: dict[str, list[float]] = {"eras": [], "next_turn": [], "no_turn": [], "last": []}
    for number in range(rounds):
        world.turn(NOW_S - AGE_S / 2 + turns + number)
        found["eras"].append(took_ms(world.eras))
        found["last"].append(took_ms(lambda: last_members(world.history.vips[0])))
        past = world.eras()
        for kind in ("next_turn", "no_turn"):
            found[kind].append(took_ms(partial(world.chain, rings, past)))
    body = encode(world.history)
    return {
        "turns": len(world.history.vips[0].turns),
        "eras": len(past),
        "entries": world.chain(rings, past),
        "json_octets": len(body),
        "read_ms": round(took_ms(lambda: read(body, world.history)), 2),
        "first_plan_ms": round(first_ms, 1),
        **{f"{name}_ms": spread(values) for name, values in found.items()},
    }


def read(body: bytes, wanted: EdgeHistory) -> None:
    """As a store gives it."""
    (found,) = Reading().contents([], [], [body]).histories
    if found != wanted:
        raise SystemExit("a history came back otherwise")


def took_ms(work: Callable[[], object]) -> float:
    """CPU time."""
    started_s = time.process_time()
    work()
    return (time.process_time() - started_s) * 1e3


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": round(statistics.median(values), 2),
        "lowest": round(min(values), 2),
        "highest": round(max(values), 2),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="what many turns of a history cost a plan")
    parser.add_argument("--quick", action="store_true", help="one short history, one round: proof")
    is_quick = parser.parse_args().quick
    compile_stale()
    print(f"seed {SEED}, {REALS} reals", file=sys.stderr, flush=True)
    rows = []
    for turns in TURNS[:1] if is_quick else TURNS:
        print(f"{turns} turns", file=sys.stderr, flush=True)
        rows.append(measured(turns, 1 if is_quick else ROUNDS))
    print(json.dumps({"bench": "chains", "reals": REALS, "rows": rows}))


if __name__ == "__main__":
    main()
