"""What a change would do to flows, before it is made: a reload, a drain, a death, a weight.

Owns the comparison of two situations of one site, told a VIP at a time. Called by
`edge_lb.edge_plan`; it changes nothing. Pure: it builds both plans, as the agent would, and counts
the slots that differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address

from edge_lb.plan import Plan, Standings, build_plan, diff
from edge_lb.rings import Rings
from edge_lb.seats import Seats, apart
from gslb.fleet.health import RealState
from gslb.fleet.model import Fleet, Real, RealName, SiteName, Vip, VipName

NOWHERE = IPv4Address(0)
TOLD_BY_STATES = {"name", "site", "address", "encap"}  # of a real: told by `plan.diff`
WEIGHTS_CHANGED = "weights changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a site's rings depend on."""

    fleet: Fleet
    standings: Standings
    drained: frozenset[RealName]

    def with_drained(self, name: RealName) -> Situation:
        """As it would be once this real is drained."""
        return replace(self, drained=self.drained | {name})

    def with_down(self, name: RealName) -> Situation:
        """As it would be with this real dead for every VIP."""
        dead = {(vip.name, name): RealState.DOWN for vip in self.fleet.vips.values()}
        return replace(self, standings={**self.standings, **dead})

    def with_weight(self, name: RealName, weight: int) -> Situation:
        """As it would be with another weight in fleet.toml."""
        real = replace(self.fleet.reals[name], weight=weight)
        fleet = replace(self.fleet, reals={**self.fleet.reals, name: real})
        return replace(self, fleet=fleet)


@dataclass(frozen=True, slots=True, kw_only=True)
class VipForecast:
    """One VIP that changes: `slots` get another real; `emptied` if no real is left to serve."""

    vip: str
    slots: int
    emptied: bool
    words: str


def forecast(
    site: SiteName, seats: Seats, before: Situation, after: Situation
) -> tuple[VipForecast, ...]:
    """Every VIP of `site` that would change. `seats` are those of `before`."""
    rings = Rings()
    old = _plan(site, seats, before, rings)
    new = _plan(site, apart(after.fleet, site, seats), after, rings)
    changes = {change.vip: change for change in diff(old, new)}
    served = {vip.name for vip in old.vips if any(vip.ring)}
    empty = {vip.name for vip in new.vips if not any(vip.ring)}
    told: list[VipForecast] = []
    for name in dict.fromkeys(vip.name for vip in (*new.vips, *old.vips)):
        change = changes.get(name)
        words = list(_settings(VipName(name), before.fleet, after.fleet))
        if change is not None and (change.words != WEIGHTS_CHANGED or not words):
            words.insert(0, change.words)
        if words:
            told.append(
                VipForecast(
                    vip=name,
                    slots=change.slots if change is not None else 0,
                    emptied=name in served & empty,
                    words=", ".join(words),
                )
            )
    return tuple(told)


def _plan(site: SiteName, seats: Seats, situation: Situation, rings: Rings) -> Plan:
    return build_plan(
        situation.fleet,
        site,
        seats,
        situation.standings,
        situation.drained,
        generation=0,
        tunnel_source=NOWHERE,
        mtu=0,
        rings=rings,
    )


def _settings(name: VipName, before: Fleet, after: Fleet) -> Iterator[str]:
    """What fleet.toml says otherwise of a VIP that stays, and of reals that stay behind it."""
    if name not in before.vips or name not in after.vips:
        return
    old, new = before.vips[name], after.vips[name]
    for field, was, now in _differences(old, new, {"reals", "check"}):
        yield f"{field} {was} -> {now}"
    if old.check != new.check:
        yield "check changed"
    for real in new.reals:
        if real in old.reals:
            told = _differences(before.reals[real], after.reals[real], TOLD_BY_STATES)
            for field, was, now in told:
                yield f"{real} {field} {was} -> {now}"


def _differences(old: Vip | Real, new: Vip | Real, besides: set[str]) -> Iterator[tuple[str, ...]]:
    for field in fields(old):
        was, now = getattr(old, field.name), getattr(new, field.name)
        if field.name not in besides and was != now:
            yield field.name, str(was), str(now)
