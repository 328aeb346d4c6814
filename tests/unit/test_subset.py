"""N of M: size, balance in every position, weights."""

from __future__ import annotations

import random
from collections import Counter

from gslb.subset import subset, weighted_subset

ROUNDS = 60_000


def test_a_subset_has_n_distinct_members() -> None:
    drawn = subset("abcdef", 3, random.Random(1))

    assert len(drawn) == len(set(drawn)) == 3
    assert set(drawn) <= set("abcdef")


def test_fewer_candidates_than_asked_for_are_all_drawn() -> None:
    assert sorted(subset("ab", 5, random.Random(1))) == ["a", "b"]
    assert subset("", 5, random.Random(1)) == ()


def test_every_candidate_stands_in_every_position_equally_often() -> None:
    rng = random.Random(20)
    positions: list[Counter[str]] = [Counter(), Counter(), Counter()]
    for _ in range(ROUNDS):
        for place, item in enumerate(subset("abcdefg", 3, rng)):
            positions[place][item] += 1

    expected = ROUNDS / 7
    for counter in positions:
        chi_square = sum((counter[item] - expected) ** 2 / expected for item in "abcdefg")
        assert chi_square < 22.5  # 6 degrees of freedom, p = 0.001


def test_every_pair_is_drawn_equally_often() -> None:
    rng = random.Random(21)
    pairs = Counter(subset("abcd", 2, rng) for _ in range(ROUNDS))

    assert len(pairs) == 12
    expected = ROUNDS / 12
    assert sum((n - expected) ** 2 / expected for n in pairs.values()) < 31.3  # 11 df, p = 0.001


def test_weights_are_the_shares_of_a_single_draw() -> None:
    rng = random.Random(22)
    drawn = Counter(weighted_subset("abc", (3, 1, 0), 1, rng)[0] for _ in range(ROUNDS))

    assert abs(drawn["a"] / ROUNDS - 0.75) < 0.01
    assert drawn["c"] == 0


def test_a_weighted_subset_never_repeats_and_leaves_weight_zero_out() -> None:
    drawn = weighted_subset("abc", (3, 1, 0), 3, random.Random(1))

    assert sorted(drawn) == ["a", "b"]
