"""Wide rings under the data plane: written, swapped, read back; which memory is asked then."""

import threading
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from datapath_plans import VIP, index_of, plan, real, ring_of, ring_to, vip

from bpf.chain import read_chain
from bpf.maps import Map
from bpf.packets import (
    ACK,
    ETHERNET_BYTES,
    SYN,
    TCP,
    chain,
    ethernet,
    ipv4,
    read_ip,
    read_wrapped,
    tcp,
)
from bpf.workbench import NEAR_REAL, Workbench
from edge_lb.datapath import Datapath
from edge_lb.flow import Flow, slot
from edge_lb.layers import chain_in, decode
from edge_lb.plan import (
    CHAIN_OWNERS,
    NextHop,
    PlannedReal,
    PlannedVip,
    RealForwarding,
    VlanTag,
)
from edge_lb.rendezvous import RING_SLOTS
from edge_lb.trace import Described, trace
from gslb.fleet.model import Encap, FlowMemory

pytestmark = pytest.mark.bpf

CLIENT = IPv4Address("198.51.100.7")
REALS = [real(index) for index in range(1, 6)]
SWAPS = 40


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy, not attached."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=256)
    made.open_private()
    yield made
    made.close()


def chained(*owners: int, index: int = 0, memory: FlowMemory = FlowMemory.ALL) -> PlannedVip:
    """A VIP all of whose slots have these owners."""
    widened = array("H", [*owners, *[0] * (CHAIN_OWNERS - len(owners))]) * RING_SLOTS
    one = vip(ring_to(owners[0]), index=index, address=VIP + index)
    return replace(one, chains=widened, hands_on=True, flow_memory=memory)


def send(
    datapath: Datapath, bench: Workbench, *, port: int = 40000, flags: int = ACK
) -> tuple[int, tuple[int, ...]]:
    """The real that a client's packet goes to, and the candidates in its chain."""
    frame = ethernet(ipv4(str(CLIENT), str(VIP), TCP, tcp(port, 80, flags)))
    result = datapath.program.test_run(frame, ifindex=bench.in_ifindex)
    tunnel = read_wrapped(result.packet)
    told = read_chain(tunnel.options)
    candidates = told.candidates if told is not None else ()
    return at(tunnel.outer.destination), tuple(at(address) for address in candidates)


def at(address: object) -> int:
    assert isinstance(address, IPv4Address)
    return index_of(address)


def verdicts_of(datapath: Datapath, bench: Workbench, *flags: int) -> list[str]:
    """How each of a flow's packets left, whatever the tunnel."""
    names: list[str] = []
    for one in flags:
        before = datapath.verdicts()
        frame = ethernet(ipv4(str(CLIENT), str(VIP), TCP, tcp(40000, 80, one)))
        datapath.program.test_run(frame, ifindex=bench.in_ifindex)
        after = datapath.verdicts()
        names += [name for name in after if after[name].packets != before[name].packets]
    return names


def test_what_was_applied_is_read_back(datapath: Datapath):
    wide = chained(1, 2, memory=FlowMemory.MOVED)
    narrow = vip(ring_to(3), index=7, address=VIP + 7)

    datapath.apply(replace(plan(REALS, [wide, narrow]), history_generation=(7 << 32) + 9))

    held = {one.index: one for one in datapath.read_back().vips}
    assert (held[0].chained, held[0].hands_on, held[0].remembers_moved) == (True, True, True)
    assert (held[7].chained, held[7].hands_on, held[7].remembers_moved) == (False, False, False)
    assert datapath.rings.chains(0) == wide.chains
    assert datapath.ring(0) == wide.ring
    assert (datapath.owners(held[0], 5), datapath.owners(held[7], 5)) == ((1, 2), (3,))
    assert datapath.members(0) == {0, 1, 2}
    assert datapath.program.maps["settings"].at(0).integer("generation") == 9


def test_only_slots_that_moved_send_chains(datapath: Datapath, bench: Workbench):
    ring = ring_of([1, 2])
    flows = {port: slot(flow_of(port)) for port in range(40000, 40064)}
    moved_slots = set(list(flows.values())[::2])
    widened = array("H", bytes(2 * CHAIN_OWNERS * RING_SLOTS))
    for number, owner in enumerate(ring):
        widened[number * CHAIN_OWNERS] = owner
        if number in moved_slots:
            widened[number * CHAIN_OWNERS + 1] = 3

    datapath.apply(plan(REALS, [replace(vip(ring), chains=widened, hands_on=True)]))

    for port, number in flows.items():
        expected = (3,) if number in moved_slots else ()
        assert send(datapath, bench, port=port) == (ring[number], expected)


