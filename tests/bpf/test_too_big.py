"""What the client is told when its packet no longer fits after wrapping."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.packets import (
    ETHERNET_BYTES,
    ICMP,
    ICMPV6,
    TCP,
    checksum,
    ethernet,
    ipv4,
    pseudo_header,
    read_ip,
    tcp,
)
from bpf.trial import BOUND_VIP, CLIENT, XDP_TX, Balancer
from bpf.unusual_cases import FITS, sized, sized_v6

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
