"""What a change would do to flows, before it is made: a reload, a drain, a death, a weight.

Owns the comparison of two situations of one site, told a VIP at a time. Called by
`edge_lb.edge_plan`; it changes nothing. Pure: it builds both plans, as the agent would, and counts
the slots that differ; what becomes of old flows and their chains is `edge_lb.outlook`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address

from edge_lb.chaining import VipNow, chained_vips
from edge_lb.changes import WEIGHTS_CHANGED, diff
from edge_lb.outlook import NOTHING_CHAINED, ChainForecast, Outlook, chain_forecasts, live_flows
from edge_lb.plan import Plan, Standings, build_plan, site_members
from edge_lb.rendezvous import Member
from edge_lb.rings import Rings
from edge_lb.seats import Seats, apart
from gslb.fleet.health import RealState
from gslb.fleet.model import Fleet, Real, RealName, SiteName, Vip, VipName

NOWHERE = IPv4Address(0)
TOLD_BY_STATES = {"name", "site", "address", "encap"}  # of a real: told by `plan.diff`


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
    """One VIP that changes: `slots` get another real; `emptied` if no real is left to serve.

    `flows` are the live ones on those slots, None where not all reals say what they hold.
    """

    vip: str
    slots: int
    emptied: bool
    words: str
    flows: int | None = None
    chains: ChainForecast = NOTHING_CHAINED


def forecast(
    site: SiteName, seats: Seats, before: Situation, after: Situation, outlook: Outlook
) -> tuple[VipForecast, ...]:
    """Every VIP of `site` that would change. `seats` are those of `before`.

    A slow start is told as if it were over, but for reals that are in theirs already. So is the
    grace of a real that is down.
    """
    was = _Site(site, before, seats, outlook.weights)
    will = _Site(site, after, apart(after.fleet, site, seats), _unchanged(outlook, before, after))
    rings = Rings()
    old, new = was.plan(rings), will.plan(rings)
    old_vips, new_vips = ({vip.name: vip for vip in plan.vips} for plan in (old, new))
    changes = {change.vip: change for change in diff(old, new)}
    chained = chain_forecasts(outlook, was.chained(), will.chained(), rings)
    owners = {real.index: real.name.partition("/")[2] for real in old.reals}
    told: list[VipForecast] = []
    for name in dict.fromkeys((*new_vips, *old_vips)):
        known, coming = old_vips.get(name), new_vips.get(name)
        change = changes.get(name)
        words = list(_settings(VipName(name), before.fleet, after.fleet))
        if change is not None and (change.words != WEIGHTS_CHANGED or not words):
            words.insert(0, change.words)
        if words:
            is_served = known is not None and any(known.ring)
            told.append(
                VipForecast(
                    vip=name,
                    slots=change.slots if change is not None else 0,
                    emptied=is_served and coming is not None and not any(coming.ring),
                    words=", ".join(words),
                    flows=live_flows(outlook, known, coming, owners) if known is not None else 0,
                    chains=chained.get(name, NOTHING_CHAINED),
                )
            )
    return tuple(told)


@dataclass(frozen=True, slots=True)
class _Site:
    """One situation with the seats and weights that it is planned with."""

    name: SiteName
    now: Situation
    seats: Seats
    weights: Mapping[str, int]

    def plan(self, rings: Rings) -> Plan:
        """The plan, as the agent would build it; where packets leave by does not matter."""
        return build_plan(
            self.now.fleet,
            self.name,
            self.seats,
            self.now.standings,
            self.now.drained,
            generation=0,
            tunnel_source=NOWHERE,
            mtu=0,
            rings=rings,
            members=self.members(),
        )

    def chained(self) -> dict[str, VipNow]:
        """The VIPs that keep chains."""
        now = self.now
        return chained_vips(now.fleet, self.name, self.seats, now.standings, self.members())

    def members(self) -> dict[str, tuple[Member, ...]]:
        """Who gets new flows of each VIP."""
        now = self.now
        return site_members(
            now.fleet, self.name, self.seats, now.standings, now.drained, self.weights
        )


def _unchanged(outlook: Outlook, before: Situation, after: Situation) -> dict[str, int]:
    """The weights of reals in their slow start that fleet.toml does not give another one."""
    return {
        pair: weight
        for pair, weight in outlook.weights.items()
        if (name := RealName(pair.partition("/")[2])) in after.fleet.reals
        and after.fleet.reals[name].weight == before.fleet.reals[name].weight
    }


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