def flow_of(port: int) -> Flow:
    return Flow(client=CLIENT, client_port=port, vip=VIP, vip_port=80, protocol=TCP)


def test_memory_that_names_a_stand_in_is_mended_where_no_slot_has_an_earlier_owner(
    datapath: Datapath, bench: Workbench
):
    datapath.apply(plan(REALS, [chained(2, 1)]))
    send(datapath, bench)

    datapath.apply(plan(REALS, [chained(1)]))

    assert send(datapath, bench) == (2, (1,))
    assert send(datapath, bench, port=40001) == (1, ())


def test_a_flow_whose_real_is_in_its_grace_finds_it_last_and_first_when_it_is_back(
    datapath: Datapath, bench: Workbench
):
    datapath.apply(plan(REALS, [vip(ring_to(1))]))
    send(datapath, bench)
    fallen = [real(1, state=RealForwarding.IN_GRACE), *REALS[1:]]

    datapath.apply(plan(fallen, [chained(2, 3, 1)]))
    asked = [send(datapath, bench) for _ in range(2)]
    reassigned = datapath.verdicts()["FORWARDED_REASSIGNED"].packets
    new = send(datapath, bench, port=40001, flags=SYN)
    datapath.apply(plan(REALS, [chained(1, 2)]))

    assert asked == [(2, (3, 1))] * 2
    assert reassigned == 2
    assert new == (2, ())
    assert send(datapath, bench) == (1, (2,))
    assert send(datapath, bench, port=40002, flags=SYN) == (1, ())


def test_a_new_connection_of_a_flow_whose_real_is_in_its_grace_is_remembered_where_it_went(
    datapath: Datapath, bench: Workbench
):
    datapath.apply(plan(REALS, [vip(ring_to(1))]))
    send(datapath, bench)
    fallen = [real(1, state=RealForwarding.IN_GRACE), *REALS[1:]]
    datapath.apply(plan(fallen, [chained(2, 1)]))

    send(datapath, bench, flags=SYN)
    send(datapath, bench)
    datapath.apply(plan(REALS, [chained(1, 2)]))

    assert send(datapath, bench) == (2, (1,))


def test_what_flow_memory_names_is_first_and_the_chain_follows(
    datapath: Datapath, bench: Workbench
):
    datapath.apply(plan(REALS, [vip(ring_to(1))]))
    send(datapath, bench)

    datapath.apply(plan(REALS, [chained(2, 1, 3)]))

    assert send(datapath, bench) == (1, (2, 3))
    assert send(datapath, bench, port=40001) == (2, (1, 3))


def test_a_remembered_real_that_owns_no_slot_any_more_leaves_room_for_four(
    datapath: Datapath, bench: Workbench
):
    datapath.apply(plan(REALS, [vip(ring_to(1))]))
    send(datapath, bench)

    datapath.apply(plan(REALS, [chained(2, 3, 4, 5)]))
    four = send(datapath, bench)
    datapath.apply(plan(REALS, [chained(2)]))
    one = send(datapath, bench)

    assert (four, one) == ((1, (2, 3, 4, 5)), (1, (2,)))


def test_a_vip_that_hands_nothing_on_uses_its_wide_ring_for_memory_alone(
    datapath: Datapath, bench: Workbench
):
    moved = FlowMemory.MOVED
    datapath.apply(plan(REALS, [replace(chained(1, 2, memory=moved), hands_on=False)]))
    first = send(datapath, bench)

    datapath.apply(plan(REALS, [replace(chained(2, 1, memory=moved), hands_on=False)]))

    assert first == (1, ())
    assert send(datapath, bench) == (1, ())
    assert send(datapath, bench, port=40001) == (2, ())


def test_a_syn_goes_to_the_owner_and_its_flow_is_remembered_there(
    datapath: Datapath, bench: Workbench
):
    datapath.apply(plan(REALS, [vip(ring_to(1))]))
    send(datapath, bench)
    datapath.apply(plan(REALS, [chained(2, 1)]))

    assert send(datapath, bench, flags=SYN) == (2, ())
    assert send(datapath, bench) == (2, (1,))


