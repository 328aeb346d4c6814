"""Merging what a store says: the order of arrival, repeats and losses change nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gslb.fleet.health import EdgeReport, Override, OverrideKind, VipState
from gslb.fleet.snapshot import ELIGIBLE, Holdings, resolve
from tests.unit.fleet_files import small_fleet
from tests.unit.fleet_reports import drain, report

with tempfile.TemporaryDirectory() as _directory:
    FLEET = small_fleet(Path(_directory))

STATES = tuple(VipState)
EDGES = ("fra-edge1", "fra-edge2", "fra-edge3")


def said(edge: str, generation: int, sequence: int) -> EdgeReport:
    """One publisher never says two things at one rank: the content follows from the rank."""
    turn = generation * 7 + sequence * 3 + len(edge) + int(edge[-1])
    states = {
        "web-fra": STATES[turn % len(STATES)],
        "any-fra": STATES[turn // 2 % len(STATES)],
    }
    return report(
        edge,
        states,
        generation=generation,
        sequence=sequence,
        doubt=turn % 5 == 0,
        packets_per_s=turn / 7,
    )


REPORTS = st.lists(
    st.builds(said, st.sampled_from(EDGES), st.integers(1, 5), st.integers(1, 4)), max_size=8
)


def willed(kind: OverrideKind, generation: int) -> Override:
    name = {
        OverrideKind.REAL: "web1",
        OverrideKind.VIP: "web-fra",
        OverrideKind.SITE: "fra",
        OverrideKind.EDGE: "fra-edge1",
    }[kind]
    return drain(kind, name, drained=generation % 2 == 1, generation=generation)


WILLS = st.lists(st.builds(willed, st.sampled_from(OverrideKind), st.integers(1, 5)), max_size=5)


@given(reports=REPORTS, wills=WILLS, data=st.data())
def test_the_order_of_arrival_changes_nothing(
    reports: list[EdgeReport], wills: list[Override], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(reports)), data.draw(st.permutations(wills))

    one = Holdings().merge(reports, wills, 0.0)
    other = Holdings()
    for said_then in shuffled[0]:
        other = other.merge([said_then], [], 0.0)
    other = other.merge([], shuffled[1], 0.0)

    assert one.reports == other.reports
    assert one.overrides == other.overrides
    assert resolve(FLEET, one, 1.0).vips == resolve(FLEET, other, 1.0).vips


@given(reports=REPORTS, wills=WILLS)
def test_hearing_the_same_again_changes_nothing(
    reports: list[EdgeReport], wills: list[Override]
) -> None:
    once = Holdings().merge(reports, wills, 0.0)
    held = [item.report for item in once.reports.values()]

    again = once.merge(held, once.overrides.values(), 3.0)

    assert again == once


@given(reports=REPORTS, wills=WILLS)
def test_what_a_store_lacks_is_kept(reports: list[EdgeReport], wills: list[Override]) -> None:
    held = Holdings().merge(reports, wills, 0.0)

    assert held.merge([], [], 3.0) == held


@given(reports=REPORTS, late=REPORTS)
def test_an_older_report_never_takes_the_place_of_a_newer(
    reports: list[EdgeReport], late: list[EdgeReport]
) -> None:
    before = Holdings().merge(reports, [], 0.0)
    after = before.merge(late, [], 1.0)

    for edge, item in before.reports.items():
        now = after.reports[edge].report
        assert (now.generation, now.sequence) >= (item.report.generation, item.report.sequence)
    assert after.refused >= before.refused


@given(reports=REPORTS, wills=WILLS, lost_s=st.floats(0, 20), later_s=st.floats(0, 1e6))
def test_while_the_store_is_lost_no_belief_changes(
    reports: list[EdgeReport], wills: list[Override], lost_s: float, later_s: float
) -> None:
    holdings = Holdings().merge(reports, wills, 0.0)
    at_loss = resolve(FLEET, holdings, lost_s)

    frozen = resolve(FLEET, holdings.lost(lost_s), lost_s + later_s)

    assert frozen.vips == at_loss.vips
    assert frozen.same_answers(at_loss)
    assert not frozen.store_ok


@given(reports=REPORTS, wills=WILLS, lost_s=st.floats(0, 20), back_s=st.floats(20, 1e6))
def test_a_store_that_is_back_brings_every_lease_back(
    reports: list[EdgeReport], wills: list[Override], lost_s: float, back_s: float
) -> None:
    fresh = resolve(FLEET, Holdings().merge(reports, wills, back_s), back_s)

    back = Holdings().merge(reports, wills, 0.0).lost(lost_s).merge([], [], back_s)

    assert resolve(FLEET, back, back_s).vips == fresh.vips


@given(reports=REPORTS, wills=WILLS, at_s=st.floats(0, 20))
def test_a_drained_vip_is_never_answered_and_every_other_follows_its_state(
    reports: list[EdgeReport], wills: list[Override], at_s: float
) -> None:
    holdings = Holdings().merge(reports, wills, 0.0)
    drained = holdings.drained(OverrideKind.SITE, "fra") or holdings.drained(
        OverrideKind.VIP, "web-fra"
    )

    view = resolve(FLEET, holdings, at_s).vips[FLEET.vips["web-fra"].name]  # type: ignore[index]

    if drained:
        assert view.state is VipState.DRAINING
    assert view.eligible is (view.state in ELIGIBLE)
