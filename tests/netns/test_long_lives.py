"""Real TCP connections outlive a drain, a lost edge, a reshuffle and a restarted agent at once.

The small form of bench_long_connections.py, with daemons, XDP and a store of its own. A VIP of the
ring alone stands beside the one of owner chains: what breaks there shows that something was at
stake here.
"""

import os

import pytest
from long_connections.clients import Lives
from long_connections.modes import MODES
from long_connections.schedule import Event, Kind
from long_connections.trial import Trial, hold_through

pytestmark = pytest.mark.netns
CONNECTIONS = 60
LIVES = Lives(count=CONNECTIONS, ramp_s=2.0, shortest_s=1.0, longest_s=6.0)


def test_no_connection_breaks_though_a_real_an_edge_and_an_agent_go() -> None:
    trial = Trial(
        modes=(MODES["chains-alone"], MODES["ring"]),
        lives=LIVES,
        reals=("real1", "real2", "real3"),
        edges=("edge1", "edge2"),
        prefix=f"lrt{os.getpid()}-",
    )
    events = (
        Event(at_s=0.5, kind=Kind.DRAIN_REAL, who="real1"),
        Event(at_s=1.0, kind=Kind.RESTART_EDGE, who="edge1"),
        Event(at_s=2.5, kind=Kind.RESHUFFLE, number=7),
        Event(at_s=3.0, kind=Kind.KILL_EDGE, who="edge2"),
    )

    ours, ring = hold_through(trial, events, 8.0)

    assert ours.without_right == ()
    assert ours.total.ended > CONNECTIONS
    assert ring.without_right
    assert "route withdrawn" in [one.what for one in ours.happened]
    assert ours.verdicts["HANDED_ON"] > 0
