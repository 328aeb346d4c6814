"""The nouns: what a fleet can be asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gslb.fleet.model import SiteName, VipName
from tests.unit.fleet_files import small_fleet


def test_the_vips_of_a_site_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    fleet = small_fleet(tmp_path)

    assert [vip.name for vip in fleet.vips_of_site(SiteName("fra"))] == ["web-fra", "any-fra"]
    assert fleet.vips_of_site(SiteName("nowhere")) == ()


def test_a_vip_knows_the_pools_that_may_answer_with_it(tmp_path: Path) -> None:
    fleet = small_fleet(tmp_path)

    assert [pool.name for pool in fleet.pools_of_vip(VipName("any-fra"))] == ["any"]
    assert [pool.name for pool in fleet.pools_of_vip(VipName("web-sin"))] == ["web"]


def test_a_noun_cannot_be_changed(tmp_path: Path) -> None:
    vip = small_fleet(tmp_path).vips[VipName("web-fra")]

    with pytest.raises(dataclasses.FrozenInstanceError):
        vip.port = 81  # type: ignore[misc]
