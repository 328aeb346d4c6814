"""Owner chains: who owned each slot before, and at which candidate of the chain a packet arrives.

Owns the state of a run: the earlier owners of every slot, changed slot by slot as the ring changes.
An edge finds the same from its site's history, anew for each change (`edge_lb.owners`); `proof` and
tests hold both equal. Here the depth may be more than the wire carries.
"""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np

from edge_lb.owners import SETTLE_S
from edge_lb.plan import CHAIN_OWNERS

from .changes import Change, Kind
from .lru import ENTRY_BYTES, FlowMemories
from .systems import LOST, System
from .tables import Servers
from .traffic import Connections, Tick

KEPT = 12  # earlier owners of a slot whose flows may be alive: more than any depth that is asked


class OwnerChains(System):
    """The present owner of the slot, then at most `depth` earlier ones.

    Those that reported flows there come first, and of like ones the latest. An earlier owner is a
    candidate as long as the history tells of it, at most the VIP's age, or until it reports no flow
    there, counted SETTLE_S or more after the loss. One that is down is none.
    """

    def __init__(self, servers: Servers, flows: Connections, depth: int, name: str = "") -> None:
        super().__init__(name or f"chains of {depth}", servers, flows)
        self.depth = depth
        self.ring, self.slot = self.table()
        self._earlier = np.zeros((len(self.ring), KEPT), np.uint16)
        self._lost_s = np.zeros((len(self.ring), KEPT))
        self._holds = np.zeros((len(self.ring), KEPT), bool)  # as each reported last
        self._owner_holds = np.zeros(len(self.ring), bool)
        self._moves: deque[tuple[float, np.ndarray]] = deque()  # that the history still tells of
        self.overflows = 0  # earlier owners that KEPT had no room for

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """The present owner of each slot, an array of its own after each change; flows' slots."""
        return self.servers.ring, self.flows.slot

    def adapt(self, change: Change) -> None:
        ring, _ = self.table()
        if ring is self.ring:
            return
        slots = np.flatnonzero(ring != self.ring)
        self._push(slots, ring[slots], change.at_s)
        self.ring = ring
        self._moves.append((change.at_s, slots))
        if change.kind is Kind.CRASH:
            slots = np.flatnonzero(self._earlier == change.number + 1) // KEPT
            self._take_out(slots, self._earlier[slots] == change.number + 1)
        kept_s = self.kept_s()
        while self._moves[0][0] < kept_s:
            _, slots = self._moves.popleft()
            self._take_out(slots, self._lost_s[slots] < kept_s)

    def kept_s(self) -> float:
        """Who lost a slot before that moment is forgotten."""
        return self.servers.kept_s()

    def learn(self, now_s: float) -> None:
        """Each real reports the slots on which it holds flows."""
        chained = np.flatnonzero(self._earlier[:, 0])
        holds = self.held(chained)
        lost_s = self._lost_s[chained]
        self._holds[chained] = holds
        live = self.flows.live
        slots = self.slot[live]
        self._owner_holds[:] = False
        self._owner_holds[slots[self.home[live] == self.ring[slots]]] = True
        is_quiet = ~holds & (lost_s + SETTLE_S <= now_s)
        self._take_out(chained, is_quiet | (lost_s + self.servers.age_s <= now_s))

    def held(self, chained: np.ndarray) -> np.ndarray:
        """Which of the earlier owners of these slots hold flows there."""
        live = self.flows.live
        line = np.full(len(self.ring), -1)
        line[chained] = np.arange(len(chained))
        lines = line[self.slot[live]]
        live, lines = live[lines >= 0], lines[lines >= 0]
        home = self.home[live]
        rows = self._earlier[chained]
        at, place = np.nonzero((rows[lines] == home[:, None]) & (home != 0)[:, None])
        holds = np.zeros(rows.shape, bool)
        holds[lines[at], place] = True
        return holds

    def place(self, flows: np.ndarray) -> np.ndarray:
        return self.ring[self.slot[flows]]

    def arrive(self, flows: np.ndarray) -> np.ndarray:
        home, slots = self.home[flows], self.slot[flows]
        arrived_at = np.where(self.ring[slots] == home, 0, LOST)
        missed = np.flatnonzero(arrived_at == LOST)
        candidates = self._candidates(slots[missed]) == home[missed, None]
        arrived_at[missed] = np.where(candidates.any(axis=1), candidates.argmax(axis=1) + 1, LOST)
        return arrived_at

    def chains(self) -> np.ndarray:
        """For each slot the present owner and `depth` earlier ones, then 0."""
        slots = np.arange(len(self.ring))
        return np.concatenate([self.ring[:, None], self._candidates(slots)], axis=1)

    def state_bytes(self) -> int:
        """Both rings, and the history as it crosses the store."""
        rings = 2 * len(self.ring) * (1 + max(CHAIN_OWNERS, self.depth + 1))
        return rings + len(msgspec.json.encode(self.servers.history))

    def _candidates(self, slots: np.ndarray) -> np.ndarray:
        """The earlier owners of these slots that have a place, in their order."""
        rows, holds = self._earlier[slots], self._holds[slots]
        order = np.argsort(np.where(rows == 0, 2, ~holds), axis=1, kind="stable")
        return np.take_along_axis(rows, order[:, : self.depth], axis=1)

    def _push(self, slots: np.ndarray, owners: np.ndarray, at_s: float) -> None:
        """The present owners become the latest earlier ones; the new owners are none any more."""
        is_new = self._earlier[slots] == owners[:, None]
        new_holds = (is_new & self._holds[slots]).any(axis=1)
        self._keep(slots, ~is_new)
        self.overflows += int((self._earlier[slots, -1] != 0).sum())
        for table, first in (
            (self._earlier, self.ring[slots]),
            (self._lost_s, at_s),
            (self._holds, self._owner_holds[slots]),
        ):
            table[slots, 1:] = table[slots, :-1]
            table[slots, 0] = first
        self._owner_holds[slots] = new_holds

    def _take_out(self, slots: np.ndarray, gone: np.ndarray) -> None:
        """These of the earlier owners of these slots are none any more."""
        is_less = (gone & (self._earlier[slots] != 0)).any(axis=1)
        self._keep(slots[is_less], ~gone[is_less])

    def _keep(self, slots: np.ndarray, keep: np.ndarray) -> None:
        """What is kept of each row moves to its front, in the same order; then 0."""
        keep = keep & (self._earlier[slots] != 0)
        order = np.argsort(~keep, axis=1, kind="stable")
        for table in (self._earlier, self._lost_s, self._holds):
            rows = np.where(keep, table[slots], 0)
            table[slots] = np.take_along_axis(rows, order, axis=1)


