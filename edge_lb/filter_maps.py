"""The source filter's maps of lb.bpf.c: rules and limits in, counters out.

Owns what those maps hold and the order of writing them; the rules come planned from
`edge_lb.filter`. Used by `edge_lb.filter_keeper` and by tests. Entries are changed in place, so
counters and buckets of what stays go on. Blocks for milliseconds.
"""

from __future__ import annotations

from ipaddress import ip_network

from bpf.layout import Record
from bpf.maps import Counter, Map
from bpf.program import Program
from edge_lb.filter import Entry, EntryKey, FilterPlan, Pace, Step, steps
from gslb.fleet.model import FilterAction, Network

NS_PER_S = 1_000_000_000
SCOPE_BITS = 32


class FilterMaps:
    """The filter of one loaded program."""

    def __init__(self, program: Program) -> None:
        self._maps = program.maps
        ticks_per_ns = {name: number for number, name in program.btf.enum("filter_clock")}
        self.ticks_per_s = ticks_per_ns["FILTER_TICKS_PER_NS"] * NS_PER_S

    def read_back(self) -> dict[EntryKey, Entry]:
        """The entries that the maps hold now."""
        found: dict[EntryKey, Entry] = {}
        for name in ("filter_ipv4", "filter_ipv6"):
            for key, value in self._maps[name].items():
                bits = key.integer("prefix_bits") - SCOPE_BITS
                prefix = ip_network((key.octets("address"), bits))
                found[EntryKey(key.integer("scope"), prefix)] = _entry(value)
        return found

    def apply(self, plan: FilterPlan) -> None:
        """Makes the maps say what the plan says. Safe to repeat after a failure half-way."""
        held = self.read_back()
        put, removed = steps(held, plan.entries)
        numbers = {entry.index for entry in held.values()}
        for step in put:
            self._put(step, held.get(step.key), numbers)
        self._write_limits(plan)
        self._write_settings(plan)
        for step in removed:
            self._trie(step.key.prefix).delete(self._key(step.key))

    def rule_counters(self, index: int) -> tuple[Counter, Counter]:
        """What the rule of that number let pass, and what it dropped."""
        return self._maps["filter_passed"].total(index), self._maps["filter_dropped"].total(index)

    def limited(self, vip_index: int) -> Counter:
        """What the limit of that VIP dropped."""
        return self._maps["vip_limited"].total(vip_index)

    def _put(self, step: Step, old: Entry | None, numbers: set[int]) -> None:
        entry = step.entry
        if entry is None:
            return
        if entry.index not in numbers:
            for name in ("filter_passed", "filter_dropped"):
                _clear(self._maps[name], entry.index)
            numbers.add(entry.index)
        if old is None or (old.index, old.pace) != (entry.index, entry.pace):
            _clear(self._maps["filter_buckets"], entry.index)
        trie = self._trie(step.key.prefix)
        value = trie.shape.value.pack(
            index=entry.index,
            action=f"FILTER_{entry.action.name}",
            interval_ticks=entry.pace.interval_ticks,
            room_ticks=entry.pace.room_ticks,
        )
        trie.put(self._key(step.key), value)

    def _write_limits(self, plan: FilterPlan) -> None:
        limits = self._maps["vip_limits"]
        layout, scoped = limits.shape.value, plan.scoped_vips
        raw = limits.dump()
        for index in range(limits.shape.max_entries):
            old = raw[index * layout.size : (index + 1) * layout.size]
            pace = plan.limits.get(index, Pace())
            new = layout.pack(
                interval_ticks=pace.interval_ticks,
                room_ticks=pace.room_ticks,
                own_rules=int(index in scoped),
            )
            if old == new:
                continue
            before = layout.unpack(old)
            if before.integer("interval_ticks") == 0:
                _clear(self._maps["vip_limited"], index)
            if _pace(before) != pace:
                _clear(self._maps["vip_buckets"], index)
            limits.put_at(index, new)

    def _write_settings(self, plan: FilterPlan) -> None:
        settings = self._maps["filter_settings"]
        versions = [key.prefix.version for key in plan.entries]
        value = settings.shape.value.pack(
            ipv4_rules=versions.count(4),
            ipv6_rules=versions.count(6),
            vip_limits=len(plan.limits.keys() | plan.scoped_vips),
        )
        settings.put_at(0, value)

    def _trie(self, prefix: Network) -> Map:
        return self._maps[f"filter_ipv{prefix.version}"]

    def _key(self, key: EntryKey) -> bytes:
        return self._trie(key.prefix).shape.key.pack(
            prefix_bits=SCOPE_BITS + key.prefix.prefixlen,
            scope=key.scope,
            address=key.prefix.network_address.packed,
        )


def _entry(value: Record) -> Entry:
    return Entry(
        index=value.integer("index"),
        action=FilterAction[value.enum("action").removeprefix("FILTER_")],
        pace=_pace(value),
    )


def _pace(value: Record) -> Pace:
    return Pace(
        interval_ticks=value.integer("interval_ticks"), room_ticks=value.integer("room_ticks")
    )


def _clear(array: Map, index: int) -> None:
    """Zero: counters begin anew, a bucket is full."""
    array.put_at(index, bytes(array.shape.value.size))
