"""The way to a real, followed by the running daemon from the kernel's own events into the maps."""

from __future__ import annotations

import os

import pytest
from pyroute2 import NetNS
from site_world import SiteWorld
from test_edge_agent import REALS, EdgeHost, fleet_text

from bpf import libbpf
from bpf.btf import Btf
from bpf.layout import Record

pytestmark = pytest.mark.netns

NEIGHBOUR = "192.0.2.1"  # the far end of the network card
OTHER_MAC = "02:00:00:00:09:09"
SEAT = 1  # of the first pair


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def held(world: SiteWorld) -> Record:
    """The first real, as the kernel has it."""
    fd = libbpf.pinned_fd(str(world.pin_dir / "reals"))
    assert fd is not None
    try:
        info = libbpf.map_info(fd)
        layout = Btf(libbpf.btf_by_id(info.btf_id)).layout(info.value_type_id)
        raw = libbpf.map_lookup(fd, SEAT.to_bytes(4, "little"), layout.size)
        assert raw is not None
        return layout.unpack(raw)
    finally:
        os.close(fd)


def far_mac(world: SiteWorld) -> bytes:
    with NetNS(world.far) as far:
        return mac(far.link("get", ifname="far0")[0].get_attr("IFLA_ADDRESS"))


def set_own_link(world: SiteWorld, state: str) -> int:
    with NetNS(world.name) as here:
        index = int(here.link_lookup(ifname="eth0")[0])
        here.link("set", index=index, state=state)
        return index


def test_the_daemon_follows_neighbours_and_the_interface(
    world: SiteWorld, monkeypatch: pytest.MonkeyPatch
):
    text = fleet_text().replace(REALS["web1"], NEIGHBOUR)
    monkeypatch.setattr("test_edge_agent.fleet_text", lambda: text)
    monkeypatch.setattr("test_edge_agent.REALS", {})
    EdgeHost(world)
    theirs = far_mac(world)

    world.wait(lambda: held(world).octets("hop.destination") == theirs)

    with NetNS(world.name) as here:
        index = here.link_lookup(ifname="eth0")[0]
        here.neigh("replace", dst=NEIGHBOUR, lladdr=OTHER_MAC, ifindex=index, state="permanent")
    world.wait(lambda: held(world).octets("hop.destination") == mac(OTHER_MAC))

    set_own_link(world, "down")
    world.wait(lambda: held(world)["hop.ifindex"] == 0)

    set_own_link(world, "up")
    world.wait(lambda: held(world)["hop.ifindex"] == index)
    world.wait(lambda: held(world).octets("hop.destination") == theirs)
