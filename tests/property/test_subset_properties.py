"""What holds of every subset."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gslb.subset import subset, weighted_subset

Members = st.lists(st.integers(), unique=True, max_size=30)


@given(Members, st.integers(0, 40), st.integers())
def test_a_subset_is_distinct_members_and_no_more_than_n(
    members: list[int], n: int, seed: int
) -> None:
    drawn = subset(members, n, random.Random(seed))

    assert len(drawn) == min(n, len(members))
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(members)


@given(Members, st.integers(0, 40), st.integers(), st.data())
def test_a_weighted_subset_takes_exactly_what_has_weight(
    members: list[int], n: int, seed: int, data: st.DataObject
) -> None:
    size = len(members)
    weights = data.draw(st.lists(st.integers(0, 1000), min_size=size, max_size=size))
    drawn = weighted_subset(members, weights, n, random.Random(seed))
    heavy = {member for member, weight in zip(members, weights, strict=True) if weight}

    assert len(drawn) == len(set(drawn)) == min(n, len(heavy))
    assert set(drawn) <= heavy


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 20))
def test_any_number_from_the_source_of_chance_is_in_range(number: float, size: int) -> None:
    class Fixed:
        def random(self) -> float:
            return number

    assert len(subset(range(size), size, Fixed())) == size
    assert len(weighted_subset(range(size), [1] * size, size, Fixed())) == size
