"""The source filter of one edge: configured rules and those by hand -> map entries. Pure.

Owns which rule has which entry and number, and the order of writing: at every moment of a change
each client meets its old rule or its new one, never a third. Used by `edge_lb.filter_keeper`,
written by `edge_lb.filter_maps`. A rule is for all VIPs, or has an entry for each VIP it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gslb.fleet.config_rules import parse_network
from gslb.fleet.model import (
    Address,
    FilterAction,
    FilterRule,
    Fleet,
    Network,
    Rate,
    SiteName,
    VipName,
)

ALL_VIPS = 0
"""The scope of a rule for all VIPs; a VIP's own is its index + 1."""
ENTRIES_MAX = 8192  # bpf/filter.h declares the same


class HandRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule by an operator's hand, for this edge, until `until_s` of Unix time."""

    prefix: str
    action: FilterAction
    until_s: float
    by: str
    reason: str
    packets_per_s: int = 0
    burst: int = 0
    vips: tuple[str, ...] = ()

    def rule(self) -> FilterRule:
        """The rule that it stands for."""
        rate = Rate(packets_per_s=self.packets_per_s, burst=self.burst)
        return FilterRule(
            name=f"by {self.by}",
            prefix=parse_network(self.prefix),
            action=self.action,
            rate=rate if self.action is FilterAction.LIMIT else None,
            vips=tuple(VipName(name) for name in self.vips),
        )


@dataclass(frozen=True, slots=True)
class EntryKey:
    """What an entry is found by."""

    scope: int
    prefix: Network


@dataclass(frozen=True, slots=True)
class Pace:
    """A rate as the data plane counts it; all zero is none."""

    interval_ticks: int = 0
    room_ticks: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says. `index` numbers the rule's counters and its bucket."""

    index: int
    action: FilterAction
    pace: Pace


Entries = Mapping[EntryKey, Entry]


@dataclass(frozen=True, slots=True)
class Step:
    """One write: an entry to put, or None to remove what `key` holds."""

    key: EntryKey
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class FilterPlan:
    """All that the filter's maps shall hold. `indexes` has the number of each rule in force."""

    entries: Entries
    limits: Mapping[int, Pace]  # by VIP index
    indexes: Mapping[FilterRule, int]

    @property
    def scoped_vips(self) -> frozenset[int]:
        """Indexes of the VIPs that some rule names."""
        return frozenset(key.scope - 1 for key in self.entries if key.scope != ALL_VIPS)


def deciding(plan: FilterPlan, client: Address, vip_index: int | None) -> tuple[FilterRule, ...]:
    """The rules that judge a client: of those for all VIPs, then of the VIP's own."""
    rules = {number: rule for rule, number in plan.indexes.items()}
    scopes = (ALL_VIPS,) if vip_index is None else (ALL_VIPS, vip_index + 1)
    found: list[FilterRule] = []
    for scope in scopes:
        covering = [key for key in plan.entries if key.scope == scope and client in key.prefix]
        if covering:
            longest = max(covering, key=lambda key: key.prefix.prefixlen)
            found.append(rules[plan.entries[longest].index])
    return tuple(found)


def plan_filter(
    fleet: Fleet,
    site: SiteName,
    vip_indexes: Mapping[str, int],
    by_hand: Iterable[HandRule],
    held: Entries,
    *,
    ticks_per_s: int,
) -> FilterPlan:
    """What the maps shall hold; a rule that they hold keeps its number, and so its counters.

    A rule by hand takes the place of the configured one of the same prefix and VIPs.
    """
    here = {vip.name for vip in fleet.vips_of_site(site) if vip.name in vip_indexes}
    owners: dict[EntryKey, FilterRule] = {}
    for rule in (*fleet.filters.values(), *(kept.rule() for kept in by_hand)):
        for scope in _scopes(rule, here, vip_indexes):
            owners[EntryKey(scope, rule.prefix)] = rule
    indexes = _number(owners, held)
    return FilterPlan(
        entries={
            key: Entry(indexes[rule], rule.action, pace(rule.rate, ticks_per_s))
            for key, rule in owners.items()
        },
        limits={
            vip_indexes[vip.name]: pace(vip.limit, ticks_per_s)
            for vip in fleet.vips_of_site(site)
            if vip.limit is not None and vip.name in here
        },
        indexes=indexes,
    )


def pace(rate: Rate | None, ticks_per_s: int) -> Pace:
    """A token every interval; a full bucket has room for one and `room` of them more."""
    if rate is None:
        return Pace()
    interval = max(1, round(ticks_per_s / rate.packets_per_s))
    return Pace(interval_ticks=interval, room_ticks=(rate.burst - 1) * interval)


def steps(held: Entries, wanted: Entries) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The writes from one content to another: what to put, then what to remove.

    Long prefixes are put first and removed last. Until a client's new longest rule is there, its
    old one is; a wider rule can never show in between.
    """
    changed = [key for key, entry in wanted.items() if held.get(key) != entry]
    gone = [key for key in held if key not in wanted]
    changed.sort(key=lambda key: -key.prefix.prefixlen)
    gone.sort(key=lambda key: key.prefix.prefixlen)
    return (
        tuple(Step(key, wanted[key]) for key in changed),
        tuple(Step(key, None) for key in gone),
    )


def too_many(rules: Iterable[FilterRule]) -> int:
    """How many entries these rules need beyond what the maps hold; 0 where they fit."""
    needed = sum(max(1, len(rule.vips)) for rule in rules)
    return max(0, needed - ENTRIES_MAX)


def capacity_faults(fleet: Fleet) -> Iterator[tuple[str, str, str]]:
    """What the filter's maps cannot hold: (path, reason, advice)."""
    beyond = too_many(fleet.filters.values())
    if beyond:
        reason = f"{ENTRIES_MAX + beyond} pairs of a prefix and a VIP"
        yield "$.filter", reason, f"an edge holds {ENTRIES_MAX}"


def _scopes(rule: FilterRule, here: set[VipName], vip_indexes: Mapping[str, int]) -> Sequence[int]:
    """A rule that names VIPs of other sites only has no scope here."""
    if not rule.vips:
        return (ALL_VIPS,)
    return tuple(vip_indexes[name] + 1 for name in rule.vips if name in here)


def _number(owners: Mapping[EntryKey, FilterRule], held: Entries) -> dict[FilterRule, int]:
    """A number for every rule: the one it has, else one that no rule has had just now."""
    numbers: dict[FilterRule, int] = {}
    taken: set[int] = set()
    for key, rule in owners.items():
        old = held.get(key)
        if rule in numbers or old is None or old.action is not rule.action or old.index in taken:
            continue
        numbers[rule] = old.index
        taken.add(old.index)
    resting = {entry.index for entry in held.values()} - taken
    fresh = iter([*(i for i in range(ENTRIES_MAX) if i not in resting), *sorted(resting)])
    for rule in owners.values():
        if rule not in numbers:
            numbers[rule] = next(index for index in fresh if index not in taken)
    return numbers
