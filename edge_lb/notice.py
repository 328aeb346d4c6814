"""Notice of a planned change, for flow memory that remembers moved slots alone.

Owns how long a ring waits for a drain, a weight or a new real: meanwhile the slots that will move
have their next owner marked, so that their flows are remembered at the present one and stay there
(JET, CoNEXT 2021). What died or left the fleet is waited for by nobody. Asked by `edge_lb.planner`
for VIPs with `flow_memory = "moved"`. Pure: time is an argument, in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf

from edge_lb.rings import Weights

NOTICE_S = 10.0  # a flow that sends nothing for so long may move with its slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A ring that is coming, and since when its slots are marked."""

    weights: Weights
    since_s: float

    @property
    def due_s(self) -> float:
        """When it comes."""
        return self.since_s + NOTICE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Heeded:
    """What a ring is made of now, and what notice stands after that."""

    weights: Weights
    notice: Notice | None = None

    @property
    def due_s(self) -> float:
        """When to ask again."""
        return self.notice.due_s if self.notice is not None else inf


def heed(
    present: Weights | None,
    wanted: Weights,
    able: AbstractSet[str],
    notice: Notice | None,
    now_s: float,
) -> Heeded:
    """What becomes of a ring of `present` members (None: a new one) where `wanted` should be.

    `able` are the reals behind the VIP that are not dead. A notice that stands is carried out
    before another is given, so that steps that follow each other quickly do not wait for ever.
    """
    if not present or not wanted or not _all(present, able):
        return Heeded(weights=wanted)
    now = present
    if notice is not None and not _all(notice.weights, able):
        notice = None
    if notice is not None and now_s >= notice.due_s:
        now, notice = notice.weights, None
    if notice is not None and wanted == now:  # taken back
        notice = None
    if notice is None and wanted != now:
        notice = Notice(weights=wanted, since_s=now_s)
    return Heeded(weights=now, notice=notice)


def _all(weights: Weights, able: AbstractSet[str]) -> bool:
    return all(name in able for name, _ in weights)
