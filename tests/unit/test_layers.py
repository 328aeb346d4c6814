"""Headers told in words, from Ethernet inwards."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address

import pytest

from bpf.packets import (
    ETHERTYPE_IPV6,
    ETHERTYPE_VLAN,
    GUE_PORT,
    IPIP,
    SYN,
    TCP,
    UDP,
    chain,
    ethernet,
    gue,
    ipv4,
    tcp,
    udp,
)
from edge_lb.flow import Flow
from edge_lb.layers import chain_in, decode
from edge_lb.trace import Described, build

INNER = ipv4("203.0.113.7", "198.51.100.1", TCP, tcp(40000, 80, SYN), tos=0xB8)


def ipv6(protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28 | 46 << 22, len(payload), protocol, 63)
    addresses = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed
    return head + addresses + payload


def names(frame: bytes) -> list[str]:
    return [layer.name for layer in decode(frame)]


def test_a_plain_packet_is_told_field_by_field() -> None:
    link, ip, transport = decode(ethernet(INNER))

    assert link.fields == {"source": "02:00:00:00:00:0a", "destination": "02:00:00:00:00:01"}
    assert ip.fields == {
        "source": "203.0.113.7",
        "destination": "198.51.100.1",
        "ttl": "64",
        "dscp": "46",
        "length": "40",
        "flags": "df",
        "checksum": "right",
    }
    assert transport.fields == {"source port": "40000", "destination port": "80", "flags": "syn"}


def test_a_wrong_checksum_is_told() -> None:
    broken = bytearray(ethernet(INNER))
    broken[24] ^= 1

    assert decode(bytes(broken))[1].fields["checksum"] == "wrong"


@pytest.mark.parametrize(
    ("frame", "layers"),
    [
        (
            ethernet(ipv4("10.0.0.1", "10.0.0.2", UDP, udp(50000, GUE_PORT, gue(INNER)))),
            "ethernet ipv4 udp gue ipv4 tcp",
        ),
        (ethernet(ipv4("10.0.0.1", "10.0.0.2", IPIP, INNER)), "ethernet ipv4 ipv4 tcp"),
        (ethernet(ipv6(IPIP, INNER), ETHERTYPE_IPV6), "ethernet ipv6 ipv4 tcp"),
        (
            ethernet(struct.pack("!HH", 100, 0x0800) + INNER, ETHERTYPE_VLAN),
            "ethernet vlan ipv4 tcp",
        ),
        (ethernet(ipv6(58, bytes([2, 0]) + bytes(6)), ETHERTYPE_IPV6), "ethernet ipv6 icmpv6"),
        (ethernet(ipv4("10.0.0.1", "10.0.0.2", UDP, udp(53, 53, b"x"))), "ethernet ipv4 udp"),
        (ethernet(bytes(28), 0x0806), "ethernet"),
    ],
)
def test_tunnels_and_tags_are_followed(frame: bytes, layers: str) -> None:
    assert names(frame) == layers.split()


def test_an_owner_chain_is_told_by_its_candidates_in_order() -> None:
    wrapped = gue(INNER, options=chain("10.0.0.3", "10.0.0.4", generation=7))
    frame = ethernet(ipv4("10.0.0.1", "10.0.0.2", UDP, udp(50000, GUE_PORT, wrapped)))

    layers = decode(frame)

    told = layers[3].fields
    assert (told["chain"], told["next"]) == ("10.0.0.3 then 10.0.0.4", "0")
    assert told["generation"] == "7"
    assert chain_in(layers) == ("10.0.0.3", "10.0.0.4")
    assert [layer.name for layer in layers[4:]] == ["ipv4", "tcp"]


def test_a_packet_without_a_chain_names_no_candidates() -> None:
    plain = ethernet(ipv4("10.0.0.1", "10.0.0.2", UDP, udp(50000, GUE_PORT, gue(INNER))))
    other = gue(INNER, options=bytes(8))
    strange = ethernet(ipv4("10.0.0.1", "10.0.0.2", UDP, udp(50000, GUE_PORT, other)))

    assert chain_in(decode(plain)) == chain_in(decode(strange)) == chain_in(()) == ()


def test_every_cut_is_told_and_none_is_a_fault() -> None:
    frame = ethernet(ipv4("10.0.0.1", "10.0.0.2", UDP, udp(50000, GUE_PORT, gue(INNER))))

    told = [decode(frame[:length])[-1] for length in range(len(frame))]

    assert all(layer.fields for layer in told)
    assert told[20].fields == {"cut off": "6 bytes"}


@pytest.mark.parametrize(
    ("client", "vip", "layers"),
    [
        ("203.0.113.7", "198.51.100.1", "ethernet ipv4 tcp"),
        ("2001:db8::7", "2001:db8::1", "ethernet ipv6 tcp"),
    ],
)
def test_a_described_packet_is_built_as_it_is_described(client: str, vip: str, layers: str) -> None:
    flow = Flow(
        client=ip_address(client),
        client_port=40000,
        vip=ip_address(vip),
        vip_port=80,
        protocol=TCP,
    )

    frame = build(Described(flow=flow, syn=True, size=100))

    told = decode(frame)
    assert " ".join(layer.name for layer in told) == layers
    assert (told[1].fields["source"], told[1].fields["destination"]) == (client, vip)
    assert told[2].fields == {"source port": "40000", "destination port": "80", "flags": "syn"}
    assert len(frame) == 14 + 100
