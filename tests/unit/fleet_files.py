"""A small valid fleet.toml and its zone, for tests to load and to spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from gslb.fleet.config import ConfigError, load_fleet
from gslb.fleet.model import Fleet

FLEET = """\
[fleet]
name = "small"

[site.fra]
location = { country = "DE", lat = 50.11, lon = 8.68 }
edges = ["fra-edge1", "fra-edge2"]
clients = ["198.51.100.0/25"]

[site.sin]
location = { country = "SG", lat = 1.35, lon = 103.82 }
edges = ["sin-edge1"]
weight = 50

[real.web1]
site = "fra"
address = "10.1.0.1"

[real.web2]
site = "fra"
address = "10.1.0.2"
weight = 50
encap = "l2"

[real.web3]
site = "sin"
address = "10.2.0.1"

[vip.web-fra]
site = "fra"
address = "192.0.2.10"
port = 80
reals = ["web1", "web2"]
check = { kind = "http", path = "/healthz", interval_s = 1.0, timeout_s = 0.5 }

[vip.any-fra]
site = "fra"
address = "192.0.2.11"
protocol = "udp"
reals = ["web1"]
check = { port = 8080 }

[vip.web-sin]
site = "sin"
address = "203.0.113.10"
port = 80
reals = ["web3"]

[pool.web]
vips = ["web-fra", "web-sin"]

[pool.any]
policy = "failover"
vips = ["any-fra"]
answers = 1
ttl_s = 5

[zone."Example.COM"]
file = "example.com.zone"
dynamic = { "WWW" = "web", "@" = "any", "a.b.example.com." = "any" }
"""

ZONE = """\
$ORIGIN example.com.
@ 3600 IN SOA ns1 hostmaster 1 7200 900 1209600 60
@ 3600 IN NS ns1
ns1 3600 IN A 192.0.2.53
"""


def write_fleet(directory: Path, text: str = FLEET, zone: str | None = ZONE) -> Path:
    """Both files in `directory`; the path of fleet.toml."""
    path = directory / "fleet.toml"
    path.write_text(text)
    if zone is not None:
        (directory / "example.com.zone").write_text(zone)
    return path


def small_fleet(directory: Path) -> Fleet:
    """The valid fleet, loaded."""
    return load_fleet(write_fleet(directory))


def faults_of(directory: Path, text: str, zone: str | None = ZONE) -> list[str]:
    """Every fault of the file, without the file's own name."""
    path = write_fleet(directory, text, zone)
    with pytest.raises(ConfigError) as refusal:
        load_fleet(path)
    assert all(fault.file == str(path) for fault in refusal.value.faults)
    return [str(fault).removeprefix(f"{path}: ") for fault in refusal.value.faults]


def spoiled(old: str, new: str) -> str:
    """The valid file with its first `old` replaced."""
    assert old in FLEET
    return FLEET.replace(old, new, 1)
