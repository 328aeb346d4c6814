"""The maps after a plan, and after the agent's death."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from datapath_plans import VIP, plan, real, ring_of, ring_to, vip

from bpf import errors, libbpf, program
from bpf.maps import Map, create_inner
from bpf.packets import TCP, ethernet, ipv4, tcp
from bpf.selftest import client_tcp
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath, UnknownVipError, VipCounter
from edge_lb.flow import Flow
from edge_lb.plan import RealForwarding
from edge_lb.ring_maps import RINGS_AT_ONCE
from gslb.fleet.model import Encap

pytestmark = pytest.mark.bpf

OTHER_VIP = IPv4Address("192.0.2.81")


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy, not attached."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=64)
    made.open_private()
    yield made
    made.close()


def send(datapath: Datapath, bench: Workbench, *, address: IPv4Address = VIP, times: int = 1):
    frame = ethernet(ipv4("198.51.100.7", str(address), TCP, tcp(40000, 80)))
    for _ in range(times):
        datapath.program.test_run(frame, ifindex=bench.in_ifindex)


def test_what_was_applied_is_read_back(datapath: Datapath):
    reals = [real(1), replace(real(2), encap=Encap.L2), real(3, state=RealForwarding.DRAINING)]
    vips = [vip(ring_of([1, 2])), vip(ring_to(3), index=7, address=OTHER_VIP, port=0)]

    datapath.apply(plan(reals, vips))
    held = datapath.read_back()

    assert [(r.index, r.epoch, r.address, r.encap, r.state) for r in held.reals] == [
        (r.index, r.epoch, r.address, r.encap, r.state) for r in reals
    ]
    assert [(v.index, v.address, v.port, v.protocol) for v in held.vips] == [
        (v.index, v.address, v.port, v.protocol) for v in vips
    ]
    assert datapath.ring(0) == vips[0].ring


def test_a_second_plan_leaves_what_a_first_start_with_it_would(datapath: Datapath):
    two = [vip(ring_of([1, 2])), vip(ring_to(3), index=7, address=OTHER_VIP, port=0)]
    datapath.apply(plan([real(1), real(2), real(3)], two))

    down = [real(1, state=RealForwarding.DOWN), real(2), real(4, epoch=2)]
    after = plan(down, [vip(ring_to(2)), vip(ring_to(4), index=7, address=OTHER_VIP, port=81)])
    datapath.apply(after)
    written_once = datapath.read_back(), datapath.ring(0), datapath.ring(7)
    with closing(Datapath("in0", Path("/nowhere"), flows_per_queue=64)) as fresh:
        fresh.open_private()
        fresh.apply(after)
        alone = fresh.read_back(), fresh.ring(0), fresh.ring(7)

    live = [held for held in written_once[0].reals if held.address is not None]
    assert (live, written_once[0].vips) == (list(alone[0].reals), alone[0].vips)
    assert written_once[1:] == alone[1:]


def test_a_plan_that_failed_half_way_is_written_whole_the_next_time(
    datapath: Datapath, monkeypatch: pytest.MonkeyPatch
):
    datapath.apply(plan([real(1)], [vip(ring_to(1))]))
    after = plan([real(1), real(2)], [vip(ring_of([1, 2]))])

    def refuse(*_: object) -> None:
        raise errors.CallFailedError("write a map: no memory", number=12)

    with monkeypatch.context() as broken:
        broken.setattr(Map, "set_inners", refuse)
        with pytest.raises(errors.CallFailedError):
            datapath.apply(after)
    datapath.apply(after)

    assert datapath.ring(0) == after.vips[0].ring
    assert [held.index for held in datapath.read_back().reals] == [1, 2]


def test_more_rings_than_are_swapped_at_once_are_all_written(datapath: Datapath):
    many = [
        vip(ring_to(number + 1), index=number, address=VIP + number)
        for number in range(RINGS_AT_ONCE + 3)
    ]

    datapath.apply(plan([real(one.index + 1) for one in many], many))

    assert [datapath.ring(one.index)[17] for one in many] == [one.index + 1 for one in many]


def test_a_removed_vip_is_the_edges_own_traffic_again(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1)), vip(ring_to(1), index=1, address=OTHER_VIP)]))

    datapath.apply(plan([real(1)], [vip(ring_to(1))]))
    send(datapath, bench, address=OTHER_VIP)

    assert [held.address for held in datapath.read_back().vips] == [VIP]
    assert datapath.verdicts()["PASSED_NOT_VIP"].packets == 1
    assert len(datapath.ring(1)) == 0


def test_an_index_may_change_its_vip(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1))]))
    send(datapath, bench)

    datapath.apply(plan([real(1)], [vip(ring_to(1), address=OTHER_VIP)]))
    send(datapath, bench, address=OTHER_VIP)

    assert [held.address for held in datapath.read_back().vips] == [OTHER_VIP]
    assert datapath.vip_counters([0])[0].packets == 1


def test_a_removed_real_leaves_its_epoch_behind(datapath: Datapath):
    datapath.apply(plan([real(1), real(2, epoch=5)], [vip(ring_to(1))]))

    datapath.apply(plan([real(1)], [vip(ring_to(1))]))

    freed = datapath.read_back().reals[1]
    assert (freed.index, freed.epoch, freed.address) == (2, 5, None)


def test_counters_start_anew_with_an_epoch(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1))]))
    send(datapath, bench, times=3)
    before = datapath.real_counters([1])[1]

    datapath.apply(plan([real(1, epoch=2, host=9)], [vip(ring_to(1))]))

    assert (before.packets, before.bytes) == (3, 3 * 54)
    assert datapath.real_counters([1])[1].packets == 0


def test_a_vip_counts_what_became_of_its_packets(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1))]))
    expired = ethernet(ipv4("224.0.0.7", str(VIP), TCP, tcp(40000, 80), ttl=1))

    send(datapath, bench, times=3)
    datapath.program.test_run(expired, ifindex=bench.in_ifindex)

    assert datapath.vip_counters([0])[0] == VipCounter(
        packets=4, bytes=4 * 54, dropped=1, flows_new=1, flow_hits=2
    )
    assert datapath.real_counters([1])[1].packets == 3
    assert datapath.verdicts()["FORWARDED_REMEMBERED"].bytes == 2 * 54


def test_an_unknown_vip_cannot_be_located(datapath: Datapath):
    flow = Flow(client=VIP, client_port=1, vip=OTHER_VIP, vip_port=80, protocol=TCP)

    with pytest.raises(UnknownVipError):
        datapath.locate(flow)


def test_a_restart_takes_over_maps_flows_and_link(bench: Workbench, pin_dir: Path):
    first = Datapath("out0", pin_dir, flows_per_queue=64)
    bench.release("out0")
    assert first.open() is False
    first.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    send(first, bench)
    first.close()

    second = Datapath("out0", pin_dir, flows_per_queue=64)
    assert second.open() is True
    second.apply(plan([real(1), real(2)], [vip(ring_to(2))]))
    send(second, bench)

    assert second.verdicts()["FORWARDED_NEW"].packets == 1
    assert second.verdicts()["FORWARDED_REMEMBERED"].packets == 1
    second.unload()
    assert not pin_dir.exists()


def test_another_process_finds_the_pins(bench: Workbench, pin_dir: Path):
    datapath = Datapath("out0", pin_dir, flows_per_queue=64)
    bench.release("out0")
    datapath.open()
    datapath.apply(plan([real(1, epoch=3)], [vip(ring_to(1))]))
    datapath.close()
    script = (
        "import sys; from pathlib import Path; from edge_lb.datapath import Datapath\n"
        "d = Datapath('out0', Path(sys.argv[1]), flows_per_queue=64); taken = d.open()\n"
        "print(taken, [(r.index, r.epoch) for r in d.read_back().reals], d.ring(0)[5])"
    )

    run = subprocess.run(
        [sys.executable, "-c", script, str(pin_dir)], capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "True [(1, 3)] 1"


def test_a_map_of_another_layout_is_refused_by_name(objects: None, pin_dir: Path):
    program.ensure_bpffs(pin_dir)
    with program.Program.load("real") as other:
        libbpf.pin(other.maps["settings"].fd, str(pin_dir / "settings"))

    with pytest.raises(errors.LayoutMismatchError, match="settings") as refused:
        program.Program.load("lb", pin_dir=pin_dir)

    assert "tunnel_source" in refused.value.difference


def test_an_interface_that_is_taken_is_refused(bench: Workbench, pin_dir: Path):
    datapath = Datapath("in0", pin_dir, flows_per_queue=64)

    with pytest.raises(errors.InterfaceBusyError, match="in0"):
        datapath.open()

    datapath.unload()


def test_a_missing_interface_is_refused(bench: Workbench, pin_dir: Path):
    datapath = Datapath("nosuch0", pin_dir, flows_per_queue=64)

    with pytest.raises(errors.InterfaceMissingError, match="nosuch0"):
        datapath.open()

    datapath.unload()


def test_a_driver_without_xdp_is_refused(bench: Workbench, pin_dir: Path):
    datapath = Datapath("lo", pin_dir, flows_per_queue=64)

    with pytest.raises(errors.NativeXdpUnsupportedError, match="lo"):
        datapath.open()

    datapath.unload()


def test_a_missing_object_names_the_mend(tmp_path: Path):
    with pytest.raises(errors.ObjectMissingError, match="make setup"):
        program.Program.load("lb", path=tmp_path / "lb.bpf.o")


def test_rubbish_in_place_of_an_object_is_refused(tmp_path: Path):
    rubbish = tmp_path / "lb.bpf.o"
    rubbish.write_bytes(b"not an object")

    with pytest.raises(errors.ObjectMissingError, match="not a BPF object"):
        program.Program.load("lb", path=rubbish)


def test_pins_outside_a_bpf_file_system_are_refused(objects: None, tmp_path: Path):
    with pytest.raises(errors.NoBpffsError, match="BPF file system"):
        program.Program.load("lb", pin_dir=tmp_path)


def test_inner_maps_belong_to_arrays_of_maps_only(datapath: Datapath):
    with pytest.raises(TypeError, match="reals"):
        create_inner(datapath.program.maps["reals"].shape, 0)


def test_a_frame_to_a_vip_that_was_never_planned_passes(datapath: Datapath, bench: Workbench):
    datapath.program.test_run(client_tcp(1), ifindex=bench.in_ifindex)

    assert datapath.verdicts()["PASSED_NOT_VIP"].packets == 1


@pytest.mark.parametrize("call", ["unload(pins)", "Program.load('lb', pin_dir=pins)"])
def test_a_user_who_is_not_root_is_told_so(objects: None, pin_dir: Path, call: str):
    program.ensure_bpffs(pin_dir)
    pin_dir.chmod(0o700)
    script = (
        "import os, sys; from pathlib import Path; from bpf.errors import NotPermittedError\n"
        "from bpf.program import Program, unload\n"
        "os.setgid(65534); os.setuid(65534); pins = Path(sys.argv[1])\n"
        f"try: {call}\n"
        "except NotPermittedError as error: print(error.mend)"
    )

    run = subprocess.run(
        [sys.executable, "-c", script, str(pin_dir)], capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "run as root"
