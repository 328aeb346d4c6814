"""Arbitrary small fleets, in arbitrary health, for the DNS properties."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_network

from hypothesis import HealthCheck
from hypothesis import strategies as st

from gslb.fleet.config import build_fleet, parse_toml
from gslb.fleet.fleet_file import FleetFile
from gslb.fleet.health import EdgeReport, Override, OverrideKind, VipHealth, VipState
from gslb.fleet.model import Network, Policy
from gslb.fleet.snapshot import Holdings, Snapshot, resolve

ZONE = """
@ 1h IN SOA ns1 hostmaster 1 2h 15m 2w 5m
@ 1h IN NS ns1
ns1 1h IN A 192.0.2.53
alias 1h IN CNAME www
txt 1h IN TXT "some text"
*.wild 1h IN A 192.0.2.54
cut 1h IN NS ns1.cut
ns1.cut 1h IN A 192.0.2.55
"""
_CLIENTS = ("198.51.100.0/24", "198.51.100.128/25", "203.0.113.0/26", "2001:db8:a::/48")
ANY_PACE = (HealthCheck.too_slow, HealthCheck.data_too_large)
"""A busy machine draws fleets slowly; that is no fault of theirs."""
STATES = (
    VipState.UP,
    VipState.UP,
    VipState.DEGRADED,
    VipState.DOWN,
    VipState.DRAINING,
    VipState.UNKNOWN,
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """One to three sites with up to four VIPs each, any policy, any health, any drains."""
    sites = draw(st.integers(1, 3))
    lines = ['[fleet]\nname = "any"']
    vips: list[str] = []
    homes: list[int] = []
    for site in range(sites):
        weight = draw(st.sampled_from([0, 1, 50, 100]))
        clients = draw(st.lists(st.sampled_from(_CLIENTS), unique=True, max_size=2))
        lines.append(
            f"[site.s{site}]\nedges = ['e{site}']\nweight = {weight}\nclients = {clients}\n"
            f"location = {{ country = 'DE', lat = {10.0 * site}, lon = {15.0 * site} }}\n"
            f"[real.r{site}]\nsite = 's{site}'\naddress = '10.{site}.0.1'"
        )
        for number in range(draw(st.integers(0 if site else 1, 4))):
            address = f"192.0.2.{site * 8 + number // 2}"
            if draw(st.booleans()):
                address = f"2001:db8::{site}:{number // 2}"
            name = f"v{site}-{number}"
            lines.append(
                f"[vip.{name}]\nsite = 's{site}'\naddress = '{address}'\n"
                f"port = {80 + number}\nreals = ['r{site}']"
            )
            vips.append(name)
            homes.append(site)
    policy = draw(st.sampled_from(list(Policy)))
    order = draw(st.permutations(vips))
    answers = draw(st.integers(1, 4))
    lines.append(
        f"[pool.p]\npolicy = '{policy}'\nvips = {list(order)}\nanswers = {answers}\n"
        "[zone.'example.com']\nfile = 'z'\ndynamic = { www = 'p' }"
    )
    shape = parse_toml("\n".join(lines).encode(), "fleet.toml", FleetFile)
    fleet = build_fleet(shape, {"example.com": ZONE}, "fleet.toml", "0" * 12, [])
    states = [draw(st.sampled_from(STATES)) for _ in vips]
    reports = [
        EdgeReport(
            site=f"s{site}",
            edge=f"e{site}",
            config_hash="0" * 12,
            generation=1,
            sequence=1,
            observed_at_s=0.0,
            lease_s=5.0,
            doubt=draw(st.booleans()),
            vips=tuple(
                VipHealth(name=name, state=state, since_s=0.0, reals=())
                for name, home, state in zip(vips, homes, states, strict=True)
                if home == site
            ),
        )
        for site in range(sites)
    ]
    drained = draw(st.lists(st.sampled_from(vips), unique=True, max_size=len(vips)))
    wills = [
        Override(
            kind=OverrideKind.VIP,
            name=name,
            drained=True,
            by="ops",
            reason="",
            at_s=0.0,
            generation=2,
        )
        for name in drained
    ]
    now_s = draw(st.sampled_from([0.0, 100.0]))
    return resolve(fleet, Holdings().merge(reports, wills, 0.0), now_s)


@cache
def cold_snapshot() -> Snapshot:
    """One site with one VIP of each family, at a cold start."""
    toml = b"""
[fleet]
name = "one"
[site.s]
location = { country = "DE", lat = 50, lon = 8 }
edges = ["e"]
clients = ["198.51.100.0/24"]
[real.r]
site = "s"
address = "10.0.0.1"
[vip.four]
site = "s"
address = "192.0.2.1"
port = 80
reals = ["r"]
[vip.six]
site = "s"
address = "2001:db8::1"
port = 80
reals = ["r"]
[pool.p]
vips = ["four", "six"]
[zone."example.com"]
file = "z"
dynamic = { www = "p" }
"""
    shape = parse_toml(toml, "fleet.toml", FleetFile)
    fleet = build_fleet(shape, {"example.com": ZONE}, "fleet.toml", "0" * 12, [])
    return resolve(fleet, Holdings(), 0.0)


def subnets() -> st.SearchStrategy[Network | None]:
    """No subnet, or one that may or may not be known to a site."""
    texts = ("198.51.100.7/32", "198.51.100.200/32", "198.51.100.0/24", "203.0.113.0/26")
    told = [ip_network(text) for text in (*texts, "8.8.8.0/24", "0.0.0.0/0", "2001:db8:a:1::/64")]
    return st.sampled_from([None, *told])
