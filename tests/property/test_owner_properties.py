"""What must hold of owner chains: one join, one order, no owner missed who may hold a flow."""

from __future__ import annotations

from array import array
from itertools import permutations
from math import inf
from zlib import decompress

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_lb.owners import (
    SETTLE_S,
    Chains,
    Histories,
    Told,
    alive,
    chain,
    eras,
    generation,
    join,
    lines_of,
)
from edge_lb.plan import CHAIN_OWNERS
from edge_lb.rendezvous import RING_SLOTS, Member
from edge_lb.rings import Rings, weights_of
from gslb.fleet.history import (
    EdgeHistory,
    Turn,
    VipFlows,
    VipHistory,
    changed_between,
    pack_slots,
)

VIP = "www"
NOW_S, AGE_S = 1000.0, 600.0
REALS = [f"web{number}" for number in range(1, 7)]
SEATS = {name: number for number, name in enumerate(REALS, 41)}  # unlike positions
LOOKED_AT = range(0, RING_SLOTS, 397)
RINGS = Rings()
HELD_EVERYWHERE = b"1" * RING_SLOTS

MEMBERS = st.dictionaries(
    st.sampled_from(REALS), st.sampled_from([0, 50, 100]), min_size=1, max_size=4
)
TIMES = st.sampled_from([100.0, 399.0, 400.0, 401.0, 700.0, 900.0, 985.0, 990.0, 999.0])


@st.composite
def lines(draw: st.DrawFn) -> VipHistory:
    first = members = _serving(draw(MEMBERS))
    turns = []
    for at_s in sorted(draw(st.lists(TIMES, max_size=4))):
        before, members = members, _serving(draw(MEMBERS))
        if changed := changed_between(before, members):
            turns.append(Turn(at_s=at_s, changed=changed))
    return VipHistory(name=VIP, members=first, turns=tuple(turns))


def _serving(members: dict[str, int]) -> dict[str, int]:
    return {name: weight for name, weight in members.items() if weight}


@st.composite
def histories(draw: st.DrawFn) -> dict[str, EdgeHistory]:
    edges = draw(st.lists(st.sampled_from(["edge1", "edge2", "edge3"]), unique=True))
    return {
        edge: EdgeHistory(
            site="fra", edge=edge, generation=draw(st.integers(1, 3)), vips=(draw(lines()),)
        )
        for edge in edges
    }


