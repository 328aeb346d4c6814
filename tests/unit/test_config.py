"""fleet.toml: what is read, and how everything that is wrong with it is told at once."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from gslb.fleet.config import ConfigError, absolute, load_fleet, nearest
from gslb.fleet.model import (
    Affinity,
    CheckKind,
    Encap,
    Fallback,
    FilterAction,
    Fragments,
    Policy,
    Protocol,
    Rate,
    RealName,
    VipOptions,
)
from tests.unit.fleet_files import FLEET, ZONE, faults_of, small_fleet, spoiled, write_fleet


def test_a_valid_file_becomes_the_nouns(tmp_path: Path) -> None:
    fleet = small_fleet(tmp_path)

    vip = fleet.vips["web-fra"]
    assert fleet.name == "small"
    assert (vip.address, vip.port, vip.protocol) == (ip_address("192.0.2.10"), 80, Protocol.TCP)
    assert (vip.check.kind, vip.check.port, vip.check.host) == (CheckKind.HTTP, 80, "192.0.2.10")
    assert (vip.check.rise, vip.check.fall) == (2, 3)
    assert fleet.vips["any-fra"].check.port == 8080
    assert fleet.reals["web2"].encap is Encap.L2
    assert fleet.reals["web1"].encap is None
    assert fleet.vips["web-fra"].encap_of(fleet.reals["web1"]) is Encap.GUE
    assert fleet.encaps_of(RealName("web2")) == (Encap.L2,)
    assert fleet.sites["fra"].clients == (ip_network("198.51.100.0/25"),)
    assert (fleet.pools["web"].policy, fleet.pools["any"].policy) == (
        Policy.NEAREST,
        Policy.FAILOVER,
    )


def test_what_a_vip_chooses_is_read(tmp_path: Path) -> None:
    text = FLEET.replace(
        'address = "192.0.2.11"',
        'address = "192.0.2.11"\naffinity = "source"\nfallback = "pass"\nfragments = "two_tuple"',
    )

    fleet = load_fleet(write_fleet(tmp_path, text))

    assert fleet.vips["web-fra"].options == VipOptions()
    assert fleet.vips["any-fra"].options == VipOptions(
        affinity=Affinity.SOURCE, fallback=Fallback.PASS, fragments=Fragments.TWO_TUPLE
    )


def test_names_of_zones_are_absolute_and_in_lower_case(tmp_path: Path) -> None:
    zone = small_fleet(tmp_path).zones["example.com."]

    assert zone.dynamic == {
        "www.example.com.": "web",
        "example.com.": "any",
        "a.b.example.com.": "any",
    }
    assert zone.text == ZONE


def test_filters_and_limits_become_rates(tmp_path: Path) -> None:
    text = spoiled('reals = ["web3"]', 'reals = ["web3"]\nlimit = { packets_per_s = 4 }') + (
        '[filter.carrier]\nprefix = "203.0.113.0/24"\naction = "limit"\npackets_per_s = 500\n'
        '[filter.lab]\nprefix = "2001:db8::/32"\naction = "deny"\nvips = ["web-fra"]\n'
    )

    fleet = load_fleet(write_fleet(tmp_path, text))

    assert fleet.vips["web-sin"].limit == Rate(packets_per_s=4, burst=1)
    assert fleet.vips["web-fra"].limit is None
    assert fleet.filters["carrier"].rate == Rate(packets_per_s=500, burst=50)
    lab = fleet.filters["lab"]
    assert (lab.action, lab.rate, lab.vips) == (FilterAction.DENY, None, ("web-fra",))
    assert lab.prefix == ip_network("2001:db8::/32")


def test_the_hash_changes_with_the_file_and_with_its_zones(tmp_path: Path) -> None:
    first = small_fleet(tmp_path).config_hash
    again = small_fleet(tmp_path).config_hash
    other_file = load_fleet(write_fleet(tmp_path, FLEET + "# a comment\n")).config_hash
    other_zone = load_fleet(write_fleet(tmp_path, FLEET, ZONE + "; a comment\n")).config_hash

    assert first == again
    assert len({first, other_file, other_zone}) == 3
    assert re.fullmatch(r"[0-9a-f]{12}", first)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "small"', 'nmae = "small"', "$.fleet.nmae: unknown key (did you mean `name`?)"),
        ("[pool.web]", "[pol.web]", "$.pol: unknown key (did you mean `pool`?)"),
        (
            "weight = 50\n",
            "wieght = 50\n",
            "$.site.sin.wieght: unknown key (did you mean `weight`?)",
        ),
        (
            "lat = 50.11",
            "latitude = 50.11",
            "$.site.fra.location.latitude: unknown key (one of: country, lat, lon)",
        ),
        (
            "interval_s = 1.0",
            "interval = 1.0",
            "$.vip.web-fra.check.interval: unknown key (did you mean `interval_s`?)",
        ),
        (
            'file = "example.com.zone"',
            'fil = "example.com.zone"',
            '$.zone."Example.COM".fil: unknown key (did you mean `file`?)',
        ),
        ('name = "small"', "", "$.fleet: Object missing required field `name`"),
        ('name = "small"', "name = 7", "$.fleet.name: Expected `str`, got `int`"),
        ("port = 80\n", 'port = "80"\n', "$.vip[...].port: Expected `int`, got `str`"),
        ('encap = "l2"', 'encap = "gre"', "$.real[...].encap: Invalid enum value 'gre'"),
    ],
)
def test_a_misshapen_file_is_refused_with_its_path(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    assert faults_of(tmp_path, spoiled(old, new)) == [fault]


def test_a_zone_that_is_no_domain_is_told(tmp_path: Path) -> None:
    text = spoiled('[zone."Example.COM"]', '[zone."exam ple"]')

    faults = faults_of(tmp_path, text.replace('"a.b.example.com." = "any"', '"b" = "any"'))

    assert '$.zone."exam ple": not a domain name (labels of letters, digits, `-` and `_`)' in faults


def test_a_fleet_without_a_site_is_told(tmp_path: Path) -> None:
    assert faults_of(tmp_path, '[site]\n[fleet]\nname = "empty"\n') == [
        "$.site: no site (add [site.NAME])"
    ]


def test_a_missing_zone_file_is_told(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, FLEET, zone=None)

    assert fault.startswith('$.zone."Example.COM".file: example.com.zone: ')
    assert fault.endswith("(name a readable file)")


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = (
        FLEET.replace('address = "10.2.0.1"', 'address = "none"')
        .replace('vips = ["any-fra"]', 'vips = ["any"]')
        .replace("answers = 1", "answers = 0")
        .replace('"WWW" = "web"', '"WWW" = "nope"')
        .replace("timeout_s = 0.5", "timeout_s = 9.0")
    )

    faults = faults_of(tmp_path, text, zone=None)

    assert len(faults) == 6
    assert [fault.split(":")[0] for fault in faults] == [
        '$.zone."Example.COM".file',
        "$.real.web3.address",
        "$.vip.web-fra.check.timeout_s",
        "$.pool.any.vips[0]",
        "$.pool.any.answers",
        '$.zone."Example.COM".dynamic.WWW',
    ]


def test_all_unknown_keys_are_told_at_once(tmp_path: Path) -> None:
    text = FLEET.replace("weight =", "wait =").replace("ttl_s =", "ttl =")

    assert faults_of(tmp_path, text) == [
        "$.site.sin.wait: unknown key (did you mean `weight`?)",
        "$.real.web2.wait: unknown key (did you mean `weight`?)",
        "$.pool.any.ttl: unknown key (did you mean `ttl_s`?)",
    ]


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, spoiled("port = 80\n", "port = 80\nport = 81\n"))

    assert fault.startswith("$: not TOML: Cannot overwrite a value")


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"[fleet\n", b"\x00", b"= 1"])
def test_what_is_no_toml_is_refused_in_one_line(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(raw)

    with pytest.raises(ConfigError) as refusal:
        load_fleet(path)

    assert len(refusal.value.faults) == 1
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_fleet(tmp_path / name)

    assert "check the path and the permissions" in str(refusal.value)


def test_advice_names_the_nearest_or_all() -> None:
    assert nearest("weihgt", ["weight", "address"]) == "did you mean `weight`?"
    assert nearest("zzz", ["weight", "address"]) == "one of: address, weight"
    assert nearest("zzz", []) == ""


@pytest.mark.parametrize(
    ("name", "origin", "full"),
    [
        ("www", "example.com.", "www.example.com."),
        ("WWW.Example.com.", "example.com.", "www.example.com."),
        ("@", "example.com.", "example.com."),
        ("example.com", "", "example.com."),
        ("com", ".", "com."),
    ],
)
def test_names_are_made_absolute(name: str, origin: str, full: str) -> None:
    assert absolute(name, origin) == full
