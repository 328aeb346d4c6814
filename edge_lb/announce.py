"""What an edge announces of its VIPs: the rules, as one step a look. Pure.

Owns the five preferences and when one becomes another (docs/decisions/0013). Called by
`edge_lb.announcer` with what it saw; `edge_lb.exabgp` says the routes in the speaker's words. A
lost store, lost checks and a silent agent are no reasons to withdraw. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from gslb.fleet.host import BgpSection
from gslb.fleet.model import Address


class Preference(StrEnum):
    """How an edge's routes stand beside those of the site's other edges."""

    WAITING = "WAITING"  # new: not announced yet
    ANNOUNCED = "ANNOUNCED"
    STEPPED_BACK = "STEPPED_BACK"  # the agent is silent: edges of the site that hear go first
    LOWERED = "LOWERED"  # drained: announced as the worse path, forwards what still comes
    WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the agent says. `packets` were forwarded since the data path was loaded."""

    addresses: frozenset[Address]
    drained: bool
    fault: str  # the plan cannot be written, the program fails its rehearsal; empty if sound
    packets: int
    histories: bool  # the plan knows the site's histories, and the other edges know this one's


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look. `told` is None while the agent is silent; `broken` is seen without it."""

    told: Told | None
    broken: str  # link or interface, in words; empty if whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is announced, since when and why, and what later looks are judged against."""

    preference: Preference = Preference.WAITING
    since_s: float = 0.0
    reason: str = "not looked yet"
    addresses: frozenset[Address] = frozenset()
    drained: bool = False
    fault: str = ""  # that took effect
    doubtful_since_s: float | None = None  # since when the agent tells a fault
    sound_since_s: float | None = None
    silent_since_s: float | None = None  # since when the agent says nothing
    spoken_since_s: float | None = None  # since when it answers
    moved_s: float = 0.0  # when a packet of a VIP was last known to have come
    packets: int | None = None


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Route:
    """One host route as the routers are told it."""

    address: Address
    next_hop: Address
    med: int
    local_preference: int
    communities: tuple[str, ...]


def step(standing: Standing, seen: Seen, rules: BgpSection, now_s: float) -> Standing:
    """The standing after one look."""
    now = _known(standing, seen, rules, now_s)
    if now.fault:
        return _become(now, Preference.WITHDRAWN, f"withdrawn: {now.fault}", now_s)
    if now.drained:
        if standing.preference is Preference.WITHDRAWN and standing.drained and not standing.fault:
            return now
        return _drain(now, rules, now_s)
    if now.preference is Preference.LOWERED:
        return _become(now, Preference.ANNOUNCED, "undrained", now_s)
    if now.preference in (Preference.ANNOUNCED, Preference.STEPPED_BACK):
        return _stand(now, seen.told, rules, now_s)
    return _join(now, seen.told, rules, now_s)


def routes(
    standing: Standing, rules: BgpSection, next_hops: dict[int, Address]
) -> frozenset[Route]:
    """The routes of a standing. An address without a next hop of its family has none."""
    if standing.preference in (Preference.WAITING, Preference.WITHDRAWN):
        return frozenset()
    lowered = standing.preference is Preference.LOWERED
    behind = lowered or standing.preference is Preference.STEPPED_BACK
    return frozenset(
        Route(
            address=address,
            next_hop=next_hops[address.version],
            med=rules.drain_med if behind else rules.med,
            local_preference=(rules.drain_local_preference if lowered else rules.local_preference),
            communities=rules.drain_communities if lowered else rules.communities,
        )
        for address in standing.addresses
        if address.version in next_hops
    )


def differences(
    before: Iterable[Route], after: frozenset[Route]
) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
    """What to withdraw and what to announce, in order. A changed route is only announced anew."""
    old = set(before)
    kept = {route.address for route in after}
    gone = (route for route in old if route.address not in kept)
    return tuple(sorted(gone, key=_by_address)), tuple(sorted(after - old, key=_by_address))


def _by_address(route: Route) -> tuple[int, bytes]:
    return route.address.version, route.address.packed


