"""The witness's question and its answer, as bytes (RFC 826)."""

from __future__ import annotations

from ipaddress import IPv4Address

from edge_lb.gateway import answers, arp_probe

GATEWAY = IPv4Address("192.0.2.1")
EDGE_MAC = bytes.fromhex("020000000002")
GATEWAY_MAC = bytes.fromhex("020000000001")


def reply(sender: IPv4Address, *, operation: int = 2) -> bytes:
    return (
        EDGE_MAC
        + GATEWAY_MAC
        + bytes.fromhex("0806 0001 0800 06 04")
        + operation.to_bytes(2, "big")
        + GATEWAY_MAC
        + sender.packed
        + EDGE_MAC
        + bytes(4)
    )


def test_probe_asks_everybody_and_tells_no_address():
    frame = arp_probe(EDGE_MAC, GATEWAY)

    assert frame == (
        b"\xff" * 6
        + EDGE_MAC
        + bytes.fromhex("0806 0001 0800 06 04 0001")
        + EDGE_MAC
        + bytes(4)
        + bytes(6)
        + GATEWAY.packed
    )


def test_reply_of_the_gateway_is_an_answer():
    assert answers(reply(GATEWAY), GATEWAY)
    assert answers(reply(GATEWAY) + bytes(18), GATEWAY)  # padded to Ethernet's minimum


def test_reply_of_another_request_and_rubbish_are_none():
    assert not answers(reply(IPv4Address("192.0.2.7")), GATEWAY)
    assert not answers(reply(GATEWAY, operation=1), GATEWAY)
    assert not answers(reply(GATEWAY)[:30], GATEWAY)
    assert not answers(b"", GATEWAY)
