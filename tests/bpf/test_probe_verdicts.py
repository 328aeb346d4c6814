"""Probes out of true sockets: every verdict of probe.bpf.c, and the bytes that leave for a real."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from pyroute2 import IPRoute

from bpf import packets
from bpf.errors import CallFailedError
from bpf.trial import Balancer, Service
from bpf.workbench import (
    FAR_NETWORK,
    GATEWAY,
    NEIGHBOURS,
    SAME_SIDE_REAL,
    SILENT_REAL,
    TUNNEL_SOURCE,
)
from edge_lb import prober
from edge_lb.prober import INTERFACE, Prober

pytestmark = pytest.mark.bpf

VIP, PORT = "192.0.2.1", 80
PATIENCE_S = 10.0
NOBODY = 4000
LARGE = 3_000  # more than the workbench's MTU


@pytest.fixture(scope="module")
def way(balancer: Balancer) -> Iterator[Prober]:
    """A prober beside the balancer, which shares its maps."""
    made = Prober("in0")
    made.open(balancer.program.maps)
    yield made
    made.close()
    prober.forget()


@pytest.fixture(autouse=True)
def known_maps(balancer: Balancer) -> None:
    balancer.reset()


def send(way: Prober, seat: int, *, payload: bytes = b"probe", vip: str = VIP) -> None:
    with socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, way.mark(seat))
        out.sendto(payload, (vip, PORT))


def send_unmarked(_way: Prober) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode())
        out.sendto(b"stray", (VIP, PORT))


def send_large(way: Prober) -> None:
    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname=INTERFACE)
        ip.link("set", index=index, mtu=LARGE + 1000)
        try:
            send(way, 1, payload=bytes(LARGE))
        finally:
            ip.link("set", index=index, mtu=prober.MTU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is sent, after what, and the verdict it must get."""

    verdict: str
    name: str
    send: Callable[[Prober], None]
    before: Callable[[Balancer], None] = lambda _: None


