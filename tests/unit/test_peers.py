"""Whom a real may hand packets on to."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet_files import write_fleet

from edge_lb.peers import peers_of
from gslb.fleet.config import load_fleet
from gslb.fleet.model import RealName

FLEET = """
[fleet]
name = "peers"
[site.fra]
location = { country = "DE", lat = 50.0, lon = 8.0 }
edges = ["edge1"]
[site.nyc]
location = { country = "US", lat = 40.0, lon = -74.0 }
edges = ["edge2"]
[real.web1]
site = "fra"
address = "192.0.2.1"
encap = "gue"
[real.web2]
site = "fra"
address = "192.0.2.2"
[real.near]
site = "fra"
address = "192.0.2.3"
encap = "l2"
[real.former]
site = "fra"
address = "2001:db8::4"
[real.far]
site = "nyc"
address = "192.0.2.5"
encap = "gue"
[vip.www]
site = "fra"
address = "198.51.100.1"
port = 80
encap = "gue"
reals = ["web1", "web2", "near"]
[vip.usa]
site = "nyc"
address = "198.51.100.2"
port = 80
reals = ["far"]
"""


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("web1", {"192.0.2.2", "2001:db8::4"}),
        ("near", {"192.0.2.1", "192.0.2.2", "2001:db8::4"}),
        ("far", set()),
    ],
)
def test_the_other_reals_of_the_site_by_gue_are_peers(
    tmp_path: Path, name: str, others: set[str]
) -> None:
    fleet = load_fleet(write_fleet(tmp_path, FLEET, zone=None))

    assert {str(address) for address in peers_of(fleet, RealName(name))} == others
