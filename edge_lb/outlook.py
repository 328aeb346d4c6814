"""What a change would do to old flows, before it is made: live ones that move, chains that grow.

Owns the comparison of chains and the counting of flows for `edge_lb.forecast`. It writes the turn
that the change would be into a copy of this edge's history, and computes what the agent would.
Pure: time is an argument, in Unix seconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_lb.chaining import (
    Past,
    VipNow,
    Words,
    candidates,
    depth_of,
    unchained,
    widened,
    with_turn,
)
from edge_lb.fastring import compare_chains, moved_flows
from edge_lb.history import unwritten
from edge_lb.owners import Chains
from edge_lb.plan import CHAIN_OWNERS, PlannedVip
from edge_lb.rendezvous import RING_SLOTS
from edge_lb.rings import Rings
from gslb.fleet.history import EdgeHistory, unpack_slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the edge knows of the past, and by `live` words of the present.

    `weights` are those of reals in their slow start.
    """

    past: Past = field(default_factory=Past)
    own: EdgeHistory = field(default_factory=lambda: unwritten("", ""))
    live: Words = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    now_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainForecast:
    """Of one VIP: slots whose chain gets longer, or full so that an owner leaves it, and the ends.

    `ends` are Unix times, with how many entries leave the chains then, of old age.
    """

    grown: int = 0
    full: int = 0
    ends: tuple[tuple[float, int], ...] = ()


NOTHING_CHAINED = ChainForecast()


def chain_forecasts(
    outlook: Outlook, before: Mapping[str, VipNow], after: Mapping[str, VipNow], rings: Rings
) -> dict[str, ChainForecast]:
    """What becomes of the chains of each VIP whose ring would have other members."""
    then = with_turn(outlook.past, outlook.own, after, outlook.now_s)
    was, will = outlook.past.eras(), then.eras()
    found: dict[str, ChainForecast] = {}
    for name, now in after.items():
        known = before.get(name)
        if known is None or known.members == now.members:
            continue
        told = outlook.past.words.get(name, {})
        past = candidates(was.get(name, ()), known, outlook.now_s)
        coming = candidates(will.get(name, ()), now, outlook.now_s)
        old = widened(known, past, told, rings)
        wide = widened(now, coming, told, rings, spare=1)
        grown, full = compare_chains(
            _slots(old, known, rings, CHAIN_OWNERS),
            _slots(wide, now, rings, CHAIN_OWNERS + 1),
            width=CHAIN_OWNERS,
            depth=depth_of(now.vip),
        )
        ends = widened(now, coming, told, rings).ends
        found[name] = ChainForecast(grown=grown, full=full, ends=ends)
    return found


def live_flows(
    outlook: Outlook, old: PlannedVip, new: PlannedVip | None, owners: Mapping[int, str]
) -> int | None:
    """The flows that reals hold on slots that would have another real; None: not all of them say.

    `owners` are the names of real indexes. Who holds slots now has to say; others may.
    """
    told = outlook.live.get(old.name, {})
    if new is not None and old.ring == new.ring:
        return 0
    if any(owners[index] not in told for index in set(old.ring) - {0}):
        return None
    if new is None:
        return sum(word.flows.flows for word in told.values())
    try:
        counts = [unpack_slots(word.flows.slots, RING_SLOTS) for word in told.values()]
    except ValueError:
        return None
    return sum(moved_flows(old.ring, new.ring, by_slot) for by_slot in counts)


def _slots(chains: Chains, now: VipNow, rings: Rings, width: int) -> array[int]:
    return chains.slots if chains.slots is not None else unchained(rings.ring(now.members), width)