CASES = (
    Case(verdict="DROPPED_NOT_PROBE", name="without a mark", send=send_unmarked),
    Case(verdict="DROPPED_UNKNOWN_REAL", name="a free seat", send=lambda way: send(way, NOBODY)),
    Case(
        verdict="DROPPED_UNKNOWN_REAL",
        name="beyond the last seat",
        send=lambda way: send(way, 0xFFFFF),
    ),
    Case(
        verdict="DROPPED_NO_TUNNEL_SOURCE",
        name="before the first plan",
        send=lambda way: send(way, 1),
        before=lambda balancer: balancer.write_settings("::", "::"),
    ),
    Case(verdict="DROPPED_NO_ROUTE", name="no route", send=lambda way: send(way, 8)),
    Case(verdict="DROPPED_NO_ROUTE", name="a refusing route", send=lambda way: send(way, 9)),
    Case(verdict="DROPPED_NOT_ON_LINK", name="L2 by a router", send=lambda way: send(way, 6)),
    Case(
        verdict="DROPPED_NO_NEIGHBOUR",
        name="L2 of another family, not resolved yet",
        send=lambda way: send(way, 5, vip="2001:db8::1"),
        before=lambda balancer: balancer.write_real(
            Service(octet=5, real=SILENT_REAL, encap="ENCAP_L2"), epoch=2
        ),
    ),
    Case(verdict="DROPPED_TOO_BIG", name="longer than the way carries", send=send_large),
    Case(verdict="FORWARDED_L2", name="on the same subnet", send=lambda way: send(way, 11)),
    Case(verdict="FORWARDED_L2", name="an IPv6 real for IPv4", send=lambda way: send(way, 15)),
    Case(
        verdict="FORWARDED_L2",
        name="an IPv4 real for IPv6",
        send=lambda way: send(way, 11, vip="2001:db8::1"),
    ),
    Case(verdict="FORWARDED_GUE", name="behind the gateway", send=lambda way: send(way, 1)),
    Case(verdict="FORWARDED_GUE", name="by IPv6", send=lambda way: send(way, 4)),
    Case(verdict="FORWARDED_IPIP", name="by IPIP", send=lambda way: send(way, 13)),
    Case(verdict="FORWARDED_IPIP", name="by IPIP in IPv6", send=lambda way: send(way, 14)),
    Case(
        verdict="FORWARDED_GUE",
        name="an IPv6 VIP",
        send=lambda way: send(way, 1, vip="2001:db8::1"),
    ),
    Case(verdict="FORWARDED_GUE", name="a real that is down", send=lambda way: send(way, 10)),
    Case(
        verdict="FORWARDED_GUE",
        name="a neighbour that is not resolved yet",
        send=lambda way: send(way, 7),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.verdict}: {case.name}")
def test_the_probe_gives_the_verdict(balancer: Balancer, way: Prober, case: Case):
    case.before(balancer)
    before = way.verdicts()

    case.send(way)

    after = way.verdicts()
    moved = {name: (after[name] - before[name]).packets for name in after}
    assert {name: count for name, count in moved.items() if count} == {case.verdict: 1}


def test_every_verdict_of_the_probe_has_a_case(way: Prober):
    assert {case.verdict for case in CASES} == set(way.verdicts())


def caught(way: Prober, seat: int, *, vip: str = VIP) -> bytes:
    """The frame that leaves in0 for this seat's real, as its peer sees it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as peer:
        peer.bind(("in1", 3))
        peer.settimeout(PATIENCE_S)
        send(way, seat, vip=vip)
        while True:
            frame = peer.recv(2048)
            if b"probe" in frame:
                return frame


def test_a_wrapped_probe_is_a_clients_packet_from_the_edge(balancer: Balancer, way: Prober):
    frame = caught(way, 1)

    wrapped = packets.read_wrapped(frame)
    inner = packets.read_ipv4(wrapped.inner)
    assert frame[:6].hex(":") == NEIGHBOURS[GATEWAY][1]
    assert str(wrapped.outer.source) == TUNNEL_SOURCE
    assert str(wrapped.outer.destination) == "10.60.0.2"
    assert wrapped.outer.checksum_ok
    assert wrapped.destination_port == packets.GUE_PORT
    assert wrapped.udp_length == 12 + len(wrapped.inner)
    assert wrapped.gue == bytes([0, packets.IPIP, 0, 0])
    assert (str(inner.source), str(inner.destination)) == (TUNNEL_SOURCE, VIP)
    assert inner.checksum_ok
    assert inner.payload[8:] == b"probe"


@pytest.mark.parametrize(("seat", "wrapping"), [(4, 52), (13, 20), (14, 40)])
@pytest.mark.parametrize("vip", [VIP, "2001:db8::1"])
def test_every_tunnel_carries_probes_of_both_families(
    way: Prober, seat: int, wrapping: int, vip: str
):
    frame = caught(way, seat, vip=vip)

    outer = packets.read_ip(frame[packets.ETHERNET_BYTES :])
    inner = packets.read_ip(frame[packets.ETHERNET_BYTES + wrapping :])
    assert frame[12:14] == packets.frame_of(frame[packets.ETHERNET_BYTES :])[12:14]
    assert outer.checksum_ok
    assert str(outer.destination) in ("10.60.0.2", "fd60::2")
    assert str(inner.destination) == vip
    assert inner.payload[8:] == b"probe"


@pytest.mark.parametrize("vip", [VIP, "2001:db8::1"])
def test_an_l2_probe_keeps_its_packet_and_gets_the_reals_mac(way: Prober, vip: str):
    frame = caught(way, 11, vip=vip)

    inner = packets.read_ip(frame[packets.ETHERNET_BYTES :])
    assert frame[:6].hex(":") == NEIGHBOURS[SAME_SIDE_REAL][1]
    assert frame[12:14] == packets.frame_of(frame[packets.ETHERNET_BYTES :])[12:14]
    assert str(inner.destination) == vip
    assert inner.payload[8:] == b"probe"


def test_without_the_interface_a_marked_packet_is_refused(balancer: Balancer, way: Prober):
    way.close()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x57500001)
            with pytest.raises(OSError, match="No route to host"):
                out.sendto(b"probe", ("10.50.0.2", PORT))
    finally:
        way.open(balancer.program.maps)


def test_a_second_prober_of_one_host_is_refused_in_words(balancer: Balancer, way: Prober):
    second = Prober("in0")

    with pytest.raises(CallFailedError, match="waypost-probe"):
        second.open(balancer.program.maps)


def test_a_real_is_found_where_it_moved(balancer: Balancer, way: Prober):
    balancer.write_real(Service(octet=1, real="10.60.0.77"), epoch=2)

    assert str(packets.read_wrapped(caught(way, 1)).outer.destination) == "10.60.0.77"


def forwarded(way: Prober) -> int:
    return way.verdicts()["FORWARDED_GUE"].packets


def test_the_edges_address_may_go_and_come(way: Prober):
    before = forwarded(way)
    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname="in0")
        ip.addr("delete", index=index, address=TUNNEL_SOURCE, prefixlen=24)
        ip.addr("add", index=index, address=TUNNEL_SOURCE, prefixlen=24)
        ip.route("replace", dst=FAR_NETWORK, gateway=GATEWAY)
        for address, (name, mac) in NEIGHBOURS.items():  # they went with the last address
            if name == "in0":
                ip.neigh("replace", dst=address, lladdr=mac, ifindex=index, state="permanent")

    send(way, 1)
    assert forwarded(way) == before + 1

    way.keep()
    inner = packets.read_ipv4(packets.read_wrapped(caught(way, 1)).inner)
    assert str(inner.source) == TUNNEL_SOURCE


def test_a_flushed_rule_is_made_again(way: Prober):
    before = forwarded(way)
    assert prober.forget()
    assert not prober.forget()

    way.keep()

    send(way, 1)
    assert forwarded(way) == before + 1