class FewerTurns(OwnerChains):
    """As if an edge kept only so many turns of its history: why it keeps as many as it does."""

    def __init__(
        self, servers: Servers, flows: Connections, depth: int, name: str, turns: int
    ) -> None:
        super().__init__(servers, flows, depth, name)
        self._turns = turns

    def kept_s(self) -> float:
        is_short = len(self._moves) <= self._turns
        return super().kept_s() if is_short else self._moves[-self._turns][0]


class MaglevChains(OwnerChains):
    """Chains over the ring of Maglev hashing, which edges had before: why it was left.

    It moves a few of its slots at nearly every change; there a chain is used up by owners that came
    and went.
    """

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        return self.servers.maglev, self.flows.maglev_slot


class RememberingChains(OwnerChains):
    """Chains, and a flow memory before them that keeps flows of slots with a chain only.

    What is remembered is tried first, then the chain: so the data plane does with
    `flow_memory = "moved"`.
    """

    def __init__(
        self,
        name: str,
        servers: Servers,
        flows: Connections,
        depth: int,
        router: str,
        balancers: int,
        size: int,
    ) -> None:
        super().__init__(servers, flows, depth, name)
        self._router, self._capacity = router, max(1, size // balancers)
        self.memories = FlowMemories(flows.pool, balancers, self._capacity)

    def happen(self, change: Change) -> None:
        if change.kind is Kind.EDGE_LEAVES:
            self.memories.clear(change.number)
        super().happen(change)

    def follow(self, tick: Tick, balancers: dict[str, np.ndarray]) -> None:
        self.memories.forget(tick.born)  # what a number meant long ago
        is_alive = self.home[tick.packets] != 0
        packets, balancer = tick.packets[is_alive], balancers[self._router][is_alive]
        slots = self.slot[packets]
        owner, has_chain = self.ring[slots], self._earlier[slots, 0] != 0
        first = self.memories.touch(balancer, packets, owner, has_chain)
        by_chain = self.arrive(packets)
        # A remembered real stands before the chain; where it is the owner, the chain as it is.
        arrived_at = by_chain + ((first != owner) & (by_chain != LOST))
        arrived_at = np.where(first == self.home[packets], 0, arrived_at)
        is_lost = arrived_at == LOST
        self.lose(np.unique(packets[is_lost]))
        self.count(arrived_at[~is_lost], np.ones(int((~is_lost).sum()), np.int64))

    def state_bytes(self) -> int:
        return super().state_bytes() + ENTRY_BYTES * self._capacity
