"""What a real counts of its VIPs: traffic.bpf.c on single packets, and on both ways of a veth."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from bpf.errors import InterfaceBusyError
from bpf.packets import (
    ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN,
    TCP,
    frame_of,
    ip,
    tagged,
    tcp,
)
from bpf.program import Program, interface_index
from bpf.trial import BOUND_VIP, BOUND_VIP_V6, CLIENT, CLIENT_V6, OTHER, OTHER_V6, mapped
from bpf.workbench import Workbench
from edge_lb import hooks
from edge_lb.vip_traffic import VipTraffic, traffic_pins

pytestmark = pytest.mark.bpf

CONTINUE = 0xFFFFFFFF  # TC_ACT_UNSPEC: the next filter decides, if there is one
PATIENCE_S = 5.0
TAGS = {
    "untagged": (),
    "VLAN": ((ETHERTYPE_VLAN, 100),),
    "QinQ": ((ETHERTYPE_SERVICE_VLAN, 7), (ETHERTYPE_VLAN, 100)),
}
FAMILIES = {"IPv4": (BOUND_VIP, CLIENT, OTHER), "IPv6": (BOUND_VIP_V6, CLIENT_V6, OTHER_V6)}
NOTHING = {"received.packets": 0, "received.bytes": 0, "sent.packets": 0, "sent.bytes": 0}


class Ways:
    """Both copies on private maps, with the two VIPs bound."""

    def __init__(self) -> None:
        self.into = Program.load("traffic")
        self.out = Program.load("traffic", constants={"is_way_out": 1}, shared=self.into.maps)
        self.map = self.into.maps["vip_traffic"]
        self.reset()

    def reset(self) -> None:
        for vip in (BOUND_VIP, BOUND_VIP_V6):
            self.map.put_zeros(mapped(vip))

    def close(self) -> None:
        self.out.close()
        self.into.close()

    def of(self, vip: str) -> dict[str, int]:
        return self.map.sums_of(mapped(vip))


@pytest.fixture(scope="module")
def loaded(bench: Workbench) -> Iterator[Ways]:
    made = Ways()
    yield made
    made.close()


@pytest.fixture
def ways(loaded: Ways) -> Ways:
    loaded.reset()
    return loaded


def frame(source: str, destination: str) -> bytes:
    return frame_of(ip(source, destination, TCP, tcp(40000, 80, payload=b"x" * 40)))


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize(("vip", "client", "other"), FAMILIES.values(), ids=FAMILIES)
def test_each_way_counts_its_own_end_of_the_packet(
    ways: Ways, vip: str, client: str, other: str, tags: tuple[tuple[int, int], ...]
):
    question = tagged(frame(client, vip), *tags)
    answer = tagged(frame(vip, client), *tags)

    results = [ways.into.test_run(question), ways.out.test_run(answer), ways.out.test_run(answer)]

    assert [(run.action, run.packet) for run in results] == [
        (CONTINUE, question),
        (CONTINUE, answer),
        (CONTINUE, answer),
    ]
    assert ways.of(vip) == {
        "received.packets": 1,
        "received.bytes": len(question),
        "sent.packets": 2,
        "sent.bytes": 2 * len(answer),
    }


@pytest.mark.parametrize(("vip", "client", "other"), FAMILIES.values(), ids=FAMILIES)
def test_what_is_not_of_a_bound_vip_is_not_counted(ways: Ways, vip: str, client: str, other: str):
    for source, destination in ((client, other), (vip, client)):
        assert ways.into.test_run(frame(source, destination)).action == CONTINUE
    for source, destination in ((other, client), (client, vip)):
        assert ways.out.test_run(frame(source, destination)).action == CONTINUE
    tag = (ETHERTYPE_VLAN, 100)
    cut = tagged(frame(client, vip), tag)
    for odd in (tagged(frame(client, vip), tag, tag, tag), cut[:30], cut[:16]):
        assert ways.into.test_run(odd).action == CONTINUE

    assert (ways.of(BOUND_VIP), ways.of(BOUND_VIP_V6)) == (NOTHING, NOTHING)
    assert len(list(ways.map.keys())) == 2


@pytest.fixture
def card(objects: None, pin_dir: Path) -> Iterator[VipTraffic]:
    """The counting of in0, in a namespace of its own."""
    with ExitStack() as stack:
        stack.enter_context(Workbench())
        made = VipTraffic("in0", pin_dir)
        stack.callback(made.unload)
        yield made


def put_on(interface: str, frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((interface, 0))
        out.send(frame)


def wait_for(traffic: VipTraffic, vip: str, packets: int) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while traffic.totals()[ip_address(vip)].received.packets < packets:
        assert time.monotonic() < end_s, traffic.totals()


def filters(interface: str) -> int:
    with IPRoute() as netlink:
        index = interface_index(interface)
        return sum(
            bool(held["handle"])
            for hook in (hooks.INGRESS, hooks.EGRESS)
            for held in netlink.get_filters(index=index, parent=hook)
        )


def has_clsact(interface: str) -> bool:
    with IPRoute() as netlink:
        index = interface_index(interface)
        return any(
            qdisc.get_attr("TCA_KIND") == "clsact" and qdisc["index"] == index
            for qdisc in netlink.get_qdiscs(index)
        )


@pytest.mark.parametrize("vip", [BOUND_VIP, BOUND_VIP_V6])
def test_a_card_counts_both_ways_tag_or_not(card: VipTraffic, vip: str):
    client = CLIENT_V6 if ":" in vip else CLIENT
    question, answer = frame(client, vip), frame(vip, client)
    tag = (ETHERTYPE_VLAN, 100)
    card.apply([ip_address(BOUND_VIP), ip_address(BOUND_VIP_V6)])

    put_on("in1", question)
    put_on("in1", tagged(question, tag))  # the kernel sets this tag aside before the program
    put_on("in0", answer)
    put_on("in0", tagged(answer, tag))
    wait_for(card, vip, 2)

    counted = card.totals()[ip_address(vip)]
    assert (counted.received.packets, counted.sent.packets) == (2, 2)
    assert counted.received.bytes == 2 * len(question)
    assert counted.sent.bytes == 2 * len(answer) + 4
    others = [traffic for address, traffic in card.totals().items() if str(address) != vip]
    assert [(other.received.packets, other.sent.packets) for other in others] == [(0, 0)]


def test_a_restart_goes_on_counting_and_an_unbound_vip_is_forgotten(
    card: VipTraffic, pin_dir: Path
):
    both = [ip_address(BOUND_VIP), ip_address(BOUND_VIP_V6)]
    card.apply(both)
    put_on("in0", frame(BOUND_VIP, CLIENT))
    card.close()
    put_on("in0", frame(BOUND_VIP, CLIENT))  # nobody is there, and it is counted

    again = VipTraffic("in0", pin_dir)
    again.apply(both)
    put_on("in0", frame(BOUND_VIP, CLIENT))

    assert again.totals()[both[0]].sent.packets == 3
    assert filters("in0") == 2
    again.apply(both[1:])
    assert set(again.totals()) == {both[1]}
    again.apply(both)
    assert again.totals()[both[0]].sent.packets == 0
    again.close()


def test_unload_leaves_nothing_and_spares_what_others_hung_there(card: VipTraffic, pin_dir: Path):
    card.apply([ip_address(BOUND_VIP)])
    assert filters("in0") == 2

    assert card.unload()
    assert (filters("in0"), has_clsact("in0"), traffic_pins(pin_dir).exists()) == (0, False, False)
    assert not card.unload()

    card.apply([ip_address(BOUND_VIP)])
    with IPRoute() as netlink, Program.load("traffic") as other:
        index = interface_index("in0")
        netlink.tc(
            "add-filter", "bpf", index, 1, fd=other.fd, name="other", parent=hooks.EGRESS, prio=1
        )
        assert card.unload()
    assert (filters("in0"), has_clsact("in0")) == (1, True)


def test_flushed_filters_are_hung_again_and_another_card_gets_none(card: VipTraffic, pin_dir: Path):
    vips = [ip_address(BOUND_VIP)]
    card.apply(vips)
    with IPRoute() as netlink:
        netlink.tc("del", "clsact", interface_index("in0"))
    card.apply(vips)
    assert filters("in0") == 2
    card.close()

    moved = VipTraffic("out0", pin_dir)
    moved.apply(vips)

    assert (filters("in0"), filters("out0")) == (0, 2)
    assert moved.unload()


def test_an_older_qdisc_in_the_place_is_named(card: VipTraffic):
    with IPRoute() as netlink:
        netlink.tc("add", "ingress", interface_index("in0"))

    with pytest.raises(InterfaceBusyError, match="in0 has an `ingress` qdisc"):
        card.apply([ip_address(BOUND_VIP)])

    assert filters("in0") == 0
