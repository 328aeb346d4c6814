"""An edge's VIPs as a real BIRD hears them from a real ExaBGP beside the agent."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from bird import Bird, bird_text
from pyroute2 import NetNS
from site_world import SiteWorld

from gslb.fleet.announcing import Announcing
from gslb.fleet.views import Status

pytestmark = pytest.mark.netns

VIP, VIP_V6 = "198.51.100.1", "2001:db8:9::1"
EDGE, EDGE_V6 = "192.0.2.2", "2001:db8:1::2"
ROUTER, ROUTER_V6 = "192.0.2.1", "2001:db8:1::1"

FLEET = f"""
[fleet]
name = "small"
[site.fra]
location = {{ country = "DE", lat = 50.0, lon = 8.0 }}
edges = ["edge1", "edge2"]
[real.web1]
site = "fra"
address = "127.0.0.11"
[vip.www]
site = "fra"
address = "{VIP}"
port = 80
reals = ["web1"]
check = {{ kind = "tcp", via = "direct", port = 8080 }}
[vip.six]
site = "fra"
address = "{VIP_V6}"
port = 80
reals = ["web1"]
check = {{ kind = "tcp", via = "direct", port = 8080 }}
"""


class AnnouncingEdge:
    """An edge with its agent, its speaker, and the router that hears it."""

    def __init__(self, world: SiteWorld) -> None:
        self.world = world
        for namespace, interface, address in (
            (world.name, "eth0", EDGE_V6),
            (world.far, "far0", ROUTER_V6),
        ):
            with NetNS(namespace) as ns:
                index = ns.link_lookup(ifname=interface)[0]
                ns.addr("add", index=index, address=address, prefixlen=64, flags=0x02)
        self.admin = world.folder / "edge.sock"
        state_dir = world.folder / "state"
        state_dir.mkdir()
        self.record = state_dir / "announcing.json"
        world.write("fleet.toml", FLEET)
        self.config = world.write(
            "edge.toml",
            f'[host]\nname = "edge1"\nfleet = "fleet.toml"\nadmin_socket = "{self.admin}"\n'
            f'state_dir = "{state_dir}"\n'
            f'[store]\nkind = "sqlite"\npath = "{world.folder / "store.sqlite"}"\n'
            f'[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "{world.pin_dir}"\n'
            f'tunnel_source = "{EDGE}"\nbeat_s = 0.3\nlease_s = 2.0\n'
            f'[bgp]\nlocal_as = 65001\nlocal_address = "{EDGE}"\nlocal_address_v6 = "{EDGE_V6}"\n'
            "return_s = 0.5\nquiet_s = 2.0\n"
            f'[[bgp.neighbors]]\naddress = "{ROUTER}"\npeer_as = 65000\n',
        )
        self.router = Bird(world.folder, world.far, bird_text((EDGE,), router_id=ROUTER))
        world.serve("127.0.0.11")
        self.agent = self.start_agent()
        self.speaker = self.start_speaker()

    def close(self) -> None:
        self.router.close()

    def start_agent(self):
        return self.world.start("-m", "edge_lb", "agent", "--config", str(self.config))

    def start_speaker(self):
        return self.world.start("-m", "edge_lb", "announce", "--config", str(self.config))

    def announced(self) -> bool:
        """Whether the router's kernel has both VIPs by way of this edge."""
        return self.router.gateways(VIP, VIP_V6) == [{EDGE}, {EDGE_V6}]

    def withdrawn(self) -> bool:
        """Whether the router's kernel has neither."""
        return self.router.gateways(VIP, VIP_V6) == [set(), set()]

    def said(self) -> Announcing:
        return msgspec.json.decode(self.record.read_bytes(), type=Announcing)

    def will(self, verb: str) -> None:
        status, body = self.world.tell(self.admin, f"/edge/{verb}", {"name": "edge1"})
        assert status == 200, body

    def med(self) -> str:
        shown = self.router.ask("show", "route", "for", VIP, "all")
        return next((line.split()[1] for line in shown.splitlines() if "BGP.med" in line), "")


@pytest.fixture
def edge(world: SiteWorld) -> Iterator[AnnouncingEdge]:
    made = AnnouncingEdge(world)
    try:
        world.wait(made.announced)
        yield made
    finally:
        made.close()


