"""Owner chains by example: who is in a slot's chain after a drain, a return, an age, a word."""

from __future__ import annotations

from array import array
from collections import Counter
from math import inf

import pytest

from edge_lb.fastring import (
    Candidate,
    Earlier,
    Known,
    Step,
    build_chains,
    compare_chains,
    empty_ring,
    moved_flows,
    step_between,
)
from edge_lb.history import last_members
from edge_lb.owners import Chains, Era, Told, alive, chain, eras
from edge_lb.plan import CHAIN_OWNERS
from edge_lb.rendezvous import RING_SLOTS, Member
from edge_lb.rings import Rings, mark_of, weights_of
from gslb.fleet.history import Turn, VipFlows, VipHistory, changed_between, pack_slots

SEATS = {"web1": 1, "web2": 2, "web3": 3, "web4": 4}
ALL = {"web1": 100, "web2": 100, "web3": 100}
AGE_S = 600.0
RINGS = Rings()
NO_FLOWS = bytes(RING_SLOTS)


def line(*turns: tuple[float, dict[str, int]], members: dict[str, int] = ALL) -> VipHistory:
    """The members at first, then those since each moment."""
    sets = [members, *(weights for _, weights in turns)]
    return VipHistory(
        name="www",
        members=members,
        turns=tuple(
            Turn(at_s=at_s, changed=changed_between(before, weights))
            for before, (at_s, weights) in zip(sets, turns, strict=False)
        ),
    )


def without(*names: str) -> dict[str, int]:
    return {name: weight for name, weight in ALL.items() if name not in names}


def ring_of(members: dict[str, int]) -> array[int]:
    return RINGS.ring(
        tuple(
            Member(name=name, weight=weight, index=SEATS[name]) for name, weight in members.items()
        )
    )


def chains_of(
    *lines: tuple[VipHistory, float],
    now_s: float = 1000.0,
    seats: dict[str, int] = SEATS,
    depth: int = 3,
    down: frozenset[str] = frozenset(),
    grace: dict[str, float] | None = None,
    told: dict[str, Told] | None = None,
) -> Chains:
    """The chains of the edge whose line is the first one."""
    present = last_members(lines[0][0])
    return chain(
        ring_of(present),
        alive(eras(lines), weights_of(present), now_s=now_s, age_s=AGE_S),
        seats,
        depth=depth,
        age_s=AGE_S,
        rings=RINGS,
        down=down,
        grace=grace or {},
        told=told or {},
    )


def shapes(chains: Chains) -> Counter[tuple[int, ...]]:
    """How many slots have which chain."""
    slots = chains.slots
    assert slots is not None
    return Counter(
        tuple(slots[at : at + CHAIN_OWNERS]) for at in range(0, len(slots), CHAIN_OWNERS)
    )


def counted(at_s: float, counts: bytes) -> Told:
    flows = VipFlows(vip="www", flows=sum(counts), oldest_s=None, slots=pack_slots(counts))
    return Told(observed_at_s=at_s, flows=flows)


def test_a_ring_that_never_changed_has_no_chain():
    assert chains_of((line(), inf)) == Chains(slots=None)


def test_slots_of_a_drained_real_name_it_second_and_the_others_carry_nothing():
    made = chains_of((line((900.0, without("web2"))), inf))

    kept = shapes(made)
    lost = sum(number for owners, number in kept.items() if owners[1] == 2)
    assert lost == Counter(ring_of(ALL))[2]
    assert all(owners[0] in {1, 3} for owners in kept)
    assert sum(number for owners, number in kept.items() if owners[1] == 0) == RING_SLOTS - lost
    assert [end for end, _ in made.ends] == [900.0 + AGE_S]
    assert sum(entries for _, entries in made.ends) >= lost


def test_two_changes_within_one_life_are_both_remembered_the_latest_first():
    made = shapes(
        chains_of((line((800.0, without("web2")), (900.0, without("web2", "web3"))), inf))
    )

    assert {owners[0] for owners in made} == {1}
    assert (1, 3, 2, 0) in made
    assert (1, 2, 3, 0) not in made


def test_a_real_that_came_back_is_no_candidate_of_its_own_slots():
    made = shapes(chains_of((line((800.0, without("web2")), (900.0, ALL)), inf)))

    assert all(owners[0] not in owners[1:] for owners in made)
    assert all(owners[1] != 2 for owners in made)
    assert any(owners[0] == 2 and owners[1] in {1, 3} for owners in made)


def test_an_entry_leaves_with_the_age_of_its_loss():
    turned = (line((900.0, without("web2"))), inf)

    assert chains_of(turned, now_s=900.0 + AGE_S - 0.1).slots is not None
    assert chains_of(turned, now_s=900.0 + AGE_S).slots is None


def test_a_real_that_left_the_fleet_leaves_every_chain():
    seats = {name: seat for name, seat in SEATS.items() if name != "web2"}
    made = chains_of((line((900.0, without("web2"))), inf), seats=seats)

    assert made.slots is None or all(2 not in owners for owners in shapes(made))