@pytest.mark.parametrize("encap", Encap)
def test_moved_alone_is_remembered_with_every_encap(
    datapath: Datapath, bench: Workbench, encap: Encap
):
    reals = [reached_by(one, encap) for one in REALS]
    moved = FlowMemory.MOVED
    names = {
        "narrow": [replace(vip(ring_to(1)), flow_memory=moved)],
        "never moved": [chained(1, memory=moved)],
        "moved": [chained(1, 2, memory=moved)],
        "planned": [chained(2, 1, memory=moved)],
    }
    seen: dict[str, list[str]] = {}
    for name, vips in names.items():
        datapath.apply(plan(reals, vips))
        seen[name] = verdicts_of(datapath, bench, ACK, ACK)

    assert seen["narrow"] == seen["never moved"] == ["FORWARDED_NO_MEMORY"] * 2
    assert seen["moved"] == ["FORWARDED_NEW", "FORWARDED_REMEMBERED"]
    assert seen["planned"] == ["FORWARDED_REMEMBERED"] * 2
    assert datapath.locate(flow_of(40000)).remembered_real == 1


def reached_by(one: PlannedReal, encap: Encap) -> PlannedReal:
    """The real by that encap; by L2 it needs a neighbour that is known."""
    near = encap is Encap.L2
    address = IPv4Address(NEAR_REAL) if near else one.address
    return replace(one, encap=encap, address=address)


def test_a_syn_on_a_slot_that_did_not_move_forgets_what_an_earlier_move_left(
    datapath: Datapath, bench: Workbench
):
    moved = FlowMemory.MOVED
    datapath.apply(plan(REALS, [chained(2, 1, memory=moved)]))
    send(datapath, bench)  # to 2, remembered there
    datapath.apply(plan(REALS, [replace(vip(ring_to(1)), flow_memory=moved)]))

    assert verdicts_of(datapath, bench, SYN, ACK) == ["FORWARDED_SYN", "FORWARDED_NO_MEMORY"]
    datapath.apply(plan(REALS, [chained(1, 2, memory=moved)]))  # announced, and not changed yet

    assert send(datapath, bench) == (1, (2,))


def test_no_memory_is_none_with_chains_too(datapath: Datapath, bench: Workbench):
    datapath.apply(plan(REALS, [chained(1, 2, memory=FlowMemory.NONE)]))

    assert verdicts_of(datapath, bench, ACK, SYN) == ["FORWARDED_NO_MEMORY"] * 2
    assert send(datapath, bench) == (1, (2,))


def test_a_chain_ends_with_its_wide_ring(datapath: Datapath, bench: Workbench):
    both = [chained(1, 2), chained(3, 4, index=1)]
    datapath.apply(plan(REALS, both))

    datapath.apply(plan(REALS, [both[0], vip(ring_to(3), index=1, address=VIP + 1)]))
    one_left = wide_rings(datapath)
    datapath.apply(plan(REALS, [vip(ring_to(3), index=1, address=VIP + 1)]))

    assert (one_left, wide_rings(datapath)) == ([0], [])
    assert datapath.ring(1) == ring_to(3)


def wide_rings(datapath: Datapath) -> list[int]:
    chains = datapath.program.maps["chains"]
    return list(chains.filled(range(chains.shape.max_entries)))


def test_only_what_differs_is_written(datapath: Datapath, monkeypatch: pytest.MonkeyPatch):
    written: list[tuple[str, int]] = []
    swap = Map.set_inners

    def watched(outer: Map, inners: Mapping[int, Map]) -> None:
        written.extend((outer.shape.name, index) for index in inners)
        swap(outer, inners)

    monkeypatch.setattr(Map, "set_inners", watched)
    two = [chained(1, 2), vip(ring_to(3), index=1, address=VIP + 1)]
    datapath.apply(plan(REALS, two))
    first = written.copy()
    written.clear()
    datapath.apply(plan(REALS, [chained(1, 2), two[1]]))
    same = written.copy()
    datapath.apply(plan(REALS, [chained(1, 3), two[1]]))

    assert first == [("rings", 1), ("chains", 0), ("services", 0), ("rings", 0)]
    assert same == []
    assert written == [("chains", 0)], "one pointer, between two wide rings of like owners"


def test_a_packet_meets_the_narrow_ring_or_the_wide_one_whole(datapath: Datapath, bench: Workbench):
    reals = [real(1), real(2), real(3)]
    turns = [
        [replace(vip(ring_to(1)), flow_memory=FlowMemory.NONE)],
        [chained(2, 1, memory=FlowMemory.NONE)],
        [chained(3, 2, 1, memory=FlowMemory.NONE)],
    ]
    datapath.apply(plan(reals, turns[0]))
    done = threading.Event()

    def swap() -> None:
        for number in range(1, SWAPS):
            datapath.apply(plan(reals, turns[number % 3]))
        done.set()

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: set[tuple[int, tuple[int, ...]]] = set()
    port = 0
    while not done.is_set():
        port = (port + 1) % 60000
        seen.add(send(datapath, bench, port=port))
    swapper.join()

    assert seen <= {(1, ()), (2, (1,)), (3, (2, 1))}
    assert len(seen) > 1


