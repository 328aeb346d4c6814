"""Rings: shares follow weights, slots follow names, little moves; every build as the reference."""

from array import array
from collections import Counter
from collections.abc import Callable
from math import log2

import pytest

from bpf.compile import library_builds
from edge_lb import fastring
from edge_lb.fastring import moved, seat_ring
from edge_lb.rendezvous import RING_SLOTS, WEIGHT_MAX, Member, build_ring, cost

BUILDS = library_builds("rows")


def members(*weights: int) -> list[Member]:
    return [
        Member(name=f"real-{number}", weight=weight, index=number)
        for number, weight in enumerate(weights, start=1)
    ]


def fast(*weights: int) -> "array[int]":
    return fastring.build_ring(members(*weights))


def most(weight: int, total: int) -> int:
    """How many slots a member may have."""
    return RING_SLOTS * weight * 11 // (10 * total) + 1


def test_an_empty_ring_leads_nowhere():
    for ring in (build_ring([]), fast(), fast(0, 0)):
        assert len(ring) == RING_SLOTS
        assert not any(ring)


def test_reals_without_weight_get_no_slot():
    assert set(fast(1, 0, 1)) == {1, 3}


def test_a_lone_real_has_every_slot():
    assert set(fast(7)) == {1}


@pytest.mark.parametrize(("number", "least"), [(2, 0.98), (10, 0.95), (100, 0.85), (468, 0.65)])
def test_equal_weights_get_shares_that_are_bounded_above_and_near_below(number: int, least: float):
    shares = Counter(fast(*[5] * number))

    assert max(shares.values()) <= most(1, number)
    assert min(shares.values()) > least * RING_SLOTS / number


def test_shares_follow_weights():
    shares = Counter(fast(1, 2, 5))

    for real, weight in ((1, 1), (2, 2), (3, 5)):
        assert shares[real] / RING_SLOTS == pytest.approx(weight / 8, rel=0.03)


def test_where_the_bound_counts_it_holds_and_every_slot_has_a_real():
    weights = [1 + number % 7 for number in range(2000)]  # about 33 slots each

    shares = Counter(fast(*weights))

    held = [most(weight, sum(weights)) for weight in weights]
    full = sum(shares[real] == room for real, room in enumerate(held, 1))
    assert 0 not in shares
    assert all(shares[real] <= room for real, room in enumerate(held, 1))
    assert full > 200, "else this asks nothing"


def test_the_scale_of_weights_does_not_matter():
    assert fast(1, 2, 5) == fast(100, 200, 500)


def test_indexes_do_not_decide_where_a_real_is():
    here = fast(1, 1, 1)
    renumbered = [Member(name=m.name, weight=1, index=m.index + 10) for m in members(1, 1, 1)]

    there = fastring.build_ring(renumbered)

    assert [index + 10 for index in here] == list(there)


def moved_besides(before: "array[int]", after: "array[int]", real: int) -> int:
    """Slots that went from another real to another one."""
    return sum(
        was != now and real not in (was, now) for was, now in zip(before, after, strict=True)
    )


@pytest.mark.parametrize(("number", "share"), [(6, 0), (100, 0.02), (468, 0.25)])
def test_a_lost_real_moves_its_own_slots_and_hardly_another(number: int, share: float):
    """Others move because the bound does: so many slots at most, in parts of the real's own."""
    before = fast(*[1] * number)

    for lost in range(1, min(number, 12) + 1):
        after = fast(*[real != lost for real in range(1, number + 1)])

        own = before.count(lost)
        assert after.count(lost) == 0
        assert moved(before, after) - own == moved_besides(before, after, lost) <= share * own


@pytest.mark.parametrize(("number", "share"), [(6, 0), (100, 0.0001), (468, 0.002)])
def test_a_raised_weight_moves_slots_to_that_real_and_hardly_another(number: int, share: float):
    """At 468 reals the bound falls by a slot here, so each real that is full gives one up."""
    before = fast(*[4] * number)

    after = fast(5, *[4] * (number - 1))

    gained = after.count(1) - before.count(1)
    assert gained == pytest.approx(before.count(1) / 4, rel=0.5)
    assert moved_besides(before, after, 1) <= share * RING_SLOTS


def test_nothing_moves_between_equal_rings():
    assert moved(fast(1, 2), fast(1, 2)) == 0


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


@pytest.mark.parametrize("kind", [lambda _: 7, lambda place: place % 4, lambda place: place + 1])
@pytest.mark.parametrize(
    ("number", "slots"), [(0, RING_SLOTS), (1, 2047), (3, 9000), (20, 2049), (500, 520)]
)
def test_every_build_is_the_reference_slot_by_slot(
    kind: Callable[[int], int], number: int, slots: int
):
    made = members(*(kind(place) for place in range(number)))

    wanted = build_ring(made, slots)

    assert [fastring.build_ring(made, slots, build=build) for build in BUILDS] == [wanted] * len(
        BUILDS
    )


def test_a_whole_ring_is_the_reference():
    assert fast(1, 2, 2) == build_ring(members(1, 2, 2))


def test_all_builds_give_the_same_whole_rings():
    for weights in ([1] * 468, [100 + place for place in range(468)]):
        rings = [fastring.build_ring(members(*weights), build=build) for build in BUILDS]

        assert rings == [rings[0]] * len(BUILDS)


def test_an_edge_and_its_neighbour_of_another_kind_of_processor_agree():
    """The very slots, so that a change of the drawing is seen: it moves all flows of a fleet."""
    assert list(fast(1, 2, 5)[:12]) == [3, 3, 3, 2, 3, 3, 2, 3, 2, 3, 3, 3]


def test_the_largest_weight_beside_the_smallest():
    ring = fast(WEIGHT_MAX, WEIGHT_MAX, 1)

    assert set(ring) <= {1, 2, 3}
    assert ring.count(3) <= 1


@pytest.mark.parametrize("near", [0, 1, 2**8, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 2])
def test_a_greater_lot_costs_less_and_as_much_as_its_logarithm(near: int):
    assert cost(near) == pytest.approx(-log2((near + 0.5) / 2**32), abs=2e-12)
    assert cost(near) > cost(near + 1) > 0


def test_every_position_of_a_shape_takes_its_seat():
    shape = fast(1, 2)

    assert list(seat_ring(shape, [0, 70, 90])) == [{1: 70, 2: 90}[place] for place in shape]


def test_a_shape_without_a_seat_for_each_position_is_refused():
    with pytest.raises(IndexError):
        seat_ring(fast(1, 2), [0, 70])


def test_a_ring_of_another_size_is_not_compared():
    with pytest.raises(ValueError, match="another number of slots"):
        moved(array("H", [1]), array("H", [1]))
