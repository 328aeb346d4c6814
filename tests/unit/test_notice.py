"""Notice of a change: who waits for it, and for how long."""

from __future__ import annotations

from edge_lb.notice import NOTICE_S, Heeded, Notice, heed
from edge_lb.rings import Weights, weights_of

REALS = {"web1", "web2", "web3"}
ALL = weights_of(dict.fromkeys(REALS, 100))
TWO: Weights = (("web1", 100), ("web2", 100))
ONE: Weights = (("web1", 100),)


def test_a_planned_change_waits_and_then_comes():
    given = heed(ALL, TWO, REALS, None, 100.0)
    waiting = heed(ALL, TWO, REALS, given.notice, 109.9)
    come = heed(ALL, TWO, REALS, given.notice, 100.0 + NOTICE_S)

    assert given == waiting == Heeded(weights=ALL, notice=Notice(weights=TWO, since_s=100.0))
    assert given.due_s == 100.0 + NOTICE_S
    assert come == Heeded(weights=TWO)


def test_what_died_or_left_is_waited_for_by_nobody():
    assert heed(ALL, TWO, {"web1", "web2"}, None, 100.0) == Heeded(weights=TWO)
    planned = Notice(weights=ALL, since_s=99.0)
    assert heed(TWO, ONE, {"web1", "web3"}, planned, 100.0) == Heeded(weights=ONE)


def test_a_coming_ring_with_a_real_that_died_meanwhile_does_not_come():
    planned = Notice(weights=ALL, since_s=80.0)

    assert heed(TWO, TWO, {"web1", "web2"}, planned, 100.0) == Heeded(weights=TWO)


def test_a_new_ring_and_one_without_or_before_any_member_wait_for_nothing():
    assert heed(None, ALL, REALS, None, 100.0) == Heeded(weights=ALL)
    assert heed((), ALL, REALS, None, 100.0) == Heeded(weights=ALL)
    assert heed(ALL, (), REALS, None, 100.0) == Heeded(weights=())


def test_a_change_that_is_taken_back_does_not_come():
    planned = Notice(weights=TWO, since_s=100.0)

    assert heed(ALL, ALL, REALS, planned, 105.0) == Heeded(weights=ALL)


def test_steps_that_follow_each_other_quickly_come_one_after_the_other():
    first = Notice(weights=TWO, since_s=100.0)

    waiting = heed(ALL, ONE, REALS, first, 105.0)
    come = heed(ALL, ONE, REALS, first, 110.0)

    assert waiting == Heeded(weights=ALL, notice=first)
    assert come == Heeded(weights=TWO, notice=Notice(weights=ONE, since_s=110.0))
