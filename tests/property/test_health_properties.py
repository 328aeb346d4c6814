"""Rise and fall over any series of results, against a count done another way."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from gslb.fleet.health import RealState, Standing, next_generation, step

RESULTS = st.lists(st.booleans(), min_size=1, max_size=60)
COUNTS = st.integers(1, 6)


def walked(results: list[bool], rise: int, fall: int) -> list[Standing]:
    standings = [Standing()]
    for second, ok in enumerate(results, start=1):
        standings.append(
            step(standings[-1], ok=ok, reason="", rise=rise, fall=fall, now_s=float(second))
        )
    return standings


def taken_for_up(results: list[bool], rise: int, fall: int) -> bool:
    """Whether the real counts as serving: told by the runs of like results alone."""
    up = results[0]
    for ok, run in groupby(results):
        length = len(list(run))
        if ok and not up and length >= rise:
            up = True
        elif not ok and up and length >= fall:
            up = False
    return up


@given(results=RESULTS, rise=COUNTS, fall=COUNTS)
def test_the_state_is_what_the_runs_of_results_say(
    results: list[bool], rise: int, fall: int
) -> None:
    state = walked(results, rise, fall)[-1].state

    assert (state in {RealState.UP, RealState.SUSPECT}) is taken_for_up(results, rise, fall)


@given(results=RESULTS, rise=COUNTS, fall=COUNTS)
def test_a_real_is_suspect_exactly_between_its_first_failure_and_its_fall(
    results: list[bool], rise: int, fall: int
) -> None:
    last = walked(results, rise, fall)[-1]

    if last.state is RealState.SUSPECT:
        assert not results[-1]
        assert 0 < last.streak < fall
    if last.state is RealState.UP:
        assert results[-1]


@given(results=RESULTS, rise=COUNTS, fall=COUNTS)
def test_since_moves_with_the_state_and_only_then(
    results: list[bool], rise: int, fall: int
) -> None:
    standings = walked(results, rise, fall)

    for second, (before, after) in enumerate(pairwise(standings), start=1):
        moved = before.state is not after.state
        assert after.since_s == (float(second) if moved else before.since_s)


@given(results=RESULTS, rise=COUNTS, fall=COUNTS)
def test_two_changes_to_and_from_down_are_never_nearer_than_rise_or_fall(
    results: list[bool], rise: int, fall: int
) -> None:
    standings = walked(results, rise, fall)[1:]
    downs = [standing.state is RealState.DOWN for standing in standings]
    changes = [n for n in range(1, len(downs)) if downs[n] is not downs[n - 1]]

    for earlier, later in pairwise(changes):
        assert later - earlier >= (fall if downs[later] else rise)


@given(previous=st.integers(0, 2**50), now_s=st.floats(0, 2e9))
def test_a_generation_always_grows_and_never_lags_the_clock(previous: int, now_s: float) -> None:
    generation = next_generation(previous, now_s)

    assert generation > previous
    assert generation >= int(now_s * 1000)
