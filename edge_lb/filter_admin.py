"""The source filter's admin seat at an edge: what it does, rules by hand, and the metrics.

Owns what a rule by hand may be: it ends by itself, names what exists, and does not shut out a large
part of the Internet unless it is forced. Called by `edge_lb.edge_admin`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bpf.maps import Counter
from edge_lb.agent import EdgeAgent
from edge_lb.filter import HandRule
from gslb.fleet import views
from gslb.fleet.config import nearest, rate_of
from gslb.fleet.config_rules import parse_network, rate_faults
from gslb.fleet.model import FilterAction, FilterRule, Network, VipName
from gslb.service import clock
from gslb.service.admin import AdminRefusal, AdminServer
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode
from gslb.service.metrics import Registry, Sample

LIFE_MAX_S = 30 * 86400.0
WIDE_BITS = {4: 8, 6: 16}
"""A shorter prefix is denied only by force."""

_NOTHING = Counter(packets=0, bytes=0)


def serve_filter(
    admin: AdminServer, registry: Registry, agent: EdgeAgent, events: EventLog
) -> None:
    """Put the filter's routes and metrics on the edge's admin server."""
    seat = FilterSeat(agent, events)
    admin.show("/filter", seat.show)
    admin.change("/filter/add", seat.add)
    admin.change("/filter/remove", seat.remove)

    def rules(field: str) -> Callable[[], Iterator[Sample]]:
        def supply() -> Iterator[Sample]:
            for row in seat.rules():
                if row.in_force:
                    labels = {"rule": row.name, "prefix": row.prefix, "vips": " ".join(row.vips)}
                    yield labels, getattr(row, field)

        return supply

    def limited() -> Iterator[Sample]:
        for row in seat.limits():
            yield {"vip": row.vip}, row.dropped_packets

    registry.register(
        "edge_filter_passed_packets",
        "packets that a rule of the source filter let pass",
        "counter",
        rules("passed_packets"),
    )
    registry.register(
        "edge_filter_dropped_packets",
        "packets that a rule of the source filter dropped",
        "counter",
        rules("dropped_packets"),
    )
    registry.register(
        "edge_vip_limited_packets", "packets that a VIP's limit dropped", "counter", limited
    )


class FilterSeat:
    """What an operator sees of the filter, and may change by hand."""

    def __init__(self, agent: EdgeAgent, events: EventLog) -> None:
        self._agent = agent
        self._events = events

    async def show(self, _params: Mapping[str, str]) -> views.FilterList:
        """GET /filter: every rule with its counters, and every VIP's limit."""
        return views.FilterList(rules=tuple(self.rules()), limits=tuple(self.limits()))

    async def add(self, params: Mapping[str, str]) -> views.Done:
        """A rule by hand, here and for a time."""
        rule = self._rule(params)
        agent = self._agent
        prefix = parse_network(rule.prefix)
        wide = prefix.prefixlen < WIDE_BITS[prefix.version]
        if wide and rule.action is not FilterAction.ALLOW and not _is_set(params, "force"):
            text = f"{prefix} is a large part of the Internet; force it if meant"
            raise AdminRefusal(ExitCode.UNSAFE, text)
        if not agent.filter.room_for(agent.fleet, rule):
            raise AdminRefusal(ExitCode.FAILED, "the filter is full; remove a rule first")
        agent.filter.add(rule)
        self._events.add(
            "filter.added", prefix=rule.prefix, action=rule.action, by=rule.by, reason=rule.reason
        )
        await self._settle(f"the rule for {rule.prefix} is kept")
        left_s = rule.until_s - clock.unix_s()
        return views.Done(message=f"{_words(rule)} on this edge, for {round(left_s)} s")

    async def remove(self, params: Mapping[str, str]) -> views.Done:
        """End a rule by hand."""
        prefix = _prefix(params)
        agent = self._agent
        if not agent.filter.remove(prefix):
            configured = [r.name for r in agent.fleet.filters.values() if r.prefix == prefix]
            if configured:
                text = f"{prefix} is filter `{configured[0]}` of fleet.toml; change it there"
            else:
                known = [rule.prefix for rule in agent.filter.by_hand]
                text = f"no rule by hand for {prefix}; {nearest(str(prefix), known)}"
            raise AdminRefusal(ExitCode.USAGE, text.removesuffix("; "))
        self._events.add("filter.removed", prefix=str(prefix), by=params.get("by", ""))
        await self._settle(f"the rule for {prefix} is taken out")
        return views.Done(message=f"the rule by hand for {prefix} is gone from this edge")

    def rules(self) -> Iterator[views.FilterRow]:
        """Every rule; those of fleet.toml first."""
        for rule in self._agent.fleet.filters.values():
            yield self._row(rule, until_s=0.0, reason="fleet.toml")
        for kept in self._agent.filter.by_hand:
            yield self._row(kept.rule(), until_s=kept.until_s, reason=kept.reason)

    def limits(self) -> Iterator[views.VipLimitRow]:
        """Every VIP of this site that has a limit."""
        agent = self._agent
        for vip in agent.fleet.vips_of_site(agent.settings.site):
            if vip.limit is None:
                continue
            dropped = agent.filter.maps.limited(agent.seats.vips[vip.name])
            yield views.VipLimitRow(
                vip=vip.name,
                packets_per_s=vip.limit.packets_per_s,
                burst=vip.limit.burst,
                dropped_packets=dropped.packets,
                dropped_bytes=dropped.bytes,
            )

    def _row(self, rule: FilterRule, *, until_s: float, reason: str) -> views.FilterRow:
        keeper = self._agent.filter
        number = keeper.number(rule)
        passed, dropped = _NOTHING, _NOTHING
        if number is not None:
            passed, dropped = keeper.maps.rule_counters(number)
        return views.FilterRow(
            name=rule.name,
            prefix=str(rule.prefix),
            action=rule.action,
            packets_per_s=rule.rate.packets_per_s if rule.rate is not None else 0,
            burst=rule.rate.burst if rule.rate is not None else 0,
            vips=rule.vips,
            in_force=number is not None,
            passed_packets=passed.packets,
            dropped_packets=dropped.packets,
            dropped_bytes=dropped.bytes,
            until_s=until_s,
            reason=reason,
        )

    def _rule(self, params: Mapping[str, str]) -> HandRule:
        action = params.get("action", "")
        if action not in set(FilterAction):
            text = f"no action `{action}`; {nearest(action, list(FilterAction))}"
            raise AdminRefusal(ExitCode.USAGE, text)
        packets_per_s, life_s = _number(params, "packets_per_s", 0), _number(params, "for_s", 0)
        burst = _number(params, "burst", 0) if params.get("burst") else None
        if not 1 <= life_s <= LIFE_MAX_S:
            text = f"for_s: {life_s} is out of range; 1..{round(LIFE_MAX_S)}"
            raise AdminRefusal(ExitCode.USAGE, text)
        if (action == FilterAction.LIMIT) != (packets_per_s != 0):
            raise AdminRefusal(ExitCode.USAGE, "packets_per_s belongs to the action `limit`")
        for at, reason, advice in rate_faults("limit", packets_per_s, burst):
            raise AdminRefusal(ExitCode.USAGE, f"{at}: {reason}; {advice}")
        rate = rate_of(packets_per_s, burst)
        return HandRule(
            prefix=str(_prefix(params)),
            action=FilterAction(action),
            until_s=clock.unix_s() + life_s,
            by=params.get("by") or "operator",
            reason=params.get("reason") or "no reason given",
            packets_per_s=packets_per_s,
            burst=rate.burst if rate is not None else 0,
            vips=self._vips(params.get("vips", "")),
        )

    def _vips(self, text: str) -> tuple[str, ...]:
        here = {vip.name for vip in self._agent.fleet.vips_of_site(self._agent.settings.site)}
        names = tuple(dict.fromkeys(text.split()))
        for name in names:
            if VipName(name) not in here:
                raise AdminRefusal(ExitCode.USAGE, f"no VIP `{name}` here; {nearest(name, here)}")
        return names

    async def _settle(self, kept: str) -> None:
        await self._agent.settle()
        if self._agent.filter.trouble:
            raise AdminRefusal(ExitCode.FAILED, f"{kept}: {self._agent.filter.trouble}")


def _words(rule: HandRule) -> str:
    target = f" to {', '.join(rule.vips)}" if rule.vips else ""
    match rule.action:
        case FilterAction.ALLOW:
            return f"{rule.prefix}{target} is allowed"
        case FilterAction.DENY:
            return f"{rule.prefix}{target} is denied"
        case FilterAction.LIMIT:
            return (
                f"{rule.prefix}{target} is limited to {rule.packets_per_s} packets a second,"
                f" {rule.burst} at once"
            )


def _prefix(params: Mapping[str, str]) -> Network:
    try:
        return parse_network(params.get("prefix", ""))
    except ValueError as error:
        text = f"not a prefix: {error}; like 192.0.2.0/24, no host bits"
        raise AdminRefusal(ExitCode.USAGE, text) from None


def _number(params: Mapping[str, str], name: str, otherwise: int) -> int:
    text = params.get(name, "")
    if text and not text.isdecimal():
        raise AdminRefusal(ExitCode.USAGE, f"{name}: `{text}` is not a number")
    return int(text) if text else otherwise


def _is_set(params: Mapping[str, str], name: str) -> bool:
    return params.get(name, "") in {"1", "true", "yes"}
