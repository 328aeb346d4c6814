"""What must hold of every ring."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.compile import library_builds
from edge_lb.fastring import build_ring, moved
from edge_lb.rendezvous import RING_SLOTS, WEIGHT_MAX, Member
from edge_lb.rendezvous import build_ring as reference

WEIGHTS = st.dictionaries(
    st.text(min_size=1, max_size=12), st.integers(min_value=0, max_value=50), max_size=12
)
UNLIKE_WEIGHTS = st.dictionaries(
    st.text(max_size=12),
    st.integers(min_value=0, max_value=1000) | st.integers(min_value=0, max_value=WEIGHT_MAX),
    max_size=40,
)
FEW_SLOTS = st.sampled_from([1, 100, 1040])  # the last ones of two blocks; the reference is slow


def members(weights: dict[str, int]) -> list[Member]:
    return [
        Member(name=name, weight=weight, index=number)
        for number, (name, weight) in enumerate(weights.items(), start=1)
    ]


def most(weight: int, total: int) -> int:
    """How many slots a member may have."""
    return RING_SLOTS * weight * 11 // (10 * total) + 1


@settings(max_examples=30, deadline=None)
@given(WEIGHTS | UNLIKE_WEIGHTS, FEW_SLOTS)
def test_every_build_is_the_reference(weights: dict[str, int], slots: int):
    wanted = reference(members(weights), slots)

    for build in library_builds("rows"):
        assert build_ring(members(weights), slots, build=build) == wanted


@settings(max_examples=40, deadline=None)
@given(WEIGHTS)
def test_every_slot_has_a_real_with_weight_or_none_has(weights: dict[str, int]):
    ring = build_ring(members(weights))

    heavy = {member.index for member in members(weights) if member.weight}
    assert len(ring) == RING_SLOTS
    assert set(ring) == (heavy or {0})


@settings(max_examples=40, deadline=None)
@given(WEIGHTS | UNLIKE_WEIGHTS)
def test_no_real_has_more_than_a_tenth_above_its_share(weights: dict[str, int]):
    shares = Counter(build_ring(members(weights)))

    total = sum(weights.values())
    for member in members(weights):
        if total:
            assert shares[member.index] <= most(member.weight, total)


@settings(max_examples=40, deadline=None)
@given(WEIGHTS)
def test_shares_follow_weights(weights: dict[str, int]):
    shares = Counter(build_ring(members(weights)))

    total = sum(weights.values())
    for member in members(weights):
        fair = RING_SLOTS * member.weight / (total or 1)
        assert abs(shares[member.index] - fair) <= 6 * fair**0.5  # of a draw's deviations


@settings(max_examples=40, deadline=None)
@given(WEIGHTS, st.data())
def test_a_lost_real_moves_hardly_more_than_its_slots(weights: dict[str, int], data: st.DataObject):
    before = build_ring(members(weights))
    lost = data.draw(st.sampled_from([*members(weights), None]))
    if lost is None or set(before) <= {0, lost.index}:
        return

    after = build_ring([member for member in members(weights) if member is not lost])

    besides = moved(before, after) - before.count(lost.index)
    assert besides <= RING_SLOTS // 500, "of light reals that the bound holds down"


@settings(max_examples=40, deadline=None)
@given(WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(weights: dict[str, int], chance):
    ordered = members(weights)
    shuffled = list(ordered)
    chance.shuffle(shuffled)

    assert moved(build_ring(ordered), build_ring(shuffled)) == 0
