"""The small files of the hosts, and the examples that come with the distribution."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_lb.edge_daemon import load_edge
from gslb.fleet.config import ConfigError, load_fleet
from gslb.fleet.host import (
    DnsHost,
    EdgeHost,
    HttpsHost,
    RealHost,
    StoreKind,
    fleet_path,
    load_host,
    split_listen,
)
from gslb.fleet.model import Encap

CONFIGS = Path(__file__).parent.parent.parent / "configs"

SHAPES: dict[str, type[DnsHost | HttpsHost | EdgeHost | RealHost]] = {
    "dns": DnsHost,
    "https": HttpsHost,
    "edge": EdgeHost,
    "real": RealHost,
}


@pytest.mark.parametrize("role", SHAPES)
def test_the_example_of_each_role_loads_and_names_the_example_fleet(role: str) -> None:
    path = CONFIGS / f"{role}.toml"

    host = load_host(path, SHAPES[role])

    assert fleet_path(path, host.host) == CONFIGS / "fleet.toml"
    assert host.host.admin_socket == f"/run/waypost/{role}.sock"


def test_the_example_fleet_has_two_sites_with_reals_and_one_near_pool() -> None:
    fleet = load_fleet(CONFIGS / "fleet.toml")

    for site in ("fra", "sin"):
        far = [
            r
            for r in fleet.reals.values()
            if r.site == site and Encap.GUE in fleet.encaps_of(r.name)
        ]
        assert len(far) == 3
    near = fleet.vips["near-fra"]
    assert {fleet.reals[name].encap for name in near.reals} == {Encap.L2}


def test_the_example_hosts_are_hosts_of_the_example_fleet() -> None:
    fleet = load_fleet(CONFIGS / "fleet.toml")
    edge = load_host(CONFIGS / "edge.toml", EdgeHost)
    real = load_host(CONFIGS / "real.toml", RealHost)

    assert edge.host.name in fleet.sites[edge.edge.site].edges  # type: ignore[index]
    assert real.real.name in fleet.reals


@pytest.mark.parametrize("role", SHAPES)
def test_each_role_has_a_unit_that_checks_before_it_starts(role: str) -> None:
    unit = (CONFIGS / "systemd" / f"waypost-{role}.service").read_text()

    assert f"ExecStartPre=/usr/bin/waypost config check /etc/waypost/{role}.toml" in unit
    assert f"ExecStart=/usr/bin/waypost {role} --config /etc/waypost/{role}.toml" in unit


@pytest.mark.parametrize(
    ("role", "old", "new", "fault"),
    [
        ("dns", "[dns]", "[dsn]", "$.dsn: unknown key (did you mean `dns`?)"),
        (
            "dns",
            'log_level = "info"',
            'log_level = "loud"',
            "$.host.log_level: unknown level (debug, info, warning or error)",
        ),
        (
            "dns",
            'listen = ["[::]:53"]',
            "listen = []",
            "$.dns.listen: nothing to listen on (like `[::]:53`)",
        ),
        (
            "dns",
            '"[::]:53"',
            '"::1:53"',
            (
                "$.dns.listen[0]: `::1:53`: write an IPv6 address as [ADDRESS]:PORT"
                " (like 192.0.2.1:53 or [::]:53)"
            ),
        ),
        (
            "dns",
            '"[::]:53"',
            '"192.0.2.1"',
            "$.dns.listen[0]: `192.0.2.1` is not ADDRESS:PORT (like 192.0.2.1:53 or [::]:53)",
        ),
        (
            "dns",
            "udp_payload_max = 1232",
            "udp_payload_max = 511",
            "$.dns.udp_payload_max: out of range (512..4096)",
        ),
        (
            "dns",
            "workers = 0",
            "workers = 257",
            "$.dns.workers: out of range (0..256, 0 is one a core)",
        ),
        (
            "dns",
            "redis://192.0.2.250:6379/0",
            "http://192.0.2.250",
            "$.store.url: not a Redis URL (like redis://192.0.2.1:6379/0)",
        ),
        (
            "dns",
            'kind = "redis"',
            'kind = "redis"\npath = "/x"',
            "$.store.path: contradicts kind `redis` (remove it)",
        ),
        (
            "dns",
            'kind = "redis"\n',
            'kind = "redsi"\n',
            "$.store.kind: Invalid enum value 'redsi'",
        ),
        (
            "https",
            'listen = "[::]:443"',
            'listen = "everywhere"',
            "$.https.listen: `everywhere` is not ADDRESS:PORT (like 192.0.2.1:53 or [::]:53)",
        ),
        (
            "https",
            'certificate = "',
            'certifcate = "',
            "$.https.certifcate: unknown key (did you mean `certificate`?)",
        ),
        (
            "edge",
            'tunnel_source = "10.1.10.2"',
            'tunnel_source = "eth0"',
            "$.edge.tunnel_source: `eth0` is not an IP address",
        ),
        (
            "edge",
            "lease_s = 5.0",
            "lease_s = 1.9",
            "$.edge.lease_s: shorter than two beats (a lease must outlive a lost beat)",
        ),
        (
            "edge",
            'tunnel_source = "10.1.10.2"',
            'tunnel_source = "::1"',
            "$.edge.tunnel_source: `::1` is not IPv4 (there is one tunnel source a family)",
        ),
        (
            "edge",
            "mtu = 1500",
            'tunnel_source_v6 = "192.0.2.1"',
            (
                "$.edge.tunnel_source_v6: `192.0.2.1` is not IPv6"
                " (there is one tunnel source a family)"
            ),
        ),
        (
            "edge",
            "flows_per_queue = 262144",
            "flows_per_queue = 1023",
            "$.edge.flows_per_queue: out of range (1024..67108864)",
        ),
        ("edge", "mtu = 1500", "mtu = 575", "$.edge.mtu: out of range (576..9216)"),
        *(
            (
                "edge",
                "lease_s = 5.0",
                f"lease_s = 5.0\n[share]\n{key} = {value}",
                f"$.share.{fault}",
            )
            for key, value, fault in (
                ("sweep_s", 0.019, "sweep_s: out of range (0.02..5)"),
                ("sweep_s", 5.1, "sweep_s: out of range (0.02..5)"),
                ("refresh_s", 4.9, "refresh_s: out of range (5..3600)"),
                ("refresh_s", "nan", "refresh_s: out of range (5..3600)"),
                ("flows", 1023, "flows: out of range (1024..67108864)"),
            )
        ),
        (
            "real",
            "[real]\n",
            "[edge]\n[real]\n",
            "$.edge: unknown key (one of: host, real, store)",
        ),
        (
            "real",
            'url = "redis://192.0.2.250:6379/0"',
            'url = "192.0.2.250:6379"',
            "$.store.url: not a Redis URL (like redis://192.0.2.1:6379/0)",
        ),
        (
            "real",
            'vip_interface = "lo"',
            'socket_namespaces = ["web"]',
            "$.real.socket_namespaces[0]: `web` is no whole path (like /run/netns/web)",
        ),
        (
            "real",
            'vip_interface = "lo"',
            'socket_namespaces = ["/1", "/2", "/3", "/4", "/5"]',
            "$.real.socket_namespaces: too many (4 at most: each is asked for each packet)",
        ),
    ],
)
def test_a_faulty_host_file_is_refused_with_path_and_mend(
    tmp_path: Path, role: str, old: str, new: str, fault: str
) -> None:
    text = (CONFIGS / f"{role}.toml").read_text()
    assert old in text
    path = tmp_path / f"{role}.toml"
    path.write_text(text.replace(old, new, 1))

    with pytest.raises(ConfigError) as refusal:
        load_host(path, SHAPES[role])

    assert [str(found) for found in refusal.value.faults] == [f"{path}: {fault}"]


def test_shared_flows_need_a_store_that_carries_them(tmp_path: Path) -> None:
    folder = shutil.copytree(CONFIGS, tmp_path / "configs")
    fleet, edge = folder / "fleet.toml", folder / "edge.toml"
    fleet.write_text(
        fleet.read_text().replace("[vip.near-fra]", "[vip.near-fra]\nshare_flows = true")
    )
    assert load_edge(edge)[1].vips["near-fra"].share_flows
    text = edge.read_text().replace('kind = "redis"', 'kind = "sqlite"\npath = "/x"')
    edge.write_text(text.replace('url = "redis://192.0.2.250:6379/0"', ""))

    with pytest.raises(ConfigError) as refusal:
        load_edge(edge)

    wanted = f'{edge}: $.store.kind: VIP `near-fra` has share_flows (it takes kind = "redis")'
    assert [str(found) for found in refusal.value.faults] == [wanted]


def test_a_sqlite_store_needs_a_path_and_no_url(tmp_path: Path) -> None:
    text = (CONFIGS / "dns.toml").read_text().replace('kind = "redis"', 'kind = "sqlite"')
    path = tmp_path / "dns.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as refusal:
        load_host(path, DnsHost)

    assert [(fault.path, fault.reason) for fault in refusal.value.faults] == [
        ("$.store.path", "missing"),
        ("$.store.url", "contradicts kind `sqlite`"),
    ]


def test_the_store_of_one_host_is_sqlite_unless_it_says_otherwise(tmp_path: Path) -> None:
    text = (CONFIGS / "edge.toml").read_text()
    start, end = text.index("[store]"), text.index("[edge]")
    path = tmp_path / "edge.toml"
    path.write_text(text[:start] + '[store]\npath = "/var/lib/waypost/store"\n' + text[end:])

    assert load_host(path, EdgeHost).store.kind is StoreKind.SQLITE


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("192.0.2.1:53", ("192.0.2.1", 53)),
        ("[::]:53", ("::", 53)),
        ("[2001:db8::1]:0", ("2001:db8::1", 0)),
    ],
)
def test_a_listener_is_an_address_and_a_port(text: str, parts: tuple[str, int]) -> None:
    assert split_listen(text) == parts


@pytest.mark.parametrize(
    "text", ["", ":53", "53", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "name:53", "::1:53"]
)
def test_what_is_no_listener_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        split_listen(text)
