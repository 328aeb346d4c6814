"""Single packets of a true edge: traced, and captured while they pass."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pyroute2 import NetNS
from site_world import PATIENCE_S, SiteWorld
from test_edge_agent import VIP, EdgeHost

from gslb.fleet.views import Drops, Trace
from tests.unit.pcapng_reader import read_blocks

pytestmark = pytest.mark.netns

CLIENT = "192.0.2.1"
COMMAND = "from ops.cli.main import main; main()"
KNOCK = (
    "import socket, sys; s = socket.socket(); s.setblocking(False); s.bind((sys.argv[1], 40000));"
    "s.connect_ex((sys.argv[2], 80))"
)


@pytest.fixture
def edge(world: SiteWorld) -> EdgeHost:
    made = EdgeHost(world)
    world.wait(lambda: set(made.states().values()) == {"UP"} and all(made.slots().values()))
    return made


def waypost(edge: EdgeHost, *words: str) -> list[str]:
    return ["-c", COMMAND, "--socket", str(edge.admin), *words]


def knock(world: SiteWorld) -> None:
    """The far end begins a connection to the VIP."""
    subprocess.run(
        [
            "nsenter",
            f"--net=/run/netns/{world.far}",
            "--",
            sys.executable,
            "-c",
            KNOCK,
            CLIENT,
            VIP,
        ],
        check=True,
        timeout=PATIENCE_S,
    )


def test_a_packet_is_traced_by_name_through_the_attached_program(edge: EdgeHost) -> None:
    query = f"from=203.0.113.9:40000&to={VIP}:80&syn=1"
    before = edge.world.ask(edge.admin, "/drops", Drops)

    seen = edge.world.ask(edge.admin, f"/trace?{query}", Trace)
    after = edge.world.ask(edge.admin, "/drops", Drops)
    words = ("trace", "packet", "--from", f"{CLIENT}:1", "--to")
    passed = edge.world.run(*waypost(edge, *words, "192.0.2.2:22"))
    refused = edge.world.run(*waypost(edge, *words, VIP))

    assert (seen.vip, seen.interface) == ("www", "eth0")
    assert seen.real == seen.ring_real == edge.ring_owner(40000)
    assert seen.real_address.startswith("127.0.0.")
    assert seen.program_tag
    assert vip_exits(after) == vip_exits(before)
    assert "PASSED_NOT_VIP: passed to the stack" in passed.stdout, passed.stderr
    assert (refused.returncode, refused.stderr.startswith("waypost: trace: ")) == (2, True)


def vip_exits(view: Drops) -> dict[str, int]:
    """Counters of what is for VIPs: the namespace's own chatter is passed."""
    return {row.name: row.packets for row in view.counters if not row.name.startswith("PASSED")}


def test_a_packet_is_captured_with_its_verdict_vip_and_real(edge: EdgeHost) -> None:
    world = edge.world
    with NetNS(world.far) as far:
        far.route("add", dst=f"{VIP}/32", gateway="192.0.2.2")
    file = world.folder / "some.pcapng"

    command = waypost(edge, "capture", "--vip", "www", "--count", "1", "-w", str(file))
    running = world.start(*command)
    world.wait(file.exists)
    busy = world.run(*waypost(edge, "capture", "-w", str(world.folder / "other")))
    knock(world)

    assert (busy.returncode, "another capture" in busy.stderr) == (10, True)
    assert running.wait(PATIENCE_S) == 0
    (packet,) = read_blocks(file.read_bytes())[2:-1]
    verdict, vip, slot, real = packet.options[1].decode().split()
    assert (vip, real.partition("=")[2]) == ("vip=www", edge_real(edge, slot))
    assert verdict.startswith(("FORWARDED_", "DROPPED_"))


def test_a_packet_of_a_vip_is_counted_wherever_it_is_looked_for(edge: EdgeHost) -> None:
    world = edge.world
    with NetNS(world.far) as far:
        far.route("add", dst=f"{VIP}/32", gateway="192.0.2.2")

    knock(world)
    world.wait(lambda: samples(edge)['edge_vip_packets_total{vip="www"}'] > 0)
    found = samples(edge)
    shown = world.run(*waypost(edge, "vip", "show", "www", "--json"))

    row = json.loads(shown.stdout)["vip"]
    assert found['edge_vip_bytes_total{vip="www"}'] >= 54
    assert row["packets"] >= found['edge_vip_packets_total{vip="www"}']
    assert (row["flows_new"], row["flow_hits"]) == (0, 0)
    exits = [name for name in found if name.startswith("edge_verdict_packets_total{")]
    counted = [name for name in exits if found[name] > 0]
    assert counted
    assert all(found[name.replace("packets", "bytes")] > 0 for name in counted)
    assert 'edge_vip_flow_hits_total{vip="www"}' in found


def samples(edge: EdgeHost) -> dict[str, float]:
    """The metrics as Prometheus reads them."""
    lines = edge.world.text(edge.admin, "/metrics").splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def edge_real(edge: EdgeHost, slot: str) -> str:
    """The real of the very flow, by the trace; its slot must be the captured one."""
    query = f"from={CLIENT}:40000&to={VIP}:80&syn=1"
    seen = edge.world.ask(edge.admin, f"/trace?{query}", Trace)
    assert slot == f"slot={seen.slot}"
    return seen.real
