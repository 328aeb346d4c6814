"""The time line of an edge: when a turn is written, what is folded away, what is told of it."""

from __future__ import annotations

from math import inf, nan

import pytest

from edge_lb.history import Present, last_members, unwritten, write_down
from edge_lb.rings import weights_of
from gslb.fleet.history import WEIGHT_MAX, EdgeHistory, Turn, VipHistory, changed_between

AGE_S = 600.0
ALL = {"web1": 100, "web2": 100}
ONE = {"web1": 100}


def present(members: dict[str, int]) -> dict[str, Present]:
    return {"www": Present(weights=weights_of(members), age_s=AGE_S)}


def after(*turns: tuple[float, dict[str, int]]) -> EdgeHistory:
    history = unwritten("fra", "edge1")
    for at_s, members in turns:
        history = write_down(history, present(members), at_s).history
    return history


def test_a_vip_begins_without_a_turn():
    (line,) = after((100.0, ALL)).vips

    assert (line.name, line.members, line.turns) == ("www", ALL, ())


def test_like_members_are_no_turn_and_leave_the_very_record():
    history = after((100.0, ALL))

    assert write_down(history, present(ALL), 200.0).history is history


def test_other_members_are_a_turn_with_its_time_and_a_newer_number():
    before = after((100.0, ALL))
    history = after((100.0, ALL), (200.0, ONE), (300.0, ALL))

    (line,) = history.vips
    assert line.members == ALL
    assert line.turns == (
        Turn(at_s=200.0, changed={"web2": 0}),
        Turn(at_s=300.0, changed={"web2": 100}),
    )
    assert last_members(line) == ALL
    assert history.generation > before.generation


def test_turns_that_outlived_every_connection_become_the_beginning():
    (line,) = after((100.0, ALL), (200.0, ONE), (300.0, ALL), (300.0 + AGE_S, ONE)).vips

    assert line.members == ALL  # since 300: what was lost until then has no connection any more
    assert line.turns == (Turn(at_s=300.0 + AGE_S, changed={"web2": 0}),)


def test_the_oldest_of_too_many_turns_are_forgotten_and_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_lb.history.TURNS_MAX", 8)
    history = after((100.0, ALL))
    told = 0
    for number in range(8 + 3):
        written = write_down(history, present(ALL if number % 2 else ONE), 101.0 + number)
        history, told = written.history, told + written.forgotten.get("www", 0)

    (line,) = history.vips
    assert len(line.turns) == 8
    assert told == 3
    assert line.turns[0].at_s == 104.0
    assert line.members == ONE


def test_a_clock_that_is_set_back_turns_no_order_round():
    (line,) = after((100.0, ALL), (200.0, ONE), (50.0, ALL)).vips

    assert [turn.at_s for turn in line.turns] == [200.0, 200.0]
    assert last_members(line) == ALL


def test_a_vip_that_left_takes_its_line_along():
    history = after((100.0, ALL))

    gone = write_down(history, {}, 200.0).history

    assert gone.vips == ()
    assert gone.generation > history.generation


def test_a_turn_tells_who_came_who_weighs_otherwise_and_who_left():
    (line,) = after((100.0, ALL), (200.0, {"web2": 50, "web3": 100})).vips

    assert line.turns[0].changed == {"web1": 0, "web2": 50, "web3": 100}
    assert last_members(line) == {"web2": 50, "web3": 100}


def test_each_way_between_two_sets_is_told_and_none_between_like_ones():
    assert changed_between(ALL, ONE) == {"web2": 0}
    assert changed_between(ONE, ALL) == {"web2": 100}
    assert changed_between({}, ONE) == ONE
    assert changed_between(ALL, dict(reversed(ALL.items()))) == {}


@pytest.mark.parametrize(
    ("at_s", "changed", "fault"),
    [
        (1.0, {}, "of 0 reals"),
        (nan, {"web1": 1}, "a turn at nan"),
        (inf, {"web1": 1}, "a turn at inf"),
        (1.0, {"web1": -1}, "web1 weighs -1"),
        (1.0, {"web1": WEIGHT_MAX + 1}, "web1 weighs 65536"),
    ],
)
def test_a_turn_of_nobody_or_of_no_weight_or_moment_is_none(
    at_s: float, changed: dict[str, int], fault: str
):
    with pytest.raises(ValueError, match=fault):
        Turn(at_s=at_s, changed=changed)


@pytest.mark.parametrize(
    ("members", "turns", "fault"),
    [
        ({"web1": 0}, [], "web1 weighs 0"),
        (ONE, [(2.0, {"web1": 0}), (1.0, {"web1": 5})], "a turn at 1.0 after one at 2.0"),
        (ONE, [(2.0, {"web1": 100})], "leaves web1 as it was"),
        (ONE, [(2.0, {"web2": 0})], "leaves web2 as it was"),
        (ONE, [(2.0, {"web1": 0}), (3.0, {"web1": 0})], "leaves web1 as it was"),
    ],
)
def test_a_time_line_that_cannot_have_been_is_refused(
    members: dict[str, int], turns: list[tuple[float, dict[str, int]]], fault: str
):
    told = tuple(Turn(at_s=at_s, changed=changed) for at_s, changed in turns)

    with pytest.raises(ValueError, match=fault):
        VipHistory(name="www", members=members, turns=told)