def _known(standing: Standing, seen: Seen, rules: BgpSection, now_s: float) -> Standing:
    """What this look adds to what is known; a silent agent adds nothing and takes nothing."""
    told = seen.told
    doubtful_since_s = standing.doubtful_since_s
    if told is None:
        fault = seen.broken or (standing.fault if doubtful_since_s is not None else "")
        if not standing.fault:
            doubtful_since_s = None  # a silent agent's last doubt is not followed further
        moved = True  # what comes is not known: not quiet
    else:
        doubtful_since_s = _since(doubtful_since_s, now_s) if told.fault else None
        stands = doubtful_since_s is not None and now_s - doubtful_since_s >= rules.fault_s
        was = bool(standing.fault) and doubtful_since_s is not None
        fault = seen.broken or (told.fault if stands or was else "")
        moved = told.packets != standing.packets
    sound = not fault and doubtful_since_s is None
    return replace(
        standing,
        addresses=told.addresses if told is not None else standing.addresses,
        drained=told.drained if told is not None else standing.drained,
        fault=fault,
        doubtful_since_s=doubtful_since_s,
        sound_since_s=_since(standing.sound_since_s, now_s) if sound else None,
        silent_since_s=_since(standing.silent_since_s, now_s) if told is None else None,
        spoken_since_s=_since(standing.spoken_since_s, now_s) if told is not None else None,
        moved_s=now_s if moved else standing.moved_s,
        packets=told.packets if told is not None else None,
    )


def _since(before: float | None, now_s: float) -> float:
    return now_s if before is None else before


def _drain(now: Standing, rules: BgpSection, now_s: float) -> Standing:
    """Lowered first; withdrawn when it is quiet, or when it took too long."""
    if now.preference in (Preference.ANNOUNCED, Preference.STEPPED_BACK):
        lowered = _become(now, Preference.LOWERED, "drained: forwards what still comes", now_s)
        return replace(lowered, moved_s=now_s)
    if now.preference is not Preference.LOWERED:
        return _become(now, Preference.WITHDRAWN, "drained", now_s)
    if now_s - now.moved_s >= rules.quiet_s:
        text = f"drained: no packet of a VIP for {rules.quiet_s:g} s"
        return _become(now, Preference.WITHDRAWN, text, now_s)
    if now_s - now.since_s >= rules.drain_max_s:
        text = f"drained: packets still came after {rules.drain_max_s:g} s"
        return _become(now, Preference.WITHDRAWN, text, now_s)
    return now


def _stand(now: Standing, told: Told | None, rules: BgpSection, now_s: float) -> Standing:
    """Announced, and behind the site's other edges while the agent is silent.

    Its maps forward as ever, but hear of no change: what comes at other edges they cannot know.
    """
    if told is None:
        silent_s = 0.0 if now.silent_since_s is None else now_s - now.silent_since_s
        if silent_s < rules.silent_s:
            return now
        text = f"the agent has been silent for {rules.silent_s:g} s: edges that hear go first"
        return _become(now, Preference.STEPPED_BACK, text, now_s)
    if now.preference is Preference.ANNOUNCED:
        return now
    spoken_s = 0.0 if now.spoken_since_s is None else now_s - now.spoken_since_s
    if told.histories or spoken_s >= rules.join_max_s:
        return _become(now, Preference.ANNOUNCED, "the agent speaks again", now_s)
    return _become(now, now.preference, "waits for the site's histories", now_s)


def _join(now: Standing, told: Told | None, rules: BgpSection, now_s: float) -> Standing:
    """From waiting or withdrawn to announced: sound for a while, and the histories known."""
    if not now.addresses:
        return _become(now, now.preference, "no VIP is known yet", now_s)
    sound_s = 0.0 if now.sound_since_s is None else now_s - now.sound_since_s
    if sound_s < rules.return_s:
        text = f"the data path must work for {rules.return_s:g} s first"
        return _become(now, now.preference, text, now_s)
    if told is not None and told.histories:
        return _become(now, Preference.ANNOUNCED, "the data path works", now_s)
    if sound_s >= rules.return_s + rules.join_max_s:
        text = f"the site's histories were not read within {rules.join_max_s:g} s: without them"
        return _become(now, Preference.ANNOUNCED, text, now_s)
    return _become(now, now.preference, "waits for the site's histories", now_s)


def _become(now: Standing, preference: Preference, reason: str, now_s: float) -> Standing:
    since_s = now.since_s if preference is now.preference and now.since_s else now_s
    return replace(now, preference=preference, reason=reason, since_s=since_s)
