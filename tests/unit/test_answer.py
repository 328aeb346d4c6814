"""Answers on the wire, each read back by dnspython."""

from __future__ import annotations

import random

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from dns_world import (
    FLEET,
    RESOLVER,
    ZONE,
    addresses,
    ask,
    flags,
    make_answerer,
    make_fleet,
    make_snapshot,
    question,
    scope,
)

from gslb.fleet.config import build_fleet, parse_toml
from gslb.fleet.fleet_file import FleetFile
from gslb.fleet.health import OverrideKind, VipState
from gslb.query import OUTCOMES, Outcome
from gslb.render import compile_answers
from gslb.zone import zone_faults

SOA_OWNER = dns.rdatatype.SOA


def _answered(data: bytes, *, tcp: bool = False) -> tuple[Outcome, bytes | None]:
    """The outcome that was counted, and the response."""
    counted: list[int] = []
    answerer = make_answerer(count=counted.append, nsid="ns-test")
    wire = answerer.answer(data, RESOLVER, tcp=tcp, rng=random.Random(1))
    assert len(counted) == 1
    return OUTCOMES[counted[0]], wire


def test_a_dynamic_name_answers_n_addresses_that_change() -> None:
    answerer = make_answerer()
    seen = [tuple(addresses(ask(answerer, "www.example.com", seed=seed))) for seed in range(200)]

    assert {len(answer) for answer in seen} == {2}
    assert {a for answer in seen for a in answer} == {f"192.0.2.{n}" for n in (1, 2, 3, 4)}
    assert len(set(seen)) == 12  # every ordered pair


def test_the_header_is_authoritative_and_repeats_rd() -> None:
    response = ask(make_answerer(), "www.example.com")

    assert flags(response) == {"QR", "AA", "RD"}
    assert response.answer[0].ttl == 20


def test_without_rd_there_is_no_rd() -> None:
    query = dns.message.make_query("mail.example.com", "A", flags=0).to_wire()
    wire = make_answerer().answer(query, RESOLVER, tcp=False, rng=random.Random(1))

    assert wire is not None
    assert flags(dns.message.from_wire(wire)) == {"QR", "AA"}


def test_the_case_of_the_question_comes_back() -> None:
    query = question("wWw.eXAMple.cOm")
    wire = make_answerer().answer(query, RESOLVER, tcp=False, rng=random.Random(1))

    assert wire is not None
    assert wire[12 : len(query)] == query[12:]


def test_the_apex_can_be_dynamic() -> None:
    assert len(addresses(ask(make_answerer(), "example.com"))) == 2
    assert ask(make_answerer(), "example.com", "NS").answer


def test_aaaa_answers_the_ipv6_vips() -> None:
    assert set(addresses(ask(make_answerer(), "www.example.com", "AAAA"))) == {
        "2001:db8::1",
        "2001:db8::4",
    }


@pytest.mark.parametrize("kind", ["HTTPS", "SVCB", "SRV", "MX"])
def test_other_types_of_a_dynamic_name_are_nodata(kind: str) -> None:
    response = ask(make_answerer(), "near.example.com", kind)

    assert response.rcode() == dns.rcode.NOERROR
    assert not response.answer
    assert response.authority[0].rdtype == SOA_OWNER


def test_authored_data_beside_a_pool_is_answered() -> None:
    assert b"beside" in ask(make_answerer(), "www.example.com", "TXT").answer[0][0].strings[0]


def test_an_alias_is_followed_to_the_pool() -> None:
    response = ask(make_answerer(), "hop.example.com")

    assert [str(rrset.name) for rrset in response.answer] == [
        "hop.example.com.",
        "shop.example.com.",
        "www.example.com.",
    ]
    assert len(addresses(response)) == 2


def test_an_alias_out_of_the_zone_is_left_to_the_resolver() -> None:
    response = ask(make_answerer(), "away.example.com")

    assert len(response.answer) == 1
    assert response.rcode() == dns.rcode.NOERROR


