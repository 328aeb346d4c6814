"""This edge's own time line: what the rings of its VIPs were made of, and since when.

Owns when a turn is written down, and when old ones are folded away. Drafted by `edge_lb.planner`
with every plan, kept over a restart by `edge_lb.memory`, published by `edge_lb.publish`, and read
with those of other edges by `edge_lb.owners`. Pure: time is an argument, in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from edge_lb.rings import Weights
from gslb.fleet.health import next_generation
from gslb.fleet.history import EdgeHistory, Turn, VipHistory, changed_between

TURNS_MAX = 2048  # of a VIP: 34 a minute for an hour; who turns faster forgets the oldest turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the ring of one VIP is made of now, and how long a connection to it may live.

    `coming` is what it will be made of at its next planned turn.
    """

    weights: Weights
    age_s: float
    coming: Weights | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A time line with the present in it. `forgotten`: turns folded for want of room, by VIP."""

    history: EdgeHistory
    forgotten: Mapping[str, int]


def unwritten(site: str, edge: str) -> EdgeHistory:
    """The time line of an edge that has not planned yet."""
    return EdgeHistory(site=site, edge=edge, generation=0, vips=())


def write_down(history: EdgeHistory, present: Mapping[str, Present], now_s: float) -> Written:
    """The history with a turn for each VIP whose members differ, and with what is coming.

    The same one if nothing differs.
    A VIP that is not there yet begins without a turn; one that is not among `present` is dropped.
    """
    known = {line.name: line for line in history.vips}
    lines: list[VipHistory] = []
    forgotten: dict[str, int] = {}
    for name in sorted(present):
        now, line = present[name], known.get(name)
        if line is None:
            line = VipHistory(name=name, members=dict(now.weights))
        elif last_members(line) != dict(now.weights):
            line, folded = _turned(line, now, now_s)
            if folded:
                forgotten[name] = folded
        coming = changed_between(dict(now.weights), dict(now.coming or now.weights))
        if line.coming != coming:
            line = msgspec.structs.replace(line, coming=coming)
        lines.append(line)
    if tuple(lines) == history.vips:
        return Written(history=history, forgotten={})
    written = EdgeHistory(
        site=history.site,
        edge=history.edge,
        generation=next_generation(history.generation, now_s),
        vips=tuple(lines),
    )
    return Written(history=written, forgotten=forgotten)


def last_members(line: VipHistory) -> dict[str, int]:
    """What the ring is made of after all turns."""
    return _advanced(line.members, line.turns)


def _advanced(members: Mapping[str, int], turns: Iterable[Turn]) -> dict[str, int]:
    """The members after these turns."""
    found = dict(members)
    for turn in turns:
        found |= turn.changed
    return {real: weight for real, weight in found.items() if weight}


def _turned(line: VipHistory, now: Present, now_s: float) -> tuple[VipHistory, int]:
    """With one more turn; those of no use are folded, and how many that may have been of use."""
    last_s = line.turns[-1].at_s if line.turns else now_s
    at_s = max(now_s, last_s)  # a clock that is set back changes none
    changed = changed_between(last_members(line), dict(now.weights))
    turns = (*line.turns, Turn(at_s=at_s, changed=changed))
    outlived = sum(turn.at_s + now.age_s <= now_s for turn in turns)
    over = max(0, len(turns) - TURNS_MAX - outlived)
    gone = outlived + over
    members = _advanced(line.members, turns[:gone])
    return VipHistory(name=line.name, members=members, turns=turns[gone:]), over
