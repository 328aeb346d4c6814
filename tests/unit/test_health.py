"""Rise and fall, the state of a VIP from its reals, and generations."""

from __future__ import annotations

import pytest

from gslb.fleet.health import (
    RealHealth,
    RealState,
    Standing,
    VipState,
    next_generation,
    step,
    vip_state,
)

UP, SUSPECT, DOWN = RealState.UP, RealState.SUSPECT, RealState.DOWN
UNKNOWN, DRAINING = RealState.UNKNOWN, RealState.DRAINING


def walk(results: str, *, rise: int = 2, fall: int = 3, start: Standing | None = None) -> Standing:
    """The standing after `results`, `+` for good and `-` for bad, one a second."""
    standing = start or Standing()
    for second, result in enumerate(results, start=1):
        reason = f"result {second}"
        standing = step(
            standing, ok=result == "+", reason=reason, rise=rise, fall=fall, now_s=float(second)
        )
    return standing


@pytest.mark.parametrize(
    ("results", "state", "since_s"),
    [
        ("", UNKNOWN, 0),
        ("+", UP, 1),
        ("-", DOWN, 1),
        ("+-", SUSPECT, 2),
        ("+--", SUSPECT, 2),
        ("+---", DOWN, 4),
        ("+--+", UP, 4),
        ("+--+--", SUSPECT, 5),
        ("-+", DOWN, 1),
        ("-++", UP, 3),
        ("-+-+", DOWN, 1),
        ("-+-++", UP, 5),
        ("+---++", UP, 6),
    ],
)
def test_a_state_changes_after_rise_or_fall_like_results(
    results: str, state: RealState, since_s: float
) -> None:
    standing = walk(results)

    assert (standing.state, standing.since_s) == (state, since_s)


def test_a_fall_of_one_knows_no_suspicion() -> None:
    assert walk("+-", fall=1).state is DOWN
    assert walk("-+", rise=1).state is UP


def test_a_standing_keeps_the_words_of_the_check_that_made_it() -> None:
    assert walk("+---").reason == "result 4"
    assert walk("-").reason == "result 1"
    assert walk("").reason == "not checked yet"


def test_the_reason_of_a_down_real_is_what_failed_and_not_its_first_good_check() -> None:
    assert walk("--+").reason == "result 2"


def test_results_do_not_move_what_an_operator_drained() -> None:
    drained = Standing(state=DRAINING, since_s=1.0, reason="drained")

    assert walk("+-+---", start=drained) == drained


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((UP, UP), VipState.UP),
        ((UP, SUSPECT), VipState.UP),
        ((UNKNOWN,), VipState.UP),
        ((UP, DOWN), VipState.DEGRADED),
        ((UP, DRAINING), VipState.UP),
        ((UP, DRAINING, DOWN), VipState.DEGRADED),
        ((DOWN, DOWN), VipState.DOWN),
        ((DRAINING, DOWN), VipState.DRAINING),
        ((), VipState.DOWN),
    ],
)
def test_a_vip_is_as_its_reals_are(states: tuple[RealState, ...], expected: VipState) -> None:
    reals = tuple(
        RealHealth(name=f"web{number}", state=state, since_s=0.0, reason="")
        for number, state in enumerate(states)
    )

    assert vip_state(reals) is expected


@pytest.mark.parametrize(
    ("previous", "now_s", "expected"),
    [(0, 1.5, 1500), (1500, 1.5, 1501), (9000, 1.5, 9001), (1499, 1.5, 1500)],
)
def test_a_generation_is_the_time_but_always_above_the_last(
    previous: int, now_s: float, expected: int
) -> None:
    assert next_generation(previous, now_s) == expected