def test_an_alias_into_nothing_is_nxdomain_with_the_alias() -> None:
    response = ask(make_answerer(), "gone.example.com")

    assert response.rcode() == dns.rcode.NXDOMAIN
    assert response.answer[0].rdtype == dns.rdatatype.CNAME
    assert response.authority[0].rdtype == SOA_OWNER


def test_aliases_in_a_circle_end() -> None:
    response = ask(make_answerer(), "round.example.com")

    assert len(response.answer) == 2


def test_an_alias_into_a_delegation_is_left_to_the_resolver() -> None:
    response = ask(make_answerer(), "into.example.com")

    assert len(response.answer) == 1
    assert not response.authority


def test_a_wildcard_answers_under_the_name_that_was_asked() -> None:
    response = ask(make_answerer(), "Some.Thing.apps.example.com")

    assert str(response.answer[0].name) == "Some.Thing.apps.example.com."
    assert addresses(response) == ["192.0.2.80"]


def test_a_wildcard_alias_is_followed() -> None:
    assert addresses(ask(make_answerer(), "x.alias.example.com")) == ["192.0.2.25"]


def test_nxdomain_carries_the_soa_with_the_negative_ttl() -> None:
    response = ask(make_answerer(), "no.such.example.com")

    assert response.rcode() == dns.rcode.NXDOMAIN
    assert flags(response) >= {"AA"}
    assert str(response.authority[0].name) == "example.com."
    assert response.authority[0].ttl == 300


def test_a_delegation_is_a_referral_with_glue_and_without_authority() -> None:
    response = ask(make_answerer(), "host.lab.example.com", use_edns=0)

    assert "AA" not in flags(response)
    assert not response.answer
    assert str(response.authority[0].name) == "lab.example.com."
    assert len(response.authority[0]) == 2
    assert [str(rrset.name) for rrset in response.additional] == ["ns1.lab.example.com."]


def test_ds_at_a_cut_is_the_parent_s_answer() -> None:
    response = ask(make_answerer(), "lab.example.com", "DS")

    assert "AA" in flags(response)
    assert response.answer[0].rdtype == dns.rdatatype.DS


def test_any_is_answered_minimally() -> None:
    response = ask(make_answerer(), "www.example.com", "ANY")

    assert [rrset.rdtype for rrset in response.answer] == [dns.rdatatype.HINFO]


def test_any_at_an_empty_non_terminal_is_nodata() -> None:
    assert not ask(make_answerer(), "apps.example.com", "ANY").answer


@pytest.mark.parametrize(
    ("name", "kind", "rdclass", "rcode"),
    [
        ("example.net", "A", "IN", dns.rcode.REFUSED),
        ("badexample.com", "A", "IN", dns.rcode.REFUSED),
        ("com", "A", "IN", dns.rcode.REFUSED),
        (".", "NS", "IN", dns.rcode.REFUSED),
        ("version.bind", "TXT", "CH", dns.rcode.REFUSED),
        ("example.com", "AXFR", "IN", dns.rcode.REFUSED),
        ("example.com", "IXFR", "IN", dns.rcode.REFUSED),
        ("example.com", "MAILB", "IN", dns.rcode.NOTIMP),
        ("example.com", "OPT", "IN", dns.rcode.NOTIMP),
    ],
)
def test_what_is_not_ours_is_refused(
    name: str, kind: str, rdclass: str, rcode: dns.rcode.Rcode
) -> None:
    query = dns.message.make_query(name, kind, rdclass)
    query.authority.clear()
    wire = make_answerer().answer(query.to_wire(), RESOLVER, tcp=True, rng=random.Random(1))

    assert wire is not None
    response = dns.message.from_wire(wire)
    assert response.rcode() == rcode
    assert "AA" not in flags(response)


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 15])
def test_other_opcodes_are_notimp(opcode: int) -> None:
    query = bytearray(question("www.example.com"))
    query[2] = opcode << 3
    outcome, wire = _answered(bytes(query))

    assert outcome is Outcome.NOTIMP
    assert wire == query[:2] + bytes([0x80 | opcode << 3, 4]) + bytes(8)