COUNTS = st.binary(min_size=7, max_size=7).map(
    lambda some: bytes(octet % 3 for octet in (some * (RING_SLOTS // 7 + 1))[:RING_SLOTS])
)
TOLD = st.dictionaries(
    st.sampled_from(REALS),
    st.builds(
        lambda at_s, counts: Told(
            observed_at_s=at_s,
            flows=VipFlows(vip=VIP, flows=sum(counts), oldest_s=None, slots=pack_slots(counts)),
        ),
        TIMES,
        COUNTS,
    ),
    max_size=3,
)
SILENT = st.dictionaries(st.sampled_from(["edge2", "edge3"]), TIMES)


def ring_of(members: dict[str, int]) -> array[int]:
    """The ring of these members in this edge's seats."""
    return RINGS.ring(
        tuple(
            Member(name=name, weight=weight, index=SEATS[name]) for name, weight in members.items()
        )
    )


def computed(
    held: Histories,
    present: dict[str, int],
    silent: dict[str, float],
    down: frozenset[str] = frozenset(),
    grace: dict[str, float] | None = None,
    told: dict[str, Told] | None = None,
    depth: int = 3,
) -> Chains:
    past = alive(
        eras(lines_of(held, silent).get(VIP, [])), weights_of(present), now_s=NOW_S, age_s=AGE_S
    )
    return chain(
        ring_of(present),
        past,
        SEATS,
        depth=depth,
        age_s=AGE_S,
        rings=RINGS,
        down=down,
        grace=grace or {},
        told=told or {},
    )


def by_definition(
    held: Histories,
    slot: int,
    present: dict[str, int],
    silent: dict[str, float],
    down: frozenset[str],
    grace: dict[str, float],
    told: dict[str, Told],
    depth: int,
) -> list[int]:
    """The chain of one slot, from the words of the decision: no shape, no cache, no order kept."""
    uses: dict[tuple[tuple[str, int], ...], float] = {}
    for edge, history in held.items():
        for line in history.vips:
            members, began = dict(line.members), list(line.turns)
            for turn in began:
                key = tuple(sorted((n, w) for n, w in members.items() if w))
                uses[key] = max(uses.get(key, 0.0), turn.at_s)
                members = {**members, **turn.changed}
            key = tuple(sorted((n, w) for n, w in members.items() if w))
            uses[key] = max(uses.get(key, 0.0), silent.get(edge, inf))
    owner = ring_of(present)[slot]
    name_of = {seat: name for name, seat in SEATS.items()}
    ranked: list[tuple[bool, int, float, tuple[tuple[str, int], ...], int]] = []
    for key, lost_at_s in uses.items():
        seat = ring_of(dict(key))[slot]
        if not seat or lost_at_s <= NOW_S - AGE_S:
            continue
        name = name_of[seat]
        if name in down and lost_at_s < inf and name not in grace:
            continue
        word = told.get(name)
        if word is not None and word.observed_at_s >= lost_at_s + SETTLE_S:
            counts = decompress(word.flows.slots)
        else:
            counts = HELD_EVERYWHERE
        if not counts[slot]:
            continue
        holds = word is not None and decompress(word.flows.slots)[slot] > 0
        rank = 0 if lost_at_s == inf else 1 if holds and name not in down else 2
        ranked.append((name in down, rank, -lost_at_s, key, seat))
    found = [owner]
    for *_, seat in sorted(ranked):
        if seat not in found and len(found) <= depth:
            found.append(seat)
    return found + [0] * (CHAIN_OWNERS - len(found))


@settings(max_examples=40, deadline=None)
@given(
    held=histories(),
    present=MEMBERS,
    silent=SILENT,
    down=st.frozensets(st.sampled_from(REALS), max_size=3),
    in_grace=st.frozensets(st.sampled_from(REALS), max_size=4),
    told=TOLD,
    depth=st.integers(1, 3),
)
def test_each_slot_has_the_chain_of_the_definition(
    held: dict[str, EdgeHistory],
    present: dict[str, int],
    silent: dict[str, float],
    down: frozenset[str],
    in_grace: frozenset[str],
    told: dict[str, Told],
    depth: int,
):
    down -= present.keys()  # no ring is made of the dead
    grace = dict.fromkeys(down & in_grace, NOW_S + 10.0)
    made = computed(held, present, silent, down, grace, told, depth).slots

    for slot in LOOKED_AT:
        wanted = by_definition(held, slot, present, silent, down, grace, told, depth)
        here = slice(slot * CHAIN_OWNERS, (slot + 1) * CHAIN_OWNERS)
        found = list(made[here]) if made is not None else [wanted[0], 0, 0, 0]
        assert found == wanted


@settings(max_examples=30, deadline=None)
@given(
    held=histories(),
    present=MEMBERS,
    silent=SILENT,
    told=TOLD,
    fallen=st.sampled_from(["", *REALS]),
    grace_s=st.sampled_from([0.5, 5.0, 50.0, 5000.0]),
)
def test_nothing_changes_before_the_told_moment_and_an_entry_leaves_then(
    held: dict[str, EdgeHistory],
    present: dict[str, int],
    silent: dict[str, float],
    told: dict[str, Told],
    fallen: str,
    grace_s: float,
):
    down = frozenset({fallen} - {""} - present.keys())
    past = eras(lines_of(held, silent).get(VIP, []))

    def at(now_s: float) -> Chains:
        return chain(
            ring_of(present),
            alive(past, weights_of(present), now_s=now_s, age_s=AGE_S),
            SEATS,
            depth=3,
            age_s=AGE_S,
            rings=RINGS,
            down=down,
            grace=dict.fromkeys(down, NOW_S + grace_s) if now_s < NOW_S + grace_s else {},
            told=told,
        )

    now = at(NOW_S)
    if now.expires_at_s < inf:
        assert now.expires_at_s > NOW_S
        assert at(now.expires_at_s - 0.001).slots == now.slots
        assert at(now.expires_at_s).slots != now.slots


@settings(max_examples=100, deadline=None)
@given(histories(), histories(), histories())
def test_the_join_is_commutative_associative_and_idempotent(
    one: dict[str, EdgeHistory], two: dict[str, EdgeHistory], three: dict[str, EdgeHistory]
):
    assert join(one, two) == join(two, one)
    assert join(join(one, two), three) == join(one, join(two, three)) == join(one, two, three)
    assert join(one, one) == one
    assert generation(join(one, two)) == max(generation(one), generation(two))


@settings(max_examples=15, deadline=None)
@given(parts=st.lists(histories(), min_size=3, max_size=3), present=MEMBERS)
def test_the_order_of_arrival_decides_nothing(
    parts: list[dict[str, EdgeHistory]], present: dict[str, int]
):
    found = []
    for order in permutations(parts):
        held: dict[str, EdgeHistory] = {}
        for part in order:  # each edge takes the records as they come, some twice
            held = join(join(held, part), part)
        found.append((computed(held, present, {}), generation(held)))

    assert all(one == found[0] for one in found)


@settings(max_examples=20, deadline=None)
@given(held=histories(), one=MEMBERS, two=MEMBERS)
def test_edges_that_differ_in_the_present_differ_in_order_never_in_the_set(
    held: dict[str, EdgeHistory], one: dict[str, int], two: dict[str, int]
):
    """Two edges with other members now, each of which knows of the other's."""
    own = {
        edge: EdgeHistory(
            site="fra",
            edge=edge,
            generation=9,
            vips=(VipHistory(name=VIP, members=_serving(members)),),
        )
        for edge, members in (("edge8", one), ("edge9", two))
    }
    both = join(held, own)
    first, second = (computed(both, members, {}).slots for members in (one, two))

    for slot in LOOKED_AT:
        owners = [
            set(made[slot * CHAIN_OWNERS : (slot + 1) * CHAIN_OWNERS]) - {0}
            if made is not None
            else {ring_of(members)[slot]} - {0}
            for made, members in ((first, one), (second, two))
        ]
        if max(len(some) for some in owners) < CHAIN_OWNERS:
            assert owners[0] == owners[1]
