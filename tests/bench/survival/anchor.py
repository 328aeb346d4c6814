"""JET's published run, made again: 468 servers, a horizon of 70, 25,000 flows remembered, 1,000 s.

The anchor that tells whether the rest can be trusted. Owns the traffic of JET's own simulator,
which differs from `traffic`: durations and sizes are drawn in steps, nothing is there at the
start, a connection is looked at when it begins and ends and, if it sent something since, at each
change; a server that leaves takes its connections with it, and the first of the horizon comes in.
What ended is forgotten. Both systems choose by the same rendezvous table, one with a memory of all
flows, one as JET. Published for one seed: 4,687,530 connections, of which full tracking broke
7,417 and JET none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .lru import FlowMemories
from .tables import RING_SLOTS, Rendezvous
from .traffic import HADOOP_S

PIECE = 500  # looks, of 4,700 connections a second: a tenth of a second
PUBLISHED = {"connections": 4_687_530, "full tracking": 7_417, "JET": 0}

# Packets of a connection (share of connections, packets), by the Hadoop sizes at 100 bytes each
PACKETS = (
    (0.0037, 2),
    (0.0445, 3),
    (0.204, 4),
    (0.262, 5),
    (0.31, 6),
    (0.458, 7),
    (0.584, 9),
    (0.625, 14),
    (0.66, 18),
    (0.707, 76),
    (0.716, 323),
    (0.75, 456),
    (0.813, 505),
    (0.829, 729),
    (0.87, 841),
    (0.955, 2_802),
    (0.978, 13_205),
    (1.0, 500_000),
)

# Seconds until another server comes in (share, seconds)
AWAY_S = (
    (0.0068, 60.0),
    (0.0433, 120.8),
    (0.215, 130.7),
    (0.3868, 141.5),
    (0.5585, 153.1),
    (0.7303, 165.7),
    (0.9021, 179.3),
    (0.9658, 304.8),
    (0.9818, 671.7),
    (1.0, 20_534.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The parameters of that run."""

    servers: int = 468
    horizon: int = 70
    capacity: int = 936  # servers that there may ever be
    concurrent: int = 100_000
    memory: int = 25_000
    per_minute: float = 10.0
    length_s: float = 1000.0
    last_out_first_in: bool = True  # as AnchorHash seats them; else the first of the horizon comes


def stepped(points: tuple[tuple[float, float], ...], chance: np.ndarray) -> np.ndarray:
    """The first point above each chance."""
    shares, values = zip(*points, strict=True)
    return np.array(values)[np.searchsorted(shares, chance, side="right")]


class Tracker:
    """A rendezvous table with a memory: of all flows, or of those the horizon may take."""

    def __init__(self, flows: int, memory: int) -> None:
        self.memory = FlowMemories(flows, 1, memory)
        self.broken = 0

    def look(
        self, flows: np.ndarray, table: np.ndarray, home: np.ndarray, track: np.ndarray
    ) -> np.ndarray:
        """Packets of these flows, in order; those that came to a wrong server."""
        chosen = self.memory.touch(0, flows, table, track)
        return flows[chosen != home]


