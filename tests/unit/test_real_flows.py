"""What an edge takes from the reports of reals: a real SQLite file, and a clock of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from edge_lb import real_flows
from edge_lb.real_flows import SILENT_S, RealFlows
from edge_lb.rendezvous import RING_SLOTS
from gslb.fleet.health import Override, OverrideKind
from gslb.fleet.history import RealReport, VipFlows, pack_slots
from gslb.fleet.model import RealName
from gslb.fleet.sqlite_store import SqliteStore
from gslb.service import clock
from gslb.service.events import EventLog

UNIX_S = 1_800_000_000.0
EMPTY = pack_slots(bytes(RING_SLOTS))
ONE = pack_slots(bytes((0, 1)) + bytes(RING_SLOTS - 2))


def report(
    *flows: int, real: str = "web1", sequence: int = 1, at_s: float = UNIX_S, slots: bytes = b""
) -> RealReport:
    """One VIP for each number of flows; the oldest of VIP n began n seconds after another."""
    vips = tuple(
        VipFlows(
            vip=f"vip{number}",
            flows=count,
            oldest_s=UNIX_S - 100 + number if count else None,
            slots=slots or (ONE if count else EMPTY),
        )
        for number, count in enumerate(flows)
    )
    return RealReport(
        site="fra", real=real, generation=5, sequence=sequence, observed_at_s=at_s, vips=vips
    )


class Stand:
    """A reader, a writer of its store, and clocks that the test moves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)
        monkeypatch.setattr(clock, "unix_s", lambda: UNIX_S + self.now_s - 1000.0)
        self.path = folder / "store.sqlite"
        self.store = SqliteStore(self.path, timeout_s=5.0)
        self.heard: list[tuple[RealReport, ...]] = []
        self.drained: dict[RealName, Override] = {}
        self.used: set[str] = set()
        self.events = EventLog()
        self.flows = RealFlows(
            self.store,
            "fra",
            self.events,
            drained=lambda: self.drained,
            is_chained=lambda: True,
            used=lambda: self.used,
            hear=self.heard.append,
        )

    async def hear(self, *reports: RealReport) -> None:
        for one in reports:
            await self.store.publish_real(one)
        await self.flows.look()

    def fresh(self, real: str = "web1") -> real_flows.HeldFlows | None:
        return self.flows.fresh(real, self.now_s)


@pytest.fixture
async def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stand]:
    made = Stand(tmp_path, monkeypatch)
    yield made
    await made.store.close()


async def test_flows_are_summed_and_the_oldest_is_found(stand: Stand):
    await stand.hear(report(3, 0, 4))

    held = stand.fresh()

    assert held is not None
    assert (held.flows, held.oldest_s) == (7, UNIX_S - 100)
    told = held.of("vip2")
    assert told is not None
    assert told.flows == 4
    assert stand.heard == [(report(3, 0, 4),)]
    assert held.of("nothing") is None
    assert stand.fresh("web2") is None


DRAIN = Override(
    kind=OverrideKind.REAL,
    name="web1",
    drained=True,
    by="anna",
    reason="",
    at_s=UNIX_S,
    generation=9,
)


def counted(at_s: float, *flows_since_s: float, agent_since_s: float = -10.0) -> RealReport:
    """One VIP's flows by when each is known since, in seconds after the drain."""
    vip = VipFlows(
        vip="www",
        flows=len(flows_since_s),
        oldest_s=UNIX_S + min(flows_since_s) if flows_since_s else None,
        slots=ONE if flows_since_s else EMPTY,
    )
    return RealReport(
        site="fra",
        real="web1",
        generation=int((UNIX_S + agent_since_s) * 1000),
        sequence=int(at_s * 10),
        observed_at_s=UNIX_S + at_s,
        vips=(vip,),
    )