def test_what_another_edge_uses_now_is_a_candidate_without_an_end():
    made = chains_of((line((1.0, without("web2"))), inf), (line(), inf), now_s=10_000.0)

    assert any(owners[1] == 2 for owners in shapes(made))
    assert made.expires_at_s == inf


def test_the_last_members_of_an_edge_that_went_are_lost_with_it():
    made = chains_of((line(members=without("web2")), inf), (line(), 900.0))

    assert made.expires_at_s == 900.0 + AGE_S


def test_a_dead_real_is_left_out_and_does_not_hide_who_had_the_slot_before_it():
    own = (line((800.0, without("web2")), (900.0, without("web2", "web3"))), inf)

    made = shapes(chains_of(own, down=frozenset({"web3"})))
    assert all(3 not in owners for owners in made)
    assert (1, 2, 0, 0) in made


def test_in_its_grace_a_dead_real_is_behind_who_had_the_slot_before_it():
    own = (line((800.0, without("web2")), (900.0, without("web2", "web3"))), inf)

    made = chains_of(own, down=frozenset({"web3"}), grace={"web3": 1030.0})

    assert (1, 2, 3, 0) in shapes(made)
    assert (1, 3, 2, 0) not in shapes(made)
    assert (1, 3, 0, 0) in shapes(made)
    assert made.expires_at_s == 1030.0
    assert dict(made.ends)[1030.0] == sum(
        number for owners, number in shapes(made).items() if 3 in owners
    )


def test_a_full_chain_has_no_room_for_one_in_its_grace():
    own = (line((800.0, without("web2")), (900.0, without("web2", "web3"))), inf)

    made = shapes(chains_of(own, depth=1, down=frozenset({"web3"}), grace={"web3": 1030.0}))

    assert (1, 2, 0, 0) in made
    assert (1, 3, 0, 0) in made  # where web2 never was


def test_a_grace_that_outlives_its_era_ends_with_it():
    own = (line((450.0, without("web2"))), inf)

    made = chains_of(own, down=frozenset({"web2"}), grace={"web2": 1060.0})

    assert made.expires_at_s == 450.0 + AGE_S


def test_a_real_that_is_dead_here_stays_where_another_edge_sends_it_new_flows():
    own = (line((900.0, without("web2"))), inf)

    made = shapes(chains_of(own, (line(), inf), down=frozenset({"web2"})))
    assert any(owners[1] == 2 for owners in made)


def test_a_real_without_flows_of_a_slot_is_no_candidate_there():
    own = (line((900.0, without("web2"))), inf)
    before = shapes(chains_of(own))
    held_slot = list(ring_of(ALL)).index(2)
    counts = bytearray(NO_FLOWS)
    counts[held_slot] = 1

    made = chains_of(own, told={"web2": counted(950.0, bytes(counts))})
    assert made.slots is not None
    assert made.slots[held_slot * CHAIN_OWNERS + 1] == 2
    assert sum(number for owners, number in shapes(made).items() if 2 in owners) == 1
    assert shapes(chains_of(own, told={"web2": counted(909.0, NO_FLOWS)})) == before


def test_who_holds_flows_of_a_slot_has_its_place_before_who_may_hold_some():
    """Changes within seconds of each other fill chains with reals that nobody has asked yet."""
    drained = (line((900.0, without("web2")), (995.0, without("web2", "web3"))), inf)
    twice = [
        slot
        for slot, owners in enumerate(
            zip(
                ring_of(ALL),
                ring_of(without("web2")),
                ring_of(last_members(drained[0])),
                strict=True,
            )
        )
        if owners[:2] == (2, 3)
    ]
    counts = bytearray(NO_FLOWS)
    counts[twice[0]] = 1

    made = chains_of(drained, depth=1, told={"web2": counted(996.0, bytes(counts))}).slots

    assert made is not None
    assert made[twice[0] * CHAIN_OWNERS + 1] == 2
    assert made[twice[1] * CHAIN_OWNERS + 1] == 3


def test_a_word_that_is_no_count_of_slots_is_not_believed():
    own = (line((900.0, without("web2"))), inf)
    broken = Told(
        observed_at_s=950.0, flows=VipFlows(vip="www", flows=0, oldest_s=None, slots=b"no zlib")
    )

    assert chains_of(own, told={"web2": broken}) == chains_of(own)


def test_a_chain_is_as_long_as_the_vip_says():
    own = (line((800.0, without("web2")), (900.0, without("web2", "web3"))), inf)

    assert all(owners[2:] == (0, 0) for owners in shapes(chains_of(own, depth=1)))
    assert chains_of(own, depth=1).expires_at_s == 800.0 + AGE_S
    with pytest.raises(ValueError, match="4 of 4 owners"):
        chains_of(own, depth=4)


def test_a_vip_without_a_serving_real_keeps_its_earlier_owners():
    made = shapes(chains_of((line((900.0, {})), inf)))

    assert set(made) == {(0, 1, 0, 0), (0, 2, 0, 0), (0, 3, 0, 0)}


