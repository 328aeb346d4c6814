"""A native reply says what the decision and the DNS say, name by name."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network

import dns.message
import dns.rdatatype
import msgspec
import pytest

from gslb.client import Client
from gslb.decide import decide
from gslb.geo import Locator
from httpdns.protocol import Ask, ErrorCode, NameReply, RecordType
from httpdns.resolve import absolute_name
from tests.unit.https_world import answerer, resolver, snapshot

NEAR_FRA = ip_address("198.51.100.7")
NEAR_SIN = ip_address("198.51.100.200")
BOTH = (RecordType.A, RecordType.AAAA)


def one(name: str, *drained: str, types: tuple[RecordType, ...] = BOTH) -> NameReply:
    ask = Ask(names=(name,), types=types, client=NEAR_FRA)
    return resolver(snapshot(*drained)).resolve(ask, random.Random(1)).names[0]


def code(reply: NameReply) -> ErrorCode | None:
    return None if isinstance(reply.error, msgspec.UnsetType) else reply.error.code


def test_a_and_aaaa_come_together() -> None:
    reply = one("www.example.com")

    assert set(reply.addresses.A or ()) == {"192.0.2.10", "192.0.2.11"}
    assert reply.addresses.AAAA == ("2001:db8::10",)
    assert reply.ttl_s == 30
    assert code(reply) is None


def test_a_family_that_was_not_asked_is_absent() -> None:
    reply = one("www.example.com", types=(RecordType.AAAA,))

    assert reply.addresses.A is msgspec.UNSET
    assert reply.addresses.AAAA == ("2001:db8::10",)


def test_the_scope_is_the_network_that_decided() -> None:
    assert one("www.example.com").scope == "198.51.100.0/25"


def test_a_choice_that_does_not_depend_on_the_client_has_no_scope() -> None:
    assert one("any.example.com").scope is msgspec.UNSET


def test_a_client_near_another_site_gets_that_sites_address() -> None:
    ask = Ask(names=("www.example.com",), types=(RecordType.A,), client=NEAR_SIN)

    reply = resolver(snapshot()).resolve(ask, random.Random(1))

    assert reply.names[0].addresses.A == ("203.0.113.10",)
    assert reply.client == "198.51.100.200"


def test_the_name_is_given_back_as_it_was_asked() -> None:
    assert one("WWW.Example.COM.").name == "WWW.Example.COM."
    assert one("WWW.Example.COM.").addresses.AAAA == ("2001:db8::10",)


def test_a_drained_vip_is_not_answered() -> None:
    assert one("www.example.com", "fra-a").addresses.A == ("192.0.2.11",)


def test_a_drained_family_is_empty_for_as_long_as_the_zone_says() -> None:
    reply = one("www.example.com", "fra-six", types=(RecordType.AAAA,))

    assert reply.addresses.AAAA == ()
    assert reply.ttl_s == 30
    assert code(reply) is None


def test_an_authored_name_is_answered_from_the_zone() -> None:
    reply = one("ns1.example.com")

    assert reply.addresses.A == ("192.0.2.53",)
    assert reply.addresses.AAAA == ("2001:db8::53",)
    assert reply.ttl_s == 3600


def test_a_family_an_authored_name_lacks_shortens_its_ttl_to_the_negative_one() -> None:
    reply = one("mail.example.com")

    assert reply.addresses.A == ("192.0.2.25",)
    assert reply.addresses.AAAA == ()
    assert reply.ttl_s == 30


def test_an_alias_of_a_dynamic_name_is_followed_and_keeps_its_scope() -> None:
    reply = one("docs.example.com")

    assert set(reply.addresses.A or ()) == {"192.0.2.10", "192.0.2.11"}
    assert reply.scope == "198.51.100.0/25"


@pytest.mark.parametrize(
    ("name", "expected", "ttl_s"),
    [
        ("nope.example.com", ErrorCode.NO_SUCH_NAME, 30),
        ("www.example.org", ErrorCode.NOT_SERVED, 0),
        ("lab.example.com", ErrorCode.DELEGATED, 0),
        ("host.lab.example.com", ErrorCode.DELEGATED, 0),
        ("cdn.example.com", ErrorCode.ALIAS_OUTSIDE, 3600),
        ("a b.example.com", ErrorCode.NAME_MALFORMED, 0),
        ("bücher.example.com", ErrorCode.NAME_MALFORMED, 0),
        ("x..example.com", ErrorCode.NAME_MALFORMED, 0),
        (".", ErrorCode.NAME_MALFORMED, 0),
        ("a" * 64 + ".example.com", ErrorCode.NAME_MALFORMED, 0),
        ("a." * 130 + "example.com", ErrorCode.NAME_MALFORMED, 0),
    ],
)
def test_a_name_without_addresses_says_why(name: str, expected: ErrorCode, ttl_s: int) -> None:
    reply = one(name)

    assert code(reply) is expected
    assert reply.ttl_s == ttl_s
    assert reply.addresses.A is msgspec.UNSET


def test_an_alias_that_leads_outside_names_where_to() -> None:
    assert one("cdn.example.com").alias == "edge.example.net"


def test_one_bad_name_does_not_spoil_the_others() -> None:
    ask = Ask(names=("nope.example.com", "ns1.example.com"), types=BOTH, client=NEAR_FRA)

    bad, good = resolver(snapshot()).resolve(ask, random.Random(1)).names

    assert code(bad) is ErrorCode.NO_SUCH_NAME
    assert good.addresses.A == ("192.0.2.53",)


@pytest.mark.parametrize("name", ["www.example.com", "any.example.com"])
@pytest.mark.parametrize("drained", [(), ("fra-a",), ("fra-a", "fra-b", "fra-six", "sin-a")])
@pytest.mark.parametrize("client", [NEAR_FRA, NEAR_SIN, ip_address("8.8.8.8")])
def test_the_reply_is_the_decision_drawn_with_the_same_chance(
    name: str, drained: tuple[str, ...], client: object
) -> None:
    address = ip_address(str(client))
    view = snapshot(*drained)
    locator = Locator(view.fleet)
    asker = Client(address=address, subnet=ip_network((address, 32)))

    for seed in range(30):
        ask = Ask(names=(name,), types=(RecordType.A,), client=address)
        reply = resolver(view).resolve(ask, random.Random(seed)).names[0]
        decision = decide(name, "A", asker, view, locator, random.Random(seed))

        assert decision is not None
        assert tuple(str(item.vip.address) for item in decision.chosen) == reply.addresses.A


@pytest.mark.parametrize("name", ["www", "any", "docs", "ns1", "mail", "nope", "cdn", "lab"])
def test_https_and_dns_never_disagree(name: str) -> None:
    view = snapshot()
    wire = dns.message.make_query(f"{name}.example.com.", "A").to_wire()
    https: set[str] = set()
    plain: set[str] = set()

    for seed in range(60):
        ask = Ask(names=(f"{name}.example.com",), types=(RecordType.A,), client=NEAR_FRA)
        https |= set(resolver(view).resolve(ask, random.Random(seed)).names[0].addresses.A or ())
        raw = answerer(view).answer(wire, NEAR_FRA, tcp=True, rng=random.Random(seed))
        assert raw is not None
        answer = dns.message.from_wire(raw).answer
        plain |= {str(r) for rrset in answer if rrset.rdtype == dns.rdatatype.A for r in rrset}

    assert https == plain


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.COM", "example.com."),
        ("example.com.", "example.com."),
        ("_sip._tcp.example.com", "_sip._tcp.example.com."),
        ("xn--bcher-kva.example", "xn--bcher-kva.example."),
        ("example.com..", None),
        ("*.example.com", None),
        ("", None),
        ("a\n.example.com", None),
        ("example.com\n", None),
    ],
)
def test_what_a_host_name_is(text: str, name: str | None) -> None:
    assert absolute_name(text) == name
