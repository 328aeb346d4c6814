"""Reading DNS answers within bounds; dnspython writes them, so that two implementations agree."""

from __future__ import annotations

from ipaddress import ip_address

import dns.edns
import dns.message
import dns.rdatatype
import dns.rrset
import pytest

from httpdns.protocol import RecordType
from httpdns.wire import Truncated, freshness_s, hear, question

CLIENT = ip_address("198.51.100.7")


def response(answer: list[str], authority: list[str] | None = None, rcode: int = 0) -> bytes:
    message = dns.message.make_response(dns.message.make_query("www.example.com.", "A"))
    message.set_rcode(dns.rcode.Rcode(rcode))
    for section, lines in ((message.answer, answer), (message.authority, authority or [])):
        for line in lines:
            name, ttl, kind, data = line.split(" ", 3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return message.to_wire()


SOA = "example.com. 3600 SOA ns1.example.com. root.example.com. 1 2 3 4 30"


def test_the_question_is_a_query_that_dnspython_understands() -> None:
    asked = dns.message.from_wire(question("www.example.com.", RecordType.AAAA, CLIENT))

    assert asked.question[0].to_text() == "www.example.com. IN AAAA"
    (option,) = asked.options
    assert isinstance(option, dns.edns.ECSOption)
    assert (option.address, option.srclen, option.scopelen) == ("198.51.100.7", 32, 0)


def test_an_ipv6_client_is_told_whole() -> None:
    asked = dns.message.from_wire(question("a.b.", RecordType.A, ip_address("2001:db8::7")))

    assert asked.options[0].to_text() == "ECS 2001:db8::7/128 scope/0"


def test_addresses_come_with_the_least_ttl() -> None:
    heard = hear(
        response(["www.example.com. 60 CNAME web.example.com.", "web.example.com. 30 A 192.0.2.1"]),
        RecordType.A,
    )

    assert heard.addresses == ("192.0.2.1",)
    assert heard.ttl_s == 30
    assert heard.alias == "web.example.com"


def test_absence_is_kept_as_long_as_the_soa_says() -> None:
    heard = hear(response([], [SOA], rcode=3), RecordType.A)

    assert (heard.rcode, heard.ttl_s, heard.negative, heard.referral) == (3, 30, True, False)


def test_other_servers_are_a_referral() -> None:
    heard = hear(response([], ["lab.example.com. 60 NS ns1.lab.example.com."]), RecordType.A)

    assert heard.referral
    assert heard.ttl_s is None


@pytest.mark.parametrize(
    ("message", "kept_s"),
    [
        (response(["www.example.com. 60 A 192.0.2.1", "www.example.com. 60 A 192.0.2.2"]), 60),
        (response(["www.example.com. 0 A 192.0.2.1"]), 0),
        (response([], [SOA]), 30),
        (response([], ["lab.example.com. 60 NS ns1.lab.example.com."]), None),
        (response([], rcode=5), None),
    ],
    ids=["two-addresses", "ttl-0", "absence", "referral", "refused"],
)
def test_http_keeps_an_answer_as_long_as_dns_lets_it(message: bytes, kept_s: int | None) -> None:
    assert freshness_s(message) == kept_s


def test_every_cut_of_an_answer_is_refused_or_read_but_never_overrun() -> None:
    whole = response(["www.example.com. 60 A 192.0.2.1", "www.example.com. 60 A 192.0.2.2"])

    for end in range(len(whole)):
        with pytest.raises(Truncated):
            hear(whole[:end], RecordType.A)


def test_a_name_that_points_to_itself_is_refused() -> None:
    header = bytes.fromhex("000080000000000100000000")
    loop = header + b"\xc0\x0c" + bytes.fromhex("0005000100000000") + b"\x00\x02\xc0\x18"

    with pytest.raises(Truncated):
        hear(loop, RecordType.A)