def test_the_kernel_of_the_router_has_the_vips_of_both_families(edge: AnnouncingEdge) -> None:
    edge.world.wait(lambda: all(row.up for row in edge.said().neighbors))
    status = edge.world.ask(edge.admin, "/status", Status)
    metrics = edge.world.text(edge.admin, "/metrics")

    assert set(edge.said().addresses) == {VIP, VIP_V6}
    assert status.announcing.startswith("ANNOUNCED, 2 addresses, 1 of 1 sessions up")
    assert not [line for line in status.trouble if "announc" in line or "BGP" in line]
    assert 'edge_announce_preference{preference="announced"} 1.0' in metrics
    assert f'edge_bgp_session_up{{neighbor="{ROUTER}"}} 1.0' in metrics


def test_a_dead_agent_withdraws_nothing_and_a_detached_program_does(edge: AnnouncingEdge) -> None:
    edge.world.end(edge.agent, signal.SIGKILL)
    later = edge.said().at_s + 3.0
    edge.world.wait(lambda: edge.said().at_s > later)
    assert edge.announced()

    assert edge.world.run(
        "-m", "edge_lb", "agent", "--config", str(edge.config), "--undo"
    ).returncode == 0  # fmt: skip
    edge.world.wait(edge.withdrawn)
    assert edge.said().fault == "the program is not attached to eth0"

    edge.agent = edge.start_agent()
    edge.world.wait(edge.announced)


def test_a_lost_store_withdraws_nothing(edge: AnnouncingEdge) -> None:
    for path in edge.world.folder.glob("store.sqlite*"):
        path.unlink()
    (edge.world.folder / "store.sqlite").mkdir()
    edge.world.wait(lambda: edge.world.ask(edge.admin, "/status", Status).store != "ok")
    later = edge.said().at_s + 3.0
    edge.world.wait(lambda: edge.said().at_s > later)

    assert edge.announced()
    assert edge.said().preference == "ANNOUNCED"


def test_a_reload_announces_the_vip_that_came_and_withdraws_the_one_that_went(
    edge: AnnouncingEdge,
) -> None:
    other = "198.51.100.9"
    edge.world.write("fleet.toml", FLEET.replace(VIP_V6, other))
    status, body = edge.world.tell(edge.admin, "/reload", {})
    assert status == 200, body
    wanted = [{EDGE}, {EDGE}, set()]
    edge.world.wait(lambda: edge.router.gateways(VIP, other, VIP_V6) == wanted)

    assert set(edge.said().addresses) == {VIP, other}


def test_a_drained_edge_is_the_worse_path_then_none_and_comes_back(edge: AnnouncingEdge) -> None:
    assert edge.med() == "0"
    edge.will("drain")
    edge.world.wait(lambda: edge.med() == "1000")
    assert edge.announced()
    edge.world.wait(edge.withdrawn)
    assert edge.said().reason == "drained: no packet of a VIP for 2 s"
    assert not [
        line for line in edge.world.ask(edge.admin, "/status", Status).trouble if "VIPs" in line
    ]

    edge.will("undrain")
    edge.world.wait(edge.announced)
    assert edge.med() == "0"


def test_a_killed_announcer_is_started_again_and_goes_on(edge: AnnouncingEdge) -> None:
    (announcer,) = children(edge.speaker.pid)
    edge.world.run("-c", f"import os; os.kill({announcer}, 9)")
    edge.world.wait(lambda: children(edge.speaker.pid) not in ([], [announcer]))
    later = edge.said().at_s + 1.0
    edge.world.wait(lambda: edge.said().at_s > later)

    assert edge.announced()
    assert edge.said().preference == "ANNOUNCED"


def test_a_dead_speaker_withdraws_by_its_session_and_its_next_start_announces_at_once(
    edge: AnnouncingEdge,
) -> None:
    edge.world.end(edge.speaker, signal.SIGKILL)
    edge.world.wait(edge.withdrawn)

    edge.start_speaker()
    edge.world.wait(edge.announced)


def test_a_file_without_bgp_is_refused_in_one_line(world: SiteWorld) -> None:
    text = (
        f'[host]\nname = "edge1"\nfleet = "fleet.toml"\nadmin_socket = "{world.folder}/a"\n'
        f'state_dir = "{world.folder}/s"\n[store]\npath = "{world.folder}/store"\n'
        '[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "/none"\ntunnel_source = "192.0.2.2"\n'
    )
    world.write("fleet.toml", FLEET)
    done = world.run("-m", "edge_lb", "announce", "--config", str(world.write("edge.toml", text)))

    assert done.returncode == 5
    assert done.stderr.endswith("$.bgp: missing; without it nothing is announced\n")


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_bird_is_there() -> None:
    assert shutil.which("bird"), "apt-get install bird2"
