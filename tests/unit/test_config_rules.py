"""Every rule of fleet.toml, each broken once: path, reason and mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.fleet_files import faults_of, spoiled


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        # names
        (
            "[pool.any]",
            '[pool."a b"]\nvips = ["any-fra"]\n\n[pool.any]',
            '$.pool."a b": not a name (letters, digits, `.`, `_` and `-`)',
        ),
        # sites
        (
            'edges = ["sin-edge1"]',
            "edges = []",
            "$.site.sin.edges: no edge (name at least one edge)",
        ),
        (
            'edges = ["sin-edge1"]',
            'edges = ["fra-edge2"]',
            "$.site.sin.edges[0]: edge `fra-edge2` is already at site `fra` (an edge has one site)",
        ),
        (
            "lat = 50.11",
            "lat = 90.5",
            "$.site.fra.location: not on earth (lat -90..90, lon -180..180)",
        ),
        (
            "lat = 50.11",
            "lat = nan",
            "$.site.fra.location: not on earth (lat -90..90, lon -180..180)",
        ),
        ("weight = 50", "weight = -1", "$.site.sin.weight: -1 is out of range (0..65535)"),
        (
            "198.51.100.0/25",
            "198.51.100.1/25",
            (
                "$.site.fra.clients[0]: `198.51.100.1/25` is not a network:"
                " 198.51.100.1/25 has host bits set (like 192.0.2.0/24, no host bits)"
            ),
        ),
        # reals
        (
            '[real.web1]\nsite = "fra"',
            '[real.web1]\nsite = "fre"',
            "$.real.web1.site: no site `fre` (did you mean `fra`?)",
        ),
        (
            'address = "10.1.0.2"\nweight = 50',
            'address = "10.1.0.2"\nweight = 65536',
            "$.real.web2.weight: 65536 is out of range (0..65535)",
        ),
        (
            'address = "10.2.0.1"',
            'address = "10.2.0"',
            "$.real.web3.address: `10.2.0` is not an IP address",
        ),
        (
            'address = "10.1.0.2"',
            'address = "10.1.0.1"',
            "$.real.web2.address: `10.1.0.1` is already real `web1` (one name each)",
        ),
        # VIPs
        (
            '[vip.web-sin]\nsite = "sin"',
            '[vip.web-sin]\nsite = "sni"',
            "$.vip.web-sin.site: no site `sni` (did you mean `sin`?)",
        ),
        (
            'address = "203.0.113.10"\nport = 80',
            'address = "203.0.113.10"\nport = 65536\ncheck = { port = 80 }',
            "$.vip.web-sin.port: 65536 is not a port (1..65535, or 0 for every port)",
        ),
        (
            'address = "203.0.113.10"',
            'address = "203.0.113"',
            "$.vip.web-sin.address: `203.0.113` is not an IP address",
        ),
        (
            'address = "192.0.2.11"\nprotocol = "udp"',
            'address = "192.0.2.10"\nport = 80',
            "$.vip.any-fra.address: same address, port and protocol as `web-fra`",
        ),
        (
            'address = "203.0.113.10"\nport = 80',
            'address = "192.0.2.10"\nport = 81',
            (
                "$.vip.web-sin.site: `192.0.2.10` is also a VIP at site `fra`"
                " (a VIP address belongs to one site)"
            ),
        ),
        ('reals = ["web3"]', "reals = []", "$.vip.web-sin.reals: no real (name at least one)"),
        (
            'reals = ["web3"]',
            'reals = ["wbe3"]',
            "$.vip.web-sin.reals[0]: no real `wbe3` (did you mean `web3`?)",
        ),
        (
            'reals = ["web1", "web2"]',
            'reals = ["web1", "web1"]',
            "$.vip.web-fra.reals[1]: `web1` is named twice (name it once; use `weight` for more)",
        ),
        (
            'reals = ["web3"]',
            'reals = ["web3", "web1"]',
            "$.vip.web-sin.reals[1]: `web1` is at site `fra`, the VIP at `sin` (same site)",
        ),
        (
            'address = "203.0.113.10"',
            'address = "10.2.0.1"',
            (
                "$.vip.web-sin.reals[0]: `web3` has the VIP's own address"
                " (give the real an address of its own)"
            ),
        ),
        (
            'address = "10.2.0.1"',
            'address = "10.2.0.1"\nweight = 0',
            "$.vip.web-sin.reals: every real has weight 0 (give one of them a weight above 0)",
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nflows_per_queue = 1023',
            "$.vip.any-fra.flows_per_queue: out of range (1024..67108864)",
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nflows_per_queue = 1024\nflow_memory = "none"',
            (
                "$.vip.any-fra.flows_per_queue: no flow memory has no size"
                ' (leave it out, or `flow_memory = "none"`)'
            ),
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nowner_chain = 4',
            "$.vip.any-fra.owner_chain: out of range (0..3)",
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nconnection_age_s = 0',
            "$.vip.any-fra.connection_age_s: out of range (1..2.592e+06 seconds)",
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nshare_flows = true\nflow_memory = "none"',
            (
                "$.vip.any-fra.share_flows: no flow memory has no flows to share"
                ' (leave it out, or `flow_memory = "none"`)'
            ),
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nslow_start_s = -1',
            "$.vip.any-fra.slow_start_s: out of range (0..86400 seconds)",
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nquic = { server_id_bytes = 5 }',
            "$.vip.any-fra.quic.server_id_bytes: 5 is out of range (1..4, or 0 for none)",
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nquic = { rotation = 7 }',
            "$.vip.any-fra.quic.rotation: 7 is out of range (0..6; 7 tells that none holds)",
        ),
        (
            'address = "192.0.2.11"',
            'address = "192.0.2.11"\nquic = { server_id_bytes = 1 }',
            (
                "$.vip.any-fra.reals[0]: `web1` has no server_id"
                " (QUIC connection ids name the real by it)"
            ),
        ),
        (
            'address = "192.0.2.10"',
            'address = "192.0.2.10"\nprotocol = "udp"\nfallback = "reset"',
            "$.vip.web-fra.fallback: `reset` is of TCP (use `drop` or `pass`)",
        ),
        (
            'address = "192.0.2.10"',
            'address = "192.0.2.10"\nfragments = "two_tuple"',
            (
                "$.vip.web-fra.fragments: `two_tuple` takes every port of a UDP address"
                ' (set `protocol = "udp"` and `port = 0`, or use `memory`)'
            ),
        ),
        (
            'address = "192.0.2.10"',
            'address = "192.0.2.10"\nencap = "ipip"\ntunnel_checksum = true',
            (
                "$.vip.web-fra.tunnel_checksum: no real of this VIP is reached by gue"
                " (only gue has one)"
            ),
        ),
        # checks
        (
            "check = { port = 8080 }",
            "",
            (
                "$.vip.any-fra.check.port: missing, and the VIP serves every port"
                " (name the port to check)"
            ),
        ),
        (
            "check = { port = 8080 }",
            "check = { port = 0 }",
            "$.vip.any-fra.check.port: 0 is not a port (1..65535)",
        ),
        (
            "interval_s = 1.0",
            "interval_s = 3601.0",
            "$.vip.web-fra.check.interval_s: 3601.0 is out of range (0.05..3600)",
        ),
        (
            "timeout_s = 0.5",
            "timeout_s = 1.5",
            "$.vip.web-fra.check.timeout_s: 1.5 is not within the interval (0 < t <= interval)",
        ),
        (
            "timeout_s = 0.5",
            "timeout_s = 0.0",
            "$.vip.web-fra.check.timeout_s: 0.0 is not within the interval (0 < t <= interval)",
        ),
        (
            "timeout_s = 0.5",
            "rise = 0",
            "$.vip.web-fra.check.rise: 0 is out of range (1..100)",
        ),
        (
            "timeout_s = 0.5",
            "fall = 101",
            "$.vip.web-fra.check.fall: 101 is out of range (1..100)",
        ),
        (
            'path = "/healthz"',
            'path = "healthz"',
            "$.vip.web-fra.check.path: `healthz` is not a path (begin with `/`)",
        ),
        (
            'path = "/healthz"',
            "expect_status = 99",
            "$.vip.web-fra.check.expect_status: 99 is not a status (100..599)",
        ),
        # filters and limits
        (
            "[pool.any]",
            '[filter.x]\nprefix = "10.0.0.1/8"\naction = "deny"\n\n[pool.any]',
            (
                "$.filter.x.prefix: `10.0.0.1/8` is not a network:"
                " 10.0.0.1/8 has host bits set (like 192.0.2.0/24, no host bits)"
            ),
        ),
        (
            "[pool.any]",
            '[filter.x]\nprefix = "10.0.0.0/8"\naction = "deny"\nvips = ["web-fr"]\n\n[pool.any]',
            "$.filter.x.vips[0]: no VIP `web-fr` (did you mean `web-fra`?)",
        ),
        (
            "[pool.any]",
            '[filter."a b"]\nprefix = "10.0.0.0/8"\naction = "deny"\n\n[pool.any]',
            '$.filter."a b": not a name (letters, digits, `.`, `_` and `-`)',
        ),
        (
            "[pool.any]",
            (
                '[filter.x]\nprefix = "10.0.0.0/8"\naction = "deny"\n'
                'vips = ["web-fra", "web-fra"]\n\n[pool.any]'
            ),
            "$.filter.x.vips[1]: `web-fra` is named twice",
        ),
        (
            "[pool.any]",
            (
                '[filter.x]\nprefix = "10.0.0.0/8"\naction = "deny"\n'
                '[filter.y]\nprefix = "10.0.0.0/8"\naction = "allow"\n\n[pool.any]'
            ),
            "$.filter.y.prefix: `10.0.0.0/8` is already in filter `x` (one rule for a prefix)",
        ),
        (
            "[pool.any]",
            (
                '[filter.x]\nprefix = "10.0.0.0/8"\naction = "deny"\nvips = ["web-fra"]\n'
                '[filter.y]\nprefix = "10.0.0.0/8"\naction = "allow"\n'
                'vips = ["any-fra", "web-fra"]\n\n[pool.any]'
            ),
            (
                "$.filter.y.prefix: `10.0.0.0/8` for VIP `web-fra` is already in filter `x`"
                " (one rule for a prefix)"
            ),
        ),
        (
            "[pool.any]",
            '[filter.x]\nprefix = "10.0.0.0/8"\naction = "limit"\n\n[pool.any]',
            "$.filter.x.packets_per_s: missing for a limit (1..100000000)",
        ),
        (
            "[pool.any]",
            ('[filter.x]\nprefix = "10.0.0.0/8"\naction = "deny"\npackets_per_s = 5\n\n[pool.any]'),
            '$.filter.x.packets_per_s: contradicts action `deny` (set action = "limit")',
        ),
        (
            "[pool.any]",
            '[filter.x]\nprefix = "10.0.0.0/8"\naction = "deny"\nburst = 5\n\n[pool.any]',
            "$.filter.x.burst: without packets_per_s (name the rate as well)",
        ),
        (
            'reals = ["web3"]',
            'reals = ["web3"]\nlimit = { packets_per_s = 100000001 }',
            "$.vip.web-sin.limit.packets_per_s: 100000001 is out of range (0..100000000)",
        ),
        (
            'reals = ["web3"]',
            'reals = ["web3"]\nlimit = { packets_per_s = 2, burst = 7201 }',
            "$.vip.web-sin.limit.burst: 7201 is out of range (1..7200, an hour's packets)",
        ),
        # pools
        ('vips = ["any-fra"]', "vips = []", "$.pool.any.vips: no VIP (name at least one)"),
        (
            'vips = ["any-fra"]',
            'vips = ["any-far"]',
            "$.pool.any.vips[0]: no VIP `any-far` (did you mean `any-fra`?)",
        ),
        (
            'vips = ["any-fra"]',
            'vips = ["any-fra", "any-fra"]',
            "$.pool.any.vips[1]: `any-fra` is named twice",
        ),
        ("answers = 1", "answers = 26", "$.pool.any.answers: 26 is out of range (1..25)"),
        ("ttl_s = 5", "ttl_s = 86401", "$.pool.any.ttl_s: 86401 is out of range (0..86400)"),
        # zones
        (
            '[zone."Example.COM"]',
            '[zone."example.com."]\nfile = "example.com.zone"\n\n[zone."Example.COM"]',
            '$.zone."Example.COM": the same zone as `example.com.` (name it once)',
        ),
        (
            '"WWW" = "web"',
            '"w!w" = "web"',
            '$.zone."Example.COM".dynamic."w!w": not a domain name',
        ),
        (
            '"WWW" = "web"',
            '"www.example.org." = "web"',
            (
                '$.zone."Example.COM".dynamic.www.example.org.: `www.example.org.` is not below'
                " `example.com.` (use a relative name)"
            ),
        ),
        (
            '"WWW" = "web"',
            '"WWW" = "wbe"',
            '$.zone."Example.COM".dynamic.WWW: no pool `wbe` (did you mean `web`?)',
        ),
    ],
)
def test_every_rule_tells_path_reason_and_mend(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    assert faults_of(tmp_path, spoiled(old, new)) == [fault]


def test_server_ids_fit_and_are_of_one_real_each(tmp_path: Path) -> None:
    text = spoiled('address = "10.1.0.1"', 'address = "10.1.0.1"\nserver_id = 256')
    text = text.replace('address = "10.1.0.2"', 'address = "10.1.0.2"\nserver_id = 256')
    text = text.replace(
        'address = "192.0.2.11"', 'address = "192.0.2.11"\nquic = { server_id_bytes = 1 }'
    )
    text = text.replace(
        'address = "192.0.2.10"', 'address = "192.0.2.10"\nquic = { server_id_bytes = 2 }'
    )

    assert sorted(faults_of(tmp_path, text)) == [
        "$.vip.any-fra.reals[0]: server_id 256 of `web1` does not fit 1 bytes",
        '$.vip.web-fra.quic: QUIC is of UDP (set `protocol = "udp"`)',
        "$.vip.web-fra.reals[1]: `web2` has the server_id of `web1` (one each)",
    ]
