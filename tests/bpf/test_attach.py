"""Packets over real interfaces: in by a veth, through the attached programs, out by a veth."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from datapath_plans import VIP, plan, real, ring_to, vip

from bpf.packets import ACK, ETHERNET_BYTES, TCP, ethernet, ipv4, one_hop_older, read_wrapped, tcp
from bpf.program import Program
from bpf.real_trial import Unwrapper
from bpf.trial import mapped
from bpf.workbench import NEAR_REAL, Workbench
from edge_lb.datapath import Datapath
from edge_lb.plan import PlannedReal, RealForwarding
from gslb.fleet.model import Encap

pytestmark = pytest.mark.bpf

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
PATIENCE_S = 3.0
IPV4_ETHERTYPE = b"\x08\x00"


class Wire:
    """The far end of a veth: frames go in here, and come out here."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind((interface, ETH_P_ALL))
        self._socket.settimeout(PATIENCE_S)

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self) -> bytes:
        """The next IPv4 frame that came in; TimeoutError after PATIENCE_S."""
        while True:
            frame, address = self._socket.recvfrom(4096)
            if address[2] != PACKET_OUTGOING and frame[12:14] == IPV4_ETHERTYPE:
                return frame


@pytest.fixture
def datapath(objects: None, pin_dir: Path) -> Iterator[Datapath]:
    """The balancer attached to in0, in a namespace of its own; silent programs on the far ends."""
    with ExitStack() as stack:
        bench = stack.enter_context(Workbench())
        bench.release("in0")
        quiet = stack.enter_context(Program.load("pass"))
        stack.callback(os.close, quiet.attach_for_process("out1"))
        made = Datapath("in0", pin_dir, flows_per_queue=1024)
        made.open()
        stack.callback(made.unload)
        made.apply(plan([real(2)], [vip(ring_to(2))]))
        yield made


@pytest.fixture
def far_end(datapath: Datapath) -> Iterator[Wire]:
    """The clients' end of in0, which passes everything."""
    with Program.load("pass") as quiet:
        link = quiet.attach_for_process("in1")
        wire = Wire("in1")
        yield wire
        wire.close()
        os.close(link)


def packet(port: int = 40000) -> bytes:
    return ipv4("198.51.100.7", str(VIP), TCP, tcp(port, 80, ACK, b"hello"))


def test_a_packet_goes_in_by_the_interface_and_comes_back_wrapped(
    datapath: Datapath, far_end: Wire
):
    far_end.send(ethernet(packet()))
    tunnel = read_wrapped(far_end.receive())

    assert str(tunnel.outer.destination) == "10.60.0.2"
    assert tunnel.inner == one_hop_older(packet())
    assert datapath.verdicts()["FORWARDED_NEW"].packets == 1
    assert datapath.real_counters([2])[2].packets == 1


def test_a_packet_for_a_real_on_another_interface_leaves_by_that(datapath: Datapath, far_end: Wire):
    near = PlannedReal(
        name="near",
        index=3,
        epoch=1,
        address=IPv4Address(NEAR_REAL),
        encap=Encap.L2,
        state=RealForwarding.UP,
    )
    datapath.apply(plan([near], [vip(ring_to(3))]))
    out_end = Wire("out1")

    far_end.send(ethernet(packet()))
    frame = out_end.receive()
    out_end.close()

    assert frame[ETHERNET_BYTES:] == one_hop_older(packet())


def test_the_real_unwraps_what_the_edge_wrapped(datapath: Datapath, bench: Workbench):
    unwrapper = Unwrapper(bench)
    bound = unwrapper.program.maps["bound_vips"]
    bound.put(mapped(str(VIP)), bound.shape.value.scalar(1))
    link = unwrapper.program.attach_for_process("in1")
    wire = Wire("in1")

    wire.send(ethernet(packet()))
    frame = wire.receive()
    wire.close()
    os.close(link)
    unwrapper.close()

    assert frame[ETHERNET_BYTES:] == one_hop_older(packet())


def test_packets_flow_without_the_agent_and_through_its_restarts(
    datapath: Datapath, far_end: Wire, pin_dir: Path
):
    datapath.close()
    restarted = threading.Event()

    def restart() -> None:
        for _ in range(10):
            successor = Datapath("in0", pin_dir, flows_per_queue=1024)
            successor.open()
            successor.close()
        restarted.set()

    sent = 0
    restarting = threading.Thread(target=restart)
    restarting.start()
    while not restarted.is_set() or sent < 100:
        far_end.send(ethernet(packet(1024 + sent % 60000)))
        far_end.receive()
        sent += 1
    restarting.join()

    datapath.open()
    forwarded = {n: c.packets for n, c in datapath.verdicts().items() if n.startswith("FORWARDED")}
    assert sum(forwarded.values()) == sent
    assert [held.index for held in datapath.read_back().vips] == [0]
