"""A small site for the edge's unit tests: three reals, two VIPs that share a check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from gslb.fleet.model import (
    Check,
    CheckKind,
    CheckVia,
    EdgeName,
    Encap,
    Fleet,
    Location,
    Protocol,
    Real,
    RealName,
    Site,
    SiteName,
    Vip,
    VipName,
)

FRA = SiteName("fra")
WWW, TLS = VipName("www"), VipName("tls")
WEB1, WEB2, WEB3 = RealName("web1"), RealName("web2"), RealName("web3")
CHECK = Check(
    kind=CheckKind.HTTP,
    via=CheckVia.DIRECT,
    port=8080,
    path="/",
    host="www.example.com",
    expect_status=200,
    interval_s=1.0,
    timeout_s=0.5,
    rise=2,
    fall=3,
)


def real(name: RealName, number: int, *, weight: int = 100) -> Real:
    """The real of that number."""
    address = IPv4Address(f"10.1.2.{number}")
    return Real(name=name, site=FRA, address=address, weight=weight, encap=Encap.GUE)


def vip(name: VipName, port: int, reals: tuple[RealName, ...], check: Check = CHECK) -> Vip:
    """A TCP VIP of the site."""
    return Vip(
        name=name,
        site=FRA,
        address=IPv4Address("198.51.100.1"),
        port=port,
        protocol=Protocol.TCP,
        reals=reals,
        check=check,
    )


def fleet(
    *,
    reals: Mapping[RealName, Real] | None = None,
    vips: tuple[Vip, ...] | None = None,
) -> Fleet:
    """The site's fleet; three reals behind `www` and two behind `tls` where nothing is given."""
    if reals is None:
        reals = {name: real(name, number) for number, name in enumerate((WEB1, WEB2, WEB3), 11)}
    if vips is None:
        vips = (vip(WWW, 80, (WEB1, WEB2, WEB3)), vip(TLS, 443, (WEB1, WEB2)))
    site = Site(
        name=FRA,
        location=Location(country="DE", lat=50.0, lon=8.0),
        weight=100,
        edges=(EdgeName("edge1"),),
        clients=(),
    )
    return Fleet(
        name="small",
        config_hash="0123456789ab",
        sites={FRA: site},
        reals=reals,
        vips={one.name: one for one in vips},
        pools={},
        zones={},
    )


def without(whole: Fleet, name: VipName) -> Fleet:
    """The fleet without one VIP."""
    return replace(whole, vips={key: one for key, one in whole.vips.items() if key != name})
