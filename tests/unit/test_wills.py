"""Drains as one edge holds them, with and without the store."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from site_fleet import WEB1, WEB2

from edge_lb.wills import Wills
from gslb.fleet.health import Override, OverrideKind
from gslb.fleet.model import RealName
from gslb.fleet.snapshot import Holdings

EMPTY = Holdings()


def will(name: RealName, *, drained: bool = True, generation: int = 5) -> Override:
    return Override(
        kind=OverrideKind.REAL,
        name=name,
        drained=drained,
        by="anna",
        reason="upgrade",
        at_s=1.0,
        generation=generation,
    )


def holding(*wills: Override) -> Holdings:
    return replace(EMPTY, overrides={(one.kind, one.name): one for one in wills})


def tell(wills: Wills, name: RealName, held: Holdings, *, drained: bool) -> Override:
    return wills.tell(
        OverrideKind.REAL, name, drained=drained, by="bert", reason="", now_s=0.001, held=held
    )


def test_told_drain_holds_at_once_and_waits_for_the_store():
    wills = Wills(())
    told = tell(wills, WEB1, EMPTY, drained=True)

    assert set(wills.drained(OverrideKind.REAL, EMPTY)) == {WEB1}
    assert wills.unwritten == (told,)


def test_written_will_waits_no_more_and_still_holds():
    wills = Wills(())
    told = tell(wills, WEB1, EMPTY, drained=True)

    wills.written(told)

    assert wills.unwritten == ()
    assert set(wills.drained(OverrideKind.REAL, EMPTY)) == {WEB1}


def test_told_will_outranks_the_stored_one_whatever_the_clock_says():
    wills = Wills(())
    held = holding(will(WEB1, generation=10_000))

    told = tell(wills, WEB1, held, drained=False)

    assert told.generation == 10_001
    assert wills.drained(OverrideKind.REAL, held) == {}


def test_newer_stored_will_overtakes_a_told_one():
    wills = Wills((will(WEB1, generation=5),))
    held = holding(will(WEB1, drained=False, generation=6))

    assert wills.drained(OverrideKind.REAL, held) == {}

    wills.settle(held)

    assert wills.unwritten == ()


def test_wills_of_other_edges_are_followed():
    held = holding(will(WEB2))

    assert set(Wills(()).drained(OverrideKind.REAL, held)) == {WEB2}


def test_drained_site_is_not_a_drained_real():
    site = msgspec.structs.replace(will(WEB1), kind=OverrideKind.SITE)

    assert Wills(()).drained(OverrideKind.REAL, holding(site)) == {}


def test_drained_edge_is_held_apart_from_a_real_of_its_name():
    wills = Wills(())
    wills.tell(OverrideKind.EDGE, WEB1, drained=True, by="bert", reason="", now_s=1.0, held=EMPTY)
    tell(wills, WEB1, EMPTY, drained=False)

    assert set(wills.drained(OverrideKind.EDGE, EMPTY)) == {WEB1}
    assert wills.drained(OverrideKind.REAL, EMPTY) == {}
    assert {one.kind for one in wills.unwritten} == {OverrideKind.EDGE, OverrideKind.REAL}

    wills.settle(holding(will(WEB1, drained=False, generation=2_000)))

    assert [one.kind for one in wills.unwritten] == [OverrideKind.EDGE]


def test_will_survives_a_restart_until_it_is_read_from_the_store():
    first = Wills(())
    told = tell(first, WEB1, EMPTY, drained=True)

    second = Wills(first.unsettled)
    assert second.unwritten == (told,)
    assert set(second.drained(OverrideKind.REAL, EMPTY)) == {WEB1}

    second.written(told)
    third = Wills(second.unsettled)
    assert set(third.drained(OverrideKind.REAL, EMPTY)) == {WEB1}

    third.settle(holding(told))
    assert third.unsettled == ()


def test_older_will_that_was_written_does_not_end_the_newer_ones_wait():
    wills = Wills(())
    first = tell(wills, WEB1, EMPTY, drained=True)
    second = tell(wills, WEB1, EMPTY, drained=False)

    wills.written(first)

    assert wills.unwritten == (second,)
