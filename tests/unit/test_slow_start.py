"""Slow start: eight steps, who takes them, and who does not."""

from __future__ import annotations

from math import inf

import pytest

from edge_lb.slow_start import LONG_AGO_S, next_step_s, ramped, serving_since

SLOW_S = 80.0


def weights(since_s: float, *, full: int = 100) -> list[int]:
    """What a real weighs at every moment at which it changes."""
    found, now_s = [ramped(full, since_s, since_s, SLOW_S)], since_s
    while (now_s := next_step_s(since_s, now_s, SLOW_S)) < inf:
        found.append(ramped(full, since_s, now_s, SLOW_S))
    return found


def test_a_weight_grows_in_eight_equal_steps():
    assert weights(1000.0) == [13, 25, 38, 50, 63, 75, 88, 100]
    assert weights(1000.0, full=800) == [100, 200, 300, 400, 500, 600, 700, 800]


@pytest.mark.parametrize("since_s", [1000.0, 1003.0, 1009.9])
def test_edges_that_noticed_a_real_within_one_step_take_the_same_steps(since_s: float):
    at_s = [1005.0, 1010.0, 1019.9, 1020.0, 1069.9, 1070.0, 1500.0]

    assert [ramped(800, since_s, now_s, SLOW_S) for now_s in at_s if now_s >= since_s] == [
        ramped(800, 1000.0, now_s, SLOW_S) for now_s in at_s if now_s >= since_s
    ]
    assert ramped(800, since_s, since_s + SLOW_S, SLOW_S) == 800


def test_nothing_is_slow_without_slow_start():
    assert ramped(100, 1000.0, 1000.0, 0.0) == 100
    assert next_step_s(1000.0, 1000.0, 0.0) == inf


def test_a_small_weight_has_a_share_at_once_and_weight_zero_has_none():
    assert weights(1000.0, full=1) == [1] * 8
    assert ramped(0, 1000.0, 1000.0, SLOW_S) == 0


def test_the_first_reals_of_a_vip_join_nobody():
    assert serving_since({}, {"www": ["web1", "web2"]}, 5.0) == {
        "www/web1": LONG_AGO_S,
        "www/web2": LONG_AGO_S,
    }


def test_a_real_that_joins_others_starts_now_and_keeps_its_start():
    known = serving_since({}, {"www": ["web1"]}, 5.0)

    joined = serving_since(known, {"www": ["web1", "web2"], "tls": ["web2"]}, 10.0)
    later = serving_since(joined, {"www": ["web1", "web2"], "tls": ["web2"]}, 20.0)

    assert joined == {"www/web1": LONG_AGO_S, "www/web2": 10.0, "tls/web2": LONG_AGO_S}
    assert later == joined


def test_a_real_that_went_starts_anew_when_it_is_back():
    known = {"www/web1": LONG_AGO_S, "www/web2": LONG_AGO_S}

    gone = serving_since(known, {"www": ["web1"]}, 10.0)

    assert serving_since(gone, {"www": ["web1", "web2"]}, 20.0)["www/web2"] == 20.0
