"""Zone text and the tree: what is read, what is refused with its line, what names mean."""

from __future__ import annotations

import dns.name
import dns.zone
import pytest
from dns_world import FLEET, ZONE, make_fleet

from gslb.zone import TYPE_A, Kind, ZoneTree, build_zone, zone_faults
from gslb.zonefile import name_text, parse_zone_text, rdata_text, ttl_seconds, wire_name

SOA = "@ 1h IN SOA ns1 hostmaster 1 2h 15m 2w 5m\n"


def _tree() -> ZoneTree:
    return build_zone(make_fleet().zones["example.com."])


def _faults(zone: str) -> list[str]:
    return [f"{fault.path}: {fault.reason}" for fault in zone_faults(make_fleet(FLEET, zone))]


def test_every_record_equals_what_dnspython_reads() -> None:
    records, bad = parse_zone_text(ZONE, "example.com.")
    oracle = dns.zone.from_text(ZONE, "example.com.", relativize=False)

    ours = {(r.owner, r.rtype, r.ttl_s, r.rdata) for r in records}
    theirs = {
        (name.canonicalize().to_wire(), int(rdata.rdtype), ttl, rdata.to_wire(origin=dns.name.root))
        for name, ttl, rdata in oracle.iterate_rdatas()
    }
    assert not bad
    assert ours == theirs


def test_the_test_zone_has_no_fault() -> None:
    assert _faults(ZONE) == []


@pytest.mark.parametrize(
    ("name", "rtype", "kind"),
    [
        ("mail", TYPE_A, Kind.DATA),
        ("mail", 15, Kind.NODATA),
        ("www", TYPE_A, Kind.DYNAMIC),
        ("www", 16, Kind.DATA),
        ("www", 65, Kind.NODATA),
        ("shop", TYPE_A, Kind.CNAME),
        ("shop", 5, Kind.DATA),
        ("x.apps", TYPE_A, Kind.DATA),
        ("x.y.apps", TYPE_A, Kind.DATA),
        ("admin.apps", TYPE_A, Kind.DATA),
        ("x.admin.apps", TYPE_A, Kind.NXDOMAIN),  # the closest encloser is admin.apps
        ("apps", TYPE_A, Kind.NODATA),  # an empty non-terminal
        ("b.c", TYPE_A, Kind.NODATA),
        ("down", TYPE_A, Kind.NODATA),  # above a dynamic name
        ("deep.down", TYPE_A, Kind.DYNAMIC),
        ("x.b.c", TYPE_A, Kind.NXDOMAIN),
        ("x.www", TYPE_A, Kind.NXDOMAIN),
        ("lab", TYPE_A, Kind.REFERRAL),
        ("lab", 43, Kind.DATA),  # DS is the parent's
        ("host.lab", TYPE_A, Kind.REFERRAL),
        ("ns1.lab", TYPE_A, Kind.REFERRAL),
        ("*.apps", TYPE_A, Kind.DATA),
    ],
)
def test_a_name_means_what_the_standards_say(name: str, rtype: int, kind: Kind) -> None:
    assert _tree().find(wire_name(name, "example.com."), rtype).kind is kind


def test_negative_answers_live_as_long_as_the_smaller_of_ttl_and_minimum() -> None:
    assert _tree().negative_ttl_s == 300


