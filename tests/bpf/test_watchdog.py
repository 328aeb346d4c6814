"""The watchdog of an announced edge: what it finds in the live maps, and that nobody notices it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from datapath_plans import VIP, plan, real, ring_of, ring_to, vip

from bpf import services
from bpf.program import Program
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.watchdog import VIPS_A_LOOK, Watchdog
from gslb.service.events import EventLog

pytestmark = pytest.mark.bpf

OTHER_VIP = IPv4Address("192.0.2.81")


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy that serves two VIPs."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=64)
    made.open_private()
    vips = [vip(ring_of([1, 2])), vip(ring_to(2), index=7, address=OTHER_VIP)]
    made.apply(plan([real(1), real(2)], vips))
    yield made
    made.close()


def test_a_sound_program_passes_again_and_again_and_nothing_of_it_is_counted(
    datapath: Datapath,
) -> None:
    before = datapath.verdicts(), datapath.vip_counters([0, 7]), datapath.real_counters([1, 2])
    with datapath.rehearsal_twin() as twin:
        for _ in range(3):
            assert datapath.rehearse(twin) == ()

    after = datapath.verdicts(), datapath.vip_counters([0, 7]), datapath.real_counters([1, 2])
    assert after == before


def test_a_new_plan_is_followed_by_the_same_twin(datapath: Datapath) -> None:
    with datapath.rehearsal_twin() as twin:
        assert datapath.rehearse(twin) == ()
        datapath.apply(plan([real(1), real(3)], [vip(ring_of([3, 1]))]))
        assert datapath.rehearse(twin) == ()


def test_a_vip_that_the_program_no_longer_finds_is_named(datapath: Datapath) -> None:
    with datapath.rehearsal_twin() as twin:
        services.put_services(datapath.program, [])
        faults = datapath.rehearse(twin)

    assert [fault.split(":")[0] for fault in faults] == [str(VIP), str(OTHER_VIP)]


def test_some_of_the_vips_are_tried_in_turn(datapath: Datapath) -> None:
    with datapath.rehearsal_twin() as twin:
        services.put_services(datapath.program, [])
        first, second = datapath.rehearse(twin, (0, 1)), datapath.rehearse(twin, (1, 1))
        third = datapath.rehearse(twin, (2, 1))

    assert first[0].startswith(str(VIP))
    assert second[0].startswith(str(OTHER_VIP))
    assert third == first


class Faulty(Datapath):
    """A data plane whose rehearsals are told beforehand."""

    def __init__(self, *told: tuple[str, ...]) -> None:
        self.told = list(told)
        self.asked: list[tuple[int, int] | None] = []

    def rehearse(self, twin: Program, some: tuple[int, int] | None = None) -> tuple[str, ...]:
        self.asked.append(some)
        return self.told.pop(0)


async def test_a_fault_stands_until_the_same_vips_pass_again(datapath: Datapath) -> None:
    faulty, events = Faulty((), ("www: PASSED_NOT_VIP",), ("www: PASSED_NOT_VIP",), ()), EventLog()
    watchdog = Watchdog(faulty, events)
    faults = []
    with datapath.rehearsal_twin() as twin:
        for _ in range(4):
            await watchdog.look(twin)
            faults.append(watchdog.fault)

    fault = "the program fails its rehearsal: www: PASSED_NOT_VIP"
    assert faults == ["", fault, fault, ""]
    assert [some[0] for some in faulty.asked if some] == [0, *[VIPS_A_LOOK] * 3]
    assert [e.name for e in events.since(0)] == ["watchdog.changed"] * 2
