"""Whatever changes: seats never meet, epochs never come back, rings name the living."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from site_fleet import FRA, fleet, real, vip

from edge_lb.changes import diff
from edge_lb.plan import RealForwarding, build_plan
from edge_lb.rings import Rings
from edge_lb.seats import Seats, assign
from gslb.fleet.health import RealState
from gslb.fleet.model import Fleet, RealName, VipName

NAMES = [RealName(f"web{number}") for number in range(5)]
VIPS = [VipName(f"vip{number}") for number in range(3)]


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    reals = {
        name: real(name, draw(st.integers(1, 3)) * 10 + number, weight=draw(st.integers(0, 3)))
        for number, name in enumerate(NAMES)
    }
    chosen = draw(st.lists(st.sampled_from(VIPS), unique=True))
    members = st.lists(st.sampled_from(NAMES), unique=True, min_size=1).map(tuple)
    return fleet(
        reals=reals,
        vips=tuple(vip(name, VIPS.index(name) + 80, draw(members)) for name in chosen),
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(fleets(), min_size=1, max_size=6))
def test_seats_never_meet_and_epochs_never_come_back(history: list[Fleet]):
    seats = Seats()
    owners: dict[tuple[int, int], tuple[str, str]] = {}
    for now in history:
        seats = assign(now, FRA, seats)

        indexes = [seat.index for seat in seats.reals.values()]
        assert len(set(indexes)) == len(indexes)
        assert 0 not in indexes
        assert len(set(seats.vips.values())) == len(seats.vips)
        for name, seat in seats.reals.items():
            owner = (name, seat.address)
            assert owners.setdefault((seat.index, seat.epoch), owner) == owner


@settings(max_examples=15, deadline=None)
@given(
    whole=fleets(),
    states=st.lists(st.sampled_from(list(RealState)), min_size=15, max_size=15),
    drained=st.frozensets(st.sampled_from(NAMES)),
)
def test_ring_names_exactly_the_reals_that_may_get_new_flows(
    whole: Fleet, states: list[RealState], drained: frozenset[RealName]
):
    pairs = [(v, name) for v in VIPS for name in NAMES]
    made = build_plan(
        whole,
        FRA,
        assign(whole, FRA, Seats()),
        dict(zip(pairs, states, strict=True)),
        drained,
        generation=1,
        tunnel_source=IPv4Address("10.0.0.1"),
        mtu=1500,
        rings=Rings(),
    )

    for planned in made.vips:
        may = {
            one.index
            for one in made.reals
            if one.name.startswith(f"{planned.name}/")
            and one.state is RealForwarding.UP
            and whole.reals[RealName(one.name.partition("/")[2])].weight > 0
        }
        assert set(planned.ring) == (may or {0})
    assert diff(made, made) == ()