def test_a_number_that_is_no_candidate_is_left_out_and_sizes_are_checked():
    ring = array("H", [1, 9] * (RING_SLOTS // 2 + 1))[:RING_SLOTS]
    known = Known({1: Candidate(seat=7)})

    made, given = build_chains(
        empty_ring(),
        [Earlier(step=Step(owners=ring), known=known, settled_s=0.0)],
        width=4,
        depth=3,
    )
    assert made is not None
    assert set(made) == {0, 7}
    assert given == [list(ring).count(1)]
    with pytest.raises(ValueError, match="flows of 1 slots"):
        Known({1: Candidate(seat=7, flows=b"1")})
    with pytest.raises(ValueError, match="number of slots"):
        build_chains(
            empty_ring(),
            [Earlier(step=Step(owners=array("H", [1])), known=known, settled_s=0.0)],
            width=4,
            depth=3,
        )
    with pytest.raises(ValueError, match="owners for"):
        build_chains(array("H", [1]), [], width=4, depth=3)


def test_a_step_tells_what_differs_and_nothing_else():
    before, after = ring_of(ALL), ring_of(without("web2"))

    step = step_between(before, after)
    assert step.slots is not None
    assert dict(zip(step.slots, step.owners, strict=True)) == {
        slot: now for slot, (was, now) in enumerate(zip(before, after, strict=True)) if was != now
    }
    assert step.octets == 6 * len(step.slots)
    assert step_between(before, before) == Step(slots=array("I"), owners=array("H"))
    with pytest.raises(ValueError, match="number of slots"):
        step_between(before, array("H", [1]))


def test_steps_are_remembered_while_there_is_room_and_are_the_same_anew(
    monkeypatch: pytest.MonkeyPatch,
):
    sets = [weights_of(members) for members in (ALL, without("web2"), without("web3"), ALL)]
    marked = [(mark_of(weights), weights) for weights in sets]
    some = Rings()

    first = some.steps(marked)
    assert first[0].slots is None
    assert all(one is two for one, two in zip(first[1:], some.steps(marked)[1:], strict=True))
    monkeypatch.setattr("edge_lb.rings.STEPS_OCTETS_MAX", 0)
    again = some.steps(marked)
    assert again == first
    assert some.steps(marked)[1] is not again[1]
    monkeypatch.setattr("edge_lb.rings.NUMBERS_MAX", 0)
    assert some.steps(marked) == first


def test_moved_flows_are_those_on_slots_with_another_real():
    before, after = ring_of(ALL), ring_of(without("web2"))
    counts = bytes(slot % 256 for slot in range(RING_SLOTS))

    wanted = sum(flows for was, now, flows in zip(before, after, counts, strict=True) if was != now)
    assert moved_flows(before, after, counts) == wanted > 0
    assert moved_flows(before, before, counts) == 0
    with pytest.raises(ValueError, match="number of slots"):
        moved_flows(before, after, b"1")


def test_chains_that_grow_and_those_that_lose_an_owner_are_counted_by_slot():
    was = array("H", [1, 2, 0, 0] * RING_SLOTS)
    is_wider = array("H", [3, 1, 2, 0, 0] * RING_SLOTS)
    full = array("H", [5, 4, 3, 2, 0] * RING_SLOTS)
    overfull = array("H", [6, 5, 4, 3, 2] * RING_SLOTS)

    assert compare_chains(was, is_wider, width=4, depth=3) == (RING_SLOTS, 0)
    assert compare_chains(was, array("H", [1, 2, 0, 0, 0] * RING_SLOTS), width=4, depth=3) == (0, 0)
    assert compare_chains(array("H", [5, 4, 3, 2] * RING_SLOTS), overfull, width=4, depth=3) == (
        0,
        RING_SLOTS,
    )
    assert compare_chains(array("H", [5, 4, 3, 0] * RING_SLOTS), full, width=4, depth=3) == (
        RING_SLOTS,
        0,
    )
    with pytest.raises(ValueError, match="told width"):
        compare_chains(was, was, width=4, depth=3)


def test_who_is_expected_last_is_a_candidate_though_the_era_before_had_none():
    """What differs between rings is asked alone: not where the later one is believed less."""
    lost = Era.of(weights_of({**ALL, "web4": 100}), 900.0)
    expected = Era.of(weights_of(ALL))  # behind the lost one, as `coming` members are
    asked = {
        "depth": 3,
        "age_s": AGE_S,
        "rings": RINGS,
        "told": {"web2": counted(990.0, NO_FLOWS)},
    }

    empty = chain(ring_of(without("web2")), (lost,), SEATS, **asked)
    made = chain(ring_of(without("web2")), (lost, expected), SEATS, **asked)

    assert all(2 not in owners for owners in shapes(empty))
    had = Counter(ring_of(ALL))[2]
    assert sum(number for owners, number in shapes(made).items() if 2 in owners) == had
