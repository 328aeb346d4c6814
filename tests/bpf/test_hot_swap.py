"""A new program in place of the running one: rehearsed first, no packet lost, and back again."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from datapath_plans import VIP, index_of, plan, real, ring_of, ring_to, vip

from bpf import errors, libbpf
from bpf import program as programs
from bpf.compile import FLAGS, SOURCES, compile_source
from bpf.packets import ACK, TCP, ethernet, ipv4, read_wrapped, tcp
from bpf.program import Program
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.plan import RealForwarding
from gslb.fleet.model import Protocol
from gslb.service.lifecycle import ExitCode
from tests.bpf.test_attach import Wire
from tests.unit.cli_world import World

pytestmark = pytest.mark.bpf

AT_ONCE = 32  # packets in flight: fewer than a veth's queue holds
SWAPS = 6
Variant = Callable[..., Path]


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    """Compiles lb.bpf.c with texts of the sources changed: what was, what it becomes, and so on."""

    def make(*texts: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for path in SOURCES.glob("*.[ch]"):
            shutil.copy(path, folder)
        for was, becomes in zip(texts[::2], texts[1::2], strict=True):
            changed = [p for p in folder.iterdir() if was in p.read_text()]
            assert len(changed) == 1, f"`{was}` is in {len(changed)} files"
            changed[0].write_text(changed[0].read_text().replace(was, becomes, 1))
        compile_source(folder / "lb.bpf.c", folder / "lb.bpf.o", FLAGS)
        return folder / "lb.bpf.o"

    return make


@pytest.fixture
def running(objects: None, pin_dir: Path) -> Iterator[Datapath]:
    """The true program on in0, with two VIPs; its agent has gone."""
    with ExitStack() as stack:
        bench = stack.enter_context(Workbench())
        bench.release("in0")
        made = Datapath("in0", pin_dir, flows_per_queue=4096)
        made.open()
        stack.callback(programs.unload, pin_dir)
        reals = [real(1), real(2), real(3, state=RealForwarding.DOWN)]
        dns = vip(ring_to(2), index=1, port=0, protocol=Protocol.UDP)
        made.apply(plan(reals, [vip(ring_of([1, 2])), dns]))
        made.close()
        yield made


def attached_tag(pin_dir: Path) -> str:
    """The program that the link runs, as the pin says."""
    fd = libbpf.pinned_fd(str(pin_dir / "program"))
    assert fd is not None
    try:
        return programs.tag(fd)
    finally:
        os.close(fd)


def other(pin_dir: Path, path: Path | None = None) -> Datapath:
    return Datapath("in0", pin_dir, path, flows_per_queue=4096)


SLOWER = ("UNDECIDED && packet->ttl <= 1)", "UNDECIDED && packet->ttl <= 2)")
FAULTS = {
    "finds no VIP": (
        *("\tpacket->vip_index = service->vip.index;", "\treturn VERDICT_PASSED_NOT_VIP;"),
        "PASSED_NOT_VIP, wanted FORWARDED_NEW",
    ),
    "reads another ring": (
        *("return (__u32)(hash >> (64 - SLOT_BITS))", "return (__u32)(hash >> 49)"),
        "to another real than the ring's",
    ),
    "remembers nothing": (
        *("if (bucket && !packet->starts_connection) {", "if (0) {"),
        "FORWARDED_NEW, wanted FORWARDED_REMEMBERED",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_program_that_fails_its_rehearsal_never_meets_a_packet(
    running: Datapath, pin_dir: Path, variant: Variant, fault: str
):
    was, becomes, words = FAULTS[fault]
    before = attached_tag(pin_dir)

    with pytest.raises(errors.RehearsalFailedError, match=r"192\.0\.2\.80:80/tcp") as refused:
        other(pin_dir, variant(was, becomes)).open()

    assert words in str(refused.value)
    assert "the old one keeps running" in refused.value.mend
    assert attached_tag(pin_dir) == before


def test_a_rehearsal_leaves_no_trace(running: Datapath, pin_dir: Path):
    successor = other(pin_dir)

    assert successor.open() is True

    counted = {name for name, counter in successor.verdicts().items() if counter.packets}
    own = {"PASSED_ICMP", "PASSED_OTHER_PROTOCOL", "PASSED_NOT_VIP"}
    assert counted <= own, "what the kernel itself sends on a new link"
    assert all(counter.packets == 0 for counter in successor.real_counters([1, 2]).values())
    table = successor.program.maps["flows"].inner(0)
    assert table is not None
    with table:
        assert not any(table.dump())
    successor.close()


def test_what_the_network_does_not_carry_yet_is_no_fault_of_the_program(
    running: Datapath, pin_dir: Path
):
    running.open()
    running.apply(plan([real(1, host=1 << 24)], [vip(ring_to(1))]))
    running.close()

    assert other(pin_dir).open() is True


def test_a_vip_without_a_living_real_is_not_asked(running: Datapath, pin_dir: Path):
    running.open()
    down = real(3, state=RealForwarding.DOWN)
    running.apply(plan([down], [vip(ring_to(0)), vip(ring_to(3), index=1, address=VIP + 1)]))
    running.close()

    assert other(pin_dir).open() is True


def test_no_packet_is_lost_while_programs_are_swapped_and_rolled_back(
    running: Datapath, pin_dir: Path, variant: Variant
):
    paths = [variant(*SLOWER), None]
    done = threading.Event()
    swapped: list[str] = []

    def swap() -> None:
        for number in range(SWAPS):
            successor = other(pin_dir, paths[number % 2])
            successor.open()
            successor.close()
            swapped.append(attached_tag(pin_dir))
            programs.rollback(pin_dir)
            swapped.append(attached_tag(pin_dir))
            programs.rollback(pin_dir)
        done.set()

    sent = 0
    received: list[int] = []
    with Program.load("pass") as quiet:
        link = quiet.attach_for_process("in1")
        wire = Wire("in1")
        swapping = threading.Thread(target=swap)
        swapping.start()
        while not done.is_set() or sent < 100 * AT_ONCE:
            for _ in range(AT_ONCE):
                port = 1024 + sent % 60000
                segment = tcp(port, 80, ACK, b"hello")
                wire.send(ethernet(ipv4("198.51.100.7", str(VIP), TCP, segment)))
                sent += 1
            received += [
                index_of(read_wrapped(wire.receive()).outer.destination) for _ in range(AT_ONCE)
            ]
        swapping.join()
        wire.close()
        os.close(link)

    running.open()
    counted = running.verdicts()
    running.close()
    assert len(received) == sent
    assert set(received) == {1, 2}
    assert len(set(swapped)) == 2
    assert sum(c.packets for n, c in counted.items() if n.startswith("FORWARDED")) == sent


NEW_VERDICT = (
    "\tVERDICT_DROPPED_ICMP,",
    "\tVERDICT_PASSED_BY_A_NEW_RULE,\n\tVERDICT_DROPPED_ICMP,",
)
SWAPPED_VERDICTS = (
    *("\tVERDICT_DROPPED_NO_SERVICE,", "\tSWAPPED,"),
    *("\tVERDICT_DROPPED_NO_RING,", "\tVERDICT_DROPPED_NO_SERVICE,"),
    *("\tSWAPPED,", "\tVERDICT_DROPPED_NO_RING,"),
)


def test_an_upgrade_with_a_new_verdict_keeps_every_count_under_its_name(
    running: Datapath, pin_dir: Path, variant: Variant
):
    running.open()
    frame = ethernet(ipv4("198.51.100.7", str(VIP), TCP, tcp(40000, 81)))
    for _ in range(3):
        running.program.test_run(frame, ifindex=programs.interface_index("in0"))
    before = {name: counter for name, counter in running.verdicts().items() if counter.packets}
    running.close()

    successor = other(pin_dir, variant(*NEW_VERDICT))
    successor.open()
    after = {name: counter for name, counter in successor.verdicts().items() if counter.packets}
    renewed = successor.program.renewed
    successor.program.test_run(frame, ifindex=programs.interface_index("in0"))
    successor.close()
    again = other(pin_dir, variant(*NEW_VERDICT))
    again.open()

    assert before["DROPPED_NO_SERVICE"].packets == 3
    assert (renewed, again.program.renewed) == (("verdicts",), ())
    assert (
        after.items()
        >= {n: c for n, c in before.items() if n.startswith(("DROPPED", "FORWARDED"))}.items()
    )
    assert again.verdicts()["DROPPED_NO_SERVICE"].packets == 4
    again.close()

    running.open()
    assert running.verdicts()["DROPPED_NO_SERVICE"].packets == 4
    running.close()


def test_verdicts_that_changed_places_are_not_mistaken_for_each_other(
    running: Datapath, pin_dir: Path, variant: Variant
):
    running.open()
    frame = ethernet(ipv4("198.51.100.7", str(VIP), TCP, tcp(40000, 81)))
    running.program.test_run(frame, ifindex=programs.interface_index("in0"))
    running.close()

    successor = other(pin_dir, variant(*SWAPPED_VERDICTS))
    successor.open()

    assert successor.program.renewed == ("verdicts",)
    assert successor.verdicts()["DROPPED_NO_SERVICE"].packets == 1
    assert successor.verdicts()["DROPPED_NO_RING"].packets == 0
    successor.close()


def test_a_map_that_is_no_counter_is_refused_by_name_and_the_old_program_runs_on(
    running: Datapath, pin_dir: Path, variant: Variant
):
    before = attached_tag(pin_dir)

    with pytest.raises(errors.LayoutMismatchError, match="pinned map reals"):
        other(pin_dir, variant("#define MAX_REALS ", "#define MAX_REALS -1 + ")).open()

    assert attached_tag(pin_dir) == before


def test_rings_of_another_number_of_slots_are_refused_by_name_and_the_mend_is_told(
    running: Datapath, pin_dir: Path, variant: Variant
):
    before = attached_tag(pin_dir)
    other_slots = variant("max_entries, RING_SLOTS / SLOTS", "max_entries, 1 + RING_SLOTS / SLOTS")

    with pytest.raises(errors.LayoutMismatchError, match="pinned map rings") as refused:
        other(pin_dir, other_slots).open()

    assert "waypost datapath unload" in refused.value.mend
    assert attached_tag(pin_dir) == before


def test_rollback_is_undone_by_another(running: Datapath, pin_dir: Path, variant: Variant):
    first = attached_tag(pin_dir)
    successor = other(pin_dir, variant(*SLOWER))
    successor.open()
    successor.close()
    second = attached_tag(pin_dir)

    assert programs.rollback(pin_dir) == (second, first)
    assert attached_tag(pin_dir) == first
    assert programs.rollback(pin_dir) == (first, second)


def test_a_restart_of_the_same_version_keeps_what_was_before(
    running: Datapath, pin_dir: Path, variant: Variant
):
    first, path = attached_tag(pin_dir), variant(*SLOWER)
    for _ in range(2):
        successor = other(pin_dir, path)
        successor.open()
        successor.close()

    assert programs.rollback(pin_dir)[1] == first


def test_rollback_by_the_command(
    running: Datapath, pin_dir: Path, variant: Variant, tmp_path: Path
):
    world, command = World(tmp_path), f"datapath rollback --pin-dir {pin_dir}"
    without = world.waypost_now(command)
    first = attached_tag(pin_dir)
    successor = other(pin_dir, variant(*SLOWER))
    successor.open()
    successor.close()

    done = world.waypost_now(command)

    assert (without.code, done.code) == (ExitCode.FAILED, ExitCode.DONE)
    assert "holds no previous: nothing to roll back to" in without.err
    assert done.out.startswith(f"program {first} runs again")
