"""What the client is told: that its packet no longer fits after wrapping, or had no hop left."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.icmp_error_cases import FITS, expiring, expiring_v6, sized, sized_v6
from bpf.packets import (
    ETHERNET_BYTES,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    checksum,
    ethernet,
    frame_of,
    icmp,
    icmpv6,
    ipv4,
    ipv6,
    pseudo_header,
    read_ip,
    tagged,
    tcp,
    udp,
)
from bpf.trial import (
    BOUND_VIP,
    BOUND_VIP_V6,
    CLIENT,
    CLIENT_V6,
    XDP_TX,
    Balancer,
    moved,
    verdict_counts,
)
from bpf.unusual_cases import NEVER
from bpf.vlan_cases import QINQ, VLAN

pytestmark = pytest.mark.bpf


@pytest.fixture(autouse=True)
def fresh(balancer: Balancer):
    balancer.reset()


def answer(balancer: Balancer, frame: bytes) -> bytes:
    """The frame that came back."""
    result = balancer.program.test_run(frame, ifindex=balancer.bench.in_ifindex)
    assert result.action == XDP_TX
    assert result.packet[:12] == frame[6:12] + frame[:6]
    return result.packet


@settings(max_examples=100, deadline=None)
@given(data=st.binary(min_size=FITS - 40 + 1, max_size=1900), words=st.integers(0, 10))
def test_fragmentation_needed_names_the_size_and_quotes_the_packet(
    balancer: Balancer, data: bytes, words: int
):
    balancer.reset()
    packet = ipv4(
        CLIENT, BOUND_VIP, TCP, tcp(40000, 80, payload=data), options=bytes([1] * 4 * words)
    )

    frame = answer(balancer, ethernet(packet))

    told = read_ip(frame[ETHERNET_BYTES:])
    assert (str(told.source), str(told.destination)) == (BOUND_VIP, CLIENT)
    assert (told.protocol, told.checksum_ok) == (ICMP, True)
    assert len(frame) == ETHERNET_BYTES + 576
    assert checksum(told.payload) == 0
    assert told.payload[:2] == bytes([3, 4])
    assert told.payload[4:8] == FITS.to_bytes(4, "big")
    assert told.payload[8:] == packet[: 576 - 28]


@settings(max_examples=50, deadline=None)
@given(size=st.integers(FITS + 1, 1950))
def test_packet_too_big_names_the_size_and_quotes_the_packet(balancer: Balancer, size: int):
    balancer.reset()
    request = sized_v6(size)

    frame = answer(balancer, request)

    told = read_ip(frame[ETHERNET_BYTES:])
    assert told.protocol == ICMPV6
    assert len(frame) == ETHERNET_BYTES + 1280
    assert checksum(pseudo_header(told) + told.payload) == 0
    assert told.payload[:2] == bytes([2, 0])
    assert told.payload[4:8] == FITS.to_bytes(4, "big")
    assert told.payload[8:] == request[ETHERNET_BYTES:][: 1280 - 48]


def test_a_packet_of_the_size_that_was_told_fits(balancer: Balancer):
    told = read_ip(answer(balancer, sized(FITS + 1))[ETHERNET_BYTES:])
    size = int.from_bytes(told.payload[4:8], "big")

    result = balancer.program.test_run(sized(size), ifindex=balancer.bench.in_ifindex)

    assert read_ip(result.packet[ETHERNET_BYTES:]).destination != told.destination


def test_the_route_s_own_mtu_is_told_where_it_is_the_smaller_one(balancer: Balancer):
    settings_map = balancer.program.maps["settings"]
    held = settings_map.at(0)
    settings_map.put_at(0, settings_map.shape.value.pack(**{**held, "mtu": 0}))

    told = read_ip(answer(balancer, sized(2000 - 31))[ETHERNET_BYTES:])

    assert told.payload[4:8] == (2000 - 32).to_bytes(4, "big")


def told_ipv4(packet: bytes) -> bytes:
    """The whole packet that a router writes to whom sent `packet`, whose last hop was here."""
    message = icmp(11, packet[: 576 - 28])
    addresses = ip_address(BOUND_VIP).packed + ip_address(CLIENT).packed
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(message), 0, 0, 64, ICMP)
    total = checksum(head + bytes(2) + addresses)
    return head + struct.pack("!H", total) + addresses + message


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=1200),
    words=st.integers(0, 10),
    ttl=st.integers(0, 1),
    padding=st.integers(0, 46),
)
def test_a_packet_s_last_hop_is_told_with_all_of_it_that_may_be_quoted(
    balancer: Balancer, data: bytes, words: int, ttl: int, padding: int
):
    balancer.reset()
    segment = udp(40000, 53, data)
    packet = ipv4(CLIENT, BOUND_VIP, UDP, segment, ttl=ttl, options=bytes([1] * 4 * words))
    request = ethernet(packet + bytes(padding))

    for tags in ((), (VLAN,), QINQ):
        frame = answer(balancer, tagged(request, *tags))

        plain = ethernet(told_ipv4(packet))
        assert frame == tagged(request[6:12] + request[:6] + plain[12:], *tags)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=1440), ttl=st.integers(0, 1), padding=st.integers(0, 8))
def test_the_same_over_ipv6(balancer: Balancer, data: bytes, ttl: int, padding: int):
    balancer.reset()
    packet = ipv6(CLIENT_V6, BOUND_VIP_V6, UDP, udp(40000, 53, data), ttl=ttl)
    request = frame_of(packet)

    for tags in ((), (VLAN,), QINQ):
        frame = answer(balancer, tagged(request, *tags) + bytes(padding))

        plain = frame_of(icmpv6(BOUND_VIP_V6, CLIENT_V6, 3, packet[: 1280 - 48]))
        assert frame == tagged(request[6:12] + request[:6] + plain[12:], *tags)


def test_a_flood_without_hops_silences_neither_the_other_family_nor_other_answers(
    balancer: Balancer,
):
    """Every bucket holds two answers, and is not refilled."""
    program, ifindex = balancer.program, balancer.bench.in_ifindex
    balancer.write_buckets(refilled_ns=NEVER, answers=2)

    def fares(frame: bytes) -> dict[str, int]:
        before = verdict_counts(program)
        program.test_run(frame, ifindex=ifindex)
        return moved(before, verdict_counts(program))

    assert [fares(expiring()) for _ in range(3)] == [
        {"ANSWERED_TIME_EXCEEDED": 1},
        {"ANSWERED_TIME_EXCEEDED": 1},
        {"DROPPED_REPLY_RATE": 1},
    ]
    assert fares(expiring_v6()) == {"ANSWERED_TIME_EXCEEDED": 1}
    assert fares(sized(FITS + 1)) == {"ANSWERED_TOO_BIG": 1}
