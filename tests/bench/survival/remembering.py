"""Balancers that remember flows, each in a memory of bounded size: Katran's way, and JET.

Owns what they do with a packet. Both go through `lru`, packet by packet, at the balancer that the
router chose; a flow that comes to another balancer finds nothing there.
"""

from __future__ import annotations

import numpy as np

from .changes import Change, Kind
from .lru import ENTRY_BYTES, FlowMemories
from .systems import RING_BYTES, System
from .tables import RING_SLOTS, Rendezvous, Servers
from .traffic import Connections, Tick

HORIZON_SHARE = 0.1


class Remembering(System):
    """What a balancer remembers goes first; else a table chooses, and that is remembered.

    `router` is how flows are spread over the balancers: the name of one of `run`'s ways.
    """

    def __init__(
        self,
        name: str,
        servers: Servers,
        flows: Connections,
        router: str,
        balancers: int,
        size: int,
    ) -> None:
        super().__init__(name, servers, flows)
        self.router = router
        self.memories = FlowMemories(flows.pool, balancers, max(1, size // balancers))
        self._capacity = max(1, size // balancers)

    def happen(self, change: Change) -> None:
        if change.kind is Kind.EDGE_LEAVES:
            self.memories.clear(change.number)
        super().happen(change)

    def adapt(self, change: Change) -> None:
        """The ring is the servers'."""

    def place(self, flows: np.ndarray) -> np.ndarray:
        return self.servers.maglev[self.flows.maglev_slot[flows]]

    def choose(self, flows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The table's server for each flow, and whether it shall be remembered."""
        return self.place(flows), np.ones(len(flows), bool)

    def follow(self, tick: Tick, balancers: dict[str, np.ndarray]) -> None:
        self.memories.forget(tick.born)  # what a number meant long ago
        is_alive = self.home[tick.packets] != 0
        packets, balancer = tick.packets[is_alive], balancers[self.router][is_alive]
        choice, track = self.choose(packets)
        chosen = self.memories.touch(balancer, packets, choice, track)
        is_lost = chosen != self.home[packets]
        self.lose(np.unique(packets[is_lost]))
        self.tally.packets += int((~is_lost).sum())

    def state_bytes(self) -> int:
        return RING_BYTES + ENTRY_BYTES * self._capacity


class JetTable:
    """JET's table: rendezvous in each row, and where that may change.

    That is where a server of the horizon would win the row, or where its server has notice of a
    drain. The horizon holds those that left and may return, as many as HORIZON_SHARE of all; a
    server that joins unheard of was not in it. Shared by JETs with memories of any size.
    """

    def __init__(self, servers: Servers, rows: Rendezvous) -> None:
        self._servers, self._rows = servers, rows
        self._heard: Change | None = None
        self._horizon = np.zeros_like(servers.serving)
        self._leaving = np.zeros_like(servers.serving)
        self._horizon_max = int(HORIZON_SHARE * servers.serving.sum())
        self.owners = np.zeros(RING_SLOTS, np.uint16)
        self.unsafe = np.zeros(RING_SLOTS, bool)
        self._decide(np.arange(RING_SLOTS))

    def adapt(self, change: Change) -> None:
        """Once for each change, whoever asks."""
        if change is self._heard or change.kind in {Kind.EDGE_LEAVES, Kind.EDGE_JOINS}:
            return
        self._heard, server = change, change.number + 1
        self._leaving[server] = change.kind is Kind.NOTICE
        has_room = self._horizon.sum() < self._horizon_max
        self._horizon[server] = has_room and change.kind in {Kind.DRAIN, Kind.CRASH}
        self._decide(self._rows.rows_with(server))

    def _decide(self, rows: np.ndarray) -> None:
        present = self._rows.best(rows, self._servers.serving)
        coming = self._rows.best(rows, self._servers.serving | self._horizon)
        self.owners[rows] = self._rows.order[rows, present]
        self.unsafe[rows] = (coming < present) | self._leaving[self.owners[rows]]


class Jet(Remembering):
    """JET: flows are remembered only where its table may change."""

    def __init__(
        self,
        name: str,
        servers: Servers,
        flows: Connections,
        table: JetTable,
        router: str,
        balancers: int,
        size: int,
    ) -> None:
        super().__init__(name, servers, flows, router, balancers, size)
        self._table = table

    def adapt(self, change: Change) -> None:
        self._table.adapt(change)

    def place(self, flows: np.ndarray) -> np.ndarray:
        return self._table.owners[self.flows.slot[flows]]

    def choose(self, flows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.place(flows), self._table.unsafe[self.flows.slot[flows]]

    def state_bytes(self) -> int:
        return super().state_bytes() + RING_SLOTS // 8
