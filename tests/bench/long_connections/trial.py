"""One run: a world, connections of every mode in it, what happens meanwhile, and what came of it.

Owns the order: build, wait until all is well, open, conduct, close in good order, judge. Used by
bench_long_connections.py with the events of a seed, and by the tests with a few of their own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from long_connections.clients import Client, Lives, Sum
from long_connections.conductor import Conductor
from long_connections.evidence import Witness
from long_connections.files import Wanted
from long_connections.modes import OURS, Mode
from long_connections.router import Router
from long_connections.schedule import Event
from long_connections.verdict import Happened, Judged, judge
from long_connections.world import BRIDGE, World

SLACK_S = 20.0  # of a connection's closing, which may wait for lost packets
SETTLE_S = 2.0
EXPLAINED = 20  # broken connections of each mode, in words
OPEN_SHARE = 0.9  # of the connections, when the run begins: the rest are between two lives


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried: `reals` and `edges` serve at first, the spare ones may be added."""

    modes: Sequence[Mode]
    lives: Lives
    reals: Sequence[str]
    edges: Sequence[str]
    spare_reals: Sequence[str] = ()
    spare_edges: Sequence[str] = ()
    seed: int = 1
    careful: bool = True  # the operator
    prefix: str = "lr-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one mode. For all modes of its world: `verdicts` are packets by what reals did with them,
    `held_for_dead` is how often an edge held a real for dead that was only slow.
    """

    mode: Mode
    total: Sum
    judged: tuple[Judged, ...]
    longest_pause_s: float
    happened: tuple[Happened, ...]
    verdicts: Mapping[str, int]
    held_for_dead: int

    @property
    def without_right(self) -> tuple[Judged, ...]:
        """Those that broke and should not have."""
        return tuple(one for one in self.judged if not one.had_right)


def hold_through(trial: Trial, events: Sequence[Event], seconds: float) -> list[Outcome]:
    """What became of each mode's connections."""
    wanted = Wanted(
        modes=trial.modes,
        edges=(*trial.edges, *trial.spare_edges),
        reals=(*trial.reals, *trial.spare_reals),
        serving=list(trial.reals),
        longest_s=trial.lives.longest_s + SLACK_S,
    )
    told = Teller()
    told.tell(f"seed {trial.seed}, {len(events)} events; building the world")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        closing(World(Path(folder), wanted, trial.edges, prefix=trial.prefix)) as world,
    ):
        router = Router(world.namespace("router"), BRIDGE)
        conductor = Conductor(
            world, router, trial.modes, trial.edges, told.tell, careful=trial.careful
        )
        world.wait(lambda: all(map(world.is_well, (*trial.edges, *wanted.reals))))
        world.wait(lambda: all(map(world.knows_all, trial.edges)))
        conductor.lead()
        told.tell(f"opening {trial.lives.count} connections a mode")
        clients = [Client(world, mode, trial.lives, trial.seed) for mode in trial.modes]
        time.sleep(trial.lives.ramp_s + SETTLE_S)
        _need_all_open(clients, trial.lives.count)
        told.begin()
        witness = Witness(world, lambda: conductor.alive)

        def each_second() -> None:
            told.progress(clients)
            _look(witness, clients, conductor)

        conductor.run(events, seconds, each_second)
        told.tell("closing all connections")
        for client in clients:
            client.stop()
        for client in clients:
            client.wait()
            world.end(client.name)
        world.wait(lambda: all(map(world.is_well, wanted.reals)))  # an agent may be starting yet
        verdicts = _verdicts(world)
        outcomes = [
            Outcome(
                mode=client.mode,
                total=client.sum(),
                judged=judge(client.broken(), conductor.ends, conductor.happened),
                longest_pause_s=client.longest_pause_s(),
                happened=tuple(conductor.happened),
                verdicts=verdicts,
                held_for_dead=world.held_for_dead(),
            )
            for client in clients
        ]
        for outcome in outcomes:
            told.explain(outcome, witness)
        return outcomes


def _need_all_open(clients: Sequence[Client], connections: int) -> None:
    for client in clients:
        found = client.sum()
        if found.open < OPEN_SHARE * connections or found.broken:
            raise RuntimeError(f"{client.mode.name} begins with {found}")


def _look(witness: Witness, clients: Sequence[Client], conductor: Conductor) -> None:
    """At what seems about to break without a right, and at what just did."""
    for client in clients:
        if client.mode.name not in OURS:
            continue
        for port in client.worries():
            witness.look(client.mode, port, passing=True)
        for one in judge(client.broken(), conductor.ends, conductor.happened):
            if not one.had_right:
                witness.look(client.mode, one.broken.port, passing=False)


def _verdicts(world: World) -> dict[str, int]:
    found: Counter[str] = Counter()
    for real in world.wanted.reals:
        for counter in world.ask(real, "/drops")["counters"]:
            found[counter["name"]] += counter["packets"]
    return dict(found)


class Teller:
    """The time line, to standard error."""

    def __init__(self) -> None:
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

    def explain(self, outcome: Outcome, witness: Witness) -> None:
        """The first connections that broke without a right: whose, when, and what was seen."""
        begun_s = self._begun_s or 0.0
        for one in outcome.without_right[:EXPLAINED]:
            times = f"{one.broken.opened_s - begun_s:.2f} s to {one.broken.ended_s - begun_s:.2f} s"
            where = one.broken.real or "nobody yet"
            self.tell(f"    {outcome.mode.name}: at {where}, {times}: {one.why}")
            for line in witness.found(outcome.mode, one.broken.port):
                self.tell(f"        {line}")

    def progress(self, clients: Sequence[Client]) -> None:
        """What broke since the last time, if anything did."""
        for client in clients:
            name, found = client.mode.name, client.sum()
            if found.broken > self._broken.get(name, 0):
                fresh = found.broken - self._broken.get(name, 0)
                self.tell(f"    {name}: {fresh} broken, {found.broken} in all")
                self._broken[name] = found.broken
