"""The judge: rise, fall, shared targets, and when the edge doubts itself."""

from __future__ import annotations

from dataclasses import replace

from site_fleet import CHECK, FRA, TLS, WEB1, WEB2, WEB3, WWW, fleet, vip, without

from edge_lb.judge import Judge, Target, targets_of
from edge_lb.seats import Seats, assign, seat_name
from gslb.fleet.health import RealState, Standing
from gslb.fleet.model import CheckVia, Fleet, RealName, VipName

UP = Standing(state=RealState.UP, since_s=1.0, reason="status 200")


def targets(of: Fleet) -> dict[tuple[VipName, RealName], Target]:
    return targets_of(of, FRA, assign(of, FRA, Seats()))


def judge(of: Fleet | None = None, *, up: bool = True) -> Judge:
    """A judge of the small site, all reals UP before the first observation where `up`."""
    wanted = targets(of or fleet())
    return Judge(wanted, dict.fromkeys(wanted, UP) if up else {})


def fail_all(of: Judge, times: int = 1) -> None:
    for _ in range(times):
        for target in of.targets:
            of.observe(target, ok=False, reason="connect timeout 0.5 s", now_s=9.0)


def target_of(of: Judge, name: RealName) -> Target:
    return next(target for target in of.targets if target.real == name)


def test_vips_with_equal_checks_share_a_target():
    assert sorted(target.real for target in judge().targets) == [WEB1, WEB2, WEB3]


def test_through_the_tunnel_every_vip_of_a_real_is_a_target_at_the_vips_address():
    check = replace(CHECK, via=CheckVia.TUNNEL)
    both = fleet(vips=(vip(WWW, 80, (WEB1, WEB2), check), vip(TLS, 443, (WEB1, WEB2), check)))

    made = targets(both)

    seats = assign(both, FRA, Seats()).reals
    assert {pair: target.seat for pair, target in made.items()} == {
        pair: seats[seat_name(*pair)].index for pair in made
    }
    assert len(set(made.values())) == 4
    assert {str(target.address) for target in made.values()} == {"198.51.100.1"}
    assert str(made[WWW, WEB1]) == "http 198.51.100.1 by tunnel :8080/"


def test_vips_with_other_checks_have_targets_of_their_own():
    other = vip(TLS, 443, (WEB1, WEB2), replace(CHECK, port=8443))
    made = judge(fleet(vips=(vip(WWW, 80, (WEB1, WEB2, WEB3)), other)))

    assert len(list(made.targets)) == 5


def test_transition_is_told_once_and_names_both_states():
    made = judge()
    web1 = target_of(made, WEB1)

    told = [made.observe(web1, ok=False, reason="status 503", now_s=5.0) for _ in range(4)]

    states = [(one.before, one.after.state) for one in told if one is not None]
    assert states == [
        (RealState.UP, RealState.SUSPECT),
        (RealState.SUSPECT, RealState.DOWN),
    ]
    assert [one is not None for one in told] == [True, False, True, False]


def test_first_observation_decides():
    made = judge(up=False)

    told = made.observe(target_of(made, WEB1), ok=True, reason="status 200", now_s=5.0)

    assert told is not None
    assert told.after.state is RealState.UP


def test_since_when_a_real_is_down_is_told_when_it_is_believed():
    made = judge()
    for at_s in (5.0, 6.0, 7.0):
        made.observe(target_of(made, WEB1), ok=False, reason="x", now_s=at_s)
    before = made.since()[(WWW, WEB1)]

    made.believe(doubt=False)

    assert before < 5.0
    assert made.since()[(WWW, WEB1)] == 7.0


def test_nothing_is_believed_before_it_is_settled():
    made = judge(up=False)
    made.observe(target_of(made, WEB1), ok=True, reason="status 200", now_s=5.0)

    assert made.standings()[(WWW, WEB1)] is RealState.UNKNOWN

    made.believe(doubt=False)

    assert made.standings()[(WWW, WEB1)] is RealState.UP
    assert made.standings()[(TLS, WEB1)] is RealState.UP


def test_observation_of_a_target_that_left_is_ignored():
    made = judge()
    gone = target_of(made, WEB3)
    made.retarget(targets(without(fleet(), WWW)))

    assert made.observe(gone, ok=False, reason="x", now_s=5.0) is None


def test_retargeting_keeps_what_is_known():
    made = judge()
    fail_all(made, 3)
    made.believe(doubt=False)

    made.retarget(targets(without(fleet(), TLS)))

    assert set(made.standings().values()) == {RealState.DOWN}


def test_all_failing_needs_every_target():
    made = judge()
    targets = list(made.targets)
    for target in targets[:-1]:
        made.observe(target, ok=False, reason="x", now_s=5.0)

    assert not made.all_failing

    made.observe(targets[-1], ok=False, reason="x", now_s=5.0)

    assert made.all_failing


def test_all_failing_needs_two_reals():
    made = judge(fleet(vips=(vip(WWW, 80, (WEB1,)),)))
    fail_all(made)

    assert not made.all_failing


def test_site_without_vips_never_doubts():
    assert not judge(fleet(vips=())).all_failing


def test_doubt_keeps_the_belief_and_speaks_of_what_is_seen():
    made = judge()
    fail_all(made, 3)

    made.believe(doubt=True)

    assert set(made.standings().values()) == {RealState.UP}
    assert {one.state for one in made.spoken().values()} == {RealState.DOWN}
    assert made.doubt


def test_all_dead_without_doubt_is_believed():
    made = judge()
    fail_all(made, 3)

    made.believe(doubt=False)

    assert set(made.standings().values()) == {RealState.DOWN}


def test_failures_seen_in_doubt_are_no_evidence_afterwards():
    made = judge()
    fail_all(made, 3)
    made.believe(doubt=True)

    made.believe(doubt=False)

    assert not made.all_failing
    assert set(made.standings().values()) == {RealState.UP}
    assert {one.state for one in made.spoken().values()} == {RealState.UP}


def test_reals_that_are_dead_after_a_doubt_fall_in_the_usual_time():
    made = judge()
    fail_all(made, 3)
    made.believe(doubt=True)
    made.believe(doubt=False)

    fail_all(made, 3)
    made.believe(doubt=False)

    assert set(made.standings().values()) == {RealState.DOWN}
