"""What must hold of every ring."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_lb.fastring import build_ring, moved
from edge_lb.maglev import RING_SLOTS, Member
from edge_lb.maglev import build_ring as reference

WEIGHTS = st.dictionaries(
    st.text(min_size=1, max_size=12), st.integers(min_value=0, max_value=50), max_size=12
)


def members(weights: dict[str, int]) -> list[Member]:
    return [
        Member(name=name, weight=weight, index=number)
        for number, (name, weight) in enumerate(weights.items(), start=1)
    ]


WIDE_WEIGHTS = st.dictionaries(
    st.text(max_size=12), st.integers(min_value=0, max_value=1000), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(WEIGHTS)
def test_the_fast_ring_is_the_reference(weights: dict[str, int]):
    assert build_ring(members(weights)) == reference(members(weights))


@settings(max_examples=40, deadline=None)
@given(WIDE_WEIGHTS)
def test_the_fast_ring_is_the_reference_for_unlike_weights(weights: dict[str, int]):
    assert build_ring(members(weights)) == reference(members(weights))


@settings(max_examples=40, deadline=None)
@given(WEIGHTS)
def test_every_slot_has_a_real_with_weight_or_none_has(weights: dict[str, int]):
    ring = build_ring(members(weights))

    heavy = {member.index for member in members(weights) if member.weight}
    assert len(ring) == RING_SLOTS
    assert set(ring) == (heavy or {0})


@settings(max_examples=40, deadline=None)
@given(WEIGHTS)
def test_shares_follow_weights_within_one_round(weights: dict[str, int]):
    shares = Counter(build_ring(members(weights)))

    total = sum(weights.values())
    for member in members(weights):
        if total:
            assert abs(shares[member.index] - RING_SLOTS * member.weight / total) <= len(weights)


@settings(max_examples=40, deadline=None)
@given(WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(weights: dict[str, int], chance):
    ordered = members(weights)
    shuffled = list(ordered)
    chance.shuffle(shuffled)

    assert moved(build_ring(ordered), build_ring(shuffled)) == 0
