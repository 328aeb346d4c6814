"""What leaves the balancer: headers field by field, and the client's packet whole inside."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpf.packets import (
    ACK,
    DONT_FRAGMENT,
    ETHERNET_BYTES,
    GUE_PORT,
    IPIP,
    IPV6,
    TCP,
    UDP,
    checksum,
    ethernet,
    frame_of,
    ipv4,
    ipv6,
    one_hop_older,
    pseudo_header,
    read_ip,
    read_ipv4,
    read_wrapped,
    tcp,
    udp,
    with_checksum,
)
from bpf.real_trial import Unwrapper
from bpf.selftest import client_tcp
from bpf.trial import (
    BOUND_VIP,
    CLIENT,
    CLIENT_V6,
    TUNNEL_END,
    TUNNEL_END_V6,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    Balancer,
)
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


PAIRINGS = {  # service -> the outer header it gives
    (1, 4): 32, (1, 6): 32, (4, 4): 52, (4, 6): 52,
    (13, 4): 20, (13, 6): 20, (14, 4): 40, (14, 6): 40,
}  # fmt: skip


def to_service(octet: int, version: int, protocol: int, transport: bytes, **fields: int) -> bytes:
    """A client's packet to a service, by its address of that IP version."""
    if version == 4:
        return ipv4(CLIENT, f"192.0.2.{octet}", protocol, transport, **fields)  # type: ignore[arg-type]
    return ipv6(CLIENT_V6, f"2001:db8::{octet:x}", protocol, transport, **fields)


@pytest.mark.parametrize(("octet", "version"), PAIRINGS)
def test_every_pairing_of_families_wraps_and_unwraps(
    balancer: Balancer, unwrapper: Unwrapper, octet: int, version: int
):
    packet = to_service(1, version, TCP, tcp(40000, 80, ACK, b"hello"), tos=0xBB, ttl=9)
    real = unwrapper.program
    sent_packet = to_service(octet, version, TCP, tcp(40000, 80, ACK, b"hello"), tos=0xBB, ttl=9)
    _, frame = sent(balancer, frame_of(sent_packet))
    outer = read_ip(frame[ETHERNET_BYTES:])

    assert frame[ETHERNET_BYTES + PAIRINGS[octet, version] :] == one_hop_older(sent_packet)
    assert (outer.tos, outer.ttl, outer.checksum_ok) == (0xB8, 64, True)
    assert str(outer.destination) in (TUNNEL_END, TUNNEL_END_V6)
    assert outer.source.version == outer.destination.version
    assert outer.protocol == (UDP if octet in (1, 4) else {4: IPIP, 6: IPV6}[version])
    if outer.source.version == 6:
        assert outer.flow_label != 0

    # The bench's real has service 1 bound: the same wrapping around a packet for it.
    head = ETHERNET_BYTES + PAIRINGS[octet, version]
    back = real.test_run(frame[:head] + one_hop_older(packet))

    assert back.action == XDP_PASS
    assert back.packet[12:14] == frame_of(packet)[12:14]
    assert back.packet[ETHERNET_BYTES:] == one_hop_older(packet)


@pytest.mark.parametrize("octet", [17, 18])
@pytest.mark.parametrize("version", [4, 6])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    client_port=st.integers(0, 0xFFFF),
    protocol=st.sampled_from([TCP, UDP]),
    payload=st.binary(max_size=900),
    tos=st.integers(0, 255),
)
def test_a_tunnel_checksum_that_is_asked_for_is_right(
    balancer: Balancer,
    octet: int,
    version: int,
    client_port: int,
    protocol: int,
    payload: bytes,
    tos: int,
):
    make = tcp(client_port, 80, ACK, payload) if protocol == TCP else udp(client_port, 80, payload)
    packet = with_checksum(to_service(octet, version, protocol, make, tos=tos))

    tunnel = read_wrapped(sent(balancer, frame_of(packet))[1])

    assert tunnel.udp_checksum != 0
    assert checksum(pseudo_header(tunnel.outer) + tunnel.outer.payload) == 0


def test_a_tunnel_checksum_is_left_out_where_the_client_gave_none(balancer: Balancer):
    packet = to_service(17, 4, UDP, udp(40000, 80, b"no checksum"))

    assert read_wrapped(sent(balancer, frame_of(packet))[1]).udp_checksum == 0


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
