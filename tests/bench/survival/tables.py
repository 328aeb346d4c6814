"""Who is meant to get new connections, and the tables that follow from it.

Owns `Servers`, which every system reads: the ring that edges give the serving ones and the history
that an edge writes down of them, by the very code that edges run (`edge_lb.rings`,
`edge_lb.history`), and the ring of Maglev hashing; and the rows of rendezvous hashing, for the
systems of others that use it. In tables a server is its number + 1, and 0 is nobody.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from edge_lb.history import Present, unwritten, write_down
from edge_lb.rings import Rings, weights_of

from .changes import Change, Kind
from .maglev import maglev_ring

RING_SLOTS = len(Rings().shape(()))  # of the ring that edges have, and of rows
VIP_NAME, WEIGHT = "web", 100
RANKED = 48  # servers kept of each row, the best first: all others of it are never asked for
NEAR = 6  # of them, among which the best that serves is found in nearly every row
ROWS_AT_ONCE = 4096


class Servers:
    """Which servers serve, drain or are down, what rings the serving ones give, and gave before.

    `age_s`: how long a connection may live, which says how long a history is of use.
    """

    def __init__(self, count: int, universe: int, age_s: float) -> None:
        self.age_s = age_s
        self.serving = np.zeros(universe + 1, bool)
        self.serving[1 : count + 1] = True
        self.down = np.zeros(universe + 1, bool)
        self._rings = Rings(shapes_max=0)
        self.history = unwritten("fra", "edge1")
        self._build(0.0)

    def apply(self, change: Change) -> bool:
        """Whether the rings are others now."""
        server = change.number + 1
        if change.kind in {Kind.DRAIN, Kind.RETIRE, Kind.CRASH}:
            self.serving[server] = False
            self.down[server] = change.kind is Kind.CRASH
        elif change.kind in {Kind.RETURN, Kind.JOIN}:
            self.serving[server], self.down[server] = True, False
        else:
            return False
        self._build(change.at_s)
        return True

    def members(self) -> dict[str, int]:
        """Names and weights of the serving, as a ring is made of."""
        return {name_of(int(server)): WEIGHT for server in np.flatnonzero(self.serving)}

    def kept_s(self) -> float:
        """Who lost a slot before that moment is not told by the history any more."""
        turns = self.history.vips[0].turns
        return turns[0].at_s if turns else 0.0

    def _build(self, now_s: float) -> None:
        numbers = {name_of(int(server)): int(server) for server in np.flatnonzero(self.serving)}
        weights = weights_of(self.members())
        present = {VIP_NAME: Present(weights=weights, age_s=self.age_s)}
        self.history = write_down(self.history, present, now_s).history
        seats = np.array([0, *(numbers[name] for name, _ in weights)], np.uint16)
        self.ring = seats[np.frombuffer(self._rings.shape(weights), np.uint16)]
        self.maglev = maglev_ring(list(numbers.values()))


@cache
def name_of(server: int) -> str:
    """The name that the ring follows."""
    return f"real{server}"


class Rendezvous:
    """Each row's servers by their score, best first: the same whoever serves."""

    def __init__(self, universe: int) -> None:
        self.order = _ranked(universe)
        flat = np.argsort(self.order, axis=None, kind="stable")
        servers = self.order.ravel()[flat]
        edges = np.searchsorted(servers, np.arange(universe + 2))
        self._rows = (flat // self.order.shape[1]).astype(np.int32)
        self._edges = edges

    def rows_with(self, server: int) -> np.ndarray:
        """The rows that this server may win."""
        return self._rows[self._edges[server] : self._edges[server + 1]]

    def best(self, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The place, in each row, of its best server of those `wanted`."""
        near = wanted[self.order[rows, :NEAR]]
        places = near.argmax(axis=1)
        far = np.flatnonzero(~near[np.arange(len(rows)), places])
        places[far] = wanted[self.order[rows[far]]].argmax(axis=1)
        return places


@lru_cache(maxsize=1)
def _ranked(universe: int) -> np.ndarray:
    """RANKED servers for each of RING_SLOTS rows."""
    keep = min(RANKED, universe)
    ranked = np.zeros((RING_SLOTS, keep), np.uint16)
    servers = _mixed(np.arange(1, universe + 1, dtype=np.uint32), 0x9E3779B1)
    for first in range(0, RING_SLOTS, ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, RING_SLOTS), dtype=np.uint32)
        scores = _mixed(_mixed(rows, 0x85EBCA77)[:, None] ^ servers[None, :], 0xC2B2AE3D)
        best = np.argpartition(scores, universe - keep, axis=1)[:, universe - keep :]
        places = np.argsort(np.take_along_axis(scores, best, axis=1), axis=1)[:, ::-1]
        ranked[rows] = np.take_along_axis(best, places, axis=1) + 1
    return ranked


def _mixed(values: np.ndarray, factor: int) -> np.ndarray:
    """A hash of 32 bits, good enough that every server wins its share of rows."""
    mixed = (values ^ values >> np.uint32(16)) * np.uint32(factor)
    mixed = (mixed ^ mixed >> np.uint32(13)) * np.uint32(0x27D4EB2F)
    return mixed ^ mixed >> np.uint32(16)