@pytest.mark.parametrize(
    ("damage", "outcome"),
    [
        (lambda q: q[:11], Outcome.DROPPED_SHORT),
        (lambda q: b"", Outcome.DROPPED_SHORT),
        (lambda q: q[:2] + b"\x80" + q[3:], Outcome.DROPPED_RESPONSE),
        (lambda q: q[:12], Outcome.FORMERR),  # a question is promised
        (lambda q: q[:-1], Outcome.FORMERR),
        (lambda q: q + b"x", Outcome.FORMERR),  # bytes beyond the message
        (lambda q: q[:4] + b"\0\2" + q[6:], Outcome.FORMERR),
        (lambda q: q[:4] + b"\0\0" + q[6:12], Outcome.FORMERR),
        (lambda q: q[:6] + b"\0\1" + q[8:], Outcome.FORMERR),
        (lambda q: q[:10] + b"\0\1" + q[12:], Outcome.FORMERR),  # a record is promised
        (lambda q: q[:12] + b"\xc0\x0c" + q[-4:], Outcome.FORMERR),  # a pointer in a question
        (lambda q: q[:12] + b"\x40" + q[13:], Outcome.FORMERR),  # a label of 64 bytes
    ],
)
def test_malformed_queries_are_formerr_or_dropped(damage: object, outcome: Outcome) -> None:
    query = damage(question("www.example.com"))  # type: ignore[operator]
    found, wire = _answered(query)

    assert found is outcome
    if outcome is Outcome.FORMERR:
        assert wire == query[:2] + b"\x81\x01" + bytes(8)
    else:
        assert wire is None


def test_a_name_of_more_than_255_bytes_is_formerr() -> None:
    query = question("www.example.com")[:12] + b"\x3fx" * 0 + (b"\x3f" + b"x" * 63) * 4
    outcome, _ = _answered(query + b"\0\0\1\0\1")

    assert outcome is Outcome.FORMERR


def test_edns_is_answered_with_our_size_and_the_do_bit() -> None:
    response = ask(make_answerer(), "www.example.com", use_edns=0, want_dnssec=True)

    assert (response.edns, response.payload) == (0, 1232)
    assert response.ednsflags == dns.flags.DO


def test_without_edns_there_is_none() -> None:
    assert ask(make_answerer(), "www.example.com").edns == -1


def test_a_higher_edns_version_is_badvers() -> None:
    response = ask(make_answerer(), "www.example.com", use_edns=1)

    assert response.rcode() == dns.rcode.BADVERS
    assert response.edns == 0
    assert not response.answer


def test_unknown_edns_options_are_ignored() -> None:
    option = dns.edns.GenericOption(65001, b"whatever")
    response = ask(make_answerer(), "www.example.com", use_edns=0, options=[option])

    assert len(addresses(response)) == 2
    assert not response.options


def test_two_opt_records_are_formerr() -> None:
    query = question("www.example.com", use_edns=0)
    doubled = query[:11] + b"\2" + query[12:] + query[-11:]

    assert _answered(doubled)[0] is Outcome.FORMERR


def test_nsid_is_told_to_who_asks() -> None:
    option = dns.edns.GenericOption(3, b"")
    answerer = make_answerer(nsid="ns-test")

    asked = ask(answerer, "www.example.com", use_edns=0, options=[option])
    silent = ask(answerer, "www.example.com", use_edns=0)

    assert [(int(o.otype), o.to_wire()) for o in asked.options] == [(3, b"ns-test")]
    assert not silent.options


def test_ecs_decides_the_site_and_comes_back_with_its_scope() -> None:
    response = ask(make_answerer(), "near.example.com", ecs="198.51.100.200/32")

    assert addresses(response) == ["192.0.2.4"]
    assert scope(response) == 25


def test_ecs_of_an_answer_that_does_not_depend_on_it_has_scope_zero() -> None:
    for name in ("www.example.com", "mail.example.com", "none.example.com", "example.net"):
        assert scope(ask(make_answerer(), name, ecs="198.51.100.200/32")) == 0


def test_malformed_ecs_is_formerr_with_edns() -> None:
    option = dns.edns.GenericOption(8, b"\0\1\x18\0\1")
    response = ask(make_answerer(), "www.example.com", use_edns=0, options=[option])

    assert response.rcode() == dns.rcode.FORMERR
    assert response.edns == 0


