"""What holds of every answer: any bytes are survived, and the two ways give the same bytes."""

from __future__ import annotations

import random
from ipaddress import ip_address

import dns.edns
import dns.message
import dns.rcode
from arbitrary_fleet import ANY_PACE, cold_snapshot, snapshots, subnets
from hypothesis import given, settings
from hypothesis import strategies as st

from gslb.answer import Answerer
from gslb.client import Client
from gslb.decide import decide
from gslb.fleet.model import Network
from gslb.fleet.snapshot import Snapshot
from gslb.geo import Locator
from gslb.query import Outcome
from gslb.render import compile_answers

RESOLVER = ip_address("198.51.100.9")
NAMES = (
    "www.example.com",
    "WwW.Example.Com",
    "alias.example.com",
    "txt.example.com",
    "a.wild.example.com",
    "x.cut.example.com",
    "none.example.com",
    "example.com",
    "example.org",
    ".",
)
KINDS = ("A", "AAAA", "TXT", "NS", "SOA", "ANY", "HTTPS", "DS", "CNAME", "AXFR", "TYPE65000")


def _answerer(snapshot: Snapshot) -> Answerer:
    return Answerer(compile_answers(snapshot, Locator(snapshot.fleet)), nsid="n")


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """A well-formed query, plain or with EDNS, ECS, NSID and DO."""
    options: list[dns.edns.Option] = []
    subnet = draw(subnets())
    if subnet is not None:
        options.append(dns.edns.ECSOption(str(subnet.network_address), subnet.prefixlen))
    if draw(st.booleans()):
        options.append(dns.edns.GenericOption(3, b""))
    edns = draw(st.sampled_from([None, 0, 0, 1]))
    query = dns.message.make_query(
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(KINDS)),
        use_edns=edns if edns is not None else False,
        want_dnssec=edns is not None and draw(st.booleans()),
        payload=draw(st.sampled_from([0, 512, 1232, 4096])),
        options=options if edns is not None else None,
    )
    query.authority.clear()
    query.id = draw(st.integers(0, 65535))
    return query.to_wire()


@settings(max_examples=300, suppress_health_check=ANY_PACE, deadline=None)
@given(snapshots(), queries(), st.integers(0, 99), st.booleans())
def test_the_short_way_gives_the_bytes_of_the_long_way(
    snapshot: Snapshot, query: bytes, seed: int, tcp: bool
) -> None:
    answerer = _answerer(snapshot)

    quick = answerer.answer(query, RESOLVER, tcp=tcp, rng=random.Random(seed))
    _, slow = answerer.respond(query, RESOLVER, tcp=tcp, rng=random.Random(seed))

    assert quick == slow


@settings(max_examples=150, suppress_health_check=ANY_PACE, deadline=None)
@given(snapshots(), st.sampled_from(["A", "AAAA"]), subnets(), st.integers(0, 99))
def test_the_wire_carries_what_was_decided(
    snapshot: Snapshot, kind: str, subnet: Network | None, seed: int
) -> None:
    options: list[dns.edns.Option] = []
    if subnet is not None:
        options = [dns.edns.ECSOption(str(subnet.network_address), subnet.prefixlen)]
    query = dns.message.make_query("www.example.com", kind, use_edns=0, options=options)
    wire = _answerer(snapshot).answer(query.to_wire(), RESOLVER, tcp=False, rng=random.Random(seed))
    assert wire is not None
    response = dns.message.from_wire(wire)
    decision = decide(
        "www.example.com",
        kind,
        Client(address=RESOLVER, subnet=subnet),
        snapshot,
        Locator(snapshot.fleet),
        random.Random(seed),
    )
    assert decision is not None

    said = [str(item.address) for rrset in response.answer for item in rrset]
    assert said == [str(view.vip.address) for view in decision.chosen]
    assert all(rrset.ttl == decision.ttl_s for rrset in response.answer)
    scopes = [o.scopelen for o in response.options if isinstance(o, dns.edns.ECSOption)]
    assert scopes == ([decision.scope_bits] if subnet is not None else [])


@settings(max_examples=300, suppress_health_check=ANY_PACE, deadline=None)
@given(snapshots(), queries(), st.integers(0, 99), st.booleans())
def test_every_response_is_well_formed_and_fits(
    snapshot: Snapshot, query: bytes, seed: int, tcp: bool
) -> None:
    wire = _answerer(snapshot).answer(query, RESOLVER, tcp=tcp, rng=random.Random(seed))

    assert wire is not None
    response = dns.message.from_wire(wire)
    asked = dns.message.from_wire(query)
    assert asked.is_response(response) or response.rcode() == dns.rcode.FORMERR
    if not tcp:
        assert len(wire) <= max(512, min(1232, asked.payload if asked.edns >= 0 else 512))
    assert (response.edns >= 0) == (asked.edns >= 0)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered_or_dropped_by_name(noise: bytes) -> None:
    outcome, wire = _answerer(cold_snapshot()).respond(
        noise, RESOLVER, tcp=False, rng=random.Random(1)
    )

    _check(noise, outcome, wire)


@settings(max_examples=500, deadline=None)
@given(queries(), st.data())
def test_a_damaged_query_is_answered_or_dropped_by_name(query: bytes, data: st.DataObject) -> None:
    answerer = _answerer(cold_snapshot())
    damaged = bytearray(query)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for bad in (bytes(damaged), cut):
        outcome, wire = answerer.respond(bad, RESOLVER, tcp=False, rng=random.Random(1))
        _check(bad, outcome, wire)
        assert answerer.answer(bad, RESOLVER, tcp=False, rng=random.Random(1)) == wire


def _check(query: bytes, outcome: Outcome, wire: bytes | None) -> None:
    dropped = outcome in (Outcome.DROPPED_SHORT, Outcome.DROPPED_RESPONSE)
    assert (wire is None) == dropped
    if wire is not None:
        assert wire[:2] == query[:2]
        assert wire[2] & 0x80
        dns.message.from_wire(wire)
