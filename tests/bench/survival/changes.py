"""What happens to the servers and balancers of a run, and when: made from a seed, then fixed.

Owns the kinds of change and how often each comes. Every system meets the same list. Pure.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

# Share of servers that are back by then, seconds; the steps of what JET and Cheetah use
DOWNTIME_S = ((0.0, 60.0), (0.902, 180.0), (0.966, 305.0), (0.982, 672.0), (1.0, 20_533.0))
NOTICE_S = 30.0  # so long ahead a drain is announced, to those who want to know
RESTART_S = 60.0  # a balancer is away


class Kind(Enum):
    """One thing that happens to one server or balancer."""

    NOTICE = "notice"  # a drain will come
    DRAIN = "drain"  # no new connections; old ones go on until they end
    CRASH = "crash"  # its connections die with it
    RETIRE = "retire"  # as a drain, and it will not be back
    RETURN = "return"  # of a drained or crashed one
    JOIN = "join"  # one that nobody has heard of
    EDGE_LEAVES = "edge leaves"
    EDGE_JOINS = "edge joins"  # with an empty memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`number` is that of the server, or of the balancer."""

    at_s: float
    kind: Kind
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """How much changes: `per_minute` changes to servers are begun, and a balancer's every so often.

    Of the former, shares: drained and back after the downtime, crashed and back, drained for good;
    what is left joins. A return is one more change.
    """

    servers: int
    balancers: int
    per_minute: float
    balancer_every_s: float
    drain: float = 0.5
    crash: float = 0.2
    retire: float = 0.15


@dataclass(slots=True)
class Script:
    """The changes of a run in order of time; `universe`: how many servers there ever were."""

    changes: list[Change] = field(default_factory=list)
    universe: int = 0


def write_script(churn: Churn, length_s: float, rng: np.random.Generator) -> Script:
    """The same for the same generator."""
    script = Script(universe=churn.servers)
    serving = list(range(churn.servers))
    due: list[tuple[float, int, Kind, int]] = []
    turns = itertools.count()

    def plan(at_s: float, kind: Kind, number: int) -> None:
        heapq.heappush(due, (at_s, next(turns), kind, number))

    def happens_until(until_s: float) -> None:
        while due and due[0][0] <= until_s:
            at_s, _, kind, number = heapq.heappop(due)
            if kind is Kind.RETURN:
                serving.append(number)
            script.changes.append(Change(at_s=at_s, kind=kind, number=number))

    now_s = 0.0
    while (now_s := now_s + rng.exponential(60 / churn.per_minute)) < length_s:
        happens_until(now_s)
        chosen = rng.random()
        if chosen >= churn.drain + churn.crash + churn.retire:
            plan(now_s, Kind.JOIN, script.universe)
            serving.append(script.universe)
            script.universe += 1
            continue
        number = serving.pop(int(rng.integers(len(serving))))
        back_s = now_s + downtime_s(rng)
        if churn.drain <= chosen < churn.drain + churn.crash:
            plan(now_s, Kind.CRASH, number)
        else:
            plan(now_s, Kind.NOTICE, number)
            is_back = chosen < churn.drain
            plan(now_s + NOTICE_S, Kind.DRAIN if is_back else Kind.RETIRE, number)
            back_s += NOTICE_S
        if chosen < churn.drain + churn.crash:
            plan(back_s, Kind.RETURN, number)
    happens_until(length_s)
    script.changes += _balancer_changes(churn, length_s, rng)
    script.changes.sort(key=lambda change: change.at_s)
    return script


def downtime_s(rng: np.random.Generator) -> float:
    """How long a server is away."""
    shares, seconds = zip(*DOWNTIME_S, strict=True)
    return float(np.interp(rng.random(), shares, seconds))


def _balancer_changes(churn: Churn, length_s: float, rng: np.random.Generator) -> list[Change]:
    """One at a time is away."""
    found: list[Change] = []
    at_s = churn.balancer_every_s
    while at_s + RESTART_S < length_s:
        number = int(rng.integers(churn.balancers))
        found.append(Change(at_s=at_s, kind=Kind.EDGE_LEAVES, number=number))
        found.append(Change(at_s=at_s + RESTART_S, kind=Kind.EDGE_JOINS, number=number))
        at_s += max(churn.balancer_every_s, RESTART_S)
    return found
