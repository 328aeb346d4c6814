"""The ECS option: what is read, what is refused, what goes back."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from gslb.client import Client, parse_ecs


def test_an_ipv4_subnet_is_read() -> None:
    ecs = parse_ecs(bytes([0, 1, 24, 0, 198, 51, 100]))

    assert ecs is not None
    assert ecs.subnet == ip_network("198.51.100.0/24")


def test_an_ipv6_subnet_with_a_partial_byte_is_read() -> None:
    ecs = parse_ecs(bytes([0, 2, 20, 0, 0x20, 0x01, 0x10]))

    assert ecs is not None
    assert ecs.subnet == ip_network("2001:1000::/20")


def test_the_reply_repeats_the_question_with_the_scope() -> None:
    ecs = parse_ecs(bytes([0, 1, 24, 0, 198, 51, 100]))

    assert ecs is not None
    assert ecs.reply(25) == bytes([0, 8, 0, 7, 0, 1, 24, 25, 198, 51, 100])


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        (b"", "nothing"),
        (bytes([0, 1, 24]), "too short"),
        (bytes([0, 3, 0, 0]), "unknown family"),
        (bytes([0, 1, 33, 0, 1, 2, 3, 4, 5]), "longer than an IPv4 address"),
        (bytes([0, 1, 24, 8, 198, 51, 100]), "a scope in a query"),
        (bytes([0, 1, 24, 0, 198, 51]), "too few address bytes"),
        (bytes([0, 1, 24, 0, 198, 51, 100, 0]), "too many address bytes"),
        (bytes([0, 1, 20, 0, 198, 51, 100]), "bits beyond the prefix"),
        (bytes([0, 0, 8, 0, 1]), "family 0 with an address"),
    ],
)
def test_a_malformed_option_is_refused(option: bytes, fault: str) -> None:
    assert parse_ecs(option) is None, fault


def test_family_zero_tells_nothing() -> None:
    ecs = parse_ecs(bytes(4))

    assert ecs is not None
    assert ecs.subnet is None


def test_a_subnet_of_length_zero_leaves_the_resolver_as_the_point() -> None:
    client = Client(address=ip_address("192.0.2.9"), subnet=ip_network("0.0.0.0/0"))

    assert client.point == (ip_address("192.0.2.9"), 32)
    assert not client.told
