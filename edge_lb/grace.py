"""The grace of a real that went down: for a time the flows that it may still hold can find it.

Owns how long that is, and for which reals. A real on an overloaded machine fails a few checks and
lives on: new flows go elsewhere at once, but it stays the last candidate of its owner chains. Asked
by `edge_lb.planner`. Pure: time is an argument, in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_lb.plan import Standings
from gslb.fleet.health import SERVING, RealState
from gslb.fleet.model import Encap, Fallback, Fleet, Protocol, RealName, SiteName, VipName

GRACE_S = 30.0
"""A check every two seconds that fails three times and then passes twice is over within ten, and
clients send again for minutes. What a longer grace costs: a client of a real that died, and a stray
of its slots, hear nothing until it ends, where the last living candidate would have sent a reset.
"""

Pair = tuple[VipName, RealName]


def graces(
    fleet: Fleet,
    site: SiteName,
    standings: Standings,
    since: Mapping[Pair, float],
    now_s: float,
) -> dict[Pair, float]:
    """The pairs that are down and in their grace, and when it ends. `since`: as they stand now.

    Only where packets can carry a chain to the real. Not by UDP: without a SYN, new flows too would
    follow the chain, to a real that is perhaps dead. Nor where the edge itself serves while no real
    does: connections to it would.
    """
    found: dict[Pair, float] = {}
    for vip in fleet.vips_of_site(site):
        if not vip.owner_chain or vip.protocol is not Protocol.TCP:
            continue
        if vip.options.fallback is Fallback.PASS:
            continue
        for name in vip.reals:
            pair = vip.name, name
            is_down = standings.get(pair, RealState.UNKNOWN) not in SERVING
            if not is_down or vip.encap_of(fleet.reals[name]) is not Encap.GUE:
                continue
            if pair in since and 0 <= now_s - since[pair] < GRACE_S:
                found[pair] = since[pair] + GRACE_S
    return found
