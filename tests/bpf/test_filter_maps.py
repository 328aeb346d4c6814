"""The source filter in the kernel: longest match, buckets, counters, what a change leaves alone."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest
from datapath_plans import VIP, plan, real, ring_to, vip

from bpf.maps import Counter
from bpf.packets import SYN, TCP, ethernet, frame_of, ip, ipv4, tcp
from bpf.trial import XDP_DROP, XDP_PASS
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.filter import ENTRIES_MAX, FilterPlan, plan_filter
from edge_lb.filter_maps import FilterMaps
from gslb.fleet.model import Address, FilterAction, FilterRule, Rate, VipName
from tests.unit import site_fleet

pytestmark = pytest.mark.bpf

WWW, TLS = site_fleet.WWW, site_fleet.TLS
SEATS = {WWW: 0, TLS: 1}
OTHER_VIP = IPv4Address("192.0.2.81")
FRAME_BYTES = 54
DENY, ALLOW, LIMIT = FilterAction.DENY, FilterAction.ALLOW, FilterAction.LIMIT


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy with two VIPs."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=64)
    made.open_private()
    vips = [vip(ring_to(1)), vip(ring_to(1), index=1, address=OTHER_VIP)]
    made.apply(plan([real(1)], vips))
    yield made
    made.close()


@pytest.fixture
def maps(datapath: Datapath) -> FilterMaps:
    return FilterMaps(datapath.program)


def rule(
    prefix: str,
    action: FilterAction,
    *,
    rate: Rate | None = None,
    vips: tuple[VipName, ...] = (),
) -> FilterRule:
    return FilterRule(name=prefix, prefix=ip_network(prefix), action=action, rate=rate, vips=vips)


def apply(maps: FilterMaps, *rules: FilterRule, limit: Rate | None = None) -> FilterPlan:
    """The rules in force, `limit` on the first VIP."""
    fleet = site_fleet.fleet()
    vips = {**fleet.vips, WWW: replace(fleet.vips[WWW], limit=limit)}
    fleet = replace(fleet, vips=vips, filters={rule.name: rule for rule in rules})
    made = plan_filter(
        fleet, site_fleet.FRA, SEATS, (), maps.read_back(), ticks_per_s=maps.ticks_per_s
    )
    maps.apply(made)
    return made


def verdict(datapath: Datapath, bench: Workbench, client: str, destination: Address = VIP) -> str:
    """The verdict of one SYN."""
    before = datapath.verdicts()
    frame = frame_of(ip(client, str(destination), TCP, tcp(40000, 80, SYN)))
    datapath.program.test_run(frame, ifindex=bench.in_ifindex)
    (name,) = [n for n, c in datapath.verdicts().items() if c.packets != before[n].packets]
    return name


def admitted(datapath: Datapath, bench: Workbench, client: str, packets: int = 10) -> int:
    """How many of these packets, sent at once, were let pass."""
    sent = [verdict(datapath, bench, client) for _ in range(packets)]
    return sent.count("FORWARDED_SYN")


def let_pass_time(maps: FilterMaps, datapath: Datapath, buckets: str, index: int, ticks: int):
    """As if a bucket had been left alone for so long."""
    held = datapath.program.maps[buckets]
    full_at = held.at(index).integer("full_at_ticks")
    held.put_at(index, held.shape.value.pack(full_at_ticks=full_at - ticks))


def test_the_longest_prefix_decides(datapath: Datapath, bench: Workbench, maps: FilterMaps):
    apply(
        maps,
        rule("198.18.0.0/15", DENY),
        rule("198.18.7.0/24", ALLOW),
        rule("198.18.7.9/32", DENY),
    )

    seen = {
        client: verdict(datapath, bench, client)
        for client in ("198.17.255.255", "198.18.0.1", "198.19.255.255", "198.18.7.1", "198.18.7.9")
    }

    assert seen == {
        "198.17.255.255": "FORWARDED_SYN",
        "198.18.0.1": "DROPPED_DENIED",
        "198.19.255.255": "DROPPED_DENIED",
        "198.18.7.1": "FORWARDED_SYN",
        "198.18.7.9": "DROPPED_DENIED",
    }


def test_every_rule_counts_its_own(datapath: Datapath, bench: Workbench, maps: FilterMaps):
    wide, part = rule("198.18.0.0/15", DENY), rule("198.18.7.0/24", ALLOW)
    made = apply(maps, wide, part)

    for client in ("198.18.0.1", "198.18.0.2", "198.18.7.1", "203.0.113.1"):
        verdict(datapath, bench, client)

    nothing = Counter(packets=0, bytes=0)
    assert maps.rule_counters(made.indexes[wide]) == (
        nothing,
        Counter(packets=2, bytes=2 * FRAME_BYTES),
    )
    assert maps.rule_counters(made.indexes[part]) == (
        Counter(packets=1, bytes=FRAME_BYTES),
        nothing,
    )


def test_rules_for_ipv6_judge_ipv6_clients_alone(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    address = IPv6Address("2001:db8:80::1")
    datapath.apply(plan([real(1)], [vip(ring_to(1)), vip(ring_to(1), index=1, address=address)]))
    made = apply(maps, rule("::/0", DENY), rule("2001:db8:7::/48", ALLOW))

    denied = verdict(datapath, bench, "2001:db8:8::1", address)
    allowed = verdict(datapath, bench, "2001:db8:7::1", address)

    assert (denied, allowed) == ("DROPPED_DENIED", "FORWARDED_SYN")
    assert verdict(datapath, bench, "198.18.0.1") == "FORWARDED_SYN"
    counted = [maps.rule_counters(index) for index in made.indexes.values()]
    assert [(passed.packets, dropped.packets) for passed, dropped in counted] == [(0, 1), (1, 0)]


def test_a_default_deny_takes_nothing_from_the_edge_itself(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    made = apply(maps, rule("0.0.0.0/0", DENY))

    assert verdict(datapath, bench, "203.0.113.1") == "DROPPED_DENIED"
    own = IPv4Address("10.50.0.1")
    assert verdict(datapath, bench, "203.0.113.1", own) == "PASSED_NOT_VIP"
    (index,) = made.indexes.values()
    assert maps.rule_counters(index)[1].packets == 1


def test_a_rule_of_some_vips_leaves_the_others_alone(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    apply(
        maps,
        rule("198.18.0.0/15", DENY, vips=(TLS,)),
        rule("198.18.7.0/24", ALLOW, vips=(TLS,)),
    )

    assert verdict(datapath, bench, "198.18.0.1") == "FORWARDED_SYN"
    assert verdict(datapath, bench, "198.18.0.1", OTHER_VIP) == "DROPPED_DENIED"
    assert verdict(datapath, bench, "198.18.7.1", OTHER_VIP) == "FORWARDED_SYN"


def test_a_vips_own_allow_does_not_lift_what_is_denied_to_all(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    apply(maps, rule("198.18.0.0/15", DENY), rule("198.18.7.0/24", ALLOW, vips=(WWW,)))

    assert verdict(datapath, bench, "198.18.7.1") == "DROPPED_DENIED"


def test_a_bucket_lets_its_burst_pass_and_then_what_time_refills(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    made = apply(maps, rule("198.18.0.0/15", LIMIT, rate=Rate(packets_per_s=1, burst=3)))
    (index,) = made.indexes.values()
    second = maps.ticks_per_s

    assert admitted(datapath, bench, "198.18.0.1") == 3
    let_pass_time(maps, datapath, "filter_buckets", index, 2 * second)
    assert admitted(datapath, bench, "198.19.0.1") == 2
    let_pass_time(maps, datapath, "filter_buckets", index, 100 * second)
    assert admitted(datapath, bench, "198.18.0.1") == 3
    passed, dropped = maps.rule_counters(index)
    assert (passed.packets, dropped.packets) == (8, 22)


def test_a_token_is_there_when_its_time_has_come_and_no_sooner(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    hour = Rate(packets_per_s=1, burst=3600)
    made = apply(maps, rule("198.18.0.0/15", LIMIT, rate=hour))
    (index,) = made.indexes.values()
    buckets = datapath.program.maps["filter_buckets"]
    (entry,) = made.entries.values()
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) * maps.ticks_per_s // 1_000_000_000

    minute = 60 * maps.ticks_per_s
    late = now + entry.pace.room_ticks + minute
    buckets.put_at(index, buckets.shape.value.pack(full_at_ticks=late))
    assert admitted(datapath, bench, "198.18.0.1", packets=3) == 0
    assert buckets.at(index).integer("full_at_ticks") == late  # a refused packet writes nothing

    buckets.put_at(index, buckets.shape.value.pack(full_at_ticks=now + entry.pace.room_ticks))
    assert admitted(datapath, bench, "198.18.0.1", packets=1) == 1
    taken = buckets.at(index).integer("full_at_ticks")
    assert taken == now + entry.pace.room_ticks + entry.pace.interval_ticks


def test_cores_that_race_share_one_bucket(datapath: Datapath, maps: FilterMaps):
    burst = 150
    made = apply(maps, rule("198.18.0.0/15", LIMIT, rate=Rate(packets_per_s=1, burst=burst)))
    frame = ethernet(ipv4("198.18.0.1", str(VIP), TCP, tcp(40000, 80, SYN)))
    threads, packets, cpus = 4, 100, sorted(os.sched_getaffinity(os.getpid()))

    def flood(number: int) -> None:
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})
        for _ in range(packets):
            datapath.program.test_run(frame)

    began_s = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        tuple(pool.map(flood, range(threads)))
    refilled = int(time.monotonic() - began_s) + 1

    passed, dropped = maps.rule_counters(*made.indexes.values())
    assert burst <= passed.packets <= burst + refilled
    assert passed.packets + dropped.packets == threads * packets


def test_the_limit_of_a_vip_is_over_all_its_clients(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    apply(maps, limit=Rate(packets_per_s=1, burst=2))

    seen = [verdict(datapath, bench, f"198.18.0.{host}") for host in range(4)]

    assert seen == ["FORWARDED_SYN"] * 2 + ["DROPPED_VIP_RATE"] * 2
    assert verdict(datapath, bench, "198.18.0.1", OTHER_VIP) == "FORWARDED_SYN"
    assert maps.limited(0).packets == 2


def test_a_changed_rate_starts_full_and_an_unchanged_one_goes_on(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    slow = rule("198.18.0.0/15", LIMIT, rate=Rate(packets_per_s=1, burst=3600))
    apply(maps, slow)
    admitted(datapath, bench, "198.18.0.1", packets=20)
    used = datapath.program.maps["filter_buckets"].at(0).integer("full_at_ticks")

    made = apply(maps, slow, rule("203.0.113.0/24", DENY))
    assert datapath.program.maps["filter_buckets"].at(0).integer("full_at_ticks") == used
    assert maps.rule_counters(made.indexes[slow])[0].packets == 20

    apply(maps, replace(slow, rate=Rate(packets_per_s=1, burst=2)))
    assert admitted(datapath, bench, "198.18.0.1") == 2


def test_what_was_applied_is_read_back_and_an_empty_filter_is_empty(maps: FilterMaps):
    rules = (
        rule("198.18.0.0/15", LIMIT, rate=Rate(packets_per_s=777_777, burst=5)),
        rule("2001:db8::/32", DENY),
        rule("0.0.0.0/0", DENY, vips=(WWW, TLS)),
    )

    made = apply(maps, *rules, limit=Rate(packets_per_s=10, burst=1))

    assert maps.read_back() == made.entries
    assert len(made.entries) == 4
    apply(maps)
    assert maps.read_back() == {}


def test_an_empty_filter_looks_nothing_up(datapath: Datapath, bench: Workbench, maps: FilterMaps):
    apply(maps, rule("0.0.0.0/0", DENY), limit=Rate(packets_per_s=1, burst=1))
    settings = datapath.program.maps["filter_settings"]

    settings.put_at(0, bytes(settings.shape.value.size))

    assert admitted(datapath, bench, "198.18.0.1", packets=3) == 3
    assert maps.limited(0).packets == 0


def test_the_agent_knows_how_much_the_maps_hold(datapath: Datapath):
    held = datapath.program.maps

    assert held["filter_buckets"].shape.max_entries == ENTRIES_MAX
    assert held["filter_ipv4"].shape.max_entries == 2 * ENTRIES_MAX


def test_rules_outlive_the_agent(bench: Workbench, pin_dir: Path):
    first = Datapath("out0", pin_dir, flows_per_queue=64)
    bench.release("out0")
    first.open()
    made = apply(FilterMaps(first.program), rule("198.18.0.0/15", DENY))
    first.apply(plan([real(1)], [vip(ring_to(1))]))
    assert verdict(first, bench, "198.18.0.1") == "DROPPED_DENIED"
    first.close()

    second = Datapath("out0", pin_dir, flows_per_queue=64)
    second.open()
    maps = FilterMaps(second.program)
    assert maps.read_back() == made.entries
    assert verdict(second, bench, "198.18.0.1") == "DROPPED_DENIED"
    again = apply(maps, rule("198.18.0.0/15", DENY))
    (index,) = again.indexes.values()
    assert maps.rule_counters(index)[1].packets == 2
    second.unload()


def test_actions_of_dropped_and_passed_packets(
    datapath: Datapath, bench: Workbench, maps: FilterMaps
):
    apply(maps, rule("198.18.0.0/15", DENY))

    def action(destination: str) -> int:
        frame = ethernet(ipv4("198.18.0.1", destination, TCP, tcp(40000, 80, SYN)))
        return datapath.program.test_run(frame, ifindex=bench.in_ifindex).action

    assert (action(str(VIP)), action("10.50.0.1")) == (XDP_DROP, XDP_PASS)
