"""What leaves the balancer: headers field by field, and the client's packet whole inside."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.packets import (
    ACK,
    DONT_FRAGMENT,
    ETHERNET_BYTES,
    GUE_PORT,
    TCP,
    UDP,
    ethernet,
    ipv4,
    one_hop_older,
    read_ipv4,
    read_wrapped,
    tcp,
    udp,
)
from bpf.selftest import CLIENT, client_tcp
from bpf.trial import BOUND_VIP, XDP_PASS, XDP_REDIRECT, XDP_TX, Balancer, Unwrapper
from bpf.workbench import GATEWAY, NEAR_REAL, NEIGHBOURS, TUNNEL_SOURCE

pytestmark = pytest.mark.bpf


@pytest.fixture(autouse=True)
def fresh(balancer: Balancer):
    balancer.reset()


def sent(balancer: Balancer, frame: bytes) -> tuple[int, bytes]:
    result = balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)
    return result.action, result.packet


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def test_the_outer_header_is_right_in_every_field(balancer: Balancer):
    inner = ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80, ACK, b"hello"), tos=0xBB, ttl=9)

    action, frame = sent(balancer, ethernet(inner))

    tunnel = read_wrapped(frame)
    assert action == XDP_TX
    assert frame[:6] == mac(NEIGHBOURS[GATEWAY][1])
    assert str(tunnel.outer.source) == TUNNEL_SOURCE
    assert str(tunnel.outer.destination) == "10.60.0.2"
    assert tunnel.outer.checksum_ok
    assert tunnel.outer.fragment == DONT_FRAGMENT
    assert tunnel.outer.ttl == 64
    assert tunnel.outer.tos == 0xB8  # DSCP without ECN
    assert tunnel.destination_port == GUE_PORT
    assert tunnel.source_port >= 0xC000
    assert tunnel.udp_length == 8 + 4 + len(inner)
    assert tunnel.udp_checksum == 0
    assert tunnel.gue == b"\x00\x04\x00\x00"
    assert tunnel.inner == one_hop_older(inner)


def test_flows_leave_by_many_source_ports(balancer: Balancer):
    ports = set()
    for client_port in range(2000, 2200):
        packet = ipv4(CLIENT, BOUND_VIP, TCP, tcp(client_port, 80))
        ports.add(read_wrapped(sent(balancer, ethernet(packet))[1]).source_port)

    assert len(ports) > 190


def test_a_flow_keeps_its_source_port(balancer: Balancer):
    first = read_wrapped(sent(balancer, client_tcp(1))[1]).source_port
    second = read_wrapped(sent(balancer, client_tcp(1, payload=b"more"))[1]).source_port

    assert first == second


def test_link_padding_is_not_part_of_the_packet(balancer: Balancer):
    inner = ipv4(CLIENT, BOUND_VIP, TCP, tcp(40000, 80))

    _, frame = sent(balancer, ethernet(inner) + bytes(6))

    assert read_wrapped(frame).inner == one_hop_older(inner)


def test_a_real_on_the_subnet_gets_the_packet_with_new_addresses_only(balancer: Balancer):
    frame = client_tcp(5, payload=b"hello")

    action, out = sent(balancer, frame)

    assert action == XDP_REDIRECT
    assert out[:6] == mac(NEIGHBOURS[NEAR_REAL][1])
    assert out[ETHERNET_BYTES:] == one_hop_older(frame[ETHERNET_BYTES:])


def test_a_real_on_the_incoming_subnet_is_sent_back_out(balancer: Balancer):
    action, out = sent(balancer, client_tcp(11))

    assert action == XDP_TX
    assert read_ipv4(out[ETHERNET_BYTES:]).checksum_ok


@settings(max_examples=300, deadline=None)
@given(
    client=st.ip_addresses(v=4),
    client_port=st.integers(0, 0xFFFF),
    protocol=st.sampled_from([TCP, UDP]),
    payload=st.binary(max_size=1300),
    ttl=st.integers(2, 255),
    tos=st.integers(0, 255),
    options=st.integers(0, 10).map(lambda words: b"\x01" * (4 * words)),
)
def test_unwrapping_a_wrapped_packet_gives_it_back_one_hop_older(
    balancer: Balancer,
    unwrapper: Unwrapper,
    client: object,
    client_port: int,
    protocol: int,
    payload: bytes,
    ttl: int,
    tos: int,
    options: bytes,
):
    transport = (
        tcp(client_port, 80, ACK, payload) if protocol == TCP else udp(client_port, 80, payload)
    )
    packet = ipv4(str(client), BOUND_VIP, protocol, transport, ttl=ttl, tos=tos, options=options)

    _, tunnelled = sent(balancer, ethernet(packet))
    back = unwrapper.program.test_run(tunnelled)

    assert back.action == XDP_PASS
    assert back.packet[:ETHERNET_BYTES] == tunnelled[:ETHERNET_BYTES]
    assert back.packet[ETHERNET_BYTES:] == one_hop_older(packet)
