"""What the bench of long connections draws and judges: every seed's events are possible ones."""

import pytest
from long_connections.schedule import DECK, GRID_S, SERVING_MIN, Event, Kind, draw
from long_connections.verdict import Broken, Happened, causes, judge

REALS, SPARE_REALS = [f"real{i}" for i in range(1, 7)], ["real7", "real8"]
EDGES, SPARE_EDGES = ["edge1", "edge2"], ["edge3"]
SEEDS = range(40)


def drawn(seed: int, seconds: float = 120.0) -> tuple[Event, ...]:
    return draw(
        seed,
        seconds=seconds,
        reals=REALS,
        spare_reals=SPARE_REALS,
        edges=EDGES,
        spare_edges=SPARE_EDGES,
    )


def test_a_seed_always_draws_the_same_and_another_one_something_else() -> None:
    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_happens_is_possible_when_it_does(seed: int) -> None:
    serving, edges = set(REALS), set(EDGES)
    for event in drawn(seed):
        match event.kind:
            case Kind.ADD_REAL:
                assert event.who not in serving
                serving.add(event.who)
            case Kind.DRAIN_REAL:
                serving.remove(event.who)
                assert len(serving) >= SERVING_MIN
            case Kind.CRASH_REAL | Kind.RESTART_REAL | Kind.CHANGE_WEIGHT:
                assert event.who in serving
            case Kind.ADD_EDGE:
                assert event.who not in edges
                edges.add(event.who)
            case Kind.KILL_EDGE:
                edges.remove(event.who)
                assert edges
            case Kind.RESTART_EDGE:
                assert event.who in edges
            case Kind.RESHUFFLE | Kind.LOSE_STORE:
                assert not event.who


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_happens_and_two_reals_leave_within_one_chain(seed: int) -> None:
    events = drawn(seed)
    times = [event.at_s for event in events]

    assert {event.kind for event in events} == {card.kind for card in DECK}
    assert sum(event.kind is Kind.DRAIN_REAL for event in events) >= 2
    assert times == sorted(times)
    assert all(at_s % GRID_S == 0 and 0 < at_s < 120.0 for at_s in times)


def test_several_things_happen_at_once() -> None:
    for seed in SEEDS:
        times = [event.at_s for event in drawn(seed)]
        assert len(set(times)) < len(times)


def test_a_longer_run_has_more_of_everything() -> None:
    assert len(drawn(1, seconds=240.0)) > 1.5 * len(drawn(1))


def broken(real: str, opened_s: float, ended_s: float) -> Broken:
    return Broken(real=real, opened_s=opened_s, ended_s=ended_s, how="reset")


def test_a_connection_may_break_only_when_its_own_server_ends() -> None:
    ends = {"real1": [50.0], "real2": []}
    ones = [
        broken("real1", 10.0, 50.1),
        broken("real1", 50.0 + 9.0, 70.0),  # opened at the next server
        broken("real1", 10.0, 40.0),  # before
        broken("real2", 10.0, 50.1),  # another real
        broken("", 49.9, 50.2),  # not known whose it was: it may have been that one's
        broken("", 30.0, 31.0),
    ]

    rights = [one.had_right for one in judge(ones, ends, [])]

    assert rights == [True, False, False, False, True, False]


def test_what_came_shortly_before_is_told_as_the_cause() -> None:
    happened = [
        Happened(at_s=10.0, what="edge killed"),
        Happened(at_s=19.0, what="real drained"),
        Happened(at_s=19.5, what="real drained"),
        Happened(at_s=20.5, what="store lost"),
    ]
    ones = [broken("real1", 1.0, 20.0), broken("real2", 1.0, 20.1), broken("real1", 1.0, 5.0)]

    found = causes(judge(ones, {}, happened))

    assert found == {
        "reset after real drained": 2,
        "reset after nothing shortly before": 1,
    }
