"""A small world for the DNS tests: a fleet of three sites, a zone, health as edges report it.

Every answer is read back by dnspython, the second opinion on each byte.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.rdatatype

from gslb.answer import Answerer
from gslb.fleet.config import build_fleet, parse_toml
from gslb.fleet.fleet_file import FleetFile
from gslb.fleet.health import EdgeReport, Override, OverrideKind, RealHealth, RealState, VipHealth
from gslb.fleet.health import VipState as State
from gslb.fleet.model import Fleet
from gslb.fleet.snapshot import Holdings, Snapshot, resolve
from gslb.geo import Locator
from gslb.render import compile_answers

RESOLVER = ip_address("192.0.2.200")

FLEET = """
[fleet]
name = "test"

[site.fra]
location = { country = "DE", lat = 50.11, lon = 8.68 }
edges = ["fra-edge"]
weight = 300
clients = ["198.51.100.0/24", "2001:db8:f::/48"]

[site.ams]
location = { country = "NL", lat = 52.37, lon = 4.90 }
edges = ["ams-edge"]
weight = 100

[site.sin]
location = { country = "SG", lat = 1.35, lon = 103.82 }
edges = ["sin-edge"]
weight = 0
clients = ["198.51.100.128/25", "203.0.113.0/24"]

[real.r-fra]
site = "fra"
address = "10.1.0.1"
[real.r-ams]
site = "ams"
address = "10.2.0.1"
[real.r-sin]
site = "sin"
address = "10.3.0.1"

[vip.fra4]
site = "fra"
address = "192.0.2.1"
port = 80
reals = ["r-fra"]
[vip.fra4-tls]
site = "fra"
address = "192.0.2.1"
port = 443
reals = ["r-fra"]
[vip.fra4b]
site = "fra"
address = "192.0.2.2"
port = 80
reals = ["r-fra"]
[vip.fra6]
site = "fra"
address = "2001:db8::1"
port = 80
reals = ["r-fra"]
[vip.ams4]
site = "ams"
address = "192.0.2.3"
port = 80
reals = ["r-ams"]
[vip.sin4]
site = "sin"
address = "192.0.2.4"
port = 80
reals = ["r-sin"]
[vip.sin6]
site = "sin"
address = "2001:db8::4"
port = 80
reals = ["r-sin"]

[pool.spread]
policy = "spread"
vips = ["fra4", "fra4b", "ams4", "sin4", "fra6", "sin6"]
answers = 2
ttl_s = 20
[pool.near]
policy = "nearest"
vips = ["fra4", "fra4b", "ams4", "sin4", "fra6", "sin6"]
answers = 2
[pool.heavy]
policy = "weighted"
vips = ["fra4", "ams4", "sin4"]
answers = 1
[pool.order]
policy = "failover"
vips = ["sin4", "fra4", "ams4"]
answers = 2
[pool.twin]
policy = "spread"
vips = ["fra4", "fra4-tls", "ams4"]
answers = 2
[pool.four]
policy = "spread"
vips = ["fra4"]
answers = 1

[zone."example.com"]
file = "example.com.zone"
dynamic = { "@" = "spread", "www" = "spread", "near" = "near", "heavy" = "heavy", \
"order" = "order", "twin" = "twin", "four" = "four", "deep.down" = "spread" }
"""

ZONE = """
$ORIGIN example.com.
$TTL 1h
@     IN SOA ns1 hostmaster ( 7 2h 15m 2w 5m )
      IN NS ns1
      IN MX 10 mail
ns1   IN A 192.0.2.53
      IN AAAA 2001:db8::53
mail  300 IN A 192.0.2.25
www   IN TXT "beside the pool"
shop  IN CNAME www
hop   IN CNAME shop
away  IN CNAME elsewhere.test.
gone  IN CNAME nothing.here
round IN CNAME about
about IN CNAME round
into  IN CNAME host.lab
*.apps 60 IN A 192.0.2.80
admin.apps IN A 192.0.2.81
*.alias IN CNAME mail
lab   IN NS ns1.lab
      IN NS ns.elsewhere.test.
      IN DS 1 8 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
