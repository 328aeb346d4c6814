"""Rules by hand: what they may be, how they end, and what an operator is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from types import SimpleNamespace
from typing import cast

import pytest
from site_fleet import FRA, fleet

from edge_lb.agent import EdgeAgent
from edge_lb.datapath import Datapath
from edge_lb.filter_admin import FilterSeat
from edge_lb.filter_keeper import FilterKeeper
from gslb.fleet.model import FilterAction, FilterRule
from gslb.service.admin import AdminRefusal
from gslb.service.events import EventLog
from gslb.service.lifecycle import ExitCode

NOW_S = 1000.0
DENY = {"prefix": "198.18.0.0/15", "action": "deny", "for_s": "1800", "by": "anna"}
CONFIGURED = FilterRule(
    name="scanners",
    prefix=ip_network("203.0.113.0/24"),
    action=FilterAction.DENY,
    rate=None,
    vips=(),
)


class Stand:
    """An agent that settles at once, without a data plane."""

    def __init__(self) -> None:
        self.keeper = FilterKeeper(cast(Datapath, None), FRA, ())
        self.settled = 0
        agent = SimpleNamespace(
            filter=self.keeper,
            fleet=replace(fleet(), filters={"scanners": CONFIGURED}),
            settings=SimpleNamespace(site=FRA),
            seats=SimpleNamespace(vips={"www": 0, "tls": 1}),
            settle=self._settle,
        )
        self.events = EventLog()
        self.seat = FilterSeat(cast(EdgeAgent, agent), self.events)

    async def _settle(self) -> None:
        self.settled += 1

    async def refused(self, params: Mapping[str, str]) -> tuple[ExitCode, str]:
        with pytest.raises(AdminRefusal) as refusal:
            await self.seat.add(params)
        return refusal.value.code, refusal.value.message


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    monkeypatch.setattr("gslb.service.clock.unix_s", lambda: NOW_S)
    return Stand()


async def test_a_rule_is_taken_in_shown_and_taken_out(stand: Stand):
    added = await stand.seat.add({**DENY, "vips": "www", "reason": "flood"})
    listed = (await stand.seat.show({})).rules
    removed = await stand.seat.remove({"prefix": "198.18.0.0/15"})

    assert added.message == "198.18.0.0/15 to www is denied on this edge, for 1800 s"
    assert [(row.name, row.prefix, row.vips, row.until_s, row.reason) for row in listed] == [
        ("scanners", "203.0.113.0/24", (), 0.0, "fleet.toml"),
        ("by anna", "198.18.0.0/15", ("www",), NOW_S + 1800, "flood"),
    ]
    assert removed.message == "the rule by hand for 198.18.0.0/15 is gone from this edge"
    assert (stand.keeper.by_hand, stand.settled) == ((), 2)
    assert [event.name for event in stand.events.since(0)] == ["filter.added", "filter.removed"]


async def test_a_limit_has_a_burst_of_a_tenth_of_a_second(stand: Stand):
    limit = {**DENY, "action": "limit", "packets_per_s": "500"}

    added = await stand.seat.add(limit)
    burst = (await stand.seat.add({**limit, "burst": "7"})).message

    assert "limited to 500 packets a second, 50 at once" in added.message
    assert "7 at once" in burst
    assert len(stand.keeper.by_hand) == 1  # the second took the first one's place


@pytest.mark.parametrize(
    ("changed", "code", "text"),
    [
        ({"action": "deyn"}, ExitCode.USAGE, "no action `deyn`; did you mean `deny`?"),
        ({"prefix": "198.18.0.1/15"}, ExitCode.USAGE, "has host bits set"),
        ({"for_s": "0"}, ExitCode.USAGE, "for_s: 0 is out of range; 1..2592000"),
        ({"for_s": "soon"}, ExitCode.USAGE, "for_s: `soon` is not a number"),
        ({"packets_per_s": "5"}, ExitCode.USAGE, "belongs to the action `limit`"),
        ({"action": "limit"}, ExitCode.USAGE, "belongs to the action `limit`"),
        ({"vips": "wwww"}, ExitCode.USAGE, "no VIP `wwww` here; did you mean `www`?"),
        (
            {"action": "limit", "packets_per_s": "1", "burst": "9999"},
            ExitCode.USAGE,
            "limit.burst: 9999 is out of range",
        ),
        ({"prefix": "0.0.0.0/7"}, ExitCode.UNSAFE, "a large part of the Internet; force it"),
        ({"prefix": "2000::/15"}, ExitCode.UNSAFE, "a large part of the Internet; force it"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    stand: Stand, changed: Mapping[str, str], code: ExitCode, text: str
):
    refusal = await stand.refused({**DENY, **changed})

    assert refusal[0] is code
    assert text in refusal[1]
    assert stand.keeper.by_hand == ()


async def test_force_denies_everything(stand: Stand):
    await stand.seat.add({**DENY, "prefix": "0.0.0.0/0", "force": "1"})

    assert [rule.prefix for rule in stand.keeper.by_hand] == ["0.0.0.0/0"]


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("203.0.113.0/24", "203.0.113.0/24 is filter `scanners` of fleet.toml; change it there"),
        ("198.51.100.0/24", "no rule by hand for 198.51.100.0/24; did you mean `198.18.0.0/15`?"),
    ],
)
async def test_only_a_rule_by_hand_can_be_removed(stand: Stand, prefix: str, text: str):
    await stand.seat.add(DENY)

    with pytest.raises(AdminRefusal, match=r"of fleet.toml|no rule by hand") as refusal:
        await stand.seat.remove({"prefix": prefix})

    assert refusal.value.message == text


async def test_a_rule_ends_when_its_time_is_over(stand: Stand):
    await stand.seat.add(DENY)
    keeper = stand.keeper

    assert not keeper.unsettled(NOW_S + 1799)
    assert keeper.expire(NOW_S + 1799) == ()
    assert keeper.unsettled(NOW_S + 1800)
    assert [rule.prefix for rule in keeper.expire(NOW_S + 1800)] == ["198.18.0.0/15"]
    assert keeper.by_hand == ()


async def test_a_full_filter_takes_no_more(stand: Stand, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_lb.filter.ENTRIES_MAX", 1)

    code, text = await stand.refused(DENY)

    assert (code, text) == (ExitCode.FAILED, "the filter is full; remove a rule first")
