"""Rings of many sets of members at once: the same as one by one, whatever they have in common."""

from __future__ import annotations

import random

import pytest

from bpf.compile import library_builds
from edge_lb import rings
from edge_lb.fastring import Ranking
from edge_lb.rings import Rings, Weights, build_shape, mark_of, shapes_of, weights_of

WEIGHTS = {
    "alike": [100],
    "in steps": [13, 25, 100],
    "far apart": [1, 65_535],
}


def some_sets(number: int, reals: int, weights: list[int], left: float) -> list[Weights]:
    """Sets of about `left` of the reals."""
    chance = random.Random(number)
    return [
        weights_of(
            {"web-first": weights[0]}
            | {
                f"web-{real}": chance.choice(weights)
                for real in range(reals)
                if chance.random() < left
            }
        )
        for _ in range(number)
    ]


@pytest.mark.parametrize("build", library_builds("rows"), ids=lambda path: path.name)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize(("reals", "left"), [(1, 1.0), (5, 0.5), (40, 0.95), (40, 0.1)])
def test_a_ring_of_a_ranking_is_the_ring_by_itself(
    build, weights: list[int], reals: int, left: float
):
    sets = some_sets(4, reals, weights, left)
    ranking = Ranking({member for members in sets for member in members}, build=build)

    for members in sets:
        assert ranking.shape(members) == build_shape(members)


def test_a_ranking_has_no_place_for_strangers_nor_for_more_than_sixteen_bits():
    ranking = Ranking([("web1", 1)])

    assert not any(ranking.shape(()))
    with pytest.raises(KeyError):
        ranking.shape((("web2", 1),))
    with pytest.raises(ValueError, match="65537 members"):
        Ranking((f"web-{number}", 1) for number in range(65_537))


def test_sets_are_ranked_with_those_that_have_much_in_common_and_come_in_order(
    monkeypatch: pytest.MonkeyPatch,
):
    ranked: list[int] = []

    class Watched(Ranking):
        def __init__(self, members: set[tuple[str, int]]) -> None:
            ranked.append(len(members))
            super().__init__(members)

    monkeypatch.setattr(rings, "Ranking", Watched)
    monkeypatch.setattr(rings, "TOGETHER_MIN", 3)
    first = some_sets(5, 20, [100], 0.95)
    other = [tuple((f"other-{name}", weight) for name, weight in one) for one in first]
    alone = [(("lonely", 5),)]
    sets = [*first, *other, *alone]

    assert list(shapes_of(sets)) == [build_shape(members) for members in sets]
    assert len(ranked) == 2
    assert list(shapes_of([])) == []


def test_steps_are_the_same_whether_their_rings_are_built_together_or_not(
    monkeypatch: pytest.MonkeyPatch,
):
    sets = [(mark_of(one), one) for one in dict.fromkeys(some_sets(8, 12, [50, 100], 0.9))]
    monkeypatch.setattr(rings, "TOGETHER_MIN", 1000)
    wanted = Rings().steps(sets)

    monkeypatch.setattr(rings, "TOGETHER_MIN", 2)
    together = Rings()
    assert together.steps(sets[:3]) == wanted[:3]
    assert together.steps(sets) == wanted
    again = zip(together.steps(sets)[1:], together.steps(sets)[1:], strict=True)
    assert all(one is two for one, two in again)