@pytest.mark.parametrize(
    ("zone", "fault"),
    [
        ("mail 60 IN A 192.0.2.1\n", "example.com.: no SOA"),
        (SOA + SOA, "line 2: a second SOA, the first is on line 1"),
        (SOA + "x IN SOA a b 1 2 3 4 5\n", "line 2: SOA at `x.example.com.`"),
        (SOA + "a IN CNAME b\na IN TXT x\n", "line 3: CNAME beside other data at `a.example.com.`"),
        (SOA + "a IN TXT x\na IN CNAME b\n", "line 3: CNAME beside other data at `a.example.com.`"),
        (SOA + "a IN CNAME b\na IN CNAME c\n", "line 3: a second CNAME at `a.example.com.`"),
        (SOA + "www IN A 192.0.2.1\n", "line 2: `www.example.com.` is dynamic"),
        (SOA + "www IN CNAME mail\n", "line 2: `www.example.com.` is dynamic"),
        (SOA + "down IN NS ns.test.\n", "line 2: dynamic `deep.down.example.com.` is delegated"),
        (SOA + "a.test. IN A 192.0.2.1\n", "line 2: `a.test.` is not in `example.com.`"),
        (SOA + "aexample.com. IN A 192.0.2.1\n", "line 2: `aexample.com.` is not in"),
        (SOA + "a IN A 192.0.2\n", "line 2: A `192.0.2`: "),
        (SOA + "a IN A 192.0.2.1 192.0.2.2\n", "line 2: A takes 1 field, not 2"),
        (SOA + "a IN MX mail\n", "line 2: MX takes 2 fields, not 1"),
        (SOA + "a IN AAAA 192.0.2.1\n", "line 2: AAAA `192.0.2.1`: "),
        (SOA + "a IN BOGUS 1\n", "line 2: unknown record type `BOGUS`"),
        (SOA + "a IN\n", "line 2: the record has no type"),
        (SOA + "a CH TXT x\n", "line 2: class `CH` is not served"),
        (SOA + "a..b IN A 192.0.2.1\n", "line 2: `a..b.example.com.`: a label has"),
        (SOA + "$INCLUDE other\n", "line 2: `$INCLUDE` is not served"),
        (SOA + '\n\na IN TXT "open\n', "line 4: a quote or an escape is not closed"),
        (SOA + "a IN TXT ( x\n", "line 2: a parenthesis is not closed"),
        (SOA + "a IN TXT " + "x" * 300 + "\n", "line 2: TXT `"),
        (SOA + "a IN TYPE700 \\# 3 00\n", "line 2: the length after \\# does not fit the bytes"),
        (SOA + "a IN AXFR x\n", "line 2: type `AXFR` is not served"),
        (SOA + "a IN DNAME b\n", "line 2: type `DNAME` is not served"),
        (" IN A 192.0.2.1\n" + SOA, "line 1: the first record has no owner name"),
    ],
)
def test_a_fault_is_named_with_its_line(zone: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in _faults(zone)), _faults(zone)


def test_all_faults_are_found_at_once() -> None:
    found = _faults("a IN A bogus\nb IN TYPE9 \\# 1 zz\nc 60 IN CNAME d\nc 60 IN A 192.0.2.1\n")

    assert len(found) == 4


def test_a_wildcard_cannot_be_dynamic() -> None:
    toml = FLEET.replace('"www" = "spread"', '"*" = "spread", "www" = "spread"')

    assert "wildcard" in str(zone_faults(make_fleet(toml, ZONE))[0])


def test_ttls_have_units() -> None:
    assert ttl_seconds("1h30m") == 5400
    assert ttl_seconds("300") == 300
    with pytest.raises(ValueError, match="above"):
        ttl_seconds("5000w")


def test_names_survive_the_way_to_wire_and_back() -> None:
    for text in ("example.com.", "a\\.b.example.com.", "\\000\\255.x.", "."):
        wire = wire_name(text)
        assert wire == dns.name.from_text(text).to_wire()
        assert wire_name(name_text(wire) if wire != b"\0" else ".") == wire


def test_unknown_types_are_written_as_rfc_3597_says() -> None:
    text = SOA + "a 60 IN TYPE700 \\# 3 00ff10\n"
    records, bad = parse_zone_text(text, "example.com.")

    assert not bad
    assert (records[1].rtype, records[1].rdata) == (700, bytes([0, 255, 16]))


def test_record_data_reads_as_people_write_it() -> None:
    assert rdata_text(1, bytes([192, 0, 2, 1])) == "192.0.2.1"
    assert rdata_text(15, b"\0\x0a\x04mail\0") == "10 mail."
