"""Flow memory in the kernel: what fits, who gives way, and what outlives a change of its size."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from datapath_plans import VIP, plan, real, ring_to, vip

from bpf.packets import ACK, SYN, TCP, ethernet, ipv4, tcp
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.flow_memory import SHARED
from edge_lb.plan import PlannedVip

pytestmark = pytest.mark.bpf

FLOWS = 4096
OTHER_VIP = IPv4Address("192.0.2.81")


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy, not attached."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=FLOWS)
    made.open_private()
    yield made
    made.close()


def send(
    datapath: Datapath,
    bench: Workbench,
    clients: Iterable[int],
    *,
    address: IPv4Address = VIP,
    flags: int = ACK,
) -> dict[str, int]:
    """One packet of each client; how many packets had which verdict."""
    before = datapath.verdicts()
    for client in clients:
        source = str(IPv4Address(0x0A000000 + client))
        frame = ethernet(ipv4(source, str(address), TCP, tcp(40000, 80, flags)))
        datapath.program.test_run(frame, ifindex=bench.in_ifindex)
    after = datapath.verdicts()
    moved = {name: after[name].packets - before[name].packets for name in after}
    return {name: count for name, count in moved.items() if count}


def own(flows: int, *, index: int = 1) -> PlannedVip:
    """A VIP with flow memory of its own."""
    return replace(vip(ring_to(1), index=index, address=OTHER_VIP), own_flows=flows)


def test_as_many_flows_as_are_configured_are_remembered(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1))]))

    assert send(datapath, bench, range(FLOWS)) == {"FORWARDED_NEW": FLOWS}
    again = send(datapath, bench, range(FLOWS))

    assert again["FORWARDED_REMEMBERED"] >= FLOWS * 0.995
    assert sum(again.values()) == FLOWS


def test_flows_in_use_outlive_a_flood_of_single_packets(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1))]))
    in_use = range(500)
    send(datapath, bench, in_use)
    send(datapath, bench, in_use)

    for start in range(1000, 31000, 3000):
        send(datapath, bench, range(start, start + 3000))
        assert send(datapath, bench, in_use)["FORWARDED_REMEMBERED"] >= 490


def test_a_syn_flood_enters_nothing(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1))]))

    assert send(datapath, bench, range(2000), flags=SYN) == {"FORWARDED_SYN": 2000}

    table = datapath.program.maps["flows"].inner(0)
    assert table is not None
    with table:
        assert not any(table.dump())


def test_a_vip_with_memory_of_its_own_loses_nothing_to_others(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1)], [vip(ring_to(1)), own(1024)]))
    send(datapath, bench, range(100), address=OTHER_VIP)

    send(datapath, bench, range(20000))

    kept = send(datapath, bench, range(100), address=OTHER_VIP)
    assert kept == {"FORWARDED_REMEMBERED": 100}


def test_a_vip_keeps_its_memory_through_plans_and_gives_it_back(
    datapath: Datapath, bench: Workbench
):
    flows = datapath.program.maps["flows"]
    second = replace(own(2048, index=2), port=81)
    datapath.apply(plan([real(1)], [vip(ring_to(1)), own(1024), second]))
    send(datapath, bench, range(50), address=OTHER_VIP)
    tables = list(flows.filled(range(flows.shape.max_entries)))

    datapath.apply(plan([real(1)], [second, own(1024)]))
    kept = send(datapath, bench, range(50), address=OTHER_VIP)
    datapath.apply(plan([real(1)], [vip(ring_to(1))]))

    assert (len(tables), kept) == (3, {"FORWARDED_REMEMBERED": 50})
    assert list(flows.filled(range(flows.shape.max_entries))) == [SHARED]


@pytest.mark.parametrize("flows", [1024, 3 * FLOWS])
def test_another_size_takes_the_flows_over(
    bench: Workbench, pin_dir: Path, datapath: Datapath, flows: int
):
    first = Datapath("out0", pin_dir, flows_per_queue=FLOWS)
    bench.release("out0")
    first.open()
    first.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    send(first, bench, range(200))
    first.close()

    second = Datapath("out0", pin_dir, flows_per_queue=flows)
    assert second.open() is True
    second.apply(plan([real(1), real(2)], [vip(ring_to(2))]))

    assert send(second, bench, range(200)) == {"FORWARDED_REMEMBERED": 200}
    second.unload()


def test_an_entry_that_two_cores_wrote_at_once_names_no_flow(datapath: Datapath, bench: Workbench):
    datapath.apply(plan([real(1), real(2)], [vip(ring_to(1))]))
    send(datapath, bench, [1])
    table = datapath.program.maps["flows"].inner(0)
    assert table is not None
    with table, table.memory() as memory, memory.cast("Q") as words:
        (at,) = (at for at in range(1, len(words), 2) if words[at])
        words[at] ^= 3  # the value says another real, the seal is the old one's

    assert send(datapath, bench, [1]) == {"FORWARDED_NEW": 1}
