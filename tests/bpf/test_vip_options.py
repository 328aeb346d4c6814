"""What a VIP may choose: a client's flows together, one flow of two addresses, a fallback."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from datapath_plans import VIP, index_of, plan, real, ring_of, ring_to, vip
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.option_cases import NONE_RESET, vip_v6
from bpf.option_cases import vip as service
from bpf.packets import (
    ACK,
    ETHERNET_BYTES,
    FIN,
    RST,
    SYN,
    TCP,
    UDP,
    checksum,
    ethernet,
    frame_of,
    ip,
    ipv4,
    pseudo_header,
    quic,
    read_ip,
    read_wrapped,
    tcp,
    udp,
)
from bpf.trial import CLIENT, CLIENT_V6, XDP_TX, Balancer
from bpf.workbench import Workbench
from edge_lb.datapath import Datapath
from edge_lb.flow import Flow
from edge_lb.plan import PlannedVip, RealForwarding
from gslb.fleet.model import Affinity, Fallback, Fragments, Protocol, Quic, VipOptions

pytestmark = pytest.mark.bpf

BY_SOURCE = VipOptions(affinity=Affinity.SOURCE)
BY_ID = VipOptions(quic=Quic(server_id_bytes=2, rotation=2))
TWO_TUPLE = VipOptions(fragments=Fragments.TWO_TUPLE)


@pytest.fixture
def datapath(bench: Workbench) -> Iterator[Datapath]:
    """A private copy, not attached."""
    made = Datapath("in0", Path("/nowhere"), flows_per_queue=1024)
    made.open_private()
    yield made
    made.close()


def ten_reals(datapath: Datapath, options: VipOptions, protocol: Protocol = Protocol.TCP) -> None:
    ring = ring_of(range(1, 11))
    planned = vip(ring, port=0, protocol=protocol, options=options)
    datapath.apply(plan([real(index) for index in range(1, 11)], [planned]))


def place(datapath: Datapath, bench: Workbench, packet: bytes) -> int:
    frame = datapath.program.test_run(ethernet(packet), ifindex=bench.in_ifindex).packet
    return index_of(IPv4Address(str(read_wrapped(frame).outer.destination)))


def test_all_flows_of_a_source_go_to_one_real_and_sources_spread(
    datapath: Datapath, bench: Workbench
):
    ten_reals(datapath, BY_SOURCE)

    places = []
    for host in range(100):
        client = f"198.51.100.{host}"
        flows = [ipv4(client, str(VIP), TCP, tcp(9000 + n, 80 + n, SYN)) for n in range(5)]
        places.append({place(datapath, bench, packet) for packet in flows})

    assert all(len(at) == 1 for at in places)
    assert len(set.union(*places)) == 10


@pytest.mark.parametrize("options", [BY_SOURCE, TWO_TUPLE])
def test_python_locates_a_flow_as_the_program_does(
    datapath: Datapath, bench: Workbench, options: VipOptions
):
    ten_reals(datapath, options, Protocol.UDP)

    for port in range(5000, 5020):
        flow = Flow(
            client=IPv4Address(CLIENT), client_port=port, vip=VIP, vip_port=443, protocol=UDP
        )
        at = place(datapath, bench, ipv4(CLIENT, str(VIP), UDP, udp(port, 443, b"x")))

        located = datapath.locate(flow)
        assert (located.ring_real, located.remembered_real) == (at, at)


def test_later_fragments_alone_go_where_all_between_two_addresses_goes(
    datapath: Datapath, bench: Workbench
):
    ten_reals(datapath, TWO_TUPLE, Protocol.UDP)

    places = set()
    for host in range(100):
        client = f"198.51.100.{host}"
        later = place(datapath, bench, ipv4(client, str(VIP), UDP, bytes(64), fragment=8))
        whole = place(datapath, bench, ipv4(client, str(VIP), UDP, udp(host + 1024, 53, b"x")))
        assert later == whole
        places.add(later)

    assert len(places) == 10


def test_options_are_read_back_and_a_change_of_them_alone_is_written(datapath: Datapath):
    def planned(options: VipOptions) -> PlannedVip:
        return vip(ring_to(1), options=options)

    datapath.apply(plan([real(1)], [planned(VipOptions())]))
    wanted = VipOptions(
        affinity=Affinity.SOURCE,
        fallback=Fallback.RESET,
        quic=Quic(server_id_bytes=3, rotation=5),
    )

    datapath.apply(plan([real(1)], [planned(wanted)]))

    assert [held.options for held in datapath.read_back().vips] == [wanted]


def test_a_connection_keeps_its_real_when_the_client_moves(datapath: Datapath, bench: Workbench):
    ring = ring_of(range(1, 11))
    planned = vip(ring, port=443, protocol=Protocol.UDP, options=BY_ID)
    reals = [
        replace(real(index), name=f"vip-0/real-{index}", server_id=1000 + index)
        for index in range(1, 11)
    ]
    datapath.apply(plan(reals, [planned]))

    for index in range(1, 11):
        server = bytes([0x40]) + (1000 + index).to_bytes(2, "big") + b"nonce"
        for payload in (quic(server), quic(server, long_header=True)):
            for host in range(5):
                client = f"198.51.100.{host}"
                packet = ipv4(client, str(VIP), UDP, udp(7000 + host, 443, payload))
                assert place(datapath, bench, packet) == index
    assert datapath.verdicts()["FORWARDED_QUIC"].packets == 100


def test_a_server_id_of_a_dead_or_a_left_real_leaves_it_to_the_flow(
    datapath: Datapath, bench: Workbench
):
    planned = vip(ring_to(2), port=443, protocol=Protocol.UDP, options=BY_ID)
    one = replace(real(1), name="vip-0/real-1", server_id=1)
    packet = ipv4(CLIENT, str(VIP), UDP, udp(7000, 443, quic(b"\x40\x00\x01nonce")))
    datapath.apply(plan([one, real(2)], [planned]))
    assert place(datapath, bench, packet) == 1

    datapath.apply(plan([replace(one, state=RealForwarding.DOWN), real(2)], [planned]))
    assert place(datapath, bench, packet) == 2

    datapath.apply(plan([real(2)], [planned]))
    assert place(datapath, bench, packet) == 2
    assert list(datapath.program.maps["quic_servers"].keys()) == []


@settings(max_examples=200, deadline=None)
@given(
    flags=st.sampled_from([SYN, ACK, ACK | FIN, SYN | ACK, FIN, 0]),
    sequence=st.integers(0, 2**32 - 1),
    acknowledged=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=1300),
    over_ipv6=st.booleans(),
)
def test_a_reset_is_right_in_every_field_and_never_longer(
    balancer: Balancer, flags: int, sequence: int, acknowledged: int, payload: bytes,
    over_ipv6: bool,
):  # fmt: skip
    balancer.reset()
    client, address = (
        (CLIENT_V6, vip_v6(NONE_RESET)) if over_ipv6 else (CLIENT, service(NONE_RESET))
    )
    segment = tcp(40000, 80, flags, payload)
    numbers = sequence.to_bytes(4, "big") + acknowledged.to_bytes(4, "big")
    frame = frame_of(ip(client, address, TCP, segment[:4] + numbers + segment[12:]))

    result = balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)

    reset = read_ip(result.packet[ETHERNET_BYTES:])
    length = len(payload) + bool(flags & SYN) + bool(flags & FIN)
    assert result.action == XDP_TX
    assert result.packet[:12] == frame[6:12] + frame[:6]
    assert len(result.packet) <= len(frame)
    assert (str(reset.source), str(reset.destination)) == (address, client)
    assert (reset.checksum_ok, reset.ttl) == (True, 64)
    assert checksum(pseudo_header(reset) + reset.payload) == 0
    assert reset.payload[:4] == segment[2:4] + segment[:2]
    assert len(reset.payload) == 20
    if flags & ACK:
        assert reset.payload[4:8] == acknowledged.to_bytes(4, "big")
        assert reset.payload[13] == RST
    else:
        assert reset.payload[4:8] == bytes(4)
        assert reset.payload[8:12] == ((sequence + length) % 2**32).to_bytes(4, "big")
        assert reset.payload[13] == RST | ACK
