"""Rings: shares follow weights, slots follow names, little moves."""

from collections import Counter

import pytest

from edge_lb.maglev import RING_SLOTS, Member, build_ring, moved


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
        [Member(name="a", weight=1, index=0)],
    ],
    ids=["a name twice", "a negative weight", "index 0"],
)
def test_impossible_members_are_refused(wrong: list[Member]):
    with pytest.raises(ValueError, match="real a"):
        build_ring(wrong)
