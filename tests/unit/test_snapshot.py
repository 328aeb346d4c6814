"""From reports and wills to what is believed of every VIP."""

from __future__ import annotations

from pathlib import Path

import pytest

from gslb.fleet.health import EdgeReport, Override, OverrideKind, VipState
from gslb.fleet.history import EdgeHistory, VipHistory
from gslb.fleet.model import Fleet, RealName, VipName
from gslb.fleet.snapshot import ELIGIBLE, Holdings, Snapshot, VipView, resolve
from tests.unit.fleet_files import small_fleet
from tests.unit.fleet_reports import drain, report

WEB = VipName("web-fra")
UP, DEGRADED, DOWN = VipState.UP, VipState.DEGRADED, VipState.DOWN
STALE, UNKNOWN, DRAINING = VipState.STALE, VipState.UNKNOWN, VipState.DRAINING


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return small_fleet(tmp_path)


def believed(
    fleet: Fleet, reports: list[EdgeReport], wills: list[Override] | None = None, at_s: float = 0.0
) -> VipView:
    """What is believed of web-fra `at_s` after all was received at 0."""
    return resolve(fleet, Holdings().merge(reports, wills or [], 0.0), at_s).vips[WEB]


def web(edge: str, state: VipState, *, doubt: bool = False, lease_s: float = 5.0) -> EdgeReport:
    return report(edge, {"web-fra": state}, doubt=doubt, lease_s=lease_s)


def test_before_any_report_every_vip_is_unknown_and_answered(fleet: Fleet) -> None:
    snapshot = resolve(fleet, Holdings(), 0.0)

    assert {view.state for view in snapshot.vips.values()} == {UNKNOWN}
    assert all(view.eligible for view in snapshot.vips.values())
    assert (snapshot.generation, snapshot.store_ok) == (0, True)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([UP], UP),
        ([UP, UP], UP),
        ([UP, DEGRADED], DEGRADED),
        ([UP, DOWN], DEGRADED),  # a tie is for serving
        ([DOWN, DOWN], DOWN),
        ([UP, DOWN, DOWN], DOWN),
        ([UP, UP, DOWN], DEGRADED),
        ([DRAINING, DRAINING], DRAINING),
    ],
)
def test_a_vip_serves_if_at_least_half_of_its_edges_say_so(
    fleet: Fleet, states: list[VipState], expected: VipState
) -> None:
    reports = [web(f"fra-edge{number}", state) for number, state in enumerate(states)]

    view = believed(fleet, reports)

    assert view.state is expected
    assert view.eligible is (expected in ELIGIBLE)
    assert f"of {len(states)} edges" in view.reason


def test_only_edges_of_the_vips_own_site_are_heard(fleet: Fleet) -> None:
    stranger = report("sin-edge1", {"web-fra": DOWN}, site="sin")

    assert believed(fleet, [stranger]).state is UNKNOWN


def test_a_vip_that_the_fleet_does_not_know_is_passed_over(fleet: Fleet) -> None:
    view = resolve(fleet, Holdings().merge([report("fra-edge1", {"gone": DOWN})], [], 0.0), 0.0)

    assert set(view.vips) == set(fleet.vips)


def test_a_report_is_believed_for_its_lease(fleet: Fleet) -> None:
    assert believed(fleet, [web("fra-edge1", UP)], at_s=5.0).state is UP

    stale = believed(fleet, [web("fra-edge1", UP)], at_s=5.1)

    assert (stale.state, stale.eligible) == (STALE, False)
    assert stale.reason == "no edge's report is within its lease"


def test_an_edge_that_fell_silent_has_no_say(fleet: Fleet) -> None:
    reports = [web("fra-edge1", UP, lease_s=60.0), web("fra-edge2", DOWN, lease_s=1.0)]

    assert believed(fleet, reports, at_s=0.5).state is DEGRADED
    assert believed(fleet, reports, at_s=2.0).state is UP


def test_an_edge_that_doubts_itself_has_no_say(fleet: Fleet) -> None:
    doubting = web("fra-edge2", DOWN, doubt=True)

    assert believed(fleet, [web("fra-edge1", UP), doubting]).state is UP
    assert believed(fleet, [web("fra-edge1", DOWN), doubting]).state is DOWN


def test_where_every_edge_doubts_itself_answers_go_on(fleet: Fleet) -> None:
    view = believed(fleet, [web("fra-edge1", DOWN, doubt=True), web("fra-edge2", DOWN, doubt=True)])

    assert (view.state, view.eligible) == (UNKNOWN, True)
    assert "doubts itself" in view.reason