def test_too_large_an_answer_is_truncated_whole() -> None:
    response = ask(make_answerer(), "big.example.com", "TXT", use_edns=0, payload=4096)

    assert "TC" in flags(response)
    assert not response.answer
    assert response.edns == 0


def test_tcp_carries_what_udp_cannot() -> None:
    response = ask(make_answerer(), "big.example.com", "TXT", tcp=True)

    assert "TC" not in flags(response)
    assert len(response.answer[0]) == 8


def test_the_client_s_own_limit_is_kept() -> None:
    toml_small = ask(
        make_answerer(udp_payload_max=4096), "big.example.com", "TXT", use_edns=0, payload=1000
    )
    roomy = ask(
        make_answerer(udp_payload_max=4096), "big.example.com", "TXT", use_edns=0, payload=4000
    )

    assert "TC" in flags(toml_small)
    assert "TC" not in flags(roomy)


def test_a_payload_size_below_512_counts_as_512() -> None:
    response = ask(make_answerer(), "www.example.com", use_edns=0, payload=100)

    assert len(addresses(response)) == 2


def test_a_fully_drained_pool_is_nodata_for_no_longer_than_the_pool_s_ttl() -> None:
    drained = tuple((OverrideKind.SITE, site) for site in ("fra", "ams", "sin"))
    response = ask(make_answerer(make_snapshot(drained=drained)), "www.example.com")

    assert response.rcode() == dns.rcode.NOERROR
    assert not response.answer
    assert response.authority[0].ttl == 20


def test_a_newer_table_is_answered_from_at_once() -> None:
    fleet = make_fleet()
    answerer = make_answerer(make_snapshot(fleet))
    down = make_snapshot(fleet, states={"sin4": VipState.DOWN})

    before = answerer.table
    answerer.install(compile_answers(down, before.locator, before))

    assert answerer.table.zones is before.zones
    seen = {a for n in range(50) for a in addresses(ask(answerer, "www.example.com", seed=n))}
    assert "192.0.2.4" not in seen


def test_each_outcome_is_counted_under_its_name() -> None:
    asked = {
        Outcome.ANSWERED: question("www.example.com"),
        Outcome.NODATA: question("www.example.com", "MX"),
        Outcome.NXDOMAIN: question("nope.example.com"),
        Outcome.REFERRAL: question("lab.example.com"),
        Outcome.TRUNCATED: question("big.example.com", "TXT"),
        Outcome.REFUSED: question("example.net"),
        Outcome.BADVERS: question("www.example.com", use_edns=1),
    }

    assert {name: _answered(query)[0] for name, query in asked.items()} == {n: n for n in asked}


def test_the_longest_zone_answers_and_the_cut_between_two_zones_of_ours_holds() -> None:
    toml = FLEET + '\n[zone."sub.example.com"]\nfile = "sub"\ndynamic = { "www" = "four" }\n'
    inner = "@ 60 IN SOA ns1 hostmaster 9 2h 15m 2w 60\n  60 IN NS ns1\nns1 60 IN A 192.0.2.9\n"
    outer = ZONE + f"sub IN NS ns1.sub\nsub IN DS 1 8 2 {'ab' * 32}\nns1.sub IN A 192.0.2.9\n"
    shape = parse_toml(toml.encode(), "fleet.toml", FleetFile)
    texts = {"example.com": outer, "sub.example.com": inner}
    fleet = build_fleet(shape, texts, "fleet.toml", "0" * 12, [])
    answerer = make_answerer(make_snapshot(fleet))

    assert not zone_faults(fleet)
    assert addresses(ask(answerer, "www.sub.example.com")) == ["192.0.2.1"]
    assert ask(answerer, "sub.example.com", "SOA").answer[0][0].serial == 9
    assert str(ask(answerer, "x.sub.example.com").authority[0].name) == "sub.example.com."
    assert ask(answerer, "sub.example.com", "DS").answer
    assert "AA" in flags(ask(answerer, "ns1.sub.example.com"))