class Run:
    """One run of it. `lost` are the connections that each way of tracking broke."""

    def __init__(self, setting: Published, seed: int) -> None:
        self._setting, self._rng = setting, np.random.default_rng(seed)
        shares, seconds = (np.array(column) for column in zip(*HADOOP_S, strict=True))
        mean_s = float((np.diff(shares, prepend=0.0) * seconds).sum())
        rate = setting.concurrent / mean_s
        count = int(self._rng.poisson(rate * setting.length_s))
        self.connections = count
        self._begin_s = np.sort(self._rng.random(count)) * setting.length_s
        self._end_s = self._begin_s + stepped(HADOOP_S, self._rng.random(count))
        self._left = stepped(PACKETS, self._rng.random(count)).astype(np.int64)
        self._seen_s = self._begin_s.copy()
        self._slot = self._rng.integers(0, RING_SLOTS, count)
        self._home = np.zeros(count, np.uint16)
        self._serving_order = list(range(1, setting.servers + 1))
        self._away = list(range(setting.servers + 1, setting.capacity + 1))
        self._rows = Rendezvous(setting.capacity)
        self._serving, self._horizon = (np.zeros(setting.capacity + 1, bool) for _ in range(2))
        self._serving[self._serving_order] = True
        self._table = np.zeros(RING_SLOTS, np.uint16)
        self._unsafe = np.zeros(RING_SLOTS, bool)
        self._decide()
        self._ways = {name: Tracker(count, setting.memory) for name in ("full tracking", "JET")}
        self.lost: dict[str, int] = {}

    def run(self) -> dict[str, int]:
        """Connections that each way broke, of those whose server had not left."""
        setting, rng = self._setting, self._rng
        was_lost = {name: np.zeros(self.connections, bool) for name in self._ways}
        live, begun, now_s = np.zeros(0, np.int64), 0, 0.0
        for at_s, is_new in [*self._script(), (setting.length_s, None)]:
            until = int(np.searchsorted(self._begin_s, at_s, side="right"))
            born = np.arange(begun, until)
            live = self._begin_and_end(live, born, now_s, at_s, was_lost)
            begun, now_s = until, at_s
            if is_new is None:
                break
            if is_new:
                self._come()
            else:
                live = live[self._home[live] != self._go()]
            self._decide()
            spoke = rng.permutation(self._spoke(live, at_s))
            self._look(spoke, was_lost)
        self.lost = {name: int(lost.sum()) for name, lost in was_lost.items()}
        return self.lost

    def _script(self) -> list[tuple[float, bool]]:
        """When a server leaves, and when one comes."""
        found, at_s, rng = [(0.0, False)], 0.0, self._rng
        while at_s < self._setting.length_s:
            found.append((at_s + float(stepped(AWAY_S, rng.random(1))[0]), True))
            at_s += rng.exponential(60 / self._setting.per_minute)
            found.append((at_s, False))
        return sorted(change for change in found if change[0] < self._setting.length_s)

    def _begin_and_end(
        self,
        live: np.ndarray,
        born: np.ndarray,
        from_s: float,
        until_s: float,
        was_lost: dict[str, np.ndarray],
    ) -> np.ndarray:
        """Looks at each that begins or ends, in order of time; who is live then."""
        self._home[born] = self._table[self._slot[born]]
        everyone = np.concatenate([live, born])
        ends = everyone[self._end_s[everyone] <= until_s]
        flows = np.concatenate([born, ends])
        times = np.concatenate([self._begin_s[born], self._end_s[ends]])
        is_end = np.arange(len(flows)) >= len(born)
        order = np.argsort(times, kind="stable")
        flows, is_end = flows[order], is_end[order]
        # Few end between two changes that the memory's bound would have dropped before: in pieces.
        for first in range(0, len(flows), PIECE):
            piece, ended = flows[first : first + PIECE], is_end[first : first + PIECE]
            self._look(piece, was_lost)
            for way in self._ways.values():
                way.memory.forget(piece[ended])
        return everyone[self._end_s[everyone] > until_s]

    def _look(self, flows: np.ndarray, was_lost: dict[str, np.ndarray]) -> None:
        slots, home = self._slot[flows], self._home[flows]
        for name, way in self._ways.items():
            track = self._unsafe[slots] if name == "JET" else np.ones(len(flows), bool)
            was_lost[name][way.look(flows, self._table[slots], home, track)] = True

    def _spoke(self, live: np.ndarray, now_s: float) -> np.ndarray:
        """Those that sent something since they were looked at."""
        share = (now_s - self._seen_s[live]) / (self._end_s[live] - self._seen_s[live])
        packets = self._rng.binomial(self._left[live], np.clip(share, 0.0, 1.0))
        self._left[live] -= packets
        self._seen_s[live] = now_s
        return live[packets > 0]

    def _go(self) -> int:
        """A server leaves, to be the first to come again. Its number."""
        order = self._serving_order
        gone = order.pop(int(self._rng.integers(len(order))))
        self._away.append(gone)
        self._serving[gone] = False
        return gone

    def _come(self) -> None:
        """The last that left, or the one that is away for longest."""
        come = self._away.pop(-1 if self._setting.last_out_first_in else 0)
        self._serving_order.append(come)
        self._serving[come] = True

    def _decide(self) -> None:
        every = np.arange(RING_SLOTS)
        near = self._setting.horizon
        next_ones = self._away[-near:] if self._setting.last_out_first_in else self._away[:near]
        self._horizon[:] = False
        self._horizon[next_ones] = True
        present = self._rows.best(every, self._serving)
        coming = self._rows.best(every, self._serving | self._horizon)
        self._table[:] = self._rows.order[every, present]
        self._unsafe[:] = coming < present