@pytest.mark.parametrize(
    ("kind", "name"), [(OverrideKind.SITE, "fra"), (OverrideKind.VIP, "web-fra")]
)
def test_an_operators_drain_goes_above_every_observation(
    fleet: Fleet, kind: OverrideKind, name: str
) -> None:
    view = believed(fleet, [web("fra-edge1", UP)], [drain(kind, name)])

    assert (view.state, view.eligible) == (DRAINING, False)
    assert view.reason == f"{kind} drained by anna: kernel upgrade"


def test_a_withdrawn_drain_gives_the_vip_back(fleet: Fleet) -> None:
    wills = [drain(OverrideKind.VIP, "web-fra", drained=False, generation=2)]

    assert believed(fleet, [web("fra-edge1", UP)], wills).state is UP


def test_a_drained_real_is_found_by_its_name(fleet: Fleet) -> None:
    holdings = Holdings().merge([], [drain(OverrideKind.REAL, "web1")], 0.0)
    snapshot = resolve(fleet, holdings, 0.0)

    assert snapshot.drained_real(RealName("web1")) == drain(OverrideKind.REAL, "web1")
    assert snapshot.drained_real(RealName("web2")) is None


def test_the_load_of_a_vip_is_the_sum_of_its_fresh_edges(fleet: Fleet) -> None:
    reports = [
        report("fra-edge1", {"web-fra": UP}, packets_per_s=10.0),
        report("fra-edge2", {"web-fra": UP}, packets_per_s=5.5),
        report("fra-edge3", {"web-fra": UP}, packets_per_s=100.0, lease_s=0.5),
    ]

    view = believed(fleet, reports, at_s=1.0)

    assert (view.packets_per_s, view.reals_up, view.reals_total) == (15.5, 1, 2)


def test_the_generation_is_the_newest_of_all_that_was_said(fleet: Fleet) -> None:
    holdings = Holdings().merge(
        [report("fra-edge1", {"web-fra": UP}, generation=7)],
        [drain(OverrideKind.REAL, "web1", generation=9)],
        0.0,
    )

    assert resolve(fleet, holdings, 0.0).generation == 9


def history(edge: str, generation: int) -> EdgeHistory:
    vip = VipHistory(name="web-fra", members={"web1": generation})
    return EdgeHistory(site="fra", edge=edge, generation=generation, vips=(vip,))


def test_of_each_edge_s_histories_the_newest_is_held_and_absence_deletes_none() -> None:
    one, two = history("fra-edge1", 5), history("fra-edge2", 3)

    held = Holdings().merge([], [], 0.0, histories=[one, two])
    held = held.merge([], [], 1.0, histories=[history("fra-edge1", 4)])
    kept = held.lost(2.0).merge([], [], 3.0)
    newer = kept.merge([], [], 4.0, histories=[history("fra-edge2", 9)])

    assert held.refused == 1
    assert kept.histories == {"fra-edge1": one, "fra-edge2": two}
    assert newer.histories == {"fra-edge1": one, "fra-edge2": history("fra-edge2", 9)}


def test_while_the_store_is_lost_no_lease_ends(fleet: Fleet) -> None:
    holdings = Holdings().merge([web("fra-edge1", UP)], [], 0.0).lost(4.0)

    snapshot = resolve(fleet, holdings, 100_000.0)

    assert snapshot.vips[WEB].state is UP
    assert snapshot.store_ok is False


def test_a_second_loss_does_not_move_the_first(fleet: Fleet) -> None:
    once = Holdings().lost(4.0)

    assert once.lost(9.0) is once


def test_leases_start_anew_when_the_store_is_back(fleet: Fleet) -> None:
    held = Holdings().merge([web("fra-edge1", UP)], [], 0.0).lost(4.0)

    back = held.merge([], [], 1000.0)

    assert resolve(fleet, back, 1005.0).vips[WEB].state is UP
    assert resolve(fleet, back, 1005.1).vips[WEB].state is STALE
    assert resolve(fleet, back, 1000.0).store_ok is True


def test_the_same_beat_again_does_not_renew_a_lease(fleet: Fleet) -> None:
    beat = web("fra-edge1", UP)

    held = Holdings().merge([beat], [], 0.0).merge([beat], [], 4.0)

    assert resolve(fleet, held, 5.1).vips[WEB].state is STALE


def test_answers_are_the_same_while_only_load_or_reasons_change(fleet: Fleet) -> None:
    def at(load: float, state: VipState = UP, generation: int = 1) -> Snapshot:
        said = report("fra-edge1", {"web-fra": state}, packets_per_s=load, generation=generation)
        return resolve(fleet, Holdings().merge([said], [], 0.0), 0.0)

    assert at(1.0).same_answers(at(2.0))
    assert not at(1.0).same_answers(at(1.0, DOWN))
    assert not at(1.0).same_answers(at(1.0, generation=2))
