"""Owner chains: who owned each slot before, and at which candidate of the chain a packet arrives.

Owns the state of a run: the earlier owners of every slot, changed slot by slot as the ring changes.
An edge finds the same from its site's history, anew for each change (`edge_lb.owners`); `proof` and
tests hold both equal. Here the depth may be more than the wire carries.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edge_lb.history import TURNS_MAX, Present, unwritten, write_down
from edge_lb.owners import SETTLE_S
from edge_lb.plan import CHAIN_OWNERS
from edge_lb.rings import weights_of
from gslb.fleet.history import EdgeHistory, Turn, VipHistory, changed_between

from .changes import Change, Kind
from .lru import ENTRY_BYTES, FlowMemories
from .systems import LOST, System
from .tables import RING_SLOTS, WEIGHT, Servers, name_of
from .traffic import Connections, Tick

KEPT = 12  # earlier owners of a slot whose flows may be alive: more than any depth that is asked
VIP_NAME = "web"


class OwnerChains(System):
    """The present owner of the slot, then at most `depth` earlier ones, the latest first.

    An earlier owner is a candidate until `age_s` after it lost the slot, or until it reports no
    flow there, counted SETTLE_S or more after the loss. One that is down is none.
    """

    def __init__(
        self, servers: Servers, flows: Connections, depth: int, age_s: float, name: str = ""
    ) -> None:
        super().__init__(name or f"chains of {depth}", servers, flows)
        self.depth, self.age_s = depth, age_s
        self.turns_max = 0  # of the history, that are kept; 0: all
        self.ring = servers.ring
        self._earlier = np.zeros((RING_SLOTS, KEPT), np.uint16)
        self._lost_s = np.zeros((RING_SLOTS, KEPT))
        self._first_members = np.flatnonzero(servers.serving)
        self._turns: list[tuple[float, np.ndarray]] = []
        self.overflows = 0  # earlier owners that KEPT had no room for

    def adapt(self, change: Change) -> None:
        ring = self.ring_after(change)
        if ring is self.ring:
            return
        self._turns.append((change.at_s, np.flatnonzero(self.servers.serving)))
        slots = np.flatnonzero(ring != self.ring)
        self._push(slots, ring[slots], change.at_s)
        self.ring = ring
        if change.kind is Kind.CRASH:
            self._take_out(np.arange(RING_SLOTS), self._earlier == change.number + 1)
        if 0 < self.turns_max < len(self._turns):
            chained, kept_s = np.flatnonzero(self._earlier[:, 0]), self._turns[-self.turns_max][0]
            is_forgotten = (self._earlier[chained] != 0) & (self._lost_s[chained] < kept_s)
            self._take_out(chained, is_forgotten)

    def ring_after(self, _change: Change) -> np.ndarray:
        """The present owners; the same array if nothing changed."""
        return self.servers.ring

    def learn(self, now_s: float) -> None:
        """Each real reports the slots on which it holds flows."""
        chained = np.flatnonzero(self._earlier[:, 0])
        holds = self.held(chained)
        rows, lost_s = self._earlier[chained], self._lost_s[chained]
        is_quiet = ~holds & (lost_s + SETTLE_S <= now_s)
        self._take_out(chained, (rows != 0) & (is_quiet | (lost_s + self.age_s <= now_s)))

    def held(self, chained: np.ndarray) -> np.ndarray:
        """Which of the earlier owners of these slots hold flows there."""
        live = self.flows.live
        line = np.full(RING_SLOTS, -1)
        line[chained] = np.arange(len(chained))
        lines = line[self.flows.slot[live]]
        live, lines = live[lines >= 0], lines[lines >= 0]
        home = self.home[live]
        rows = self._earlier[chained]
        at, place = np.nonzero((rows[lines] == home[:, None]) & (home != 0)[:, None])
        holds = np.zeros(rows.shape, bool)
        holds[lines[at], place] = True
        return holds

    def place(self, flows: np.ndarray) -> np.ndarray:
        return self.ring[self.flows.slot[flows]]

    def arrive(self, flows: np.ndarray) -> np.ndarray:
        home, slots = self.home[flows], self.flows.slot[flows]
        arrived_at = np.where(self.ring[slots] == home, 0, LOST)
        missed = np.flatnonzero(arrived_at == LOST)
        candidates = self.earlier(slots[missed]) == home[missed, None]
        arrived_at[missed] = np.where(candidates.any(axis=1), candidates.argmax(axis=1) + 1, LOST)
        return arrived_at

    def earlier(self, slots: np.ndarray) -> np.ndarray:
        """The candidates of each slot after the present owner, then 0."""
        return self._earlier[slots, : self.depth]

    def chains(self) -> np.ndarray:
        """For each slot the present owner and `depth` earlier ones, then 0."""
        every = np.arange(RING_SLOTS)
        return np.concatenate([self.ring[:, None], self.earlier(every)], axis=1)

    def history(self) -> EdgeHistory:
        """What an edge would have written down of the run."""
        if not self.turns_max:
            sets = [self._first_members, *(who for _, who in self._turns)]
            turns = tuple(
                Turn(at_s=at_s, changed=changed_between(_weights(before), _weights(who)))
                for before, (at_s, who) in zip(sets, self._turns, strict=False)
            )
            line = VipHistory(name=VIP_NAME, members=_weights(self._first_members), turns=turns)
            return EdgeHistory(site="fra", edge="edge1", generation=len(turns), vips=(line,))
        history = unwritten("fra", "edge1")
        for at_s, who in [(0.0, self._first_members), *self._turns]:
            present = Present(weights=weights_of(_weights(who)), age_s=self.age_s)
            history = write_down(history, {VIP_NAME: present}, at_s).history
        return history

    def state_bytes(self) -> int:
        """Both rings, and the history as it crosses the store, of the last `age_s`."""
        wide = 2 * RING_SLOTS * max(CHAIN_OWNERS, self.depth + 1)
        if not self._turns:
            return 2 * RING_SLOTS + wide
        last_s, serving = self._turns[-1]
        turn = len(msgspec.json.encode(Turn(at_s=last_s, changed={name_of(1): WEIGHT})))
        alive = sum(at_s + self.age_s > last_s for at_s, _ in self._turns[-self.turns_max :])
        return 2 * RING_SLOTS + wide + len(msgspec.json.encode(_weights(serving))) + turn * alive

    def _push(self, slots: np.ndarray, owners: np.ndarray, at_s: float) -> None:
        """The present owners become the latest earlier ones; the new owners are none any more."""
        rows, lost_s = self._earlier[slots], self._lost_s[slots]
        rows, lost_s = _packed(rows, lost_s, (rows != 0) & (rows != owners[:, None]))
        self.overflows += int((rows[:, -1] != 0).sum())
        self._earlier[slots, 1:], self._lost_s[slots, 1:] = rows[:, :-1], lost_s[:, :-1]
        self._earlier[slots, 0], self._lost_s[slots, 0] = self.ring[slots], at_s

    def _take_out(self, slots: np.ndarray, gone: np.ndarray) -> None:
        """These of the earlier owners of these slots are none any more."""
        is_less = gone.any(axis=1)
        slots, gone = slots[is_less], gone[is_less]
        rows, lost_s = self._earlier[slots], self._lost_s[slots]
        self._earlier[slots], self._lost_s[slots] = _packed(rows, lost_s, (rows != 0) & ~gone)


class ShippedChains(OwnerChains):
    """As edges run them: with as many turns of the history as they keep."""

    def __init__(self, servers: Servers, flows: Connections, depth: int, age_s: float) -> None:
        super().__init__(servers, flows, depth, age_s, f"chains of {depth}, {TURNS_MAX} turns")
        self.turns_max = TURNS_MAX


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
        age_s: float,
        router: str,
        balancers: int,
        size: int,
    ) -> None:
        super().__init__(servers, flows, depth, age_s, name)
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
        slots = self.flows.slot[packets]
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


def _weights(serving: np.ndarray) -> dict[str, int]:
    return {name_of(int(server)): WEIGHT for server in serving}


def _packed(
    rows: np.ndarray, lost_s: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is kept of each row moves to its front, in the same order; then 0."""
    order = np.argsort(~keep, axis=1, kind="stable")
    rows = np.take_along_axis(np.where(keep, rows, 0), order, axis=1)
    return rows.astype(np.uint16), np.take_along_axis(np.where(keep, lost_s, 0.0), order, axis=1)
