"""Does what the schedule says, as operators and accidents would, several things at once.

Owns the steps of each kind of event: a generator that yields while it waits, so that others go on.
A real is taken out of its VIPs only when it has grown quiet; fleet.toml is changed by one hand at a
time; an edge gets packets when it says that it is well, and loses them shortly after it is lost.
A careful operator changes nothing by hand while an edge is not well: one whose agent is dead or
whose store is away cannot hear of the change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

from long_connections.files import WEIGHT, address
from long_connections.modes import Mode
from long_connections.router import Router
from long_connections.schedule import Event, Kind
from long_connections.verdict import Happened
from long_connections.world import World

TICK_S = 0.05
LOSS_S = 0.5  # until the router has noticed that an edge is gone
DEAD_S = 1.0  # until a killed agent is started again
SILENT_S = 10.0  # until the announcer of an edge whose agent is silent steps back, as [bgp] has it
CRASHED_S = 4.0
AWAY_S = 10.0  # of the store
LOOK_S = 0.3  # between two looks whether all edges are well
QUIET_S = 2.0  # without a connection for so long, a drained real is quiet
Steps = Iterator[None]


class Conductor:
    """One run's events. `happened` is what was done, `ends` when servers ended."""

    def __init__(
        self,
        world: World,
        router: Router,
        modes: Sequence[Mode],
        edges: Sequence[str],
        tell: Callable[[str], None],
        *,
        careful: bool,
    ) -> None:
        self.happened: list[Happened] = []
        self.ends: dict[str, list[float]] = {real: [] for real in world.wanted.reals}
        self._world = world
        self._router = router
        self._modes = modes
        self._alive = set(edges)
        self._routed = list(edges)
        self._behind: set[str] = set()  # of these, which stepped back
        self._jobs: list[Steps] = []
        self._is_careful = careful
        self._is_editing = False
        self._operators = ThreadPoolExecutor()
        self._tell = tell
        self._verbs: dict[Kind, Callable[[Event], Steps]] = {
            Kind.ADD_REAL: self._add_real,
            Kind.DRAIN_REAL: self._drain_real,
            Kind.CRASH_REAL: self._crash_real,
            Kind.CHANGE_WEIGHT: self._change_weight,
            Kind.KILL_EDGE: self._kill_edge,
            Kind.ADD_EDGE: self._add_edge,
            Kind.RESTART_EDGE: self._restart_agent,
            Kind.RESTART_REAL: self._restart_agent,
            Kind.RESHUFFLE: self._reshuffle,
            Kind.LOSE_STORE: self._lose_store,
        }

    @property
    def alive(self) -> frozenset[str]:
        """The edges that there are."""
        return frozenset(self._alive)

    def lead(self) -> None:
        """Routes to the edges that get packets now."""
        first = [edge for edge in self._routed if edge not in self._behind]
        gateways = [address(edge) for edge in first or self._routed]
        for mode in self._modes:
            if mode.resilient:
                self._router.lead_resiliently(mode.address, gateways)
            else:
                self._router.lead(mode.address, gateways)

    def run(self, events: Sequence[Event], seconds: float, each_second: Callable[[], None]) -> None:
        """All events at their times, until the time is up; what then still waits is left."""
        begun_s = time.monotonic()
        due = list(events)
        seconds_told = 0
        while (at_s := time.monotonic() - begun_s) < seconds:
            while due and due[0].at_s <= at_s:
                event = due.pop(0)
                self._jobs.append(self._verbs[event.kind](event))
            self._jobs = [job for job in self._jobs if self._goes_on(job)]
            if at_s > seconds_told:
                seconds_told += 1
                each_second()
            time.sleep(TICK_S)

    def _goes_on(self, job: Steps) -> bool:
        return next(job, self) is not self

    def _note(self, what: str, detail: str = "") -> None:
        self.happened.append(Happened(at_s=time.monotonic(), what=what))
        self._tell(f"{what} {detail}".rstrip())

    def _note_event(self, event: Event) -> None:
        self._note(event.kind, event.detail)

    # ---- waiting ----

    def _pause(self, seconds: float) -> Steps:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            yield

    def _until(self, held: Callable[[], bool]) -> Steps:
        while not held():
            yield

    def _ask(self, host: str, route: str, **params: str) -> Generator[None, None, bool]:
        """Whether a daemon has done it; one that is not there yet has not."""
        answer = self._operators.submit(self._world.ask, host, route, params)
        while not answer.done():
            yield
        if isinstance(answer.exception(), OSError):
            return False
        answer.result()
        return True

    def _all_well(self) -> Steps:
        """A careful operator waits for it."""
        while self._is_careful and not (yield from self._look()):
            yield from self._pause(LOOK_S)

    def _look(self) -> Generator[None, None, bool]:
        """Whether every edge is well."""
        edges = sorted(self._alive)
        looks = [self._operators.submit(self._world.is_well, edge) for edge in edges]
        while not all(look.done() for look in looks):
            yield
        return all(look.result() for look in looks)

    def _operate(self, route: str, real: str) -> Steps:
        """By the first edge that does it."""
        yield from self._all_well()
        while True:
            for edge in sorted(self._alive):
                if (yield from self._ask(edge, route, name=real, reason="long connections")):
                    return
                yield

    def _is_ready(self, edge: str) -> bool:
        """A new edge is led to when the announcer would announce it, and when it has judged all."""
        world = self._world
        return world.is_well(edge) and world.has_joined(edge) and world.knows_all(edge)

    # ---- the configuration ----

    def _edit(self, change: Callable[[], None], *, adds: bool) -> Steps:
        """Change fleet.toml, and have it read: by reals before edges that will name a new one.

        A real hands packets on to those alone whom it knows.
        """
        yield from self._until(lambda: not self._is_editing)
        self._is_editing = True
        yield from self._all_well()
        change()
        self._world.rewrite_fleet()
        edges, reals = sorted(self._alive), self._world.wanted.reals
        for host in (*reals, *edges) if adds else (*edges, *reals):
            yield from self._reload(host)
        self._is_editing = False

    def _reload(self, host: str) -> Steps:
        while host in self._alive or host in self._world.wanted.reals:
            if (yield from self._ask(host, "/reload")):
                return
            yield

    # ---- events ----

    def _add_real(self, event: Event) -> Steps:
        self._note_event(event)
        serving = self._world.wanted.serving
        yield from self._edit(lambda: serving.append(event.who), adds=True)

    def _drain_real(self, event: Event) -> Steps:
        self._note_event(event)
        yield from self._operate("/real/drain", event.who)
        quiet_since_s = time.monotonic()
        while time.monotonic() - quiet_since_s < QUIET_S:
            if self._world.held(event.who):
                quiet_since_s = time.monotonic()
            yield
        self._note("real removed", event.who)
        serving = self._world.wanted.serving
        yield from self._edit(lambda: serving.remove(event.who), adds=False)
        yield from self._operate("/real/undrain", event.who)

    def _crash_real(self, event: Event) -> Steps:
        self._world.end(f"{event.who}-server")
        self.ends[event.who].append(time.monotonic())
        self._note_event(event)
        yield from self._pause(CRASHED_S)
        self._world.start_server(event.who)
        self._note("server started", event.who)

    def _change_weight(self, event: Event) -> Steps:
        was = self._world.wanted.weights.get(event.who, WEIGHT)
        self._note(event.kind, f"{event.detail}, was {was}")
        weights = self._world.wanted.weights
        yield from self._edit(lambda: weights.update({event.who: event.number}), adds=False)

    def _kill_edge(self, event: Event) -> Steps:
        self._alive.discard(event.who)
        self._world.kill_edge(event.who)
        self._note_event(event)
        yield from self._pause(LOSS_S)
        if event.who in self._routed:
            self._routed.remove(event.who)
            self.lead()
            self._note("route withdrawn", event.who)

    def _add_edge(self, event: Event) -> Steps:
        self._note_event(event)
        self._world.add_edge(event.who)
        self._alive.add(event.who)
        yield from self._until(lambda: event.who not in self._alive or self._is_ready(event.who))
        if event.who not in self._alive:
            return
        self._routed.append(event.who)
        self.lead()
        self._note("route announced", event.who)

    def _restart_agent(self, event: Event) -> Steps:
        self._world.end(event.who)
        self._note_event(event)
        silent_since_s = time.monotonic()
        yield from self._pause(DEAD_S)
        if event.who not in self._world.wanted.edges or event.who in self._alive:
            self._world.start_agent(event.who)
            while not self._world.is_well(event.who):
                if event.who in self._alive and self._world.speaks(event.who):
                    silent_since_s = time.monotonic()
                elif time.monotonic() - silent_since_s >= SILENT_S:
                    self._step_back(event.who)
                yield
            self._note("agent well", event.who)
            yield from self._step_forward(event.who)

    def _step_back(self, edge: str) -> None:
        """The routers prefer other edges."""
        if edge in self._routed and edge not in self._behind:
            self._behind.add(edge)
            self.lead()
            self._note("route stepped back", edge)

    def _step_forward(self, edge: str) -> Steps:
        """When the agent knows the histories."""
        if edge in self._behind:
            yield from self._until(lambda: edge not in self._alive or self._is_ready(edge))
            self._behind.discard(edge)
            self.lead()
            self._note("route announced", edge)

    def _reshuffle(self, event: Event) -> Steps:
        Random(event.number).shuffle(self._routed)
        self.lead()
        self._router.rehash(event.number)
        self._note_event(event)
        yield

    def _lose_store(self, event: Event) -> Steps:
        self._world.end("redis")
        self._note_event(event)
        yield from self._pause(AWAY_S)
        self._world.start_store()
        self._note("store back")
