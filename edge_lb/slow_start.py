"""Slow start: a real that joins others gets its weight in steps, each a planned change of the ring.

Owns which reals are on their way up, and what they weigh at a moment. Asked by `edge_lb.planner`;
since when a real serves is kept over a restart by `edge_lb.memory`. Pure: time is an argument, in
Unix seconds. Steps are taken where the clock's own grid has its lines, so that edges take them at
once, whenever each of them noticed the real.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import floor, inf

STEPS = 8
LONG_AGO_S = 0.0  # since when a real serves that joined nobody


def serving_since(
    known: Mapping[str, float], serving: Mapping[str, Iterable[str]], now_s: float
) -> dict[str, float]:
    """Since when each real of each VIP serves, by VIP/REAL; `known` is what was found before.

    The first reals of a VIP join nobody, and start with their whole weight: those of an edge's
    first start, of a new VIP, and the first that comes back when all were gone.
    """
    vips = {pair.partition("/")[0] for pair in known}
    return {
        pair: known.get(pair, now_s if vip in vips else LONG_AGO_S)
        for vip, reals in serving.items()
        for pair in (f"{vip}/{real}" for real in reals)
    }


def ramped(weight: int, since_s: float, now_s: float, slow_start_s: float) -> int:
    """What a real weighs now: an eighth at first, all of it after at most `slow_start_s`."""
    taken = _steps(since_s, now_s, slow_start_s)
    return -(-weight * min(taken + 1, STEPS) // STEPS)


def next_step_s(since_s: float, now_s: float, slow_start_s: float) -> float:
    """When its weight changes next; never once it has all."""
    taken = _steps(since_s, now_s, slow_start_s)
    if taken + 1 >= STEPS:
        return inf
    step_s = slow_start_s / STEPS
    return (floor(now_s / step_s) + 1) * step_s


def _steps(since_s: float, now_s: float, slow_start_s: float) -> int:
    """Lines of the grid that were passed meanwhile."""
    if slow_start_s <= 0:
        return STEPS
    step_s = slow_start_s / STEPS
    return max(0, floor(now_s / step_s) - floor(since_s / step_s))
