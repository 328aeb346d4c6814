"""Health checks through the tunnel fail with their own reason for each thing that is missing."""

from __future__ import annotations

import signal

import pytest
from pyroute2 import NetNS

from bpf.program import unload
from ways.net import family_of
from ways.site import WAYS, WaySite

pytestmark = pytest.mark.netns

TIMEOUT = "connect timeout 0.4 s through the tunnel"
REFUSED = "connection refused"


def found(site: WaySite, real: str) -> dict[str, tuple[str, str]]:
    """State and reason of every way to a real."""
    rows = [row for row in site.rows() if row.name == real and row.vip in WAYS]
    return {row.vip: (row.state, row.reason) for row in rows}


def ways(real: str) -> list[str]:
    return [name for name in WAYS if name.endswith(real)]


def test_without_a_listener_every_way_is_refused(site: WaySite):
    for real in ("near4", "far6"):
        site.world.end(site.servers[real], signal.SIGKILL)
    for real in ("near4", "far6"):
        expected = dict.fromkeys(ways(real), ("DOWN", REFUSED))
        site.world.wait(lambda real=real, expected=expected: found(site, real) == expected)

    for real in ("near4", "far6"):
        site.serve(real)
    site.world.wait(site.settled)


def test_where_nothing_is_unwrapped_the_tunnels_fail_and_l2_does_not(site: WaySite):
    for real in ("near6", "far4"):
        unload(site.pins(real))
    for real in ("near6", "far4"):
        expected = {
            name: ("UP", "connected") if name.startswith("l2") else ("DOWN", TIMEOUT)
            for name in ways(real)
        }
        site.world.wait(lambda real=real, expected=expected: found(site, real) == expected)

    for real in ("near6", "far4"):
        site.start_real(real)
    site.world.wait(site.settled)


def test_a_vip_that_is_not_bound_fails_alone(site: WaySite):
    gone = {
        real: {f"gue4-{real}", f"ipip6-{real}", f"l2{family_of(real)}-{real}"}
        for real in ("near4", "far6")
    }
    for real, names in gone.items():
        with NetNS(site.net.reals[real]) as host:
            for name in names:
                bits = {4: 32, 6: 128}[WAYS[name].family]
                host.addr("delete", index=1, address=WAYS[name].address, prefixlen=bits)
    for real, names in gone.items():
        expected = {
            name: ("DOWN", TIMEOUT) if name in names else ("UP", "connected") for name in ways(real)
        }
        site.world.wait(lambda real=real, expected=expected: found(site, real) == expected)

    for real in gone:
        site.start_real(real)
    site.world.wait(site.settled)


@pytest.mark.parametrize("family", [4, 6])
def test_the_edge_itself_is_never_taken_for_a_real(site: WaySite, family: int):
    """Its own server listens at this VIP too."""
    (row,) = (row for row in site.rows() if row.vip == f"own{family}")

    assert row.state == "DOWN"
    assert row.reason.startswith("the VIP is an address of this edge")