def test_an_index_may_change_its_vip_and_its_kind_of_ring(datapath: Datapath, bench: Workbench):
    datapath.apply(plan(REALS, [replace(chained(1, 2), address=VIP + 9)]))

    datapath.apply(plan(REALS, [chained(3, 4)]))

    assert send(datapath, bench) == (3, (4,))


def test_a_restart_takes_over_wide_rings_and_rehearses_them(bench: Workbench, pin_dir: Path):
    reals = [real(1), real(2), real(3, state=RealForwarding.DOWN)]
    vips = [
        chained(1, 2),
        chained(2, 1, index=1, memory=FlowMemory.MOVED),
        chained(1, index=2, memory=FlowMemory.MOVED),
        chained(3, 1, index=3),
    ]
    first = Datapath("out0", pin_dir, flows_per_queue=256)
    bench.release("out0")
    first.open()
    first.apply(plan(reals, vips))
    first.close()

    second = Datapath("out0", pin_dir, flows_per_queue=256)
    assert second.open() is True
    kept = [second.rings.chains(one.index) for one in vips]
    second.apply(plan(reals, vips[1:]))

    assert kept == [one.chains for one in vips]
    assert wide_rings(second) == [1, 2, 3]
    second.unload()


def test_locate_and_trace_name_earlier_owners_and_candidates(datapath: Datapath, bench: Workbench):
    datapath.apply(plan(REALS, [vip(ring_to(1))]))
    send(datapath, bench)
    datapath.apply(replace(plan(REALS, [chained(2, 1, 3)]), history_generation=12))

    place = datapath.locate(flow_of(40000))
    seen = trace(datapath, Described(flow=flow_of(40000)), ifindex=bench.in_ifindex)
    told = {layer.name: layer.fields for layer in decode(seen.frame)[:4]}

    assert (place.ring_real, place.earlier, place.remembered_real) == (2, (1, 3), 1)
    assert (seen.ring_real, seen.earlier, seen.real) == (2, (1, 3), 1)
    assert chain_in(decode(seen.frame)) == tuple(str(REALS[i].address) for i in (1, 2))
    assert told["gue"]["generation"] == "12"


def test_a_vip_that_no_plan_holds_has_no_owners(datapath: Datapath):
    datapath.apply(plan(REALS, [chained(1, 2)]))

    assert (datapath.owners_by_index(0, 5), datapath.owners_by_index(77, 5)) == ((1, 2), (0,))


@pytest.mark.parametrize("tags", [(), (VlanTag(protocol=0x8100, tci=7),)])
def test_a_way_that_is_known_has_its_tags_and_its_room(
    datapath: Datapath, bench: Workbench, tags: tuple[VlanTag, ...]
):
    way = NextHop(
        ifindex=bench.in_ifindex,
        mtu=40 + 32 + 12,
        destination=bytes(6),
        source=bytes(6),
        is_direct=False,
        tags=tags,
    )
    datapath.apply(plan([replace(one, next_hop=way) for one in REALS], [chained(1, 2)]))
    packet = ipv4(str(CLIENT), str(VIP), TCP, tcp(40000, 80))
    bigger = ipv4(str(CLIENT), str(VIP), TCP, tcp(40000, 80, ACK, b"1"))

    fits = datapath.program.test_run(ethernet(packet), ifindex=bench.in_ifindex).packet
    before = datapath.verdicts()["DROPPED_TOO_BIG"].packets
    datapath.program.test_run(ethernet(bigger), ifindex=bench.in_ifindex)

    untagged = fits[: 2 * 6] + fits[2 * 6 + 4 * len(tags) :]
    assert fits[2 * 6 : 2 * 6 + 4 * len(tags)] == b"\x81\x00\x00\x07"[: 4 * len(tags)]
    assert read_wrapped(untagged).options == chain("10.60.0.2", generation=0)
    assert datapath.verdicts()["DROPPED_TOO_BIG"].packets == before + 1, "40 bytes: below any MTU"


def test_a_chained_packet_by_l2_is_the_packet_alone(datapath: Datapath, bench: Workbench):
    reals = [reached_by(one, Encap.L2) for one in REALS]
    datapath.apply(plan(reals, [chained(1, 2)]))
    packet = ipv4(str(CLIENT), str(VIP), TCP, tcp(40000, 80))

    result = datapath.program.test_run(ethernet(packet), ifindex=bench.in_ifindex)

    sent = result.packet[ETHERNET_BYTES:]
    assert len(sent) == len(packet)
    assert str(read_ip(sent).destination) == str(VIP)
