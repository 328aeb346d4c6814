"""The daemon on a real server, in a namespace of its own: what it makes, keeps and takes away."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from pyroute2 import NetNS
from site_world import SiteWorld

from gslb.fleet.views import Drops, Status
from gslb.service.lifecycle import ExitCode

pytestmark = pytest.mark.netns

FLEET = """
[fleet]
name = "small"
[site.fra]
location = { country = "DE", lat = 50.0, lon = 8.0 }
edges = ["edge1"]
[real.web1]
site = "fra"
address = "192.0.2.2"
encap = "ENCAP"
[vip.www]
site = "fra"
address = "198.51.100.1"
port = 80
reals = ["web1"]
[vip.tls]
site = "fra"
address = "198.51.100.1"
port = 443
reals = ["web1"]
"""
SECOND_VIP = """
[vip.six]
site = "fra"
address = "2001:db8::1"
port = 80
reals = ["web1"]
"""
VIP = "198.51.100.1"


class RealHost:
    """One real's files and daemon."""

    def __init__(self, world: SiteWorld, *, encap: str = "gue") -> None:
        self.world = world
        self.fleet = FLEET.replace("ENCAP", encap)
        self.admin = world.folder / "real.sock"
        world.write("fleet.toml", self.fleet)
        self.config = world.write(
            "real.toml",
            f'[host]\nname = "web1"\nfleet = "fleet.toml"\nadmin_socket = "{self.admin}"\n'
            f'state_dir = "{world.folder / "state"}"\n'
            f'[real]\nname = "web1"\ninterface = "eth0"\npin_dir = "{world.pin_dir}"\n',
        )
        self.daemon = self.start()

    def start(self):
        daemon = self.world.start("-m", "edge_lb", "real", "--config", str(self.config))
        self.world.wait(lambda: self.status().well or daemon.poll() is not None)
        assert daemon.poll() is None, (self.world.folder / "log").read_text()
        return daemon

    def status(self) -> Status:
        return self.world.ask(self.admin, "/status", Status)

    def run(self, *options: str):
        return self.world.run("-m", "edge_lb", "real", "--config", str(self.config), *options)


def test_vips_are_bound_silently_and_the_tunnel_ends_here(world: SiteWorld):
    real = RealHost(world)

    assert VIP in world.addresses("lo")
    assert [world.sysctl(f"{name}/arp_ignore") for name in ("all", "eth0")] == ["1", "1"]
    assert [world.sysctl(f"{name}/arp_announce") for name in ("all", "eth0")] == ["2", "2"]
    assert world.xdp_attached()
    assert real.status().datapath == "unwraps GUE and IPIP on eth0, xdp native"
    drops = world.ask(real.admin, "/drops", Drops)
    assert {"PASSED_UNWRAPPED", "DROPPED_NOT_BOUND"} <= {row.name for row in drops.counters}


def test_stop_keeps_serving_and_undo_leaves_nothing(world: SiteWorld):
    arp_before = world.sysctl("eth0/arp_ignore")
    real = RealHost(world)

    assert world.end(real.daemon, signal.SIGTERM) == ExitCode.DONE

    assert VIP in world.addresses("lo")
    assert world.xdp_attached()

    undone = real.run("--undo")

    assert undone.returncode == ExitCode.DONE, undone.stderr
    assert "1 VIP addresses removed, program and pins removed" in undone.stdout
    assert VIP not in world.addresses("lo")
    assert not world.xdp_attached()
    assert not world.pin_dir.exists()
    assert world.sysctl("eth0/arp_ignore") == arp_before


def test_restart_takes_the_pins_over_and_keeps_the_counters(world: SiteWorld):
    real = RealHost(world)
    world.end(real.daemon, signal.SIGKILL)

    real.daemon = real.start()

    assert VIP in world.addresses("lo")
    assert world.xdp_attached()


def test_address_that_was_there_before_is_not_ours_to_remove(world: SiteWorld):
    with NetNS(world.name) as here:
        here.addr("add", index=here.link_lookup(ifname="lo")[0], address=VIP, prefixlen=32)
    real = RealHost(world)
    world.end(real.daemon, signal.SIGTERM)

    assert real.run("--undo").returncode == ExitCode.DONE

    assert VIP in world.addresses("lo")


def test_reload_binds_what_is_new_and_unbinds_what_left(world: SiteWorld):
    real = RealHost(world)

    world.write("fleet.toml", real.fleet + SECOND_VIP)
    real.daemon.send_signal(signal.SIGHUP)
    world.wait(lambda: "2001:db8::1" in world.addresses("lo"))
    assert VIP in world.addresses("lo")

    world.write("fleet.toml", real.fleet)
    status, _ = world.tell(real.admin, "/reload", {})

    assert status == 200
    assert "2001:db8::1" not in world.addresses("lo")


def test_refused_reload_changes_nothing(world: SiteWorld):
    real = RealHost(world)
    world.write("fleet.toml", real.fleet.replace('reals = ["web1"]', 'reals = ["web2"]'))

    status, body = world.tell(real.admin, "/reload", {})

    assert status == 422
    assert b"did you mean `web1`?" in body
    assert VIP in world.addresses("lo")
    assert real.status().well


def test_real_on_the_edges_subnet_gets_no_program(world: SiteWorld):
    real = RealHost(world, encap="l2")

    assert VIP in world.addresses("lo")
    assert not world.xdp_attached()
    assert real.status().datapath == "l2: nothing to unwrap"


def test_second_start_is_refused_and_so_is_undo_while_it_runs(world: SiteWorld):
    real = RealHost(world)

    second, undo = real.run(), real.run("--undo")

    assert (second.returncode, undo.returncode) == (ExitCode.RUNNING, ExitCode.RUNNING)
    assert "already runs as process" in second.stderr
    assert VIP in world.addresses("lo")


def test_missing_interface_is_refused_by_name(world: SiteWorld):
    world.write("fleet.toml", FLEET.replace("ENCAP", "gue"))
    config = world.write(
        "real.toml",
        '[host]\nname = "web1"\nfleet = "fleet.toml"\nadmin_socket = "x"\n'
        f'state_dir = "{world.folder}"\n[real]\nname = "web1"\ninterface = "eth9"\npin_dir = "x"\n',
    )

    refused = world.run("-m", "edge_lb", "real", "--config", str(config))

    assert refused.returncode == ExitCode.INTERFACE
    assert "no interface `eth9`" in refused.stderr
    assert "eth0" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_check_names_the_nearest_real(world: SiteWorld, tmp_path: Path):
    world.write("fleet.toml", FLEET.replace("ENCAP", "gue"))
    config = world.write(
        "real.toml",
        '[host]\nname = "web1"\nfleet = "fleet.toml"\nadmin_socket = "x"\n'
        f'state_dir = "{tmp_path}"\n[real]\nname = "web"\ninterface = "eth0"\npin_dir = "x"\n',
    )

    refused = world.run("-m", "edge_lb", "real", "--config", str(config), "--check")

    assert refused.returncode == ExitCode.CONFIG
    assert "did you mean `web1`?" in refused.stderr
