"""One run: the same changes and the same flows for every system, tick by tick.

Owns the order of a tick: changes first, then packets, then what ended; and how a router spreads
flows over the balancers. Returns plain figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .changes import Change, Churn, Kind, Script, write_script
from .systems import System
from .tables import Servers
from .traffic import Connections, Load

BUCKETS = 512  # of a resilient next-hop group
REPORT_S = 10.0  # between two reports of a real on the flows it holds
SAMPLE_S = 60.0  # between two looks at how the connections are spread
AGE_MARGIN_S = 60.0  # that operators add to the longest connection they know of


class Routers:
    """Which balancer each flow comes to: by the hash modulo their number, or by sticky buckets."""

    def __init__(self, balancers: int) -> None:
        self._live = list(range(balancers))
        self._buckets = np.arange(BUCKETS) % balancers

    def apply(self, change: Change) -> None:
        """A balancer left or came; a bucket moves only if it has to."""
        if change.kind is Kind.EDGE_LEAVES:
            self._live.remove(change.number)
            lost = np.flatnonzero(self._buckets == change.number)
            self._buckets[lost] = np.array(self._live)[np.arange(len(lost)) % len(self._live)]
        elif change.kind is Kind.EDGE_JOINS:
            self._live = sorted([*self._live, change.number])
            share = BUCKETS // len(self._live)
            self._buckets[:: BUCKETS // share][:share] = change.number

    def balancers(self, route: np.ndarray) -> dict[str, np.ndarray]:
        """For each way to spread, the balancer of each packet, by its flow's hash at the router."""
        by_number = np.array(self._live)[route % np.uint32(len(self._live))]
        return {"mod-N": by_number, "resilient": self._buckets[route % np.uint32(BUCKETS)]}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The setting of a run: what is served, what changes, and for how long, in ticks."""

    name: str
    load: Load
    churn: Churn
    length_s: float
    tick_s: float

    @property
    def age_s(self) -> float:
        """The VIP's `connection_age_s`."""
        return self.load.durations.longest_s + AGE_MARGIN_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One system's part of one run. Shares are of connections, or of packets, as they say."""

    system: str
    connections: int
    crashed: int
    refused: int
    broken: int
    broken_share: float  # of those whose server did not crash
    detour_share: float  # of packets
    extra_hops: float  # a packet, in the mean
    max_over_mean: float  # connections of the fullest serving server
    state_bytes: int  # of one balancer, at the end or at its largest


Builder = Callable[[World, Script, Servers, Connections], Sequence[System]]


def simulate(world: World, seed: int, build: Builder) -> list[Figures]:
    """Every system through the same run."""
    changes_rng, flows_rng = (np.random.default_rng([seed, part]) for part in range(2))
    script = write_script(world.churn, world.length_s, changes_rng)
    servers = Servers(world.churn.servers, script.universe, world.age_s)
    flows = Connections(world.load, flows_rng)
    routers = Routers(world.churn.balancers)
    systems = build(world, script, servers, flows)
    for system in systems:
        system.start()
    spread: dict[str, list[float]] = {system.name: [] for system in systems}
    pending = iter([*script.changes, None])
    change = next(pending)
    for number in range(round(world.length_s / world.tick_s)):
        now_s, until_s = number * world.tick_s, (number + 1) * world.tick_s
        while change is not None and change.at_s <= now_s:
            servers.apply(change)
            routers.apply(change)
            happen(systems, change)
            change = next(pending)
        if _is_time(until_s, world.tick_s, REPORT_S):
            for system in systems:
                system.learn(now_s)
        tick = flows.tick(now_s, world.tick_s)
        balancers = routers.balancers(flows.route[tick.packets])
        for system in systems:
            system.tick(tick, balancers)
        flows.end(tick, until_s)
        if _is_time(until_s, world.tick_s, SAMPLE_S):
            for system in systems:
                spread[system.name].append(max_over_mean(system))
    return [figures(system, spread[system.name]) for system in systems]


def happen(systems: Iterable[System], change: Change) -> None:
    """Every system hears of a change."""
    for system in systems:
        system.happen(change)


def max_over_mean(system: System) -> float:
    """The fullest serving server's connections, over the mean of all serving ones."""
    held = np.bincount(system.home[system.flows.live], minlength=len(system.servers.serving))
    serving = held[system.servers.serving]
    return float(serving.max() / serving.mean())


def figures(system: System, spread: Sequence[float]) -> Figures:
    """What a run showed of a system."""
    tally = system.tally
    packets = max(1, tally.packets)
    return Figures(
        system=system.name,
        connections=tally.begun,
        crashed=tally.crashed,
        refused=tally.refused,
        broken=tally.broken,
        broken_share=tally.broken / max(1, tally.begun - tally.crashed),
        detour_share=tally.detours / packets,
        extra_hops=tally.hops / packets,
        max_over_mean=float(np.mean(spread)) if spread else 0.0,
        state_bytes=system.state_bytes(),
    )


def _is_time(until_s: float, tick_s: float, every_s: float) -> bool:
    """Whether a multiple of `every_s` ends within this tick."""
    return until_s // every_s > (until_s - tick_s) // every_s
