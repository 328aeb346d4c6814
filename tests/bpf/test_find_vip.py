"""The table of services in the kernel: every VIP is found, nothing else is, changes are whole."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from random import Random

import pytest
from datapath_plans import plan, real, ring_to, vip

from bpf.packets import ACK, TCP, UDP, frame_of, ip, tcp, udp
from bpf.services import held_services, service_hash
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.plan import PlannedVip
from gslb.fleet.model import Protocol

pytestmark = pytest.mark.bpf

VIPS = 3000
CLIENTS = {4: "198.51.100.7", 6: "2001:db8:c::7"}


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy, not attached."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=64)
    made.open_private()
    yield made
    made.close()


def many(count: int) -> list[PlannedVip]:
    """VIPs of both families and protocols, some on every port."""
    chance, ring, vips = Random(11), ring_to(1), []
    for index in range(count):
        address = (
            IPv6Address(0x20010DB8 << 96 | chance.getrandbits(90))
            if index % 3 == 0
            else IPv4Address(0xC6120000 + index)
        )
        one = replace(
            vip(ring, index=index, port=0 if index % 5 == 0 else 1 + index % 60000),
            address=address,
            protocol=Protocol.UDP if index % 2 else Protocol.TCP,
        )
        vips.append(one)
    return vips


def verdict_of(
    datapath: Datapath, bench: Workbench, one: PlannedVip, *, port: int, other: bool = False
) -> str:
    """What becomes of a packet to a VIP; `other`: of the protocol that it does not have."""
    is_tcp = (one.protocol is Protocol.TCP) != other
    number = TCP if is_tcp else UDP
    transport = tcp(40000, port, ACK) if is_tcp else udp(40000, port, b"x")
    frame = frame_of(ip(CLIENTS[one.address.version], str(one.address), number, transport))
    before = datapath.verdicts()
    datapath.program.test_run(frame, ifindex=bench.in_ifindex)
    (moved,) = (name for name, count in datapath.verdicts().items() if count != before[name])
    return moved


def test_each_of_thousands_of_vips_is_found_and_its_closed_ports_are_known(
    datapath: Datapath, bench: Workbench
):
    vips = many(VIPS)
    datapath.apply(plan([real(1)], vips))

    for one in vips[::7]:
        assert verdict_of(datapath, bench, one, port=one.port or 9) == "FORWARDED_NEW"
        if one.port:
            assert verdict_of(datapath, bench, one, port=one.port + 1) == "DROPPED_NO_SERVICE"
        closed = verdict_of(datapath, bench, one, port=one.port or 9, other=True)
        assert closed == "DROPPED_NO_SERVICE"
        stranger = replace(one, address=one.address + (1 << 20))
        assert verdict_of(datapath, bench, stranger, port=one.port or 9) == "PASSED_NOT_VIP"


def test_what_names_a_service_is_its_first_twenty_bytes(datapath: Datapath):
    layout = datapath.program.btf.struct("service")
    field = layout.field("kind")

    assert (layout.size, field.offset) == (32, 19)
    assert service_hash(bytes(16) + b"\0\x50\x06\1") != service_hash(bytes(16) + b"\0\x50\x11\1")


def test_few_addresses_leave_most_others_without_a_mark(datapath: Datapath):
    datapath.apply(plan([real(1)], many(10)))
    table = datapath.program.maps["services"].inner(0)
    assert table is not None
    with table:
        head = table.at(0).octets("services")

    assert 1 <= int.from_bytes(head[8:], "little").bit_count() <= 10


def test_services_that_go_are_gone_at_once(datapath: Datapath, bench: Workbench):
    vips = many(40)
    datapath.apply(plan([real(1)], vips))
    datapath.apply(plan([real(1)], vips[20:]))

    assert len(held_services(datapath.program)) == 20
    assert verdict_of(datapath, bench, vips[3], port=vips[3].port) == "PASSED_NOT_VIP"
    assert verdict_of(datapath, bench, vips[23], port=vips[23].port) == "FORWARDED_NEW"


def test_udp_and_tcp_share_an_address_and_a_port(datapath: Datapath, bench: Workbench):
    web = vip(ring_to(1), index=0)
    quic = replace(vip(ring_to(2), index=1), protocol=Protocol.UDP)
    datapath.apply(plan([real(1), real(2)], [web, quic]))

    assert verdict_of(datapath, bench, web, port=80) == "FORWARDED_NEW"
    assert verdict_of(datapath, bench, quic, port=80) == "FORWARDED_NEW"
    assert [datapath.real_counters([n])[n].packets for n in (1, 2)] == [1, 1]
