"""Every promise of the demo, as a test of its own, in the demo's order on one lab."""

from __future__ import annotations

import pytest

from ops.lab import demo_dns, demo_edges, demo_failures, demo_packets
from ops.lab.demo import Shown, Step
from ops.lab.lab import Lab

pytestmark = pytest.mark.e2e
STEPS = (*demo_dns.STEPS, *demo_packets.STEPS, *demo_failures.STEPS, *demo_edges.STEPS)


@pytest.mark.parametrize("step", STEPS, ids=[step.title for step in STEPS])
def test_the_step_holds(lab: Lab, step: Step) -> None:
    shown = step.show(lab)

    assert isinstance(shown, Shown)
    assert shown.ran
    assert shown.came


def test_all_is_well_after_the_last_step(lab: Lab) -> None:
    lab.wait_well()

    assert lab.trouble() == []
