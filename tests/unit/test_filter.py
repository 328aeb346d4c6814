"""Rules into entries: scopes, numbers that last, rules by hand, and the order of writing."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st
from site_fleet import FRA, TLS, WWW, fleet

from edge_lb.filter import (
    ALL_VIPS,
    ENTRIES_MAX,
    Entries,
    Entry,
    EntryKey,
    FilterPlan,
    HandRule,
    Pace,
    capacity_faults,
    deciding,
    pace,
    plan_filter,
    steps,
)
from gslb.fleet.model import Address, FilterAction, FilterRule, Rate, VipName

DENY, ALLOW, LIMIT = FilterAction.DENY, FilterAction.ALLOW, FilterAction.LIMIT
NOTHING: Entries = MappingProxyType({})
SEATS = {"www": 4, "tls": 7}
TICKS = 16_000_000_000


def rule(
    prefix: str,
    action: FilterAction = DENY,
    *,
    rate: Rate | None = None,
    vips: tuple[VipName, ...] = (),
) -> FilterRule:
    return FilterRule(name=prefix, prefix=ip_network(prefix), action=action, rate=rate, vips=vips)


def by_hand(
    prefix: str, action: FilterAction = DENY, *, vips: tuple[str, ...] = (), rate: int = 0
) -> HandRule:
    return HandRule(
        prefix=prefix,
        action=action,
        until_s=9.0,
        by="anna",
        reason="flood",
        packets_per_s=rate,
        burst=max(1, rate),
        vips=vips,
    )


def planned(
    *rules: FilterRule, hand: tuple[HandRule, ...] = (), held: Entries = NOTHING
) -> FilterPlan:
    world = replace(fleet(), filters={one.name: one for one in rules})
    return plan_filter(world, FRA, SEATS, hand, held, ticks_per_s=TICKS)


def test_a_rule_has_an_entry_for_all_or_for_each_vip_it_names():
    made = planned(rule("10.0.0.0/8"), rule("10.1.0.0/16", vips=(WWW, TLS)))

    assert {(key.scope, str(key.prefix)) for key in made.entries} == {
        (ALL_VIPS, "10.0.0.0/8"),
        (5, "10.1.0.0/16"),
        (8, "10.1.0.0/16"),
    }
    assert made.scoped_vips == {4, 7}
    assert len(made.indexes) == 2


def test_a_rule_whose_vips_are_elsewhere_is_for_nobody():
    made = planned(
        rule("10.0.0.0/8", vips=(VipName("web-sin"),)),
        hand=(by_hand("10.2.0.0/16", vips=("gone",)),),
    )

    assert made.entries == {}


def test_a_rule_by_hand_takes_the_place_of_the_configured_one():
    configured = rule("10.0.0.0/8", ALLOW)
    hand = by_hand("10.0.0.0/8", LIMIT, rate=100)

    made = planned(configured, hand=(hand,))

    (entry,) = made.entries.values()
    assert entry == Entry(0, LIMIT, Pace(TICKS // 100, 99 * (TICKS // 100)))
    assert list(made.indexes) == [hand.rule()]


def test_numbers_last_as_long_as_the_rule_acts_alike():
    before = planned(rule("10.0.0.0/8"), rule("10.1.0.0/16"), rule("10.2.0.0/16"))
    kept = rule("10.2.0.0/16")
    changed = rule("10.1.0.0/16", ALLOW)
    new = rule("10.3.0.0/16")

    after = planned(new, changed, kept, held=before.entries)

    assert after.indexes[kept] == 2
    assert {after.indexes[changed], after.indexes[new]} == {3, 4}  # 0 and 1 rest for once


def test_a_number_that_rests_is_given_away_only_when_no_other_is_left():
    full = [rule(f"10.{n // 256}.{n % 256}.0/24") for n in range(ENTRIES_MAX)]
    held = planned(*full).entries

    after = planned(*[rule(f"11.{n // 256}.{n % 256}.0/24") for n in range(ENTRIES_MAX)], held=held)

    assert sorted(after.indexes.values()) == list(range(ENTRIES_MAX))


def test_limits_are_by_the_index_of_the_vip():
    world = fleet()
    limited = replace(world.vips[TLS], limit=Rate(packets_per_s=1000, burst=1))

    made = plan_filter(
        replace(world, vips={**world.vips, TLS: limited}), FRA, SEATS, (), {}, ticks_per_s=TICKS
    )

    assert made.limits == {7: Pace(TICKS // 1000, 0)}


def test_a_pace_is_exact_to_half_a_percent_at_every_rate():
    for packets_per_s in (1, 3, 1000, 777_777, 30_000_000, 100_000_000):
        ticks = pace(Rate(packets_per_s=packets_per_s, burst=2), TICKS).interval_ticks
        assert abs(TICKS / ticks / packets_per_s - 1) < 0.005


def test_more_rules_than_the_maps_hold_are_a_fault():
    many = {str(n): rule(f"10.{n // 256}.{n % 256}.0/24") for n in range(ENTRIES_MAX + 1)}

    found = list(capacity_faults(replace(fleet(), filters=many)))

    assert found == [("$.filter", "8193 pairs of a prefix and a VIP", "an edge holds 8192")]
    assert list(capacity_faults(fleet())) == []


def test_rules_that_judge_a_client_are_told_in_their_order():
    wide, part = rule("10.0.0.0/8"), rule("10.1.0.0/16", ALLOW)
    own = rule("0.0.0.0/0", LIMIT, rate=Rate(packets_per_s=5, burst=1), vips=(WWW,))
    made = planned(wide, part, own)

    def judges(client: str, vip_index: int | None) -> tuple[FilterRule, ...]:
        return deciding(made, ip_address(client), vip_index)

    assert judges("10.1.2.3", SEATS["www"]) == (part, own)
    assert judges("10.2.0.1", SEATS["tls"]) == (wide,)
    assert judges("10.2.0.1", None) == (wide,)
    assert judges("11.0.0.1", SEATS["tls"]) == ()
    assert judges("2001:db8::1", SEATS["www"]) == ()


PREFIXES = ("0.0.0.0/0", "0.0.0.0/1", "0.0.0.0/2", "64.0.0.0/2", "0.0.0.0/3", "32.0.0.0/3")
CLIENTS = tuple(ip_address(f"{first}.0.0.1") for first in range(0, 256, 16))
CONTENTS = st.dictionaries(st.sampled_from(PREFIXES), st.integers(0, 3))


def entries(content: dict[str, int]) -> dict[EntryKey, Entry]:
    return {
        EntryKey(ALL_VIPS, ip_network(prefix)): Entry(number, DENY, Pace())
        for prefix, number in content.items()
    }


def longest(held: Entries, client: Address) -> Entry | None:
    covering = [key for key in held if client in key.prefix]
    return held[max(covering, key=lambda key: key.prefix.prefixlen)] if covering else None


@given(CONTENTS, CONTENTS)
def test_every_client_meets_its_old_rule_or_its_new_one(
    before: dict[str, int], after: dict[str, int]
):
    old, new = entries(before), entries(after)
    now = dict(old)

    for step in (part for half in steps(old, new) for part in half):
        if step.entry is not None:
            now[step.key] = step.entry
        else:
            del now[step.key]
        for client in CLIENTS:
            allowed = (longest(old, client), longest(new, client))
            assert longest(now, client) in allowed
    assert now == new
