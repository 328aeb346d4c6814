"""For whom a request is answered: nobody is believed who may be anybody."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from httpdns.caller import Callers, peer_address
from httpdns.protocol import ErrorCode, Fault

PROXY = ip_address("10.0.0.1")
STRANGER = ip_address("198.51.100.7")
CALLERS = Callers([ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")])


def test_a_stranger_is_its_own_client() -> None:
    assert CALLERS.client(STRANGER, [], "") == STRANGER


def test_a_strangers_forwarded_header_is_ignored() -> None:
    assert CALLERS.client(STRANGER, ["203.0.113.1"], "") == STRANGER


def test_a_strangers_override_is_refused_and_says_who_was_not_trusted() -> None:
    fault = CALLERS.client(STRANGER, [], "203.0.113.1")

    assert isinstance(fault, Fault)
    assert fault.code is ErrorCode.CLIENT_NOT_TRUSTED
    assert "198.51.100.7" in fault.detail


def test_a_trusted_callers_override_counts_more_than_its_forwarded_header() -> None:
    assert CALLERS.client(PROXY, ["203.0.113.1"], "203.0.113.9") == ip_address("203.0.113.9")


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["203.0.113.1"], "203.0.113.1"),
        (["192.0.2.66, 203.0.113.1"], "203.0.113.1"),
        (["192.0.2.66", "203.0.113.1, 10.1.1.1"], "203.0.113.1"),
        (["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        (["203.0.113.1, unknown, 10.1.1.1"], "10.1.1.1"),
        (["rubbish"], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["::ffff:203.0.113.1"], "203.0.113.1"),
    ],
)
def test_the_nearest_untrusted_entry_of_the_chain_is_the_client(
    forwarded: list[str], client: str
) -> None:
    assert CALLERS.client(PROXY, forwarded, "") == ip_address(client)


def test_an_endless_chain_is_read_from_our_end_only() -> None:
    chain = "203.0.113.1, " + ", ".join(["10.1.1.1"] * 100)

    assert CALLERS.client(PROXY, [chain], "") == ip_address("10.1.1.1")


@pytest.mark.parametrize("text", ["", "x", "203.0.113.0/24", "203.0.113.1:80", "1.2.3", "::1%lo "])
def test_an_override_that_is_no_address_is_malformed(text: str) -> None:
    found = CALLERS.client(PROXY, [], text)

    if text:
        assert isinstance(found, Fault)
        assert found.code is ErrorCode.CLIENT_MALFORMED
    else:
        assert found == PROXY


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("198.51.100.7:1234", "198.51.100.7"),
        ("[2001:db8::7]:1234", "2001:db8::7"),
        ("::1:1234", "::1"),
        ("[::ffff:198.51.100.7]:1234", "198.51.100.7"),
        ("[fe80::1%eth0]:1234", "fe80::1"),
    ],
)
def test_the_peer_is_read_as_the_server_writes_it(text: str, address: str) -> None:
    assert peer_address(text) == ip_address(address)
