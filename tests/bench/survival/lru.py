"""Flow memories of bounded size, one a balancer: the least recently used entry goes first.

Owns the calling of lru.c, which is exact packet by packet. Used by `remembering` and `anchor`.
Flows are numbers below `flows`; a server is a number above 0.
"""

from __future__ import annotations

from functools import cache

import cffi
import numpy as np

from .library import loaded

NODE_MAX = 2**32 - 1
ENTRY_BYTES = 48  # a flow in Waypost's own memory, as docs/performance.md measures it

_DECLARATIONS = """
struct memories {
    uint32_t *previous; uint32_t *next; uint16_t *held; uint32_t *sizes;
    uint32_t flows; uint32_t balancers; uint32_t capacity;
};
void touch(struct memories *all, const uint32_t *nodes, uint16_t *chosen, const uint8_t *track,
           uint32_t count);
void forget(struct memories *all, const uint32_t *nodes, uint32_t count);
"""


class FlowMemories:
    """`capacity` flows for each balancer."""

    def __init__(self, flows: int, balancers: int, capacity: int) -> None:
        if flows * balancers + balancers > NODE_MAX or capacity < 1:
            raise ValueError(f"{flows} flows of {balancers} balancers, {capacity} remembered")
        ffi, self._library = _library()
        heads = np.arange(balancers, dtype=np.uint32) + np.uint32(flows * balancers)
        self._previous = np.zeros(flows * balancers + balancers, np.uint32)
        self._next = np.zeros_like(self._previous)
        self._previous[heads] = self._next[heads] = heads
        self.held = np.zeros(flows * balancers, np.uint16)
        self.sizes = np.zeros(balancers, np.uint32)
        self._flows, self._balancers = flows, balancers
        self._all = ffi.new("struct memories *")
        self._all.previous = ffi.from_buffer("uint32_t[]", self._previous)
        self._all.next = ffi.from_buffer("uint32_t[]", self._next)
        self._all.held = ffi.from_buffer("uint16_t[]", self.held)
        self._all.sizes = ffi.from_buffer("uint32_t[]", self.sizes)
        self._all.flows, self._all.balancers, self._all.capacity = flows, balancers, capacity

    def touch(
        self, balancers: np.ndarray | int, flows: np.ndarray, choice: np.ndarray, track: np.ndarray
    ) -> np.ndarray:
        """Where each packet goes, in order: as remembered, else by `choice`, which is kept then.

        It is kept only where `track` says so.
        """
        nodes = self._nodes(balancers, flows)
        chosen = np.array(choice, np.uint16)
        ffi, library = _library()
        library.touch(
            self._all,
            ffi.from_buffer("uint32_t[]", nodes),
            ffi.from_buffer("uint16_t[]", chosen),
            ffi.from_buffer("uint8_t[]", np.ascontiguousarray(track, np.uint8)),
            len(nodes),
        )
        return chosen

    def remembered(self, balancers: np.ndarray | int, flows: np.ndarray) -> np.ndarray:
        """The server that each flow is remembered with; 0: none. Nothing is touched."""
        return self.held[self._nodes(balancers, flows)]

    def forget(self, flows: np.ndarray) -> None:
        """At every balancer."""
        for balancer in range(self._balancers):
            self._forget(self._nodes(balancer, flows))

    def clear(self, balancer: int) -> None:
        """All that one balancer remembers."""
        first = balancer * self._flows
        mine = self.held[first : first + self._flows]
        self._forget((np.flatnonzero(mine) + first).astype(np.uint32))

    def _forget(self, nodes: np.ndarray) -> None:
        ffi, library = _library()
        library.forget(self._all, ffi.from_buffer("uint32_t[]", nodes), len(nodes))

    def _nodes(self, balancers: np.ndarray | int, flows: np.ndarray) -> np.ndarray:
        return (np.asarray(balancers, np.int64) * self._flows + flows).astype(np.uint32)


@cache
def _library() -> tuple[cffi.FFI, object]:
    return loaded("lru", _DECLARATIONS)
