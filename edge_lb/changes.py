"""What a new plan changes, told for a person: by VIP, in slots that move and in words.

Owns the comparison of two plans. Told as events and as answers to an operator's verbs by
`edge_lb.agent`, before it happens by `edge_lb.forecast`. Chains are no change here: no new flow
moves with them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_lb.fastring import moved
from edge_lb.plan import Plan, PlannedReal

WEIGHTS_CHANGED = "weights changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class VipChange:
    """What a new plan does to one VIP: `slots` of RING_SLOTS get another real."""

    vip: str
    slots: int
    words: str


Changes = tuple[VipChange, ...]


def diff(old: Plan | None, new: Plan) -> Changes:
    """What `new` changes for new flows and for reals, a VIP at a time, in words for a person."""
    before = {vip.name: vip for vip in old.vips} if old is not None else {}
    old_reals = _reals_by_vip(old) if old is not None else {}
    new_reals = _reals_by_vip(new)
    changes: list[VipChange] = []
    for vip in new.vips:
        known = before.pop(vip.name, None)
        if known is None:
            slots = len(vip.ring)
        else:  # most VIPs of a plan keep the very ring
            slots = 0 if known.ring is vip.ring else moved(known.ring, vip.ring)
        words = _words(old_reals.get(vip.name, {}), new_reals.get(vip.name, {}))
        if known is None:
            words = f"added; {words}" if words else "added"
        if slots or words:
            changes.append(VipChange(vip=vip.name, slots=slots, words=words or WEIGHTS_CHANGED))
    changes += [
        VipChange(vip=name, slots=len(gone.ring), words="removed") for name, gone in before.items()
    ]
    return tuple(changes)


def _reals_by_vip(plan: Plan) -> dict[str, dict[str, PlannedReal]]:
    by_vip: dict[str, dict[str, PlannedReal]] = {}
    for real in plan.reals:
        vip, _, name = real.name.partition("/")
        by_vip.setdefault(vip, {})[name] = real
    return by_vip


def _words(old: Mapping[str, PlannedReal], new: Mapping[str, PlannedReal]) -> str:
    """Like `web1 up -> down, web4 added as up, web2 removed`."""
    said: list[str] = []
    for name, real in new.items():
        known = old.get(name)
        if known is None:
            said.append(f"{name} added as {real.state.value}")
        elif known.state is not real.state:
            said.append(f"{name} {known.state.value} -> {real.state.value}")
        elif (known.address, known.encap) != (real.address, real.encap):
            said.append(f"{name} moved to {real.address} by {real.encap}")
    said += [f"{name} removed" for name in old if name not in new]
    return ", ".join(said)
