"""Balancers that keep no flows: mod-N, Maglev, and GLB with its second chance.

Owns the frame that all systems share, and what each does with a packet. A system says where new
connections go and at which candidate an old one's packet arrives; `run` asks it. Pure but for the
state of the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from .changes import Change, Kind
from .maglev import MAGLEV_SLOTS
from .tables import RING_SLOTS, Rendezvous, Servers
from .traffic import Connections, Tick

LOST = -1  # no candidate has the connection
RING_BYTES = 2 * MAGLEV_SLOTS


@dataclass(slots=True)
class Tally:
    """What happened to the connections of one system."""

    begun: int = 0
    refused: int = 0  # new ones that were led to a server that is down
    crashed: int = 0  # their server died: a right to break
    broken: int = 0
    packets: int = 0
    detours: int = 0  # packets that arrived at another candidate than the first
    hops: int = 0  # that they took more


class System(ABC):
    """One kind of balancer, with its own idea of who holds which connection."""

    def __init__(self, name: str, servers: Servers, flows: Connections) -> None:
        self.name, self.servers, self.flows = name, servers, flows
        self.tally = Tally()
        self.home = np.zeros(flows.pool, np.uint16)  # who holds it; 0: nobody any more

    def start(self) -> None:
        """The flows that are there before the first change."""
        self.home[self.flows.live] = self.place(self.flows.live)
        self.tally.begun += len(self.flows.live)

    def happen(self, change: Change) -> None:
        """After `servers` know of it."""
        if change.kind is Kind.CRASH:
            died = self.flows.live[self.home[self.flows.live] == change.number + 1]
            self.home[died] = 0
            self.tally.crashed += len(died)
        self.adapt(change)

    def tick(self, tick: Tick, balancers: dict[str, np.ndarray]) -> None:
        """New flows find their server, and old ones find it again, or are lost."""
        home = self.place(tick.born)
        is_refused = (home == 0) | self.servers.down[home]
        self.home[tick.born] = np.where(is_refused, 0, home)
        self.tally.begun += len(tick.born) - int(is_refused.sum())
        self.tally.refused += int(is_refused.sum())
        self.tally.packets += len(tick.born) - int(is_refused.sum())
        self.follow(tick, balancers)

    def follow(self, tick: Tick, _balancers: dict[str, np.ndarray]) -> None:
        """Every older flow that spoke, once: between two changes all its packets go one way."""
        is_alive = self.home[tick.spoke] != 0
        spoke, counts = tick.spoke[is_alive], tick.counts[is_alive]
        arrived_at = self.arrive(spoke)
        is_lost = arrived_at == LOST
        self.lose(spoke[is_lost])
        self.count(arrived_at[~is_lost], counts[~is_lost])

    def lose(self, flows: np.ndarray) -> None:
        """These broke, and had no right to."""
        self.home[flows] = 0
        self.tally.broken += len(flows)

    def count(self, arrived_at: np.ndarray, packets: np.ndarray) -> None:
        """Packets that arrived, by the number of their candidate."""
        self.tally.packets += int(packets.sum())
        self.tally.detours += int(packets[arrived_at > 0].sum())
        self.tally.hops += int((packets * arrived_at).sum())

    def learn(self, now_s: float) -> None:
        """Reports of the reals arrived."""
        _ = now_s  # most systems have none

    @abstractmethod
    def adapt(self, change: Change) -> None:
        """Make the tables anew."""

    @abstractmethod
    def place(self, flows: np.ndarray) -> np.ndarray:
        """The server of each new connection; 0: none."""

    def arrive(self, flows: np.ndarray) -> np.ndarray:
        """The candidate, from 0, that has each flow; LOST."""
        return np.where(self.place(flows) == self.home[flows], 0, LOST)

    @abstractmethod
    def state_bytes(self) -> int:
        """What one balancer has to keep."""


class ModN(System):
    """The hash modulo the number of servers: what a router's ECMP does."""

    def __init__(self, servers: Servers, flows: Connections) -> None:
        super().__init__("mod-N", servers, flows)
        self._list = np.flatnonzero(servers.serving).astype(np.uint16)

    def adapt(self, change: Change) -> None:
        self._list = np.flatnonzero(self.servers.serving).astype(np.uint16)

    def place(self, flows: np.ndarray) -> np.ndarray:
        return self._list[self.flows.hash[flows] % np.uint64(len(self._list))]

    def state_bytes(self) -> int:
        return 2 * len(self._list)


class Maglev(System):
    """The ring alone."""

    def __init__(self, servers: Servers, flows: Connections) -> None:
        super().__init__("Maglev", servers, flows)

    def adapt(self, change: Change) -> None:
        """The ring is the servers'."""

    def place(self, flows: np.ndarray) -> np.ndarray:
        return self.servers.maglev[self.flows.maglev_slot[flows]]

    def state_bytes(self) -> int:
        return RING_BYTES


class Glb(System):
    """A primary and a secondary in each row, by rendezvous among all that are in the table.

    A row whose primary is worse off than its secondary (serving, draining, down) has them swapped.
    Servers that are drained or down stay in the table, as its rule asks until the longest
    connection is over; only one that joins makes others leave rows.
    """

    ROW_BYTES = 8  # two IPv4 addresses

    def __init__(self, servers: Servers, flows: Connections, rows: Rendezvous) -> None:
        super().__init__("GLB", servers, flows)
        self._rows = rows
        self._in_table = servers.serving.copy()
        self._pairs = np.zeros((RING_SLOTS, 2), np.uint16)
        self._first = np.zeros((2, RING_SLOTS), np.uint16)
        self._rank(np.arange(RING_SLOTS))

    def adapt(self, change: Change) -> None:
        server = change.number + 1
        if change.kind in {Kind.DRAIN, Kind.RETIRE, Kind.CRASH, Kind.RETURN}:
            self._swap(np.flatnonzero((self._pairs == server).any(axis=1)))
        elif change.kind is Kind.JOIN:
            self._in_table[server] = True
            self._rank(self._rows.rows_with(server))

    def place(self, flows: np.ndarray) -> np.ndarray:
        return self._first[0][self.flows.slot[flows]]

    def arrive(self, flows: np.ndarray) -> np.ndarray:
        slots, home = self.flows.slot[flows], self.home[flows]
        first, second = self._first[0][slots], self._first[1][slots]
        has_second = (second == home) & ~self.servers.down[first]
        return np.where(first == home, 0, np.where(has_second, 1, LOST))

    def state_bytes(self) -> int:
        return self.ROW_BYTES * RING_SLOTS

    def _rank(self, rows: np.ndarray) -> None:
        """The first two of the table, in each of these rows."""
        order = self._rows.order[rows]
        wanted = self._in_table[order]
        primary = wanted.argmax(axis=1)
        wanted[np.arange(len(rows)), primary] = False
        secondary = wanted.argmax(axis=1)
        at = np.arange(len(rows))
        self._pairs[rows] = np.stack([order[at, primary], order[at, secondary]], axis=1)
        self._swap(rows)

    def _swap(self, rows: np.ndarray) -> None:
        pairs = self._pairs[rows]
        standing = self.servers.serving[pairs] * 2 + ~self.servers.down[pairs]
        is_swapped = standing[:, 1] > standing[:, 0]
        self._first[0][rows] = np.where(is_swapped, pairs[:, 1], pairs[:, 0])
        self._first[1][rows] = np.where(is_swapped, pairs[:, 0], pairs[:, 1])
