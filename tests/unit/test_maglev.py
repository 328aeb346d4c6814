"""Rings: shares follow weights, slots follow names, little moves; the fast way as the reference."""

from array import array
from collections import Counter

import pytest

from edge_lb import fastring
from edge_lb.fastring import moved, seat_ring
from edge_lb.maglev import RING_SLOTS, WEIGHT_MAX, Member, build_ring


def members(*weights: int) -> list[Member]:
    return [
        Member(name=f"real-{number}", weight=weight, index=number)
        for number, weight in enumerate(weights, start=1)
    ]


def test_an_empty_ring_leads_nowhere():
    ring = build_ring([])

    assert len(ring) == RING_SLOTS
    assert not any(ring)


def test_reals_without_weight_get_no_slot():
    shares = Counter(build_ring(members(1, 0, 1)))

    assert set(shares) == {1, 3}


def test_equal_weights_get_equal_shares():
    shares = Counter(build_ring(members(*[1] * 100)))

    assert set(shares.values()) == {RING_SLOTS // 100, RING_SLOTS // 100 + 1}


def test_shares_follow_weights():
    shares = Counter(build_ring(members(1, 2, 5)))

    assert shares[2] / shares[1] == pytest.approx(2, rel=0.01)
    assert shares[3] / shares[1] == pytest.approx(5, rel=0.01)


def test_the_scale_of_weights_does_not_matter():
    assert build_ring(members(1, 2, 5)) == build_ring(members(100, 200, 500))


def test_indexes_do_not_decide_where_a_real_is():
    here = build_ring(members(1, 1, 1))
    renumbered = [Member(name=m.name, weight=1, index=m.index + 10) for m in members(1, 1, 1)]

    there = build_ring(renumbered)

    assert [index + 10 for index in here] == list(there)


def test_a_lost_real_moves_its_own_slots_and_few_others():
    all_of_them = members(*[1] * 100)

    before, after = build_ring(all_of_them), build_ring(all_of_them[:-1])

    own = Counter(before)[100]
    assert own <= moved(before, after) < 2 * own


def test_nothing_moves_between_equal_rings():
    assert moved(build_ring(members(1, 2)), build_ring(members(1, 2))) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        [Member(name="a", weight=1, index=1), Member(name="a", weight=1, index=2)],
        [Member(name="a", weight=-1, index=1)],
        [Member(name="a", weight=WEIGHT_MAX + 1, index=1)],
        [Member(name="a", weight=1, index=0)],
    ],
    ids=["a name twice", "a negative weight", "too large a weight", "index 0"],
)
def test_impossible_members_are_refused(wrong: list[Member]):
    for build in (build_ring, fastring.build_ring):
        with pytest.raises(ValueError, match="real a"):
            build(wrong)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 10, 33, 100, 1000])
def test_the_fast_ring_is_the_reference_slot_by_slot(number: int):
    equal, mixed = members(*[7] * number), members(*[place % 4 for place in range(number)])

    assert fastring.build_ring(equal) == build_ring(equal)
    assert fastring.build_ring(mixed) == build_ring(mixed)


def test_the_largest_weight_beside_the_smallest_still_ends():
    ring = fastring.build_ring(members(WEIGHT_MAX, WEIGHT_MAX, 1))

    assert set(ring) == {1, 2}


def test_every_position_of_a_shape_takes_its_seat():
    shape = build_ring(members(1, 2))

    assert list(seat_ring(shape, [0, 70, 90])) == [{1: 70, 2: 90}[place] for place in shape]


def test_a_shape_without_a_seat_for_each_position_is_refused():
    with pytest.raises(IndexError):
        seat_ring(build_ring(members(1, 2)), [0, 70])


def test_a_ring_of_another_size_is_not_compared():
    with pytest.raises(ValueError, match="another number of slots"):
        moved(array("H", [1]), array("H", [1]))
