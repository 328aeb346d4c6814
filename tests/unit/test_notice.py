"""Notice of a change: who waits for it, and for how long."""

from __future__ import annotations

from dataclasses import replace

from edge_lb.notice import (
    ACKNOWLEDGED_WITHIN_S,
    NOTICE_S,
    Heeded,
    Notice,
    ears_of,
    heed,
    understood,
)
from edge_lb.rings import Weights, weights_of
from gslb.fleet.health import EdgeReport
from gslb.fleet.history import EdgeHistory, VipHistory
from gslb.fleet.snapshot import HeldReport, Holdings

REALS = {"web1", "web2", "web3"}
ALL = weights_of(dict.fromkeys(REALS, 100))
TWO: Weights = (("web1", 100), ("web2", 100))
ONE: Weights = (("web1", 100),)
DEAF = {"edge2": 6, "edge3": 7}
ALL_EARS = {"edge2": 7, "edge3": 8}


def notice(weights: Weights, since_s: float = 100.0, *, least_s: float = 0.0) -> Notice:
    return Notice(weights=weights, since_s=since_s, least_s=least_s, generation=7)


def test_a_planned_change_without_another_edge_waits_for_nobody():
    assert heed(ALL, TWO, REALS, None, 100.0) == Heeded(weights=TWO)


def test_a_planned_change_is_told_and_comes_when_all_have_heard():
    given = heed(ALL, TWO, REALS, None, 100.0, ALL_EARS)
    assert given == Heeded(weights=ALL, notice=Notice(weights=TWO, since_s=100.0))

    told = notice(TWO)
    assert heed(ALL, TWO, REALS, told, 101.0, DEAF) == Heeded(weights=ALL, notice=told)
    assert heed(ALL, TWO, REALS, told, 101.0, ALL_EARS) == Heeded(weights=TWO)


def test_what_nobody_wrote_down_nobody_has_heard():
    given = Notice(weights=TWO, since_s=100.0)

    assert given.unheard(ALL_EARS) == ("edge2", "edge3")
    assert given.due_s(ALL_EARS) == 100.0 + ACKNOWLEDGED_WITHIN_S


def test_an_edge_that_does_not_hear_is_waited_for_so_long_and_named():
    told = notice(TWO)

    waiting = heed(ALL, TWO, REALS, told, 99.9 + ACKNOWLEDGED_WITHIN_S, DEAF)
    come = heed(ALL, TWO, REALS, told, 100.0 + ACKNOWLEDGED_WITHIN_S, DEAF)

    assert waiting == Heeded(weights=ALL, notice=told)
    assert come == Heeded(weights=TWO, unheard=("edge2",))


def test_flow_memory_of_moved_slots_has_its_time_whoever_has_heard():
    given = heed(ALL, TWO, REALS, None, 100.0, least_s=NOTICE_S)
    told = notice(TWO, least_s=NOTICE_S)

    assert given.notice == Notice(weights=TWO, since_s=100.0, least_s=NOTICE_S)
    assert told.due_s({}) == told.due_s(ALL_EARS) == 100.0 + NOTICE_S
    assert told.due_s(DEAF) == 100.0 + ACKNOWLEDGED_WITHIN_S
    assert heed(ALL, TWO, REALS, told, 109.9, ALL_EARS) == Heeded(weights=ALL, notice=told)
    assert heed(ALL, TWO, REALS, told, 110.0, ALL_EARS) == Heeded(weights=TWO)


def test_what_died_or_left_is_waited_for_by_nobody():
    assert heed(ALL, TWO, {"web1", "web2"}, None, 100.0, DEAF) == Heeded(weights=TWO)
    planned = notice(ALL, 99.0)
    assert heed(TWO, ONE, {"web1", "web3"}, planned, 100.0, DEAF) == Heeded(weights=ONE)


def test_a_death_takes_nothing_planned_with_it():
    came = heed(TWO, (("web2", 100), ("web3", 100)), {"web2", "web3"}, None, 100.0, DEAF)

    assert came.weights == (("web2", 100),)
    assert came.notice is not None
    assert came.notice.weights == (("web2", 100), ("web3", 100))


def test_a_coming_ring_with_a_real_that_died_meanwhile_does_not_come():
    planned = notice(ALL, 80.0)

    assert heed(TWO, TWO, {"web1", "web2"}, planned, 100.0, ALL_EARS) == Heeded(weights=TWO)


def test_a_new_ring_and_one_without_or_before_any_member_wait_for_nothing():
    assert heed(None, ALL, REALS, None, 100.0, DEAF) == Heeded(weights=ALL)
    assert heed((), ALL, REALS, None, 100.0, DEAF) == Heeded(weights=ALL)
    assert heed(ALL, (), REALS, None, 100.0, DEAF) == Heeded(weights=())


def test_a_change_that_is_taken_back_does_not_come():
    assert heed(ALL, ALL, REALS, notice(TWO), 105.0, DEAF) == Heeded(weights=ALL)


def test_steps_that_follow_each_other_quickly_come_one_after_the_other():
    first = notice(TWO)

    waiting = heed(ALL, ONE, REALS, first, 105.0, DEAF)
    come = heed(ALL, ONE, REALS, first, 106.0, ALL_EARS)

    assert waiting == Heeded(weights=ALL, notice=first)
    assert come == Heeded(weights=TWO, notice=Notice(weights=ONE, since_s=106.0))


def test_words_say_who_is_waited_for_and_how_long():
    told = notice(TWO, least_s=NOTICE_S)

    assert told.words(DEAF, 102.0) == "waits for edge2 to hear of it, 28 s at most"
    assert told.words(ALL_EARS, 102.0).startswith("comes in 8 s")


def held(edge: str, site: str = "fra", **heard: int) -> HeldReport:
    report = EdgeReport(
        site=site,
        edge=edge,
        config_hash="0123456789ab",
        generation=1,
        sequence=1,
        observed_at_s=100.0,
        lease_s=3.0,
        doubt=False,
        vips=(),
        heard=heard,
    )
    return HeldReport(report=report, received_s=100.0)


def test_who_lives_at_the_site_is_asked_whatever_it_has_heard():
    reports = {
        "edge1": held("edge1", edge2=5),
        "edge2": held("edge2", edge1=7, edge3=9),
        "edge3": held("edge3"),
        "nyc-edge1": held("nyc-edge1", "nyc", edge1=7),
    }
    holdings = Holdings(reports=reports)

    assert ears_of(holdings, "fra", "edge1", 103.0) == {"edge2": 7, "edge3": 0}
    assert ears_of(holdings, "fra", "edge1", 133.0) == {"edge2": 7, "edge3": 0}
    assert ears_of(holdings, "fra", "edge1", 133.1) == {}
    assert ears_of(replace(holdings, lost_s=101.0), "fra", "edge1", 900.0) == {
        "edge2": 7,
        "edge3": 0,
    }


def test_a_coming_real_that_is_not_configured_here_is_not_understood():
    line = VipHistory(name="www", members={"web1": 1}, coming={"web1": 0, "web4": 1})
    history = EdgeHistory(site="fra", edge="edge2", generation=5, vips=(line,))

    assert not understood(history, {"www": REALS})
    assert understood(history, {"www": {*REALS, "web4"}})
    assert understood(history, {"tls": REALS})
