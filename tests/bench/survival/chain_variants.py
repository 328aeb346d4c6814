"""What owner chains could be: over rows that only their own servers move, or holders first.

Owns two variants that no edge runs, beside which the shipped chains stand in the tables. The ring
of Maglev hashing moves a few of its slots at nearly every change; there a chain is used up by
owners that came and went.
"""

from __future__ import annotations

import numpy as np

from .changes import Change
from .owner_chains import OwnerChains
from .tables import RING_SLOTS, Rendezvous, Servers
from .traffic import Connections


class RendezvousChains(OwnerChains):
    """Chains over rendezvous rows: a change moves the rows of its own server, and no other."""

    def __init__(
        self, servers: Servers, flows: Connections, depth: int, age_s: float, rows: Rendezvous
    ) -> None:
        super().__init__(servers, flows, depth, age_s, f"rendezvous, chains of {depth}")
        self._rows = rows
        self.ring = self._owners(np.arange(RING_SLOTS))

    def ring_after(self, change: Change) -> np.ndarray:
        rows = self._rows.rows_with(change.number + 1)
        owners = self._owners(rows)
        if (owners == self.ring[rows]).all():
            return self.ring
        ring = self.ring.copy()
        ring[rows] = owners
        return ring

    def _owners(self, rows: np.ndarray) -> np.ndarray:
        return self._rows.order[rows, self._rows.best(rows, self.servers.serving)]


class HoldersFirst(OwnerChains):
    """The shipped ring, but owners that reported flows of the slot have the chain's places first.

    A place that is left goes to the latest owner that reported none there, or nothing yet.
    """

    def __init__(self, servers: Servers, flows: Connections, depth: int, age_s: float) -> None:
        super().__init__(servers, flows, depth, age_s, f"chains of {depth}, holders first")
        self._holding = np.zeros(0, np.int64)  # server and slot, in order

    def learn(self, now_s: float) -> None:
        super().learn(now_s)
        live = self.flows.live
        home = self.home[live].astype(np.int64)
        self._holding = np.unique(home * RING_SLOTS + self.flows.slot[live])

    def earlier(self, slots: np.ndarray) -> np.ndarray:
        rows = self._earlier[slots]
        if not len(self._holding):
            return rows[:, : self.depth]
        pairs = rows.astype(np.int64) * RING_SLOTS + slots[:, None]
        at = np.minimum(np.searchsorted(self._holding, pairs), len(self._holding) - 1)
        is_holder = (self._holding[at] == pairs) & (rows != 0)
        rank = np.where(is_holder, 0, 1) + np.where(rows == 0, 2, 0)
        taken = np.sort(np.argsort(rank, axis=1, kind="stable")[:, : self.depth], axis=1)
        return np.take_along_axis(rows, taken, axis=1)