ns1.lab IN A 203.0.113.53
_sip._tcp IN SRV 10 60 5060 mail
9.8   IN PTR mail
num   IN NAPTR 1 2 "s" "SIP+D2U" "" _sip._tcp
svc   IN HTTPS 1 . alpn=h2
ca    IN CAA 0 issue "ca.test"
a.b.c IN TXT "deep" "two \\"words\\" \\255"
""" + "".join(f'big IN TXT "{"x" * 200} {n}"\n' for n in range(8))


@cache
def make_fleet(toml: str = FLEET, zone: str = ZONE) -> Fleet:
    """The fleet of these texts; every zone has the same text."""
    shape = parse_toml(toml.encode(), "fleet.toml", FleetFile)
    digest = hashlib.sha256((toml + zone).encode()).hexdigest()[:12]
    return build_fleet(shape, dict.fromkeys(shape.zone, zone), "fleet.toml", digest, [])


def make_snapshot(
    fleet: Fleet | None = None,
    states: Mapping[str, State] | None = None,
    drained: tuple[tuple[OverrideKind, str], ...] = (),
) -> Snapshot:
    """A snapshot in which every edge reports its VIPs UP, but for `states` and what is drained."""
    fleet = fleet or make_fleet()
    reports = [
        EdgeReport(
            site=site.name,
            edge=edge,
            config_hash=fleet.config_hash,
            generation=1,
            sequence=1,
            observed_at_s=0.0,
            lease_s=5.0,
            doubt=False,
            vips=tuple(
                VipHealth(
                    name=vip.name,
                    state=(states or {}).get(vip.name, State.UP),
                    since_s=0.0,
                    reals=tuple(
                        RealHealth(name=real, state=RealState.UP, since_s=0.0, reason="ok")
                        for real in vip.reals
                    ),
                )
                for vip in fleet.vips_of_site(site.name)
            ),
        )
        for site in fleet.sites.values()
        for edge in site.edges
    ]
    wills = [
        Override(
            kind=kind, name=name, drained=True, by="ops", reason="test", at_s=0.0, generation=2
        )
        for kind, name in drained
    ]
    return resolve(fleet, Holdings().merge(reports, wills, 0.0), 0.0)


def make_answerer(snapshot: Snapshot | None = None, **settings: object) -> Answerer:
    """An answerer over the snapshot."""
    snapshot = snapshot or make_snapshot()
    table = compile_answers(snapshot, Locator(snapshot.fleet))
    return Answerer(table, **settings)  # type: ignore[arg-type]


def question(name: str, kind: str = "A", **settings: object) -> bytes:
    """A query in wire format, by dnspython; `ecs="198.51.100.0/24"` adds a client subnet."""
    ecs = settings.pop("ecs", None)
    if isinstance(ecs, str):
        address, bits = ecs.split("/")
        settings["options"] = [dns.edns.ECSOption(address, int(bits))]
        settings.setdefault("use_edns", 0)
    return dns.message.make_query(name, kind, **settings).to_wire()  # type: ignore[arg-type]


def ask(
    answerer: Answerer,
    name: str,
    kind: str = "A",
    *,
    tcp: bool = False,
    seed: int = 1,
    **settings: object,
) -> dns.message.Message:
    """The response as dnspython reads it."""
    wire = answerer.answer(
        question(name, kind, **settings), RESOLVER, tcp=tcp, rng=random.Random(seed)
    )
    assert wire is not None
    return dns.message.from_wire(wire)


def addresses(message: dns.message.Message) -> list[str]:
    """The addresses of the answer section, in order."""
    kinds = {dns.rdatatype.A, dns.rdatatype.AAAA}
    return [item.address for rrset in message.answer if rrset.rdtype in kinds for item in rrset]


def flags(message: dns.message.Message) -> set[str]:
    """The header's flags, like {"QR", "AA"}."""
    return set(dns.flags.to_text(message.flags).split())


def scope(message: dns.message.Message) -> int | None:
    """The ECS scope of the response, or None without ECS."""
    found = [option for option in message.options if isinstance(option, dns.edns.ECSOption)]
    return found[0].scopelen if found else None
