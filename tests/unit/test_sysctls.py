"""Kernel settings of an edge: what is wanted, set, and put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_lb import sysctls
from edge_lb.sysctls import Sysctls, edge_wanted

V4 = {"ipv4/conf/eth0/forwarding": "1", "ipv4/conf/eth0/rp_filter": "2"}
V6_FORWARDING = "ipv6/conf/eth0/forwarding"
V6_ADVERTISEMENTS = "ipv6/conf/eth0/accept_ra"


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc/sys/net whose interface heeds router advertisements and forwards nothing."""
    for key, value in {
        **dict.fromkeys(V4, "0"),
        V6_FORWARDING: "0",
        V6_ADVERTISEMENTS: "1",
    }.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text(f"{value}\n")
    monkeypatch.setattr(sysctls, "NET", tmp_path)
    return tmp_path


def test_ipv6_is_left_alone_unless_a_real_needs_it(net: Path):
    assert edge_wanted("eth0", ipv6=False) == V4
    assert edge_wanted("eth0", ipv6=True)[V6_FORWARDING] == "1"


def test_an_interface_that_heeds_advertisements_still_does_when_it_forwards(net: Path):
    wanted = edge_wanted("eth0", ipv6=True)

    assert wanted[V6_ADVERTISEMENTS] == "2"
    assert list(wanted).index(V6_ADVERTISEMENTS) < list(wanted).index(V6_FORWARDING)
    (net / V6_ADVERTISEMENTS).write_text("0")
    assert V6_ADVERTISEMENTS not in edge_wanted("eth0", ipv6=True)


def test_a_kernel_without_ipv6_is_asked_for_none_of_it(net: Path):
    assert edge_wanted("eth1", ipv6=True).keys() == edge_wanted("eth1", ipv6=False).keys()


def test_what_was_found_first_comes_back(net: Path, tmp_path: Path):
    settings = Sysctls(tmp_path)
    wanted = edge_wanted("eth0", ipv6=True)

    changed = settings.set(wanted)
    assert settings.set(edge_wanted("eth0", ipv6=True)) == {}

    assert changed[V6_FORWARDING] == "0 -> 1"
    assert settings.restore()[V6_ADVERTISEMENTS] == "1"
    assert (net / V6_FORWARDING).read_text() == "0"