async def test_a_drained_real_is_quiet_from_the_first_count_without_a_flow_on(stand: Stand):
    stand.drained = {RealName("web1"): DRAIN}
    since: list[float | None] = []
    for report in (counted(1), counted(3, -5.0), counted(5), counted(7, 6.5), counted(9)):
        await stand.hear(report)
        since.append(stand.flows.quiet_since(DRAIN))

    assert since == [None, None, UNIX_S + 5, UNIX_S + 5, UNIX_S + 5]
    assert [(one.name, one.detail) for one in stand.events.since(0)] == [
        ("real.quiet", {"real": "web1"})
    ]


async def test_a_drain_takes_effect_when_no_edge_sends_new_flows_any_more(stand: Stand):
    stand.drained, stand.used = {RealName("web1"): DRAIN}, {"web1", "web2"}
    stand.now_s += 20
    await stand.hear(counted(20))
    assert (stand.flows.quiet_since(DRAIN), stand.flows.effective_s(DRAIN)) == (None, UNIX_S + 20)

    stand.used = {"web2"}
    await stand.hear(counted(21))
    assert stand.flows.quiet_since(DRAIN) is None
    await stand.hear(counted(23))

    assert stand.flows.quiet_since(DRAIN) == UNIX_S + 23


async def test_checks_that_go_on_do_not_keep_a_drained_real_from_being_quiet(stand: Stand):
    stand.drained = {RealName("web1"): DRAIN}
    for report in (counted(30, -5.0, 29.0), counted(59, 58.0)):
        await stand.hear(report)
        assert stand.flows.quiet_since(DRAIN) is None

    await stand.hear(counted(63, 62.0))

    assert stand.flows.quiet_since(DRAIN) == UNIX_S + 63


async def test_ages_of_an_agent_that_restarted_prove_nothing(stand: Stand):
    stand.drained = {RealName("web1"): DRAIN}
    await stand.hear(counted(100, 90.0, agent_since_s=89.0))

    assert stand.flows.quiet_since(DRAIN) is None


async def test_a_new_drain_asks_anew(stand: Stand):
    stand.drained = {RealName("web1"): DRAIN}
    await stand.hear(counted(5))
    again = msgspec.structs.replace(DRAIN, generation=10, at_s=UNIX_S + 10)
    stand.drained = {RealName("web1"): again}

    await stand.hear(counted(11, 4.0))

    assert stand.flows.quiet_since(again) is None
    assert stand.flows.quiet_since(DRAIN) is None


async def test_a_real_that_tells_nothing_any_more_is_silent_and_its_count_is_kept(stand: Stand):
    await stand.hear(report(1))
    stand.now_s += SILENT_S
    await stand.flows.look()
    assert stand.fresh() is not None

    stand.now_s += 0.1
    await stand.flows.look()

    assert stand.fresh() is None
    assert stand.flows.reports == (report(1),)


async def test_a_report_of_long_ago_is_not_fresh_until_the_next(stand: Stand):
    await stand.hear(report(1, at_s=UNIX_S - 3600))
    assert stand.fresh() is None

    await stand.hear(report(1, sequence=2, at_s=UNIX_S - 3598))

    assert stand.fresh() is not None  # its clock is wrong, and it is alive


async def test_a_store_that_comes_back_with_old_reports_takes_nothing(stand: Stand):
    await stand.hear(report(1, sequence=7))
    stand.path.unlink()
    await stand.flows.look()

    await stand.hear(report(2, sequence=6))

    assert stand.flows.reports == (report(1, sequence=7),)


@pytest.mark.parametrize("slots", [b"nonsense", pack_slots(b"short"), pack_slots(bytes(1 << 24))])
async def test_a_report_with_bad_slots_is_left_out_and_counted(stand: Stand, slots: bytes):
    await stand.hear(report(1, real="web1", slots=slots), report(1, real="web2"))

    assert stand.flows.reports == (report(1, real="web2"),)
    assert stand.flows.malformed == 1
    fixed = msgspec.structs.replace(report(1, real="web1"), sequence=2)
    await stand.hear(fixed)
    assert stand.flows.malformed == 0
    assert fixed in stand.flows.reports
